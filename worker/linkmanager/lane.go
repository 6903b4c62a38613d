package linkmanager

import (
	"fmt"
	"slices"
	"time"

	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/corda/session"
)

// lane is what one identity of ours has to send to one peer. Its methods are events; each leaves in effects what must be
// done. It knows no clock, network or randomness. Not safe for concurrent use: its runner owns it.
type lane struct {
	tuning *Tuning
	jitter func() float64
	view   *view

	queue   []*delivery // ready, in order
	stale   bool        // some of the queue are ready no more
	byID    map[string]*delivery
	count   int       // in memory, not done
	octets  int       // of their payloads
	replay  timeQueue // sent, by next
	expiry  timeQueue // by expiry
	posts   int       // in flight
	unacked int       // posting or sent
	rtt     time.Duration
	lastAck time.Time

	circuit   circuit
	beginning bool // beginSession was emitted
	opening   *opening
	session   *outSession

	effects []effect
}

// outSession is a session of a lane.
type outSession struct {
	*session.Session
	serial int64
	since  time.Time
	// silentAt is when the session is taken for dead: set when data is sent, cleared by any acknowledgement.
	silentAt time.Time
	nonces   nonces
}

// An effect is something that the lane's runner must do.
type effect interface{ effect() }

type (
	// beginSession makes a session id and an ephemeral key, and calls lane.begin.
	beginSession struct{}
	// signHandshake has crypto sign, and calls lane.signed.
	signHandshake struct{ toSign []byte }
	// postHandshake posts, and calls lane.handshakePosted.
	postHandshake struct {
		id   string
		body []byte
	}
	// postData seals and posts, and calls lane.posted.
	postData struct {
		session    *outSession
		deliveries []*delivery
	}
	// sessionUp and sessionGone keep the index of sessions.
	sessionUp   struct{ session *outSession }
	sessionGone struct{ id, why string }
	// finish ends deliveries that the peer has acknowledged, fail one that it never will.
	finish struct{ deliveries []*delivery }
	fail   struct {
		delivery     *delivery
		code, reason string
	}
	// deliverHere takes deliveries to a member that is hosted here.
	deliverHere struct{ deliveries []*delivery }
	// evict parks deliveries that leave the memory.
	evict struct{ deliveries []*delivery }
)

func (beginSession) effect()  {}
func (signHandshake) effect() {}
func (postHandshake) effect() {}
func (postData) effect()      {}
func (sessionUp) effect()     {}
func (sessionGone) effect()   {}
func (finish) effect()        {}
func (fail) effect()          {}
func (deliverHere) effect()   {}
func (evict) effect()         {}

func newLane(t *Tuning, jitter func() float64) *lane {
	return &lane{
		tuning: t, jitter: jitter, view: &view{standing: unknown, reason: "the member list has not been read yet"}, byID: make(map[string]*delivery),
		replay: timeQueue{fits: func(d *delivery) bool { return d.progress == sent }},
		expiry: timeQueue{fits: func(d *delivery) bool { return d.progress < done }},
	}
}

func (l *lane) emit(e effect) { l.effects = append(l.effects, e) }

// take returns what must be done, once.
func (l *lane) take() []effect {
	e := l.effects
	l.effects = nil
	return e
}

// add takes up messages. Those beyond limit are evicted at once.
func (l *lane) add(now time.Time, limit int, list ...*delivery) {
	var surplus []*delivery
	for _, d := range list {
		if l.count >= limit || l.octets > l.tuning.LaneOctets {
			d.progress = evicted
			surplus = append(surplus, d)
			continue
		}
		d.since, d.progress = now, ready
		d.twin = l.byID[d.msg.ID]
		l.byID[d.msg.ID] = d
		l.queue = append(l.queue, d)
		l.count++
		l.octets += len(d.msg.Payload)
		if d.msg.Expires != 0 {
			l.expiry.add(time.UnixMilli(d.msg.Expires), d)
		}
	}
	if surplus != nil {
		l.emit(evict{surplus})
	}
	l.pump(now)
}

// shrink evicts the youngest of those that wait until at most limit are left.
func (l *lane) shrink(limit int) {
	keep := max(0, len(l.queue)-max(0, l.count-limit))
	if keep == len(l.queue) {
		return
	}
	surplus := slices.Clone(l.queue[keep:])
	clear(l.queue[keep:])
	l.queue = l.queue[:keep]
	out := surplus[:0]
	for _, d := range surplus {
		if d.progress == ready {
			l.drop(d, evicted)
			out = append(out, d)
		}
	}
	l.emit(evict{out})
}

