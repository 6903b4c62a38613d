// Package membership is the worker that decides who is a member: it sets virtual nodes up on their networks, registers
// them, and keeps the member list that each of them sees. Networks run by a manager (MGM) are not here yet; in a static
// network the group policy names the members, and members of other clusters come in by their signed files.
//
// A file per task: setup.go (network set-up), register.go, exchange.go (member files).
package membership

import (
	"context"
	"log/slog"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/cpi"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/grouppolicy"
	"github.com/hawser-project/hawser/cluster/hosted"
	"github.com/hawser-project/hawser/cluster/member"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/cluster/vnode"
)

// Config is what the worker needs.
type Config struct {
	Bus *bus.Client
	Log *slog.Logger
}

// State of memberships: key the short hash of the virtual node that holds it.
var (
	hostedIdentities = bus.State[hosted.Identity]{Name: "membership.hosted", Owner: topic.Membership}
	registrations    = bus.State[topic.RegistrationStatus]{Name: "membership.registrations", Owner: topic.Membership} // row: id
	members          = bus.State[member.Record]{Name: "membership.members", Owner: topic.Membership}                  // row: short hash of the member
)

// Worker is the membership worker.
type Worker struct {
	Config
	vnodes   *bus.Table[vnode.VirtualNode]
	packages *bus.Table[cpi.Info]
}

// New wires the worker. It does no I/O.
func New(c Config) *Worker {
	return &Worker{Config: c, vnodes: topic.VirtualNodes.Table(c.Bus), packages: topic.Packages.Table(c.Bus)}
}

// Run answers until ctx ends.
func (w *Worker) Run(ctx context.Context, ready func()) error {
	consumer := w.Bus.Consumer()
	topic.SetUpNetwork.Handle(consumer, w.setUp)
	topic.Register.Handle(consumer, w.register)
	topic.ImportMember.Handle(consumer, w.importMember)
	for _, stop := range []func(){
		topic.Registrations.Answer(w.Bus, w.registrations),
		topic.ListMembers.Answer(w.Bus, w.listMembers),
		topic.ExportMember.Answer(w.Bus, w.exportMember),
	} {
		defer stop()
	}
	tables, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 2)
	go func() { ended <- w.vnodes.Run(tables, func() {}) }()
	go func() { ended <- w.packages.Run(tables, func() {}) }()
	err := consumer.Run(ctx, ready)
	stop()
	for range cap(ended) {
		if tableErr := <-ended; err == nil {
			err = tableErr
		}
	}
	return err
}

// node finds a virtual node with the policy of its network. The tables may lag behind the call that made it.
func (w *Worker) node(ctx context.Context, hash string) (vnode.VirtualNode, cpi.Info, *grouppolicy.Policy, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	node, found := w.vnodes.Get(hash)
	if !found {
		if err := w.vnodes.WaitCurrent(ctx); err != nil {
			return node, cpi.Info{}, nil, err
		}
		if node, found = w.vnodes.Get(hash); !found {
			return node, cpi.Info{}, nil, fault.New(fault.NotFound, "Virtual Node '%s' not found.", hash)
		}
	}
	if err := w.packages.WaitCurrent(ctx); err != nil {
		return node, cpi.Info{}, nil, err
	}
	info, found := w.packages.Get(node.CPI.FileChecksum)
	if !found {
		return node, info, nil, fault.New(fault.Internal, "the package %s of virtual node %s is not there", node.CPI.FileChecksum, hash)
	}
	policy, err := grouppolicy.Parse([]byte(info.GroupPolicy))
	return node, info, policy, err
}
