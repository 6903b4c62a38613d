package distributed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// fetchBytes is how much one answer of a broker holds, and with it about how much one lane keeps for each broker.
	fetchBytes = 4 << 20
	// fetchWait is how long a broker waits for records. It is also how long it may take until a new cursor gets its first.
	fetchWait = 500 * time.Millisecond
	// maxWaiting is how much of one cursor waits to be asked for before its partition is paused.
	maxWaiting        = 4 << 20
	maxWaitingRecords = 10_000
)

// fetcher reads partitions for cursors. A client of Kafka reads a partition once; where several cursors read the same one
// (tables of several roles in one process) each is on a lane of its own. So there are as many clients, and connections, as
// there are cursors of one partition.
type fetcher struct {
	d *Driver

	mu     sync.Mutex
	lanes  []*lane
	closed bool
	work   sync.WaitGroup
}

func newFetcher(d *Driver) *fetcher { return &fetcher{d: d} }

// lane is one client, and the cursors that it reads for.
type lane struct {
	f      *fetcher
	client *kgo.Client

	mu        sync.Mutex
	inlets    map[target]*inlet // nil: closed, and run may still have in hand what was read for it
	interrupt context.CancelFunc
}

// inlet is what a lane has read for one cursor.
type inlet struct {
	target
	lane *lane

	mu      sync.Mutex
	waiting []*kgo.Record
	bytes   int
	paused  bool
	err     error
	arrived chan struct{} // holds one token when something is there
}

// open begins to read a partition.
func (f *fetcher) open(t target, offset int64) (*inlet, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errors.New("closed")
	}
	in := &inlet{target: t, arrived: make(chan struct{}, 1)}
	for _, l := range f.lanes {
		if l.add(in) {
			l.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{t.topic: {t.partition: kgo.NewOffset().At(offset)}})
			return in, nil
		}
	}
	l := &lane{f: f, inlets: map[target]*inlet{t: in}, interrupt: func() {}}
	in.lane = l
	opts, err := clientOptions(f.d.o.Kafka, f.d.log)
	if err != nil {
		return nil, err
	}
	l.client, err = kgo.NewClient(append(opts,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.topic: {t.partition: kgo.NewOffset().At(offset)}}),
		kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(fetchBytes/4), kgo.FetchMaxWait(fetchWait),
		// A cursor that is behind what is kept goes on with what there is, and says so.
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)...)
	if err != nil {
		return nil, fmt.Errorf("make a client of Kafka: %w", err)
	}
	f.lanes = append(f.lanes, l)
	f.work.Go(l.run)
	return in, nil
}

// add takes an inlet unless the lane reads its partition already.
func (l *lane) add(in *inlet) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, taken := l.inlets[in.target]; taken {
		return false
	}
	l.inlets[in.target] = in
	in.lane = l
	return true
}

func (l *lane) run() {
	for {
		fetches := l.client.PollFetches(l.turn())
		if fetches.IsClientClosed() {
			return
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			l.mu.Lock()
			in := l.inlets[target{p.Topic, p.Partition}]
			l.mu.Unlock()
			if in != nil {
				in.push(p.Records, p.Err)
			}
		})
	}
}

// turn begins a poll. It returns nothing of what was closed before, for the client has thrown that away. Of what is closed
// meanwhile it may: the next cursor of that partition, which begins elsewhere, would take it for its own and the records
// between for a hole.
func (l *lane) turn() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	l.mu.Lock()
	defer l.mu.Unlock()
	l.interrupt()
	l.interrupt = cancel
	maps.DeleteFunc(l.inlets, func(_ target, in *inlet) bool { return in == nil })
	return ctx
}

// push adds what was read. The client goes on by itself after errors; what it reports is that records are missing.
func (in *inlet) push(records []*kgo.Record, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if err != nil && in.err == nil {
		in.err = err
	}
	in.waiting = append(in.waiting, records...)
	for _, r := range records {
		in.bytes += len(r.Key) + len(r.Value)
	}
	if !in.paused && in.full() {
		in.paused = true
		in.lane.client.PauseFetchPartitions(map[string][]int32{in.topic: {in.partition}})
	}
	select {
	case in.arrived <- struct{}{}:
	default:
	}
}

func (in *inlet) full() bool { return in.bytes > maxWaiting || len(in.waiting) > maxWaitingRecords }

// take returns what is there, up to a bound, and waits for it until ctx ends.
func (in *inlet) take(ctx context.Context, limit int) ([]*kgo.Record, error) {
	for {
		in.mu.Lock()
		n := min(limit, len(in.waiting))
		records := append([]*kgo.Record(nil), in.waiting[:n]...)
		clear(in.waiting[:n])
		if in.waiting = in.waiting[n:]; len(in.waiting) == 0 {
			in.waiting = nil
		}
		for _, r := range records {
			in.bytes -= len(r.Key) + len(r.Value)
		}
		if in.paused && !in.full() {
			in.paused = false
			in.lane.client.ResumeFetchPartitions(map[string][]int32{in.topic: {in.partition}})
		}
		err := in.err
		in.err = nil
		in.mu.Unlock()
		if n > 0 || err != nil {
			return records, err
		}
		select {
		case <-in.arrived:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// close ends the reading of a partition.
func (in *inlet) close() {
	l := in.lane
	l.client.RemoveConsumePartitions(map[string][]int32{in.topic: {in.partition}})
	l.client.ResumeFetchPartitions(map[string][]int32{in.topic: {in.partition}}) // for the next cursor of it
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inlets[in.target] = nil
	l.interrupt() // so that the next turn comes soon
}

func (f *fetcher) close() {
	f.mu.Lock()
	f.closed = true
	for _, l := range f.lanes {
		l.client.Close()
	}
	f.mu.Unlock()
	f.work.Wait()
}
