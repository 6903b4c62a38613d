package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus/bustest/history"
	"github.com/hawser-project/hawser/test/services"
)

const (
	publishedKeys = 32
	publishEvery  = time.Second // a pair on each key
)

// TestWhatWasAcknowledgedSurvivesFaultsOfBrokersDatabasesAndWorkers has worker processes on a Kafka and a PostgreSQL of their
// own, which are killed, stopped and cut off from each other, while publishers and a consumer look on from outside.
// HAWSER_FAULT_SEED repeats a run, HAWSER_FAULT_ROUNDS makes it longer, HAWSER_FAULT_REPORT names the folder of a report.
func TestWhatWasAcknowledgedSurvivesFaultsOfBrokersDatabasesAndWorkers(t *testing.T) {
	services.Kafka(t) // or skip, before anything is started
	seed := fromEnvironment(t, "HAWSER_FAULT_SEED", rand.IntN(1_000_000)+1)
	rounds := fromEnvironment(t, "HAWSER_FAULT_ROUNDS", 1)
	t.Logf("to repeat: HAWSER_FAULT_SEED=%d HAWSER_FAULT_ROUNDS=%d go test ./test/faults -run BrokersDatabases -v", seed, rounds)
	instance := services.Start(t)
	s := &scene{
		t: t, rng: rand.New(rand.NewPCG(uint64(seed), 11)), instance: instance, dir: t.TempDir(),
		stage: newStage(instance.Kafka(), instance.Postgres()),
	}
	s.stage.make(t)
	for range maxWorkers - 1 {
		s.startWorker()
	}
	notes := newTimed()
	observer := s.stage.open(t, "observer", client)
	stopConsumer := consume(observer, notes)
	stopPublishers := s.startPublishers(notes)
	report := &report{seed: seed, rounds: rounds, begun: time.Now()}
	awaitFirst(t, notes)
	s.harm(report)
	stopPublishers()
	report.ended = time.Now()
	topic, consumer, raw := settled(t, observer, notes.history)
	stopConsumer()
	mustHold(t, topic)
	mustHold(t, consumer)
	report.take(notes, topic, raw, len(history.Check(topic))+len(history.Check(consumer)))
	t.Log(report.summary())
	if len(notes.history.Acked) == 0 || len(raw.list) == 0 {
		t.Error("nothing was acknowledged, or nothing done")
	}
	if dir := os.Getenv("HAWSER_FAULT_REPORT"); dir != "" {
		report.write(t, dir)
	}
}

// startPublishers has one publisher per key, on a driver with connections of its own.
func (s *scene) startPublishers(notes *timed) (stop func()) {
	by, kafka, _ := s.stage.through(s.t)
	s.publishers = kafka
	driver := by.open(s.t, "publishers")
	return inBackground(func(ctx context.Context) {
		begin := time.Now()
		var running sync.WaitGroup
		for k := range publishedKeys {
			due := begin.Add(publishEvery * time.Duration(k) / publishedKeys) // not all at a time
			running.Go(func() { publishOnTime(ctx, driver, notes, fmt.Sprintf("k%d", k), due, publishEvery) })
		}
		running.Wait()
	})
}

// harm does all faults, with time between them for the work to go on, or not quite.
func (s *scene) harm(r *report) {
	for _, f := range plan(uint64(r.seed), r.rounds) {
		wait(s.between(time.Second, 4*time.Second))
		from := time.Now()
		err := f.do(s)
		r.faults = append(r.faults, mark{f.name, from, time.Now()})
		s.t.Logf("%6.1f s  %s, for %.1f s", from.Sub(r.begun).Seconds(), f.name, time.Since(from).Seconds())
		if err != nil {
			s.t.Fatalf("%s: %v", f.name, err)
		}
	}
	wait(3 * time.Second)
}
