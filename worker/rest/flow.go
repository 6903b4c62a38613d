package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"

	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/corda/identity"
)

type flowError struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

func flowErrorOf(s flow.Status) *flowError {
	if s.ErrorType == "" && s.ErrorMessage == "" {
		return nil
	}
	return &flowError{s.ErrorType, s.ErrorMessage}
}

type flowOutput struct {
	Holder          string     `json:"holdingIdentityShortHash"`
	ClientRequestID *string    `json:"clientRequestId"`
	FlowID          *string    `json:"flowId"`
	Status          flow.State `json:"flowStatus"`
	Result          *string    `json:"flowResult"`
	Error           *flowError `json:"flowError"`
	Timestamp       instant    `json:"timestamp"`
}

func flowOf(s flow.Status) flowOutput {
	return flowOutput{
		Holder: s.Holder, ClientRequestID: orNull(s.ClientRequestID), FlowID: orNull(s.FlowID), Status: s.State,
		Result: orNull(string(s.Result)), Error: flowErrorOf(s), Timestamp: instant(s.UpdatedAt),
	}
}

type startFlowInput struct {
	Holder identity.ShortHash `path:"holdingidentityshorthash"`
	Body   struct {
		ClientRequestID string   `json:"clientRequestId"`
		Class           string   `json:"flowClassName"`
		Arguments       jsonText `json:"requestBody"`
	} `body:"startFlow"`
}

// startFlow begins a flow, and answers once that is durable. The permission for the class is checked before anything is
// looked up, so that a refusal does not say what exists.
func (w *Worker) startFlow(ctx context.Context, in startFlowInput) (flowOutput, error) {
	b := in.Body
	if err := w.permitStart(ctx, b.Class, in.Holder.String()); err != nil {
		return flowOutput{}, err
	}
	node, err := w.node(ctx, in.Holder)
	if err != nil {
		return flowOutput{}, err
	}
	if !node.MayStartFlows() {
		return flowOutput{}, startsNotOperational(in.Holder)
	}
	if err := flow.CheckRequestID(b.ClientRequestID); err != nil {
		return flowOutput{}, err
	}
	arguments, err := argumentsOf(b.Arguments)
	if err != nil {
		return flowOutput{}, err
	}
	key := flow.StartSlot(node.Identity, b.ClientRequestID).Key()
	status, _, err := topic.StartFlow.Do(ctx, w.Bus, key, commandID(ctx), flow.Start{
		Holder: in.Holder.String(), ClientRequestID: b.ClientRequestID, Class: b.Class, Arguments: arguments, User: eventOf(ctx).login,
	})
	return flowOf(status), startRefused(in.Holder, err)
}

// startRefused gives the refusals of a start the statuses and titles that Corda's have. The flow worker may know of a node
// that became inactive after it was looked at here.
func startRefused(holder identity.ShortHash, err error) error {
	if fault.KindOf(err) != fault.Conflict {
		return err
	}
	details := fault.DetailsOf(err)
	if details[flow.ReasonDetail] == flow.ReasonInactive {
		return startsNotOperational(holder)
	}
	f := failure(http.StatusConflict, "A flow has already been started for the requested holdingId and clientRequestId.")
	maps.Copy(f.Details, details)
	return f
}

func startsNotOperational(holder identity.ShortHash) error {
	return failure(http.StatusMethodNotAllowed, fmt.Sprintf("Flow start capabilities of virtual node %s are not operational.", holder))
}

// argumentsOf are always JSON: text that is none becomes a JSON string.
func argumentsOf(t jsonText) ([]byte, error) {
	octets := []byte(t)
	if !json.Valid(octets) {
		var err error
		if octets, err = json.Marshal(string(t)); err != nil {
			return nil, err
		}
	}
	if len(octets) > flow.MaxArguments {
		return nil, fault.New(fault.TooLarge, "requestBody has %d octets, at most %d are taken", len(octets), flow.MaxArguments)
	}
	return octets, nil
}

type flowInput struct {
	Holder          identity.ShortHash `path:"holdingidentityshorthash"`
	ClientRequestID string             `path:"clientrequestid"`
}

func (w *Worker) findFlow(ctx context.Context, in flowInput) (flow.Status, error) {
	status, err := topic.FlowStatus.Do(ctx, w.Bus, topic.FlowRef{Holder: in.Holder.String(), ClientRequestID: in.ClientRequestID})
	if fault.KindOf(err) == fault.NotFound {
		err = fault.New(fault.NotFound, "Failed to find the flow status for holdingId = %s and clientRequestId = %s", in.Holder, in.ClientRequestID)
	}
	return status, err
}

func (w *Worker) flowStatus(ctx context.Context, in flowInput) (flowOutput, error) {
	status, err := w.findFlow(ctx, in)
	return flowOf(status), err
}

type flowResultOutput struct {
	Holder          string     `json:"holdingIdentityShortHash"`
	ClientRequestID *string    `json:"clientRequestId"`
	FlowID          *string    `json:"flowId"`
	Status          flow.State `json:"flowStatus"`
	JSON            *jsonText  `json:"json"`
	Error           *flowError `json:"flowError"`
	Timestamp       instant    `json:"timestamp"`
}

// httpStatus is 202 until the flow has ended, however it ended.
func (f flowResultOutput) httpStatus() int {
	if f.Status.Terminal() {
		return http.StatusOK
	}
	return http.StatusAccepted
}

func (w *Worker) flowResult(ctx context.Context, in flowInput) (flowResultOutput, error) {
	s, err := w.findFlow(ctx, in)
	out := flowResultOutput{
		Holder: s.Holder, ClientRequestID: orNull(s.ClientRequestID), FlowID: orNull(s.FlowID), Status: s.State,
		Error: flowErrorOf(s), Timestamp: instant(s.UpdatedAt),
	}
	if len(s.Result) > 0 {
		result := jsonText(s.Result)
		out.JSON = &result
	}
	return out, err
}

type listFlowsInput struct {
	Holder identity.ShortHash `path:"holdingidentityshorthash"`
	Status *string            `query:"status"`
}

type flowsOutput struct {
	Flows []flowOutput `json:"flowStatusResponses"`
}

func (w *Worker) listFlows(ctx context.Context, in listFlowsInput) (flowsOutput, error) {
	filter := topic.FlowFilter{Holder: in.Holder.String()}
	if s := orEmpty(in.Status); s != "" && s != "null" { // a client of Corda's sends the word null for no filter
		state, err := flow.ParseState(s)
		if err != nil {
			return flowsOutput{}, failure(http.StatusBadRequest, "IllegalArgumentException", "cause", "IllegalArgumentException", "reason", err.Error())
		}
		filter.State = state
	}
	if _, err := w.node(ctx, in.Holder); err != nil {
		return flowsOutput{}, err
	}
	found, err := topic.Flows.Do(ctx, w.Bus, filter)
	return flowsOutput{list(found, flowOf)}, err
}

type flowClassesOutput struct {
	Classes []string `json:"flowClassNames"`
}

func (w *Worker) flowClasses(ctx context.Context, in holderInput) (flowClassesOutput, error) {
	if _, err := w.node(ctx, in.Holder); err != nil {
		return flowClassesOutput{}, err
	}
	classes, err := topic.FlowClasses.Do(ctx, w.Bus, in.Holder.String())
	return flowClassesOutput{list(classes, func(c string) string { return c })}, err
}
