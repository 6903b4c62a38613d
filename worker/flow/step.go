package flow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/vnode"
	"github.com/hawser-project/hawser/worker/flow/session"
	"github.com/hawser-project/hawser/worker/flow/wasm"
	"github.com/hawser-project/hawser/worker/flow/wasm/frame"
)

// Types of errors in a flow's status.
const (
	typeFlow     = "FLOW_FAILED"    // the flow's own
	typePlatform = "PLATFORM_ERROR" // the cluster stopped the flow
)

// step takes one flow from where it is to its next wait for a peer, or to its end. All that it wants done is gathered
// here, so that a flow that fails can take back what it did since it last waited.
type step struct {
	w      *Worker
	ctx    context.Context
	tx     *bus.Tx
	key    string // the slot's
	run    *run
	node   vnode.VirtualNode
	before []session.Session // as the step found them

	start    []byte // the start frame, once it is known
	instance *wasm.Instance
	fuel     int64 // left

	answers  map[uint64]frame.Completion // of commands that no event has carried yet
	payloads map[place][]byte            // came in and are not stored
	taken    []place                     // stored payloads that were received

	// What takes effect at the next wait.
	puts   map[string][]byte
	listed *listing
	out    []outgoing
	log    []event
	size   int // of puts and log, in octets
	// unread is why the store or a table could not be read: no fault of the flow's.
	unread error
	ended  flow.Status // result or error of a flow that has ended
}

// place names a payload: a session and a number in it.
type place struct{ session, number uint64 }

// newStep prepares a step of a flow that has not ended.
func (w *Worker) newStep(ctx context.Context, tx *bus.Tx, key string, r *run) (*step, error) {
	node, found := w.vnodes.Get(r.Holder)
	if !found {
		return nil, bus.Hold(fmt.Sprintf("virtual node %s is not known", r.Holder), w.vnodes.Until(r.Holder))
	}
	if !node.MayRunFlows() {
		return nil, bus.Hold(fmt.Sprintf("virtual node %s is not active for flows", r.Holder), w.vnodes.Until(r.Holder))
	}
	s := &step{
		w: w, ctx: ctx, tx: tx, key: key, run: r, node: node, fuel: w.StepFuel, before: slices.Clone(r.Sessions),
		answers: make(map[uint64]frame.Completion), payloads: make(map[place][]byte), puts: make(map[string][]byte),
	}
	return s, nil
}

// advance runs the flow until it waits or ends, and adds to the bus's step what is to be kept.
func (s *step) advance() (err error) {
	kept := false
	defer func() {
		switch {
		case s.instance == nil:
		case kept && !s.run.State.Terminal():
			s.w.hot.keep(s.run.ID, s.run.Chain, s.instance, s.w.StepFuel-s.fuel > muchFuel || s.run.Events > manyEvents)
		default:
			s.w.putBack(s.instance)
		}
	}()
	for !s.run.State.Terminal() {
		given, ready, err := s.next()
		if err != nil {
			return err
		}
		if !ready {
			break
		}
		if err := s.enter(given); err != nil {
			return err
		}
	}
	if err := s.save(); err != nil {
		return err
	}
	kept = true
	return nil
}

// next makes the octets for the next entry into the module, when the flow has what it waits for.
func (s *step) next() (given []byte, ready bool, err error) {
	if s.run.Events == 0 {
		given, err = s.startFrame()
		return given, true, err
	}
	s.settle()
	if !s.answered() {
		return nil, false, nil
	}
	in := frame.Resume{Now: s.tx.Now().UnixNano()}
	size := 0
	for _, id := range s.run.Await {
		c, found, err := s.completion(id)
		if err != nil {
			return nil, false, err
		}
		if !found {
			continue
		}
		if size += len(c.Body) + len(c.Message); size > frame.MaxPayload && len(in.Completions) > 0 {
			s.answers[id] = c // the flow asks again for what it has not got
			break
		}
		in.Completions = append(in.Completions, c)
	}
	return in.Append(nil), true, nil
}

func (s *step) startFrame() ([]byte, error) {
	if s.start != nil {
		return s.start, nil
	}
	octets, found, err := starts.Get(s.tx, s.key, s.run.ID)
	if err == nil && !found {
		err = fmt.Errorf("flow %s has no start frame", s.run.ID)
	}
	s.start = octets
	return octets, err
}

