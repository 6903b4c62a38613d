package linkmanager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/corda/avro"
	"github.com/hawser-project/hawser/corda/p2p"
)

// outstanding is a record in work, for the distance between the newest and those that wait.
type outstanding struct {
	offset uint64
	r      *runner
	d      *delivery
}

// dispatch takes a record to its lane. It is called for one record of a partition at a time, in order.
func (w *Worker) dispatch(_ context.Context, record *bus.Open[message.Outbound]) {
	r := w.runner(record.Value.Pair())
	d := &delivery{msg: record.Value, copy: durable{open: record}}
	w.note(record.Record, outstanding{record.Record.Offset, r, d})
	r.do(func(now time.Time) {
		if len(d.msg.Payload)+headroom > maxMessage {
			d.since = now
			r.lane.emit(fail{d, message.TooLarge, fmt.Sprintf("%d octets, at most %d", len(d.msg.Payload), maxMessage-headroom)})
			return
		}
		limit := r.limit()
		if len(r.parked.cold) > 0 && r.lane.count >= limit/2 {
			limit = 0 // those that were parked go first
		}
		r.fresh = append(r.fresh, d)
		d.since = now
		r.lane.add(now, limit, d)
	})
}

// note takes down a record in work, and has those parked that lie too far behind it: the window of the consumer is a
// distance.
func (w *Worker) note(record bus.Record, newest outstanding) {
	w.dispatching.Lock()
	defer w.dispatching.Unlock()
	list := append(w.outstanding[record.Partition], newest)
	defer func() { w.outstanding[record.Partition] = list }()
	for len(list) > 0 {
		o := list[0]
		if !o.d.gone.Load() {
			if newest.offset-o.offset <= uint64(w.tuning.ParkDistance) {
				return
			}
			o.r.do(func(time.Time) { o.r.pressed = append(o.r.pressed, o.d) })
		}
		list[0] = outstanding{}
		list = list[1:]
	}
}

// parkOld parks what has waited for long, or lies far behind.
func (r *runner) parkOld(ctx context.Context, now time.Time) {
	var old []*delivery
	for len(r.fresh) > 0 {
		d := r.fresh[0]
		if d.progress < done && d.copy.open != nil && !d.copy.moving {
			if now.Sub(d.since) < r.w.tuning.ParkAfter {
				break
			}
			old = append(old, d)
		}
		r.fresh[0] = nil
		r.fresh = r.fresh[1:]
	}
	for _, d := range r.pressed {
		if d.progress < done && d.copy.open != nil && !d.copy.moving && !slices.Contains(old, d) {
			old = append(old, d)
		}
	}
	r.pressed = nil
	for _, d := range old {
		r.park(ctx, d)
	}
}

// evict takes deliveries out of memory, parked if they are not yet.
func (r *runner) evict(ctx context.Context, list []*delivery) {
	for _, d := range list {
		switch {
		case d.copy.row != 0:
			r.parked.chill(d.copy.row)
		case d.copy.open != nil && !d.copy.moving:
			r.park(ctx, d)
		}
	}
}

// park moves the durable copy of a delivery from its record to a row.
func (r *runner) park(ctx context.Context, d *delivery) {
	number, term := r.parked.begin(d), r.term
	d.copy.moving = true
	r.w.tasks.Go(func() {
		err := r.w.persist(ctx, func() error {
			return d.copy.open.Finish(ctx, func(tx *bus.Tx) error {
				parkedRows.Put(tx, r.key, rowName(number), d.msg)
				parkedPages.Put(tx, r.key, pageName(number/pageRows), r.pair)
				return nil
			})
		})
		r.do(func(time.Time) { r.moved(d, term, number, err) })
	})
}

// moved takes note of a delivery that is in a row now.
func (r *runner) moved(d *delivery, term int, number uint64, err error) {
	if r.term != term {
		return
	}
	r.parked.written(number, err == nil)
	d.copy.moving = false
	if err != nil {
		return // only when the worker stops: the record is still there
	}
	d.gone.Store(true)
	d.copy.open, d.copy.row = nil, number
	switch {
	case d.end != nil:
		r.parkedEnd(d, *d.end)
	case d.progress == evicted:
		r.parked.chill(number)
	}
}

// end ends the durable copy of a delivery.
func (r *runner) end(ctx context.Context, d *delivery, end topic.ParkedEnd, how string) {
	r.w.metrics.delivered.WithLabelValues(how).Inc()
	switch {
	case d.copy.moving:
		d.end = &end
	case d.copy.row != 0:
		r.parkedEnd(d, end)
	case d.copy.open != nil:
		r.w.tasks.Go(func() {
			if err := r.w.persist(ctx, func() error {
				return d.copy.open.Finish(ctx, func(tx *bus.Tx) error {
					r.w.conclude(tx, &d.msg, end)
					return nil
				})
			}); err == nil {
				d.gone.Store(true)
			}
		})
	}
}

// conclude adds to a step what the end of a message brings with it.
func (w *Worker) conclude(tx *bus.Tx, msg *message.Outbound, end topic.ParkedEnd) {
	switch {
	case end.Failure != nil:
		w.sendFailure(tx, msg, *end.Failure)
	case end.Here:
		w.sendHere(tx, msg)
	}
}

func (r *runner) parkedEnd(d *delivery, end topic.ParkedEnd) {
	end.Number = d.copy.row
	delete(r.parked.rows, d.copy.row)
	r.parked.ends = append(r.parked.ends, end)
}

