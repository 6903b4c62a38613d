package distributed

import (
	"context"
	"sync"
	"time"

	"github.com/hawser-project/hawser/bus"
)

const (
	queuedSteps   = 4096
	maxGroup      = 1024
	maxGroupBytes = 4 << 20
	idleEvery     = time.Second
	// flushTime is how long an owner that gives up waits for Kafka. What it leaves the next owner sends.
	flushTime = 2 * time.Second
	// giveUpTime is how long it waits for the database to take the last steps.
	giveUpTime = 10 * time.Second
)

// partition is a partition that this process owns. Its committer is one goroutine.
type partition struct {
	d     *Driver
	role  string
	id    int32
	owner *bus.Ownership
	taken time.Time // after the row was taken: what is read later is not from before it
	from  string    // the source in the stamps of its records

	steps      chan *bus.Step
	submitting sync.RWMutex // held by Submit for reading, so that nothing is handed in after ended is closed
	ended      chan struct{}
	endErr     error

	run    context.Context // ends when the partition is to be given up or is lost
	stop   context.CancelCauseFunc
	alive  context.Context // ends when it is lost: nothing more is to be tried
	kill   context.CancelCauseFunc
	drain  chan struct{} // closed when run has returned
	done   chan struct{} // closed when the committer has ended
	outbox *outbox

	// The committer's.
	commits int64  // of the row, by what we know
	next    uint64 // sequence of the next record
	deleted uint64 // rows of the outbox up to this sequence are deleted

	mu      sync.Mutex
	topics  map[string]*tracked
	marks   map[string]bus.Stamp
	stored  []byte // positions as they are in the row
	unsaved bool   // there is something to store even if no step is done
}

func newPartition(d *Driver, role bus.Role, id int32, row takenRow, m memory) *partition {
	p := &partition{
		d: d, role: string(role), id: id, taken: row.taken, from: sourceOf(role, id),
		steps: make(chan *bus.Step, queuedSteps), ended: make(chan struct{}), drain: make(chan struct{}), done: make(chan struct{}),
		outbox: newOutbox(), commits: row.commits, next: uint64(row.next),
		topics: make(map[string]*tracked), marks: m.marks, stored: row.positions,
	}
	p.owner = &bus.Ownership{Role: role, Partition: id, Epoch: uint64(row.epoch), Positions: make(map[string]bus.Position)}
	for topic, progress := range m.topics {
		p.topics[topic] = newTracked(progress)
	}
	for _, t := range d.readBy(role) {
		p.track(t)
		p.owner.Positions[t] = p.topics[t].pos.Clone()
	}
	p.alive, p.kill = context.WithCancelCause(context.WithoutCancel(d.closing))
	p.run, p.stop = context.WithCancelCause(p.alive)
	return p
}

// track returns what is known of a topic. p.mu is held, or p not yet shared.
func (p *partition) track(topic string) *tracked {
	t, found := p.topics[topic]
	if !found {
		t = newTracked(&progress{seen: make(map[string]bus.Stamp)})
		p.topics[topic] = t
	}
	return t
}

// submit puts a step into the queue of the committer.
func (p *partition) submit(step *bus.Step) {
	p.submitting.RLock()
	defer p.submitting.RUnlock()
	select {
	case <-p.ended:
		step.Done(bus.Commit{}, p.endErr)
		return
	default:
	}
	select {
	case p.steps <- step:
	case <-p.alive.Done():
		step.Done(bus.Commit{}, context.Cause(p.alive))
	}
}

// lose ends everything at once: somebody else owns the partition, or we can't know.
func (p *partition) lose(why error) {
	p.kill(why)
}

// close refuses all further steps.
func (p *partition) close(why error) {
	p.submitting.Lock()
	defer p.submitting.Unlock()
	select {
	case <-p.ended:
	default:
		p.endErr = why
		close(p.ended)
	}
}

// commitLoop commits what is submitted until run has returned and all is done, or the partition is lost.
func (p *partition) commitLoop() {
	defer close(p.done)
	defer p.refuse()
	idle := time.NewTicker(idleEvery)
	defer idle.Stop()
	for {
		select {
		case step := <-p.steps:
			p.commit(bus.Gather(step, p.steps, maxGroup, maxGroupBytes))
		case <-idle.C:
			if p.idleWork() {
				p.commit(nil)
			}
		case <-p.alive.Done():
			return
		case <-p.drain:
			p.finish()
			return
		}
		if p.alive.Err() != nil {
			return
		}
	}
}

// finish commits what is still there, waits a while for Kafka and stores the positions.
func (p *partition) finish() {
	p.close(bus.ErrLost)
	for p.alive.Err() == nil {
		select {
		case step := <-p.steps:
			p.commit(bus.Gather(step, p.steps, maxGroup, maxGroupBytes))
			continue
		default:
		}
		break
	}
	flush, cancel := context.WithTimeout(p.alive, flushTime)
	defer cancel()
	p.outbox.await(flush, 0, maxOutboxBytes)
	if p.alive.Err() == nil && p.idleWork() {
		p.commit(nil)
	}
}

// refuse ends what nobody will commit any more.
func (p *partition) refuse() {
	why := context.Cause(p.alive)
	if why == nil {
		why = bus.ErrLost
	}
	p.close(why)
	for {
		select {
		case step := <-p.steps:
			step.Done(bus.Commit{}, why)
		default:
			return
		}
	}
}

// idleWork says whether something is to be stored or cleaned up though there is no step.
func (p *partition) idleWork() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unsaved || p.outbox.acknowledged() > p.deleted
}

// room waits until the outbox is within its bounds.
func (p *partition) room() bool {
	return p.outbox.await(p.alive, maxOutboxRecords, maxOutboxBytes)
}

// send hands committed records to the producer. epoch is the one in which they were committed.
func (p *partition) send(records []outRecord, epoch uint64) {
	if len(records) == 0 {
		return
	}
	p.outbox.add(records)
	list := make([]*outgoing, len(records))
	for i := range records {
		r := records[i]
		list[i] = &outgoing{
			outRecord: r,
			header:    encodeHeader(bus.Stamp{Source: p.from, Epoch: epoch, Sequence: r.sequence}),
			gone:      func() bool { return p.alive.Err() != nil },
			done: func(_ int64, err error) {
				if err == nil {
					p.outbox.ack(&r)
				}
			},
		}
	}
	p.d.producer.send(list)
}