// settle finds the answers of what waits for a peer, in the order in which the flow asked.
func (s *step) settle() {
	now := s.tx.Now().UnixMilli()
	for i := range s.run.Pending {
		p := &s.run.Pending[i]
		if p.Done {
			continue
		}
		ends := s.run.session(p.Session)
		switch {
		case ends == nil:
			p.Problem = &session.Problem{Code: session.CodeSession, Reason: fmt.Sprintf("there is no session %d", p.Session)}
			p.Done = true
		case p.Op == frame.ReceiveData:
			p.Number, p.Problem = ends.Next()
			p.Done = p.Number > 0 || p.Problem != nil
		default:
			p.Done, p.Problem = ends.Finished()
		}
		if !p.Done && p.Deadline <= now {
			p.Done = true
			p.Problem = &session.Problem{Code: session.CodeTimeout, Reason: fmt.Sprintf("no answer from %s within %v", ends.Peer.Name, s.w.SessionTimeout)}
		}
	}
}

// answered says whether the flow has what it waits for.
func (s *step) answered() bool {
	n := 0
	for _, id := range s.run.Await {
		if s.has(id) {
			n++
		}
	}
	return n == len(s.run.Await) || s.run.Mode == frame.Any && n > 0
}

func (s *step) has(id uint64) bool {
	if _, there := s.answers[id]; there {
		return true
	}
	i := s.pending(id)
	return i >= 0 && s.run.Pending[i].Done || slices.Contains(s.run.Answered, id)
}

func (s *step) pending(id uint64) int {
	return slices.IndexFunc(s.run.Pending, func(p pending) bool { return p.ID == id })
}

// completion takes the answer to a command, if there is one.
func (s *step) completion(id uint64) (c frame.Completion, found bool, err error) {
	if c, found = s.answers[id]; found {
		delete(s.answers, id)
		return c, true, nil
	}
	if i := slices.Index(s.run.Answered, id); i >= 0 {
		s.run.Answered = slices.Delete(s.run.Answered, i, i+1)
		return s.storedAnswer(id)
	}
	i := s.pending(id)
	if i < 0 || !s.run.Pending[i].Done {
		return c, false, nil
	}
	p := s.run.Pending[i]
	s.run.Pending = slices.Delete(s.run.Pending, i, i+1)
	c = frame.Completion{ID: id}
	switch {
	case p.Problem != nil:
		c.Code, c.Message = p.Problem.Code, p.Problem.Reason
	case p.Number > 0:
		c.Body, err = s.payload(place{p.Session, p.Number})
	}
	return c, true, err
}

// payload takes a payload that came in with this step or before.
func (s *step) payload(m place) ([]byte, error) {
	if octets, here := s.payloads[m]; here {
		delete(s.payloads, m)
		return octets, nil
	}
	octets, found, err := inbox.Get(s.tx, s.key, inboxRow(s.run.ID, m.session, m.number))
	if err == nil && !found {
		err = fmt.Errorf("flow %s: message %d of session %d is not there", s.run.ID, m.number, m.session)
	}
	s.taken = append(s.taken, m)
	return octets, err
}

// A flow that has used so much fuel in a step, or has had so many events, may have grown.
const muchFuel, manyEvents = 5_000_000, 64

// entryFuel is what each entry into the module counts for, so that a flow can't go round for ever without computing.
const entryFuel = 50_000

// maxSize bounds what a flow may do between two waits: what it puts, and what goes in and out of the module.
const maxSize = 16 << 20

// enter gives the flow what it waits for, and does what it asks for then.
func (s *step) enter(given []byte) error {
	if s.instance == nil {
		if err := s.bringBack(); err != nil {
			return err
		}
	}
	var answer *wasm.Answer
	err := wasm.ErrFuel
	if s.fuel > 0 {
		answer, err = s.w.call(s.ctx, s.instance, s.run.Events == 0, given, s.fuel, s.sink())
	}
	if err != nil {
		return s.broken(err)
	}
	s.fuel -= answer.Fuel + entryFuel
	s.w.metrics.fuel.Add(float64(answer.Fuel))
	s.record(given, answer)
	if s.size > maxSize {
		s.fail(typePlatform, session.CodeTooLarge, fmt.Sprintf("the flow moved more than %d octets without waiting for a peer", maxSize))
		return nil
	}
	if err := s.apply(answer); s.unread != nil {
		return s.unread
	} else if err != nil {
		s.fail(typePlatform, "frame", err.Error())
	}
	return nil
}