// settle ends parked messages for good.
func (r *runner) settle(ctx context.Context, s topic.Settlement) {
	term := r.term
	r.w.tasks.Go(func() {
		id := uuid.NewString()
		err := r.w.persist(ctx, func() error {
			_, _, err := topic.SettleParked.Do(ctx, r.w.Bus, r.key, id, s)
			return err
		})
		r.do(func(time.Time) {
			if r.term != term {
				return
			}
			r.parked.settling = false
			if err != nil {
				r.parked.ends = append(s.Ends, r.parked.ends...)
			}
		})
	})
}

// refill takes parked messages into memory when there is room.
func (r *runner) refill(ctx context.Context) {
	limit := r.limit()
	if r.parked.loading || len(r.parked.cold) == 0 || r.lane.count > limit/2 || r.lane.octets > r.w.tuning.LaneOctets/2 {
		return
	}
	page := r.parked.cold[0]
	r.parked.cold = r.parked.cold[1:] // rows of it that leave the memory from now on bring it back
	r.parked.loading = true
	term := r.term
	r.w.tasks.Go(func() {
		list, err := loadPage(ctx, r.w.Bus, r.key, page)
		r.do(func(now time.Time) {
			if r.term != term {
				return
			}
			r.parked.loading = false
			if err != nil {
				r.w.Log.WarnContext(ctx, "parked messages can't be read", "error", err)
				r.parked.addCold(page)
				return
			}
			if len(list) == 0 && page < r.parked.closed() {
				// Its rows ended while it was still open to new ones. To end one again is to look at the page again.
				r.parked.ends = append(r.parked.ends, topic.ParkedEnd{Number: page * pageRows})
			}
			r.take(now, list)
		})
	})
}

// take adds loaded messages to the lane, but for those that were in memory all the time or have just ended.
func (r *runner) take(now time.Time, list []*delivery) {
	added := list[:0]
	for _, d := range list {
		_, known := r.parked.rows[d.copy.row]
		ended := slices.ContainsFunc(r.parked.ends, func(e topic.ParkedEnd) bool { return e.Number == d.copy.row })
		if known || ended {
			continue
		}
		r.parked.rows[d.copy.row] = d
		d.gone.Store(true)
		added = append(added, d)
	}
	r.lane.add(now, r.lane.count+len(added), added...)
}

// sendFailure tells the flow that sent a message that it will not be delivered.
func (w *Worker) sendFailure(tx *bus.Tx, msg *message.Outbound, f message.Failure) {
	if msg.Subsystem != flow.Subsystem {
		return
	}
	source, err := msg.Source.Identity()
	if err != nil {
		return
	}
	destination, err := msg.Destination.Identity()
	session, fromInitiator, keyErr := flow.ParseMessageKey(msg.Key)
	var slot flow.Slot
	switch {
	case keyErr != nil:
		return
	case fromInitiator:
		slot = session.Slot()
	case err != nil:
		return // a responder's peer has a name that is none: it was never one
	default:
		slot = flow.PeerSlot(source, destination, session.String())
	}
	topic.FlowIn.Send(tx, slot.Key(), flow.Input{Holder: string(source.ShortHash()), Failed: &f})
}

// sendHere delivers a message to a member that is hosted here. One that means nothing to a flow is dropped, as it would be
// if it came from a peer.
func (w *Worker) sendHere(tx *bus.Tx, msg *message.Outbound) {
	source, errSource := msg.Source.Identity()
	destination, errDestination := msg.Destination.Identity()
	if errSource != nil || errDestination != nil || msg.Subsystem != flow.Subsystem {
		w.drop("subsystem")
		return
	}
	slot, err := flow.SlotOfMessage(destination, source, msg.Key)
	if err != nil {
		w.drop("message key")
		return
	}
	topic.FlowIn.Send(tx, slot.Key(), flow.Input{Holder: string(destination.ShortHash()), Inbound: &message.Inbound{
		Source: message.PartyOf(source), Destination: message.PartyOf(destination), ID: msg.ID, Key: msg.Key, Subsystem: msg.Subsystem, Payload: msg.Payload,
	}})
}

// plaintext is what a data message carries.
func plaintext(msg *message.Outbound, form p2p.Form) []byte {
	m := p2p.DataPayload{Form: form, Key: msg.Key, Message: p2p.AuthenticatedMessage{
		Destination: p2p.Identity{X500Name: msg.Destination.Name, GroupID: msg.Destination.GroupID},
		Source:      p2p.Identity{X500Name: msg.Source.Name, GroupID: msg.Source.GroupID},
		MessageID:   msg.ID, TraceID: avro.Some(""), Subsystem: msg.Subsystem, StatusFilter: p2p.Active, Payload: msg.Payload,
	}}
	if msg.Expires != 0 {
		m.Message.TTL = avro.Some(msg.Expires)
	}
	return m.AppendObject(make([]byte, 0, len(msg.Payload)+512))
}

// persist repeats what must be written until it is, or it is another process's to write, or the worker stops.
func (w *Worker) persist(ctx context.Context, fn func() error) error {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := fn()
		if err == nil || errors.Is(err, bus.ErrLost) {
			return err
		}
		if ctx.Err() == nil {
			w.Log.WarnContext(ctx, "a message's end can't be written", "error", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}
