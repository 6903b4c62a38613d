package wasm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/hawser-project/hawser/worker/flow/wasm/frame"
	"github.com/hawser-project/hawser/worker/flow/wasm/module"
)

// Manifest is what a module says about its flows.
type Manifest struct {
	ABI   int        `json:"abi"`
	Flows []FlowInfo `json:"flows"`
}

// FlowInfo is one flow of a module.
type FlowInfo struct {
	Class     string    `json:"class"`
	Kind      FlowKind  `json:"kind"`
	Initiates *Protocol `json:"initiates,omitempty"`
	Responds  *Protocol `json:"responds,omitempty"`
}

// FlowKind says who may begin a flow.
type FlowKind string

const (
	// Client flows are begun over the REST API.
	Client FlowKind = "client"
	// Responder flows are begun by a peer.
	Responder FlowKind = "responder"
)

// Protocol is a protocol with the versions that a flow speaks.
type Protocol struct {
	Name     string `json:"name"`
	Versions []int  `json:"versions"`
}

// Flow finds a flow by class.
func (m Manifest) Flow(class string) (FlowInfo, bool) {
	i := slices.IndexFunc(m.Flows, func(f FlowInfo) bool { return f.Class == class })
	if i < 0 {
		return FlowInfo{}, false
	}
	return m.Flows[i], true
}

// Responder finds the flow that answers a protocol, in the highest version that both sides speak.
func (m Manifest) Responder(protocol string, versions []int) (f FlowInfo, version int, ok bool) {
	for _, e := range m.Flows {
		if e.Responds == nil || e.Responds.Name != protocol {
			continue
		}
		for _, v := range e.Responds.Versions {
			if v > version && slices.Contains(versions, v) {
				f, version, ok = e, v, true
			}
		}
	}
	return f, version, ok
}

const (
	maxManifest = 1 << 20
	maxFlows    = 10_000
	maxVersions = 1_000
)

func parseManifest(octets []byte) (Manifest, error) {
	var m Manifest
	if len(octets) > maxManifest {
		return m, fmt.Errorf("%w: manifest of %d octets, at most %d", module.ErrInvalid, len(octets), maxManifest)
	}
	d := json.NewDecoder(bytes.NewReader(octets))
	if err := d.Decode(&m); err != nil {
		return Manifest{}, fmt.Errorf("%w: manifest: %w", module.ErrInvalid, err)
	}
	if err := m.check(); err != nil {
		return Manifest{}, fmt.Errorf("%w: manifest: %w", module.ErrInvalid, err)
	}
	return m, nil
}

func (m Manifest) check() error {
	if len(m.Flows) == 0 || len(m.Flows) > maxFlows {
		return fmt.Errorf("declares %d flows, want 1 to %d", len(m.Flows), maxFlows)
	}
	classes, answers := map[string]bool{}, map[string]string{}
	for _, f := range m.Flows {
		switch {
		case f.Class == "" || len(f.Class) > frame.MaxName:
			return fmt.Errorf("class %.64q: want 1 to %d octets", f.Class, frame.MaxName)
		case classes[f.Class]:
			return fmt.Errorf("declares %s twice", f.Class)
		case f.Kind != Client && f.Kind != Responder, (f.Kind == Responder) != (f.Responds != nil):
			return fmt.Errorf("flow %s has kind %.32q, which its declaration contradicts", f.Class, f.Kind)
		}
		classes[f.Class] = true
		for _, p := range []*Protocol{f.Initiates, f.Responds} {
			if err := p.check(); err != nil {
				return fmt.Errorf("flow %s: %w", f.Class, err)
			}
		}
		if f.Responds == nil {
			continue
		}
		for _, v := range f.Responds.Versions {
			key := fmt.Sprintf("%s version %d", f.Responds.Name, v)
			if answers[key] != "" {
				return fmt.Errorf("%s is answered by both %s and %s", key, answers[key], f.Class)
			}
			answers[key] = f.Class
		}
	}
	return nil
}

func (p *Protocol) check() error {
	switch {
	case p == nil:
		return nil
	case p.Name == "" || len(p.Name) > frame.MaxName:
		return fmt.Errorf("protocol %.64q: want 1 to %d octets", p.Name, frame.MaxName)
	case len(p.Versions) == 0 || len(p.Versions) > maxVersions:
		return fmt.Errorf("protocol %s has %d versions, want 1 to %d", p.Name, len(p.Versions), maxVersions)
	case slices.Min(p.Versions) <= 0:
		return fmt.Errorf("protocol %s: versions begin with 1", p.Name)
	}
	return nil
}