// drop takes a delivery out of the lane.
func (l *lane) drop(d *delivery, p progress) {
	switch d.progress {
	case ready:
		l.stale = true
	case posting, sent:
		l.unacked--
	case done, evicted:
	}
	d.progress = p
	l.count--
	l.octets -= len(d.msg.Payload)
	first := l.byID[d.msg.ID]
	switch {
	case first == d && d.twin == nil:
		delete(l.byID, d.msg.ID)
	case first == d:
		l.byID[d.msg.ID] = d.twin
	}
	for ; first != nil; first = first.twin {
		if first.twin == d {
			first.twin = d.twin
			return
		}
	}
}

// forget drops those deliveries that somebody else has now.
func (l *lane) forget(gone func(*delivery) bool) {
	var list []*delivery
	for _, d := range l.byID {
		for ; d != nil; d = d.twin {
			if gone(d) {
				list = append(list, d)
			}
		}
	}
	for _, d := range list {
		l.drop(d, evicted)
	}
}

// changed takes in what is now known of both parties.
func (l *lane) changed(now time.Time, v *view) {
	l.view = v
	if l.opening != nil && (v.standing != open || v.serial != l.opening.serial) {
		l.giveUp("the member's information has changed")
	}
	if l.session != nil && (v.standing != open || v.serial != l.session.serial) {
		l.end("the member's information has changed")
	}
	if v.standing == open && l.circuit.open() {
		l.circuit.next = now
	}
	l.pump(now)
}

// tick is a moment in time.
func (l *lane) tick(now time.Time) { l.pump(now) }

// reachable is a sign that the peer is there: something came from it, or something else was posted to it.
func (l *lane) reachable(now time.Time) {
	l.circuit.hint(now, l.tuning)
	l.pump(now)
}

// acked says that the peer has what was sent. Ids of other messages change nothing.
func (l *lane) acked(now time.Time, ids ...string) {
	var list []*delivery
	for _, id := range ids {
		for d := l.byID[id]; d != nil; {
			twin := d.twin
			if d.attempts == 1 && !d.postedAt.IsZero() {
				l.measure(now.Sub(d.postedAt))
			}
			l.drop(d, done)
			list = append(list, d)
			d = twin
		}
	}
	l.lastAck = now
	if l.session != nil {
		l.session.silentAt = time.Time{}
		if l.unacked > 0 {
			l.session.silentAt = now.Add(l.tuning.DeadSession)
		}
	}
	if list != nil {
		l.emit(finish{list})
	}
	l.backOnline(now)
	l.pump(now)
}

func (l *lane) measure(rtt time.Duration) {
	if l.rtt == 0 {
		l.rtt = rtt
	}
	l.rtt = (7*l.rtt + rtt) / 8
}

// backOnline ends an outage: what was sent into it is sent again at once.
func (l *lane) backOnline(now time.Time) {
	if !l.circuit.ok() {
		return
	}
	for i, t := range l.replay.items {
		if l.replay.fits(t.d) && t.at.After(now) {
			l.replay.items[i].at = now // all that are later get the same time: the heap stays one
			t.d.next = now
		}
	}
}

// posted says how a post of data went. outcomes is in the order of the deliveries.
func (l *lane) posted(now time.Time, s *outSession, list []*delivery, outcomes []outcome) {
	l.posts--
	var failed *outcome
	answered := false
	for i, d := range list {
		o := outcomes[i]
		switch {
		case d.progress != posting:
			answered = answered || o.status == statusOK
		case o.status == statusOK:
			answered = true
			d.progress = sent
			d.next = now.Add(l.replayAfter(d.attempts))
			l.replay.add(d.next, d)
		case o.tooLarge || o.status == statusTooLarge:
			answered = true
			l.drop(d, done)
			l.emit(fail{d, message.TooLarge, o.reason})
		default:
			failed = &outcomes[i]
			d.progress = ready
			l.unacked--
			l.queue = append(l.queue, d)
		}
	}
	if answered {
		l.backOnline(now)
		if s == l.session && s.silentAt.IsZero() && l.unacked > 0 {
			s.silentAt = now.Add(l.tuning.DeadSession)
		}
	}
	if failed != nil {
		if failed.status == statusGone && s == l.session {
			l.end("the peer does not know the session")
		}
		l.circuit.fail(now, l.tuning, l.jitter(), failed.reason)
	}
	l.pump(now)
}

