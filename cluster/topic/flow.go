package topic

import (
	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/flow"
)

// Commands and calls that flow answers.
var (
	// StartFlow begins a flow, once per holder and clientRequestId. Key: the slot. A second start is refused with a
	// conflict that carries the flow's present status in its details.
	StartFlow = bus.Command[flow.Start, flow.Status]{Name: "flow.start", Askers: roles(Rest), Answers: Flow}
	// FlowStatus finds one flow.
	FlowStatus = bus.Call[FlowRef, flow.Status]{Name: "flow.status", Askers: roles(Rest), Answers: roles(Flow)}
	// Flows lists the flows of a virtual node.
	Flows = bus.Call[FlowFilter, []flow.Status]{Name: "flow.list", Askers: roles(Rest), Answers: roles(Flow)}
	// FlowClasses lists the classes that clients may start on a virtual node.
	FlowClasses = bus.Call[string, []string]{Name: "flow.classes", Askers: roles(Rest), Answers: roles(Flow)}
	// CheckModule compiles a module of a package that is being uploaded, and returns its manifest of flows as JSON.
	CheckModule = bus.Call[ModuleCheck, []byte]{Name: "flow.check-module", Askers: roles(Admin), Answers: roles(Flow)}
)

// FlowRef names a flow.
type FlowRef struct {
	Holder          string `cbor:"1,keyasint"` // short hash
	ClientRequestID string `cbor:"2,keyasint"`
}

// FlowFilter narrows a list of flows; an empty state matches all.
type FlowFilter struct {
	Holder string     `cbor:"1,keyasint"`
	State  flow.State `cbor:"2,keyasint,omitempty"`
}

// ModuleCheck is a module to be checked.
type ModuleCheck struct {
	Name string `cbor:"1,keyasint"`
	WASM []byte `cbor:"2,keyasint"`
}

func flowDefinitions() []bus.Definition {
	return []bus.Definition{
		StartFlow.Definition(), FlowStatus.Definition(), Flows.Definition(), FlowClasses.Definition(), CheckModule.Definition(),
	}
}
