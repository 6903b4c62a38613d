package flow

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/worker/flow/session"
)

// complete ends the flow with a result. What it did in this step takes effect, and its sessions are closed.
func (s *step) complete(result []byte) {
	if len(result) > flow.MaxArguments {
		s.fail(typeFlow, session.CodeTooLarge, fmt.Sprintf("the result has %d octets, the limit is %d", len(result), flow.MaxArguments))
		return
	}
	for i := range s.run.Sessions {
		s.close(&s.run.Sessions[i])
	}
	s.run.State = flow.Completed
	s.ended.Result = result
}

// fail ends the flow. What it did since it last waited is taken back, and the peers that know of it are told.
func (s *step) fail(errorType, code, text string) {
	clear(s.puts)
	s.out = nil
	for i := range s.run.Sessions {
		on := &s.run.Sessions[i]
		known := slices.IndexFunc(s.before, func(b session.Session) bool { return b.Number == on.Number })
		if known < 0 {
			continue
		}
		on.Contacted, on.Closed, on.Problem = s.before[known].Contacted, s.before[known].Closed, s.before[known].Problem
		s.abort(on, code, forPeers(errorType, code, text))
	}
	s.run.State = flow.Failed
	s.ended.ErrorType, s.ended.ErrorMessage = errorType, strings.ToValidUTF8(text, "?")
	if code != "error" {
		s.ended.ErrorMessage = code + ": " + s.ended.ErrorMessage
	}
}

// forPeers keeps what a flow did not say on purpose from leaving the organisation: the text of an error without a code of
// its own may hold anything.
func forPeers(errorType, code, text string) string {
	if errorType == typePlatform || slices.Contains([]string{"error", "panic", "deadlock"}, code) {
		return "the flow failed"
	}
	return text
}

// bury leaves of a flow what is needed to know it again, and its status.
func (s *step) bury() error {
	r := s.run
	if !r.fresh {
		starts.Delete(s.tx, s.key, r.ID)
	}
	if r.Events > uint64(len(s.log)) {
		if err := dropRows(s.tx, events, s.key, r.ID+"/"); err != nil {
			return err
		}
	}
	for _, id := range r.Answered {
		if err := dropRows(s.tx, answers, s.key, logRow(r.ID, id)); err != nil {
			return err
		}
	}
	s.dropInbox()
	status := r.status()
	status.Result, status.ErrorType, status.ErrorMessage = s.ended.Result, s.ended.ErrorType, s.ended.ErrorMessage
	statuses.Put(s.tx, r.Holder, r.statusRow(), status)

	for i := range r.Sessions {
		on := r.Sessions[i]
		r.Sessions[i] = session.Session{Number: on.Number, ID: on.ID, Peer: on.Peer, Initiator: on.Initiator, Received: on.Received, Last: on.Last}
	}
	r.Pending, r.Await, r.Answered, r.Chain, r.Mode = nil, nil, nil, chain{}, 0
	until := s.tx.Now().Add(s.w.Retention)
	r.WakeAt = until.UnixMilli()
	s.tx.SetTimer(timerName(r.ID), until)
	runs.Put(s.tx, s.key, r.ID, *r)
	s.w.forget(r)
	s.w.Log.DebugContext(s.ctx, "flow ended", append(r.attrs(), "state", r.State, "error", s.ended.ErrorMessage)...)
	return nil
}

// dropInbox removes the payloads that the flow has not received, or has in this step.
func (s *step) dropInbox() {
	drop := slices.Clone(s.taken)
	for i := range s.run.Sessions {
		for _, n := range s.run.Sessions[i].Unread() {
			drop = append(drop, place{s.run.Sessions[i].Number, n})
		}
	}
	for _, p := range s.run.Pending {
		if p.Number > 0 {
			drop = append(drop, place{p.Session, p.Number})
		}
	}
	for _, m := range drop {
		if _, here := s.payloads[m]; !here {
			inbox.Delete(s.tx, s.key, inboxRow(s.run.ID, m.session, m.number))
		}
	}
}

// forget drops what the process remembers of a flow that has ended.
func (w *Worker) forget(r *run) {
	w.metrics.ended.WithLabelValues(string(r.State)).Inc()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.overdue, r.ID)
}

// expire drops the last of a flow when its time is over; the client's id may be used again then.
func (w *Worker) expire(tx *bus.Tx, key string, r *run) {
	if due := time.UnixMilli(r.WakeAt); tx.Now().Before(due) {
		tx.SetTimer(timerName(r.ID), due)
		return
	}
	statuses.Delete(tx, r.Holder, r.statusRow())
	runs.Delete(tx, key, r.ID)
}