// replayAfter is how long to wait for an acknowledgement.
func (l *lane) replayAfter(attempts int) time.Duration {
	return backoff(max(l.tuning.FirstReplay, 4*l.rtt), l.tuning.MaxRetryReachable, attempts, l.jitter())
}

// pump does what can be done now.
func (l *lane) pump(now time.Time) {
	l.expire(now)
	for _, d := range l.replay.due(now) {
		d.progress = ready
		l.unacked--
		l.queue = append(l.queue, d)
	}
	if l.stale {
		l.queue = slices.DeleteFunc(l.queue, func(d *delivery) bool { return d.progress != ready })
		l.stale = false
	}
	switch l.view.standing {
	case unknown:
		return
	case refused:
		l.refuse(now)
		return
	case here:
		l.deliverHere()
		return
	case open:
	}
	l.ageSession(now)
	if len(l.queue) == 0 && l.opening == nil || !l.circuit.allows(now) {
		return
	}
	if l.session == nil {
		l.open(now)
		return
	}
	l.post(now)
}

// expire fails what has been tried for long enough.
func (l *lane) expire(now time.Time) {
	for _, d := range l.expiry.due(now) {
		waited := l.waitsFor(d)
		l.drop(d, done)
		code := message.Expired
		if l.view.standing == unknown {
			code = message.UnknownMember
		}
		l.emit(fail{d, code, fmt.Sprintf("not delivered within its time, after %d attempts: %s", d.attempts, waited)})
	}
}

func (l *lane) refuse(now time.Time) {
	kept := l.queue[:0]
	for _, d := range l.queue {
		switch {
		case d.progress != ready:
		case now.Sub(d.since) < l.view.grace:
			kept = append(kept, d)
		default:
			l.drop(d, done)
			l.emit(fail{d, message.NotAllowed, l.view.reason})
		}
	}
	clear(l.queue[len(kept):])
	l.queue = kept
}

func (l *lane) deliverHere() {
	var list []*delivery
	for _, d := range l.queue {
		if d.progress == ready {
			d.attempts++
			l.drop(d, done)
			list = append(list, d)
		}
	}
	l.queue = nil
	if list != nil {
		l.emit(deliverHere{list})
	}
}

// post hands out what is ready, as far as the window allows. While the peer is away it is one message.
func (l *lane) post(now time.Time) {
	posts, size := l.tuning.Posts, l.tuning.PostMessages
	if l.circuit.open() {
		posts, size = 1, 1
	}
	for l.posts < posts && l.unacked < l.tuning.Unacked {
		list := l.next(min(size, l.tuning.Unacked-l.unacked))
		if len(list) == 0 {
			return
		}
		for _, d := range list {
			d.progress = posting
			d.attempts++
			d.postedAt = now
		}
		l.unacked += len(list)
		l.posts++
		l.emit(postData{l.session, list})
	}
}

// next takes deliveries from the queue, in order, up to a number and a size.
func (l *lane) next(number int) (list []*delivery) {
	octets, taken := 0, 0
	for _, d := range l.queue {
		if len(list) == number || (len(list) > 0 && octets+len(d.msg.Payload) > l.tuning.PostOctets) {
			break
		}
		taken++
		if d.progress != ready {
			continue
		}
		octets += len(d.msg.Payload)
		list = append(list, d)
	}
	clear(l.queue[:taken])
	l.queue = l.queue[taken:]
	return list
}

// wake is when tick is to be called next.
func (l *lane) wake() (at time.Time, set bool) {
	earlier := func(t time.Time) {
		if !set || t.Before(at) {
			at, set = t, true
		}
	}
	if t, any := l.replay.first(); any {
		earlier(t)
	}
	if t, any := l.expiry.first(); any {
		earlier(t)
	}
	if l.view.standing == refused && len(l.queue) > 0 {
		earlier(l.queue[0].since.Add(l.view.grace))
	}
	if l.view.standing != open {
		return at, set
	}
	if l.session != nil && !l.session.silentAt.IsZero() {
		earlier(l.session.silentAt)
	}
	idle := l.posts == 0 && !l.beginning && (l.opening == nil || !l.opening.posting && !l.opening.signing)
	if l.circuit.open() && (len(l.queue) > 0 || l.opening != nil) {
		if idle {
			earlier(l.circuit.next)
		}
	} else if o := l.opening; o != nil {
		earlier(o.over(l.tuning))
		if !o.signing && !o.posting {
			earlier(o.sendAgain(l.tuning))
		}
	}
	return at, set
}
