package engine

import (
	"encoding/json"
	"fmt"
	"sort"

	"github.com/hawser-project/hawser/sdk/internal/frame"
)

// ABI is the version of the border between module and host: exports, imports and frames.
const ABI = 1

// Protocol is a protocol's name and the versions of it that a flow speaks.
type Protocol struct {
	Name     string `json:"name"`
	Versions []int  `json:"versions"`
}

// A Flow is one declared flow.
type Flow struct {
	Class     string
	Initiates *Protocol
	Responds  *Protocol
	// Run runs the flow and gives its result as JSON. It runs on a goroutine of its own.
	Run func(*Task) ([]byte, error)
	// Warm encodes and decodes the flow's types once. It may be nil.
	Warm func()
}

// A Registry holds the flows of one application. It is filled by init functions, before any flow runs.
type Registry struct {
	flows     map[string]*Flow
	initiates map[string]*Protocol
	warm      []func()
}

// Flows is the application's registry.
var Flows = &Registry{}

// Add declares a flow. A second flow with its class, or a second responder with its protocol and version, panics:
// that is a fault of the program that no caller can act on, and the host shows the text at upload.
func (r *Registry) Add(f *Flow) {
	if f.Class == "" || len(f.Class) > frame.MaxName {
		panic(fmt.Sprintf("flow class %q: want 1 to %d octets", f.Class, frame.MaxName))
	}
	if r.flows[f.Class] != nil {
		panic(fmt.Sprintf("flow %s is declared twice", f.Class))
	}
	if f.Responds != nil {
		f.Responds.check(f.Class)
	}
	if r.flows == nil {
		r.flows = map[string]*Flow{}
	}
	r.flows[f.Class] = f
}

// Initiate declares the protocol of the sessions that a flow begins. The flow may be added later.
func (r *Registry) Initiate(class string, p *Protocol) {
	p.check(class)
	if r.initiates[class] != nil {
		panic(fmt.Sprintf("flow %s: protocol is declared twice", class))
	}
	if r.initiates == nil {
		r.initiates = map[string]*Protocol{}
	}
	r.initiates[class] = p
}

// Warmer adds what Warm runs beside the flows' own warm-up.
func (r *Registry) Warmer(f func()) { r.warm = append(r.warm, f) }

func (p *Protocol) check(class string) {
	if p.Name == "" || len(p.Name) > frame.MaxName {
		panic(fmt.Sprintf("flow %s: protocol %q: want 1 to %d octets", class, p.Name, frame.MaxName))
	}
	if len(p.Versions) == 0 {
		panic(fmt.Sprintf("flow %s: protocol %s has no version", class, p.Name))
	}
	for _, v := range p.Versions {
		if v <= 0 {
			panic(fmt.Sprintf("flow %s: protocol %s: version %d is not positive", class, p.Name, v))
		}
	}
}

// Lookup finds a flow by class.
func (r *Registry) Lookup(class string) (*Flow, bool) {
	f, ok := r.flows[class]
	return f, ok
}

// Responder finds the flow that answers a protocol in the highest version that both sides speak.
func (r *Registry) Responder(protocol string, versions []uint64) (class string, version int, ok bool) {
	for _, f := range r.sorted() {
		if f.Responds == nil || f.Responds.Name != protocol {
			continue
		}
		for _, ours := range f.Responds.Versions {
			for _, theirs := range versions {
				if uint64(ours) == theirs && ours > version {
					class, version = f.Class, ours
				}
			}
		}
	}
	return class, version, version > 0
}

// initiated is the protocol that a class announces when it begins a session.
func (r *Registry) initiated(class string) *Protocol { return r.initiates[class] }

func (r *Registry) sorted() []*Flow {
	list := make([]*Flow, 0, len(r.flows))
	for _, f := range r.flows {
		list = append(list, f)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Class < list[j].Class })
	return list
}

// Manifest describes the registry to the host: JSON, in order of class.
func (r *Registry) Manifest() []byte {
	type entry struct {
		Class     string    `json:"class"`
		Kind      string    `json:"kind"`
		Initiates *Protocol `json:"initiates,omitempty"`
		Responds  *Protocol `json:"responds,omitempty"`
	}
	m := struct {
		ABI   int     `json:"abi"`
		Flows []entry `json:"flows"`
	}{ABI: ABI, Flows: []entry{}}
	for class := range r.initiates {
		if r.flows[class] == nil {
			panic(fmt.Sprintf("flow %s has a protocol but is not declared", class))
		}
	}
	r.checkResponders()
	for _, f := range r.sorted() {
		e := entry{Class: f.Class, Kind: "client", Initiates: r.initiates[f.Class], Responds: f.Responds}
		if f.Responds != nil {
			e.Kind = "responder"
		}
		m.Flows = append(m.Flows, e)
	}
	p, err := json.Marshal(m)
	if err != nil {
		panic("manifest: " + err.Error()) // strings and numbers always encode
	}
	return p
}

func (r *Registry) checkResponders() {
	type spoken struct {
		protocol string
		version  int
	}
	owner := map[spoken]string{}
	for _, f := range r.sorted() {
		if f.Responds == nil {
			continue
		}
		for _, v := range f.Responds.Versions {
			s := spoken{f.Responds.Name, v}
			if owner[s] != "" {
				panic(fmt.Sprintf("protocol %s version %d has two responders: %s and %s", s.protocol, v, owner[s], f.Class))
			}
			owner[s] = f.Class
		}
	}
}

// Warm runs everything once that a first flow would otherwise pay for: the declared types' codecs, and one
// throw-away flow from start to end. The host takes the image that all flows begin with after it.
func (r *Registry) Warm() {
	for _, f := range r.sorted() {
		if f.Warm != nil {
			f.Warm()
		}
	}
	for _, f := range r.warm {
		f()
	}
	dry := &Registry{}
	dry.Add(&Flow{Class: "warm-up", Run: func(t *Task) ([]byte, error) {
		_, err := t.Do(frame.StoreGet, (&frame.Entry{Key: "warm-up"}).Append(nil))
		return []byte("null"), err
	}})
	for range 3 {
		m := NewMachine(dry, nil)
		m.Begin((&frame.Start{Kind: frame.Client, Class: "warm-up"}).Append(nil))
		m.Resume((&frame.Resume{Now: 1, Completions: []frame.Completion{{ID: 1}}}).Append(nil))
	}
}
