package faults

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/test/services"
)

// TestWhatIsPublishedIsThereOnceWhateverElseIsGivenUp loses the answers to records that no step has sent, which nobody can tell
// from their doubles. Then the process that sends them loses its partitions, and with that the reason to send other records.
func TestWhatIsPublishedIsThereOnceWhateverElseIsGivenUp(t *testing.T) {
	t.Parallel()
	s := newStage(services.Kafka(t), services.Postgres(t))
	s.make(t)
	t.Cleanup(func() { s.drop(t) })
	by, kafka, postgres := s.through(t)
	one, two := by.open(t, "one", worker), s.open(t, "two", worker)
	owned, ended := own(t, one)
	owner := <-owned
	both := func() (sent, published <-chan error) { // one record to each partition of both topics
		var send, publish bus.Step
		for p := range int32(stagePartitions) {
			send.Appends = append(send.Appends, bus.Append{Topic: effects.Name, Key: keyIn(p), Value: []byte("sent")})
			publish.Appends = append(publish.Appends, bus.Append{Topic: records.Name, Key: keyIn(p), Value: []byte("published")})
		}
		send.Owner = owner
		return submit(one, send), submit(one, publish)
	}
	bothIn := func(n int64) { // Kafka, with or without an answer
		for s.count(t, records.Name) < n || s.count(t, effects.Name) < n {
			wait(20 * time.Millisecond)
		}
	}

	sent, published := both() // so that it knows its way
	if err := errors.Join(<-sent, <-published); err != nil {
		t.Fatal(err)
	}
	bothIn(stagePartitions)
	kafka.BlockAnswers()
	sent, published = both()
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	bothIn(2 * stagePartitions)
	// The other process takes everything while this one can't reach the database.
	postgres.Block()
	taken, _ := own(t, two)
	for range stagePartitions {
		<-taken
	}
	postgres.Unblock()
	for range stagePartitions {
		if err := <-ended; !errors.Is(err, bus.ErrLost) {
			t.Errorf("the partition's end: got %v, want %v", err, bus.ErrLost)
		}
	}
	kafka.Cut()
	kafka.Unblock()
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	if n := s.count(t, records.Name); n != 2*stagePartitions {
		t.Errorf("%d records were published, and %d are there", 2*stagePartitions, n)
	}
}

// own takes partitions of the workers until the test ends. It returns what it gets, and why each ended.
func own(t *testing.T, driver bus.Driver) (owned <-chan *bus.Ownership, ended <-chan error) {
	t.Helper()
	got, lost := make(chan *bus.Ownership, 100), make(chan error, 100)
	t.Cleanup(inBackground(func(ctx context.Context) {
		err := driver.Own(ctx, worker, func(ctx context.Context, o *bus.Ownership) {
			got <- o
			<-ctx.Done()
			lost <- context.Cause(ctx)
		})
		if err != nil {
			t.Error(err)
		}
	}))
	return got, lost
}

func keyIn(partition int32) string {
	for i := 0; ; i++ {
		if key := fmt.Sprint("k", i); bus.PartitionOf(key, stagePartitions) == partition {
			return key
		}
	}
}

func submit(driver bus.Driver, step bus.Step) <-chan error {
	done := make(chan error, 1)
	step.Done = func(_ bus.Commit, err error) { done <- err }
	driver.Submit(&step)
	return done
}

// count returns how many records Kafka has of a topic.
func (s stage) count(t *testing.T, topic string) (n int64) {
	t.Helper()
	c := s.kafkaClient(t)
	defer c.Close()
	ends, err := kadm.NewClient(c).ListEndOffsets(t.Context(), s.topic(topic))
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
}
