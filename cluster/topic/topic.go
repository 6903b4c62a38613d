// Package topic is the cluster's internal protocol: every topic, command, call and kind of shared record that crosses from
// one worker to another, with who may write and who may read it. A worker gets the bus through bus.As(role), which refuses
// what is not listed here, so this table cannot lie.
package topic

import (
	"slices"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/cpi"
	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/hosted"
	"github.com/hawser-project/hawser/cluster/member"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/cluster/rbac"
	"github.com/hawser-project/hawser/cluster/vnode"
)

// The roles.
const (
	Rest        = bus.Role("rest")
	Admin       = bus.Role("admin")
	Crypto      = bus.Role("crypto")
	Membership  = bus.Role("membership")
	Flow        = bus.Role("flow")
	LinkManager = bus.Role("linkmanager")
	Gateway     = bus.Role("gateway")
)

// Keyed are the roles that have keys: state, records or commands of their own.
func Keyed() []bus.Role { return roles(Admin, Crypto, Membership, Flow, LinkManager) }

// Answerer returns the role that answers a call.
func Answerer(call string) (bus.Role, bool) {
	for _, d := range Definitions() {
		if d.What == "call" && d.Name == call {
			return d.To[0], true
		}
	}
	return "", false
}

func roles(r ...bus.Role) []bus.Role { return r }

// Streams: each record is handled once by each reader.
var (
	// FlowIn has everything that can wake a flow. Key: the flow's slot.
	FlowIn = bus.Topic[flow.Input]{Name: "flow.in", Writers: roles(LinkManager), Readers: roles(Flow)}
	// P2POut has the messages for peers. Key: that of the pair of source and destination.
	P2POut = bus.Topic[message.Outbound]{Name: "p2p.out", Writers: roles(Flow, Membership), Readers: roles(LinkManager)}
)

// Tables: compacted topics that workers keep in memory.
var (
	// Principals has who may log in and what they may do. Key: login name.
	Principals = bus.Topic[rbac.Principal]{Name: "rbac.principals", Writers: roles(Admin), Readers: roles(Rest), Compacted: true}
	// Packages has the uploaded packages. Key: file checksum, 64 upper-case hexadecimal digits.
	Packages = bus.Topic[cpi.Info]{Name: "cpi.info", Writers: roles(Admin), Readers: roles(Flow, Membership, LinkManager), Compacted: true}
	// VirtualNodes has the virtual nodes. Key: short hash.
	VirtualNodes = bus.Topic[vnode.VirtualNode]{Name: "virtual.node.info", Writers: roles(Admin), Readers: roles(Flow, Membership, LinkManager, Crypto), Compacted: true}
	// Hosted has the identities that can talk to peers. Key: short hash.
	Hosted = bus.Topic[hosted.Identity]{Name: "p2p.hosted.identities", Writers: roles(Membership), Readers: roles(LinkManager), Compacted: true}
	// Members has the member lists. Key: short hash of the member that sees the list, "/", short hash of the member seen.
	Members = bus.Topic[member.Record]{Name: "membership.members", Writers: roles(Membership), Readers: roles(Flow, LinkManager), Compacted: true}
)

// Definitions lists all of it, sorted by what and name.
func Definitions() []bus.Definition {
	all := slices.Concat(
		[]bus.Definition{
			FlowIn.Definition(), P2POut.Definition(),
			Principals.Definition(), Packages.Definition(), VirtualNodes.Definition(), Hosted.Definition(), Members.Definition(),
		},
		adminDefinitions(), cryptoDefinitions(), membershipDefinitions(), flowDefinitions(), linkDefinitions(),
	)
	slices.SortFunc(all, func(a, b bus.Definition) int {
		if a.What != b.What {
			return compare(a.What, b.What)
		}
		return compare(a.Name, b.Name)
	})
	return all
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
