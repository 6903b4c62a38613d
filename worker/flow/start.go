package flow

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"strings"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/cpi"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/cluster/vnode"
	"github.com/hawser-project/hawser/worker/flow/wasm/frame"
)

// timerName is the one timer of a flow: for its first step, then for its waits, then for the end of its status.
func timerName(id string) string { return "flow/" + id }

// start begins a flow for a client. It only notes the flow: the first step follows by itself, so that the answer does not
// wait for it.
func (w *Worker) start(ctx context.Context, tx *bus.Tx, key string, req flow.Start) (st flow.Status, err error) {
	node, pack, err := w.node(ctx, req.Holder)
	if err != nil {
		return st, err
	}
	if !node.MayStartFlows() {
		return st, fault.New(fault.Conflict, "Flow start capabilities of virtual node %s are not operational.", req.Holder).
			With(flow.ReasonDetail, flow.ReasonInactive)
	}
	if err := flow.CheckRequestID(req.ClientRequestID); err != nil {
		return st, err
	}
	slot := flow.StartSlot(node.Identity, req.ClientRequestID)
	if slot.Key() != key {
		return st, fault.New(fault.Invalid, "the start of %s on %s came under key %s, not %s", req.ClientRequestID, req.Holder, key, slot.Key())
	}
	if err := refuseSecond(tx, key, req); err != nil {
		return st, err
	}
	if err := topic.FlowIn.Busy(ctx, w.Bus, key); err != nil {
		return st, err
	}
	if len(req.Arguments) > flow.MaxArguments {
		return st, fault.New(fault.TooLarge, "requestBody has %d octets, the limit is %d", len(req.Arguments), flow.MaxArguments)
	}
	module, err := w.startableModule(node, pack, req)
	if err != nil {
		return st, err
	}
	r := newRun(tx, slot, node, run{Holder: req.Holder, RequestID: req.ClientRequestID, Class: req.Class, Kind: frame.Client, Module: module})
	r.State, r.WakeAt = flow.StartRequested, tx.Now().UnixMilli()
	begin := frame.Start{Kind: frame.Client, Class: r.Class, FlowID: r.ID, Me: r.Me.Name, Args: req.Arguments, Now: tx.Now().UnixNano(), Seed: newSeed()}
	runs.Put(tx, key, r.ID, r)
	starts.Put(tx, key, r.ID, begin.Append(nil))
	statuses.Put(tx, r.Holder, r.statusRow(), r.status())
	tx.SetTimer(timerName(r.ID), tx.Now())
	w.metrics.started.WithLabelValues("client").Inc()
	return r.status(), nil
}

// newRun fills in what every new flow has.
func newRun(tx *bus.Tx, slot flow.Slot, node vnode.VirtualNode, r run) run {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	r.ID = flow.NewID(slot, binary.BigEndian.Uint32(random[:])).String()
	r.Me = message.PartyOf(node.Identity)
	r.CreatedAt = tx.Now().UnixMilli()
	r.UpdatedAt = r.CreatedAt
	return r
}

func newSeed() (seed [32]byte) {
	_, _ = rand.Read(seed[:]) // never fails
	return seed
}

// refuseSecond makes the conflict of a request that has its flow already, with the flow's present status.
func refuseSecond(tx *bus.Tx, key string, req flow.Start) error {
	there, err := runs.List(tx, key, "")
	if err != nil {
		return err
	}
	for _, e := range there {
		if r := e.Value; r.Kind != frame.Client || r.Holder != req.Holder || r.RequestID != req.ClientRequestID {
			continue
		}
		st, _, err := statuses.Get(tx, req.Holder, clientRow(req.ClientRequestID))
		if err != nil {
			return err
		}
		return conflict(st)
	}
	return nil
}

// maxDetail bounds a result in the details of an error: a longer one is got by asking for the status.
const maxDetail = 64 << 10

func conflict(st flow.Status) error {
	refusal := fault.New(fault.Conflict, "A flow has already been started for the requested holdingId and clientRequestId.")
	for name, value := range map[string]string{
		"holdingIdentityShortHash": st.Holder, "clientRequestId": st.ClientRequestID, "flowId": st.FlowID, "flowStatus": string(st.State),
		"flowResult": string(st.Result), "flowErrorType": st.ErrorType, "flowErrorMessage": st.ErrorMessage,
		"timestamp": time.UnixMilli(st.UpdatedAt).UTC().Format(time.RFC3339Nano),
	} {
		if value != "" && len(value) <= maxDetail {
			refusal = refusal.With(name, value)
		}
	}
	return refusal
}

// startableModule finds the module with the class, or says which classes clients may start.
func (w *Worker) startableModule(node vnode.VirtualNode, pack cpi.Info, req flow.Start) (string, error) {
	classes, moduleOf, err := w.modules.startable(pack)
	if err != nil {
		return "", err
	}
	if module, found := moduleOf[req.Class]; found {
		return module, nil
	}
	return "", fault.New(fault.Invalid, "The flow %.260q is not among those that clients may start on virtual node %s.", req.Class, req.Holder).
		With("CPI-name", node.CPI.Name).With("CPI-version", node.CPI.Version).
		With("CPI-signer-summary-hash", node.CPI.SignerSummaryHash).With("virtual-node", node.Identity.Name.String()).
		With("group-id", node.Identity.GroupID).With("startableFlows", strings.Join(classes, ","))
}

// timer wakes a flow.
func (w *Worker) timer(ctx context.Context, tx *bus.Tx, key, name string) error {
	id, ok := strings.CutPrefix(name, "flow/")
	if !ok {
		return nil
	}
	r, found, err := runs.Get(tx, key, id)
	if err != nil || !found {
		return err
	}
	if r.State.Terminal() {
		w.expire(tx, key, &r)
		return nil
	}
	r.WakeAt = 0
	s, err := w.newStep(ctx, tx, key, &r)
	if err != nil {
		return err
	}
	return s.advance()
}
