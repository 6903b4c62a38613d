package linkmanager

import (
	"slices"
	"strings"
	"time"
)

// PeerStatus answers for one pair: what are its messages waiting for, since when, what happens next.
type PeerStatus struct {
	Source, Destination string
	Messages            int    // in memory
	ParkedPages         int    // pages of parked messages that are not in memory
	Unacknowledged      int    // posted, not acknowledged
	WaitingFor          string // empty: nothing
	Since               time.Time
	Next                time.Time // when something is tried; zero: when what it waits for comes
	Session             string    // id of the link session, if there is one
	Failures            int       // posts that failed in a row
	Oldest              []MessageStatus
}

// MessageStatus answers for one message.
type MessageStatus struct {
	ID         string
	State      string
	Since      time.Time
	Attempts   int
	WaitingFor string
	Next       time.Time
	Expires    time.Time
}

// waiting says what the lane as a whole waits for.
func (l *lane) waiting() (what string, since, next time.Time) {
	switch {
	case l.view.standing == unknown, l.view.standing == refused:
		return l.view.reason, time.Time{}, time.Time{}
	case l.view.standing == here:
		return "", time.Time{}, time.Time{}
	case l.circuit.open():
		return "the peer's gateway: " + l.circuit.reason, l.circuit.since, l.circuit.next
	case l.session == nil && l.opening != nil:
		return "a link session: " + l.opening.String(), l.opening.begun, l.opening.sendAgain(l.tuning)
	case l.session == nil && len(l.queue) > 0:
		return "a link session", l.queue[0].since, time.Time{}
	}
	return "", time.Time{}, time.Time{}
}

// waitsFor says what a delivery waits for.
func (l *lane) waitsFor(d *delivery) string {
	switch what, _, _ := l.waiting(); {
	case d.progress == sent:
		return "the peer's acknowledgement"
	case d.progress == posting:
		return "the answer of the peer's gateway"
	case what != "":
		return what
	}
	return "its turn"
}

const shownMessages = 10

// publishStatus makes what Status gives out.
func (r *runner) publishStatus(now time.Time) {
	r.away.Store(r.lane.circuit.open())
	if now.Sub(r.told) < statsTime/4 && r.lane.count > 0 {
		return
	}
	r.told = now
	l := r.lane
	r.w.metrics.waiting.Add(float64(l.count - r.counted))
	r.counted = l.count
	pages := r.parked.pages()
	r.w.metrics.parked.Add(float64(pages - r.pages))
	r.pages = pages
	s := &PeerStatus{
		Source: r.pair.Source.Name, Destination: r.pair.Destination.Name, Messages: l.count, ParkedPages: len(r.parked.cold),
		Unacknowledged: l.unacked, Failures: l.circuit.failures,
	}
	s.WaitingFor, s.Since, s.Next = l.waiting()
	if l.session != nil {
		s.Session = l.session.ID()
	}
	for _, d := range l.queue[:min(len(l.queue), shownMessages)] {
		s.Oldest = append(s.Oldest, l.describe(d))
	}
	for _, t := range l.replay.items[:min(len(l.replay.items), shownMessages)] {
		if t.d.progress == sent {
			s.Oldest = append(s.Oldest, l.describe(t.d))
		}
	}
	slices.SortFunc(s.Oldest, func(a, b MessageStatus) int { return a.Since.Compare(b.Since) })
	r.status.Store(s)
}

func (l *lane) describe(d *delivery) MessageStatus {
	m := MessageStatus{ID: d.msg.ID, State: d.progress.String(), Since: d.since, Attempts: d.attempts, WaitingFor: l.waitsFor(d), Next: d.next}
	if d.msg.Expires != 0 {
		m.Expires = time.UnixMilli(d.msg.Expires)
	}
	return m
}

// Status tells of every pair that messages were sent between, sorted by names. It lags by a moment.
func (w *Worker) Status() (all []PeerStatus) {
	w.mu.Lock()
	runners := make([]*runner, 0, len(w.runners))
	for _, r := range w.runners {
		runners = append(runners, r)
	}
	w.mu.Unlock()
	for _, r := range runners {
		if s := r.status.Load(); s != nil {
			all = append(all, *s)
		}
	}
	slices.SortFunc(all, func(a, b PeerStatus) int {
		if c := strings.Compare(a.Source, b.Source); c != 0 {
			return c
		}
		return strings.Compare(a.Destination, b.Destination)
	})
	return all
}
