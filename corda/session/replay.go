package session

// A ReplayWindow remembers the latest sequence numbers of a session. Corda's are random, so there is no order to rely
// on: the window is a set that forgets its oldest member. What it has forgotten passes again; it saves work, and
// whoever must have a message once decides that by the message's id. Not safe for concurrent use.
type ReplayWindow struct {
	size   int
	seen   map[int64]struct{}
	oldest int
	order  []int64 // a ring once it is full
}

// NewReplayWindow returns a window of at least one number.
func NewReplayWindow(size int) *ReplayWindow {
	return &ReplayWindow{size: max(size, 1), seen: map[int64]struct{}{}}
}

// Seen reports whether a number is in the window.
func (w *ReplayWindow) Seen(sequenceNo int64) bool {
	_, ok := w.seen[sequenceNo]
	return ok
}

// Add puts a number in the window and reports whether it is new. Only numbers of messages that were opened may go in,
// or a forger could shut genuine ones out.
func (w *ReplayWindow) Add(sequenceNo int64) bool {
	if w.Seen(sequenceNo) {
		return false
	}
	w.seen[sequenceNo] = struct{}{}
	if len(w.order) < w.size {
		w.order = append(w.order, sequenceNo)
		return true
	}
	delete(w.seen, w.order[w.oldest])
	w.order[w.oldest] = sequenceNo
	w.oldest = (w.oldest + 1) % w.size
	return true
}
