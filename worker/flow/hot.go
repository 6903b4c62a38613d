package flow

import (
	"container/list"
	"sync"
	"time"

	"github.com/hawser-project/hawser/worker/flow/wasm"
)

// chain is a hash of everything that a flow has been given and has answered. Equal chains mean equal instances, because
// nothing else reaches a flow.
type chain [32]byte

// hot keeps the instances of waiting flows, the longest unused first to go.
type hot struct {
	max, maxBytes int
	drop          func(*wasm.Instance)

	mu     sync.Mutex
	flows  map[string]*list.Element // by flow id; guarded by mu, as is all below
	recent *list.List               // of hotFlow, longest unused first
	bytes  int
	kept   int // so many times
	usual  int // octets that a flow of little work has of its own, by the last one that was measured
}

// measured says how many flows of little work one is measured for: looking costs a tenth of a short step.
const measured = 16

type hotFlow struct {
	id       string
	at       chain
	instance *wasm.Instance
	bytes    int
	since    time.Time
}

func newHot(max, maxBytes int, drop func(*wasm.Instance)) *hot {
	return &hot{max: max, maxBytes: maxBytes, drop: drop, flows: make(map[string]*list.Element), recent: list.New()}
}

// take gives the flow's instance to the caller, or nil. One that is not where the flow is by its record is dropped.
func (h *hot) take(id string, at chain) *wasm.Instance {
	h.mu.Lock()
	e, found := h.flows[id]
	if !found {
		h.mu.Unlock()
		return nil
	}
	f := h.remove(e)
	h.mu.Unlock()
	if f.at == at {
		return f.instance
	}
	h.drop(f.instance)
	return nil
}

// keep takes an instance until it is wanted again. Of one that has not worked much the memory is mostly guessed.
func (h *hot) keep(id string, at chain, i *wasm.Instance, worked bool) {
	f := hotFlow{id: id, at: at, instance: i, bytes: h.size(i, worked), since: time.Now()}
	i.Log = nil
	var drop []hotFlow
	h.mu.Lock()
	if old, found := h.flows[id]; found {
		drop = append(drop, h.remove(old))
	}
	h.flows[id] = h.recent.PushBack(f)
	h.bytes += f.bytes
	for h.recent.Len() > h.max || h.bytes > h.maxBytes {
		drop = append(drop, h.remove(h.recent.Front()))
	}
	h.mu.Unlock()
	h.dropAll(drop)
}

// size is how much memory an instance has of its own, about.
func (h *hot) size(i *wasm.Instance, worked bool) int {
	h.mu.Lock()
	usual, look := h.usual, worked || h.kept%measured == 0
	h.kept++
	h.mu.Unlock()
	if !look {
		return usual
	}
	bytes := i.Dirty()
	if !worked {
		h.mu.Lock()
		h.usual = bytes
		h.mu.Unlock()
	}
	return bytes
}

// remove takes a flow out. h.mu is held.
func (h *hot) remove(e *list.Element) hotFlow {
	f := h.recent.Remove(e).(hotFlow)
	delete(h.flows, f.id)
	h.bytes -= f.bytes
	return f
}

// evict drops what has not been used for so long.
func (h *hot) evict(unused time.Duration) {
	var drop []hotFlow
	h.mu.Lock()
	for e := h.recent.Front(); e != nil && time.Since(e.Value.(hotFlow).since) >= unused; e = h.recent.Front() {
		drop = append(drop, h.remove(e))
	}
	h.mu.Unlock()
	h.dropAll(drop)
}

func (h *hot) dropAll(flows []hotFlow) {
	for _, f := range flows {
		h.drop(f.instance)
	}
}

func (h *hot) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.recent.Len()
}