// record adds the entry to the log.
func (s *step) record(given []byte, answer *wasm.Answer) {
	s.run.Chain = s.run.Chain.next(given, answer.Octets)
	e := event{Given: given, Answer: hashOf(answer.Octets), Did: describe(answer)}
	if s.run.Events == 0 {
		e.Given = nil
	}
	s.run.Events++
	s.log = append(s.log, e)
	s.size += len(given) + len(answer.Octets)
}

// broken decides what becomes of a flow whose instance has ended.
func (s *step) broken(err error) error {
	var trap *wasm.TrapError
	switch {
	case s.ctx.Err() != nil:
		return s.ctx.Err()
	case errors.Is(err, wasm.ErrDeadline) && s.w.firstDelay(s.run.ID):
		return fault.New(fault.Unavailable, "flow %s: %w; it is tried once more", s.run.ID, err)
	case errors.Is(err, wasm.ErrDeadline), errors.Is(err, wasm.ErrFuel):
		s.fail(typePlatform, "limit", err.Error()+": it computed too long without waiting for a peer")
	case errors.Is(err, wasm.ErrMemory), errors.Is(err, wasm.ErrFrame), errors.As(err, &trap):
		s.fail(typePlatform, "limit", err.Error())
	default:
		return fault.New(fault.Unavailable, "flow %s: %w", s.run.ID, err)
	}
	return nil
}

// firstDelay notes that a flow's step took too long, and says whether that is the first time.
func (w *Worker) firstDelay(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.overdue[id] {
		delete(w.overdue, id)
		return false
	}
	w.overdue[id] = true
	return true
}

// save adds to the bus's step what the flow's step has done.
func (s *step) save() error {
	r := s.run
	began := r.State == flow.StartRequested && len(s.log) > 0 || r.fresh
	if began && !r.State.Terminal() {
		r.State = flow.Running
	}
	r.UpdatedAt = s.tx.Now().UnixMilli()
	s.flush()
	if r.State.Terminal() {
		return s.bury()
	}
	if began {
		statuses.Put(s.tx, r.Holder, r.statusRow(), r.status())
	}
	if r.fresh {
		starts.Put(s.tx, s.key, r.ID, s.start)
	}
	if err := s.saveLog(); err != nil {
		return err
	}
	s.saveAnswers()
	for _, m := range s.taken {
		inbox.Delete(s.tx, s.key, inboxRow(r.ID, m.session, m.number))
	}
	for m, octets := range s.payloads {
		inbox.Put(s.tx, s.key, inboxRow(r.ID, m.session, m.number), nonNil(octets))
	}
	s.setTimer()
	runs.Put(s.tx, s.key, r.ID, *r)
	return nil
}

func (s *step) saveLog() error {
	if len(s.log) == 0 {
		return nil
	}
	octets, err := bus.Encode(s.log)
	if err != nil {
		return err
	}
	putPieces(s.tx, events, s.key, logRow(s.run.ID, s.run.Events-uint64(len(s.log))), octets)
	return nil
}

// saveAnswers keeps the answers to commands that the flow does not wait for yet.
func (s *step) saveAnswers() {
	for id, c := range s.answers {
		octets := (&frame.Resume{Completions: []frame.Completion{c}}).Append(nil)
		putPieces(s.tx, answers, s.key, logRow(s.run.ID, id), octets)
		s.run.Answered = append(s.run.Answered, id)
	}
	slices.Sort(s.run.Answered)
}

func (s *step) storedAnswer(id uint64) (c frame.Completion, found bool, err error) {
	octets, err := getPieces(s.tx, answers, s.key, logRow(s.run.ID, id))
	if err != nil {
		return c, false, err
	}
	in, err := frame.DecodeResume(octets)
	if err != nil || len(in.Completions) != 1 {
		return c, false, fmt.Errorf("flow %s: stored answer %d: %w", s.run.ID, id, err)
	}
	return in.Completions[0], true, dropRows(s.tx, answers, s.key, logRow(s.run.ID, id))
}

// setTimer makes the flow wake when the first of its waits has taken too long.
func (s *step) setTimer() {
	var first int64
	for _, p := range s.run.Pending {
		if !p.Done && (first == 0 || p.Deadline < first) {
			first = p.Deadline
		}
	}
	// A timer that is due earlier stays: it is cheaper to wake once in vain than to move it with each message.
	if first > 0 && (s.run.WakeAt == 0 || s.run.WakeAt > first) {
		s.run.WakeAt = first
		s.tx.SetTimer(timerName(s.run.ID), time.UnixMilli(first))
	}
}

func nonNil(octets []byte) []byte {
	if octets == nil {
		return []byte{}
	}
	return octets
}
