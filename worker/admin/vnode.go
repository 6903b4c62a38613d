package admin

import (
	"context"
	"strings"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/cpi"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/cluster/vnode"
	"github.com/hawser-project/hawser/corda/identity"
	"github.com/hawser-project/hawser/corda/x500"
)

// State of virtual nodes: key the short hash.
var (
	virtualNodes = bus.State[vnode.VirtualNode]{Name: "admin.virtual-nodes", Owner: topic.Admin}
	operations   = bus.State[vnode.Operation]{Name: "admin.operations", Owner: topic.Admin} // key: request id
)

// createVirtualNode makes a virtual node. Nothing has to be waited for: a virtual node has no database of its own.
func (w *Worker) createVirtualNode(_ context.Context, tx *bus.Tx, key string, req topic.NewVirtualNode) (vnode.Operation, error) {
	name, err := x500.Parse(req.Name)
	if err != nil {
		return vnode.Operation{}, fault.New(fault.Invalid, "X500 name %q could not be parsed: %w", req.Name, err)
	}
	info, err := packageByChecksum(tx, req.Checksum)
	if err != nil {
		return vnode.Operation{}, err
	}
	holder := identity.HoldingIdentity{Name: name, GroupID: info.GroupID}
	if string(holder.ShortHash()) != key {
		return vnode.Operation{}, fault.New(fault.Conflict, "the package with checksum %s is of group %s, not %s", req.Checksum, info.GroupID, req.GroupID)
	}
	if _, exists, err := virtualNodes.Get(tx, key, ""); err != nil {
		return vnode.Operation{}, err
	} else if exists {
		return vnode.Operation{}, fault.New(fault.Conflict, "Virtual Node '%s' already exists.", holder)
	}
	now := tx.Now().UnixMilli()
	node, err := vnode.New(holder, vnode.CPI{
		Name: info.ID.Name, Version: info.ID.Version, SignerSummaryHash: info.ID.SignerSummaryHash,
		FileChecksum: info.FileChecksum, GroupID: info.GroupID,
	}, now)
	if err != nil {
		return vnode.Operation{}, err
	}
	operation := vnode.NewCreate(node.ShortHash(), now).Advance(vnode.Succeeded, "", "", now)
	virtualNodes.Put(tx, key, "", node)
	operations.Put(tx, operation.RequestID, "", operation)
	topic.VirtualNodes.Send(tx, key, node)
	w.audit(tx, req.Actor, "VIRTUAL_NODE_CREATE", holder.String())
	return operation, nil
}

// packageByChecksum finds a package by the beginning of its checksum, as Corda does.
func packageByChecksum(r bus.Reader, checksum string) (cpi.Info, error) {
	entries, err := packages.List(r, packagesKey, strings.ToUpper(checksum))
	if err != nil {
		return cpi.Info{}, err
	}
	if len(entries) != 1 || len(checksum) < 12 {
		return cpi.Info{}, fault.New(fault.Invalid, "No CPI metadata found for checksum '%s'.", checksum)
	}
	return entries[0].Value, nil
}

func (w *Worker) getVirtualNode(ctx context.Context, hash string) (node vnode.VirtualNode, err error) {
	err = w.Bus.View(ctx, func(r bus.Reader) (err error) {
		node, err = virtualNodeIn(r, hash)
		return err
	})
	return node, err
}

func (w *Worker) listVirtualNodes(ctx context.Context, _ struct{}) (nodes []vnode.VirtualNode, err error) {
	err = w.Bus.View(ctx, func(r bus.Reader) error {
		entries, err := virtualNodes.ListKeys(r, "")
		nodes = make([]vnode.VirtualNode, 0, len(entries))
		for _, e := range entries {
			nodes = append(nodes, e.Value)
		}
		return err
	})
	return nodes, err
}

func (w *Worker) getOperation(ctx context.Context, id string) (operation vnode.Operation, err error) {
	err = w.Bus.View(ctx, func(r bus.Reader) error {
		var found bool
		operation, found, err = operations.Get(r, id, "")
		if err == nil && !found {
			err = fault.New(fault.NotFound, "VirtualNodeOperationNotFoundException: there is no request '%s'", id)
		}
		return err
	})
	return operation, err
}

func virtualNodeIn(r bus.Reader, hash string) (vnode.VirtualNode, error) {
	node, found, err := virtualNodes.Get(r, hash, "")
	if err == nil && !found {
		err = fault.New(fault.NotFound, "VirtualNode with shortHash %s could not be found.", hash)
	}
	return node, err
}
