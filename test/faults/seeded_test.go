package faults

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/bustest/history"
	"github.com/hawser-project/hawser/test/services"
)

// seeded is a bug of a distributed driver, or of who uses it, and what must be found of it.
type seeded struct {
	name string
	// work is how the steps of the workers and publishers are handed on.
	work func() func(next bus.Driver, step *bus.Step)
	// twice has every effect sent twice, and credulous a consumer that does not look at whether it has had it.
	twice, credulous bool
	want             history.Kind
}

func honest() func(bus.Driver, *bus.Step) {
	return func(next bus.Driver, step *bus.Step) { next.Submit(step) }
}

// some has every seventh step that matches handed on in a way of its own.
func some(matches func(*bus.Step) bool, other func(next bus.Driver, step *bus.Step)) func() func(bus.Driver, *bus.Step) {
	return func() func(bus.Driver, *bus.Step) {
		var n atomic.Int64
		return func(next bus.Driver, step *bus.Step) {
			if matches(step) && n.Add(1)%7 == 0 {
				other(next, step)
				return
			}
			next.Submit(step)
		}
	}
}

func ofWorker(step *bus.Step) bool { return step.Owner != nil && step.Owner.Role == worker }

// hasty sends what a step sends before the step commits, which it then does not.
func hasty(next bus.Driver, step *bus.Step) {
	next.Submit(&bus.Step{Appends: step.Appends, Done: func(_ bus.Commit, err error) {
		if err != nil {
			step.Done(bus.Commit{}, err)
			return
		}
		step.Done(bus.Commit{}, bus.ErrConflict)
	}})
}

var seededBugs = []seeded{
	{name: "no bug", work: honest},
	{name: "a record is acknowledged and not sent", want: history.Lost,
		work: some(published, func(_ bus.Driver, step *bus.Step) { step.Done(bus.Commit{}, nil) })},
	{name: "a step is acknowledged and not committed", want: history.Disorder,
		work: some(ofWorker, func(_ bus.Driver, step *bus.Step) { step.Done(bus.Commit{}, nil) })},
	{name: "records are sent before their step commits", want: history.Doubled, work: some(ofWorker, hasty)},
	{name: "records are sent twice and dropped", work: honest, twice: true},
	{name: "records are sent twice and their sequence is not looked at", work: honest, twice: true, credulous: true, want: history.Doubled},
}

// TestTheCheckerFindsSeededBugsOfADistributedDriver proves that the suite can fail there too.
func TestTheCheckerFindsSeededBugsOfADistributedDriver(t *testing.T) {
	t.Parallel()
	kafka, postgres := services.Kafka(t), services.Postgres(t)
	for _, bug := range seededBugs {
		t.Run(bug.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(kafka, postgres)
			s.make(t)
			t.Cleanup(func() { s.drop(t) })
			topic, consumer := bug.run(t, s)
			if bug.want == "" {
				mustHold(t, topic)
			}
			mustFind(t, consumer, bug.want)
		})
	}
}

// run has the workload on a driver with the bug, lets it come to its end without, and returns what the observers know.
func (bug seeded) run(t *testing.T, s stage) (topic, consumer history.History) {
	t.Helper()
	notes := newTimed()
	driver := s.open(t, "only", worker, client)
	read := bus.Driver(driver)
	if bug.credulous {
		read = credulous{driver}
	}
	stopConsumer := consume(read, notes)
	defer stopConsumer()
	r := start(&buggy{driver, bug.work()}, notes, load{keys: 4, pairs: 10}, nil)
	r.publishing.Wait()
	awaitEffects(notes.notebook)
	r.stop()
	rest := start(driver, newNotebook(), load{}, nil)
	defer rest.stop()
	if bug.twice {
		topic, _, _ = settled(t, driver, notes.history)
		sendAgain(t, s, len(topic.Effects))
	}
	topic, consumer, raw := settled(t, driver, notes.history)
	if bug.twice && raw.duplicates == 0 {
		t.Error("nothing was sent twice")
	}
	return topic, consumer
}

// sendAgain has every effect in Kafka sent once more, as by a sender who has not heard the answer: with the same source, epoch
// and sequence.
func sendAgain(t *testing.T, s stage, count int) {
	t.Helper()
	topic := s.topic(effects.Name)
	c, err := kgo.NewClient(kgo.SeedBrokers(s.Kafka), kgo.ConsumeTopics(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var again []*kgo.Record
	for len(again) < count {
		found := c.PollFetches(t.Context())
		if err := found.Err(); err != nil {
			t.Fatal(err)
		}
		found.EachRecord(func(r *kgo.Record) {
			again = append(again, &kgo.Record{
				Topic: topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp,
			})
		})
	}
	if err := c.ProduceSync(t.Context(), again...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// credulous is a driver whose consumers take every record for new.
type credulous struct{ bus.Driver }

func (c credulous) Read(ctx context.Context, from bus.ReadFrom) (bus.Cursor, error) {
	cursor, err := c.Driver.Read(ctx, from)
	if err != nil {
		return nil, fmt.Errorf("read as it comes: %w", err)
	}
	return credulousCursor{cursor}, nil
}

type credulousCursor struct{ bus.Cursor }

func (c credulousCursor) Next(ctx context.Context) ([]bus.Record, error) {
	found, err := c.Cursor.Next(ctx)
	for i := range found {
		found[i].Void = false
	}
	return found, err
}
