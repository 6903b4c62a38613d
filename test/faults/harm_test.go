package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hawser-project/hawser/test/services"
)

// scene is what faults are done to.
type scene struct {
	t        *testing.T
	rng      *rand.Rand
	instance *services.Instance
	stage    stage
	dir      string
	workers  []*process
	started  int
	// The connections of the publishers to Kafka.
	publishers *services.TCPProxy
}

// fault is one kind of harm. do returns when the harm is over; what it does to the work may not be.
type fault struct {
	name string
	do   func(s *scene) error
}

const maxWorkers = 3

var (
	killWorker  = fault{"worker killed, another started", (*scene).replace}
	hangWorker  = fault{"worker stopped beyond its lease", func(s *scene) error { return s.any().hang(s.beyondLease()) }}
	killKafka   = fault{"broker killed and restarted", func(s *scene) error { return s.restart(services.KafkaService, s.between(0, time.Second)) }}
	killPG      = fault{"PostgreSQL killed and restarted", func(s *scene) error { return s.restart(services.PostgresService, s.between(0, time.Second)) }}
	pauseKafka  = fault{"broker paused", func(s *scene) error { return s.freeze(services.KafkaService, 3*time.Second) }}
	pausePG     = fault{"PostgreSQL paused", func(s *scene) error { return s.freeze(services.PostgresService, 3*time.Second) }}
	cutPG       = fault{"worker's PostgreSQL connections cut", func(s *scene) error { return s.cut(s.any().postgres) }}
	cutKafka    = fault{"Kafka connections cut", func(s *scene) error { return s.cut(s.any().kafka, s.publishers) }}
	losePG      = fault{"PostgreSQL's answers lost", func(s *scene) error { return s.loseAnswers(s.any().postgres) }}
	loseKafka   = fault{"Kafka's answers lost", func(s *scene) error { return s.loseAnswers(s.any().kafka, s.publishers) }}
	isolate     = fault{"worker cut off beyond its lease", (*scene).isolateOne}
	joinOrLeave = fault{"worker joins or leaves", (*scene).changeNumber}
	// A worker that hangs has records committed that the broker does not have; its successor sends them, and so does it.
	hangUnsent = fault{"worker stopped while the broker is paused", func(s *scene) error {
		return s.during(func() error { return s.freeze(services.KafkaService, 3*time.Second) },
			func() error { return s.any().hang(s.beyondLease()) })
	}}
	// Nobody can release or take partitions.
	killWithoutPG = fault{"worker killed without PostgreSQL", func(s *scene) error {
		down := s.between(time.Second, 2*time.Second)
		return s.during(func() error { return s.restart(services.PostgresService, down) }, s.replace)
	}}
)

// slots are the faults of one round: of each line one, in random order.
var slots = [][]fault{
	{killWorker},
	{hangWorker},
	{killKafka},
	{killPG},
	{pauseKafka, pausePG},
	{cutPG, cutKafka},
	{losePG, loseKafka},
	{isolate, joinOrLeave, hangUnsent, killWithoutPG},
}

// plan draws the faults of some rounds.
func plan(seed uint64, rounds int) (list []fault) {
	rng := rand.New(rand.NewPCG(seed, 13))
	for range rounds {
		var one []fault
		for _, choices := range slots {
			one = append(one, choices[rng.IntN(len(choices))])
		}
		rng.Shuffle(len(one), func(i, j int) { one[i], one[j] = one[j], one[i] })
		list = append(list, one...)
	}
	return list
}

// between is a random time.
func (s *scene) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.rng.Int64N(int64(most-least)))
}

func (s *scene) beyondLease() time.Duration {
	return stageLease + s.between(time.Second, 3*time.Second)
}

func wait(length time.Duration) { <-time.After(length) }

// any returns one of the workers.
func (s *scene) any() *process { return s.workers[s.rng.IntN(len(s.workers))] }

func (s *scene) startWorker() {
	s.started++
	s.workers = append(s.workers, startProcess(s.t, s.stage, s.dir, fmt.Sprintf("worker-%d", s.started)))
}

// replace kills a worker and starts another.
func (s *scene) replace() error {
	i := s.rng.IntN(len(s.workers))
	s.workers[i].kill()
	s.workers = append(s.workers[:i], s.workers[i+1:]...)
	s.startWorker()
	return nil
}

// changeNumber adds a worker, or has one leave in order where there are enough.
func (s *scene) changeNumber() error {
	if len(s.workers) < maxWorkers {
		s.startWorker()
		return nil
	}
	i := s.rng.IntN(len(s.workers))
	p := s.workers[i]
	s.workers = append(s.workers[:i], s.workers[i+1:]...)
	return p.leave()
}

func (s *scene) restart(what services.Service, down time.Duration) error {
	if err := s.instance.Kill(what); err != nil {
		return err
	}
	wait(down)
	return s.instance.StartAgain(what)
}

func (s *scene) freeze(what services.Service, length time.Duration) error {
	if err := s.instance.Pause(what); err != nil {
		return err
	}
	wait(length)
	return s.instance.Resume(what)
}

// during begins the second fault in the middle of the first, which draws no random numbers: they would not be the same the
// next time.
func (s *scene) during(first, second func() error) error {
	failed := make(chan error, 1)
	begun := make(chan struct{})
	go func() {
		close(begun)
		failed <- first()
	}()
	<-begun
	wait(200 * time.Millisecond)
	return errors.Join(second(), <-failed)
}

// cut cuts connections some times over, so that attempts to come back are met as well.
func (s *scene) cut(proxies ...*services.TCPProxy) error {
	for range 1 + s.rng.IntN(5) {
		for _, p := range proxies {
			p.Cut()
		}
		wait(s.between(0, 200*time.Millisecond))
	}
	return nil
}

// loseAnswers has requests go through and their answers lost.
func (s *scene) loseAnswers(proxies ...*services.TCPProxy) error {
	for range 1 + s.rng.IntN(3) {
		for _, p := range proxies {
			p.BlockAnswers()
		}
		wait(s.between(50*time.Millisecond, time.Second))
		for _, p := range proxies {
			p.Cut()
			p.Unblock()
		}
		wait(s.between(0, 500*time.Millisecond))
	}
	return nil
}

// isolateOne has the network swallow what one worker says and hears. What it said arrives when others have its partitions.
func (s *scene) isolateOne() error {
	p := s.any()
	p.kafka.Block()
	p.postgres.Block()
	wait(s.beyondLease())
	if s.rng.IntN(2) == 0 { // first what it had to tell Kafka
		p.kafka.Unblock()
		wait(s.between(0, time.Second))
	}
	p.postgres.Unblock()
	p.kafka.Unblock()
	return nil
}
