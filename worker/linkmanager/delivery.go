package linkmanager

import (
	"container/heap"
	"sync/atomic"
	"time"

	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/cluster/topic"
)

// progress is where a delivery stands. See the package comment.
type progress uint8

const (
	ready progress = iota
	posting
	sent
	done    // acknowledged or failed
	evicted // its only copy is the parked row
)

func (p progress) String() string {
	return [...]string{"ready", "posting", "sent", "done", "evicted"}[p]
}

// delivery is a message on its way. All but its first line belongs to the lane.
type delivery struct {
	msg message.Outbound

	since    time.Time // when it was taken up
	progress progress
	attempts int
	next     time.Time // sent: when it is sent again
	postedAt time.Time
	twin     *delivery // another one with the same id

	// The rest is the runner's.
	copy durable
	end  *topic.ParkedEnd // how it ended while its copy was moving
	gone atomic.Bool      // its record is finished, or parked
}

// durable is where a delivery survives a crash: a record that is open, or a parked row. Neither: it does not.
type durable struct {
	open   openRecord
	row    uint64 // 0: none
	moving bool   // from record to row, in this moment
}

// timeQueue is deliveries by a time of theirs. Those whose progress no longer fits are passed over.
type timeQueue struct {
	items []timed
	fits  func(*delivery) bool
}

type timed struct {
	at time.Time
	d  *delivery
}

func (q *timeQueue) Len() int           { return len(q.items) }
func (q *timeQueue) Less(i, j int) bool { return q.items[i].at.Before(q.items[j].at) }
func (q *timeQueue) Swap(i, j int)      { q.items[i], q.items[j] = q.items[j], q.items[i] }
func (q *timeQueue) Push(x any)         { q.items = append(q.items, x.(timed)) } //nolint:forcetypeassert // ours
func (q *timeQueue) Pop() any {
	last := len(q.items) - 1
	x := q.items[last]
	q.items[last] = timed{}
	q.items = q.items[:last]
	return x
}

func (q *timeQueue) add(at time.Time, d *delivery) { heap.Push(q, timed{at, d}) }

// first returns the earliest time.
func (q *timeQueue) first() (time.Time, bool) {
	for len(q.items) > 0 && !q.fits(q.items[0].d) {
		heap.Pop(q)
	}
	if len(q.items) == 0 {
		return time.Time{}, false
	}
	return q.items[0].at, true
}

// due takes out the deliveries whose time has come.
func (q *timeQueue) due(now time.Time) (list []*delivery) {
	for {
		at, any := q.first()
		if !any || at.After(now) {
			return list
		}
		list = append(list, heap.Pop(q).(timed).d) //nolint:forcetypeassert // ours
	}
}
