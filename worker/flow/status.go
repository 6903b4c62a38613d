package flow

import (
	"cmp"
	"context"
	"slices"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/topic"
)

// flowStatus finds one flow: by what its client called it, or by the session that it answers.
func (w *Worker) flowStatus(ctx context.Context, ref topic.FlowRef) (st flow.Status, err error) {
	if _, _, err := w.node(ctx, ref.Holder); err != nil {
		return st, err
	}
	found := false
	err = w.Bus.View(ctx, func(r bus.Reader) (err error) {
		if st, found, err = statuses.Get(r, ref.Holder, clientRow(ref.ClientRequestID)); err != nil {
			return err
		}
		if !found {
			begun, err := statuses.List(r, ref.Holder, peerRows(ref.ClientRequestID))
			if err != nil {
				return err
			}
			if found = len(begun) > 0; found {
				st = begun[0].Value
			}
		}
		if found {
			err = present(r, &st)
		}
		return err
	})
	if err == nil && !found {
		err = fault.New(fault.NotFound, "Failed to find the flow status for holdingId = %s and clientRequestId = %.260s", ref.Holder, ref.ClientRequestID)
	}
	return st, err
}

// present adds to the status of a running flow what only its record has.
func present(r bus.Reader, st *flow.Status) error {
	if st.State != flow.Running {
		return nil
	}
	id, err := flow.ParseID(st.FlowID)
	if err != nil {
		return err
	}
	running, found, err := runs.Get(r, id.Slot().Key(), st.FlowID)
	if err != nil || !found || running.State != flow.Running {
		return err // it has ended between the two looks
	}
	st.UpdatedAt, st.Waiting = running.UpdatedAt, running.waiting()
	return nil
}

// flows lists the flows of a virtual node, the oldest first.
func (w *Worker) flows(ctx context.Context, f topic.FlowFilter) (list []flow.Status, err error) {
	if _, _, err := w.node(ctx, f.Holder); err != nil {
		return nil, err
	}
	err = w.Bus.View(ctx, func(r bus.Reader) error {
		list = nil
		all, err := statuses.List(r, f.Holder, "")
		for _, e := range all {
			if f.State != "" && e.Value.State != f.State {
				continue
			}
			if err := present(r, &e.Value); err != nil {
				return err
			}
			list = append(list, e.Value)
		}
		return err
	})
	slices.SortStableFunc(list, func(a, b flow.Status) int { return cmp.Compare(a.CreatedAt, b.CreatedAt) })
	return list, err
}

// flowClasses lists the classes that clients may start on a virtual node.
func (w *Worker) flowClasses(ctx context.Context, holder string) ([]string, error) {
	_, pack, err := w.node(ctx, holder)
	if err != nil {
		return nil, err
	}
	classes, _, err := w.modules.startable(pack)
	slices.Sort(classes)
	return classes, err
}
