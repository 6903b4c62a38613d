package process

import (
	"slices"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/internal/run"
	"github.com/hawser-project/hawser/worker/admin"
	"github.com/hawser-project/hawser/worker/crypto"
	"github.com/hawser-project/hawser/worker/flow"
	"github.com/hawser-project/hawser/worker/gateway"
	"github.com/hawser-project/hawser/worker/linkmanager"
	"github.com/hawser-project/hawser/worker/membership"
	"github.com/hawser-project/hawser/worker/rest"
)

// role is a worker: its name, what it does, what it alone does, and how it is made.
type role struct {
	Name  bus.Role
	Job   string
	Alone string
	make  func(p *platform) run.Service
}

// roles is the whole cluster, in start order. They stop in the reverse order: rest first, so that nobody is told yes by a
// cluster that is going down.
var roles = []role{
	{topic.Crypto, "makes, wraps and signs with private keys", "holding a private key in clear",
		func(p *platform) run.Service { return crypto.New(p.crypto()) }},
	{topic.Flow, "runs application flows, durably", "executing application code",
		func(p *platform) run.Service { return flow.New(p.flow()) }},
	{topic.Admin, "owns users and permissions, packages, virtual nodes, certificates", "writing those",
		func(p *platform) run.Service { return admin.New(p.admin()) }},
	{topic.Membership, "sets up networks, registers members, keeps member lists", "deciding who is a member",
		func(p *platform) run.Service { return membership.New(p.membership()) }},
	{topic.Gateway, "HTTPS to and from other clusters' gateways", "facing the internet",
		func(p *platform) run.Service { return gateway.New(p.gateway()) }},
	{topic.LinkManager, "link sessions, delivery, acknowledgement, retry", "holding link session keys",
		func(p *platform) run.Service { return linkmanager.New(p.linkManager()) }},
	{topic.Rest, "HTTPS API: authenticates, authorises, asks the others", "being reachable by users",
		func(p *platform) run.Service { return rest.New(p.rest()) }},
}

// Role describes a worker.
type Role struct {
	Name  string `json:"name"`
	Job   string `json:"job"`
	Alone string `json:"alone"` // what only this worker does
	Keyed bool   `json:"keyed"` // has keys of its own, which are spread over the processes that run it
}

// Roles lists the workers in start order.
func Roles() []Role {
	list := make([]Role, 0, len(roles))
	for _, r := range roles {
		list = append(list, Role{string(r.Name), r.Job, r.Alone, slices.Contains(topic.Keyed(), r.Name)})
	}
	return list
}
