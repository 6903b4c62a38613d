// Package vnode says what a virtual node is: one identity on one network, hosted here, running one package. It has the
// record, the rules of its states, and the record of operations on it (spec/networks.md 3). It starts and stops nothing.
//
//	          MAINTENANCE                  upgrade begins
//	ACTIVE ---------------> MAINTENANCE ---------------> MAINTENANCE, operation in progress
//	   ^                        |    ^                                 |
//	   +------------------------+    +---------------------------------+
//	            ACTIVE                   operation ends
package vnode

import (
	"strings"

	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/corda/identity"
)

// VirtualNode is the record of one: Corda's VirtualNodeInfo without its databases, which a virtual node of Hawser lacks.
// Its key is the short hash.
type VirtualNode struct {
	Identity identity.HoldingIdentity `cbor:"1,keyasint"`
	CPI      CPI                      `cbor:"2,keyasint"`
	// The four statuses. Empty is INACTIVE, so a record that lacks one runs nothing.
	FlowP2P   Status `cbor:"3,keyasint,omitempty"`
	FlowStart Status `cbor:"4,keyasint,omitempty"`
	Flow      Status `cbor:"5,keyasint,omitempty"`
	Vault     Status `cbor:"6,keyasint,omitempty"`
	// Operation is the id of the operation in progress.
	Operation string `cbor:"7,keyasint,omitempty"`
	Version   int64  `cbor:"8,keyasint,omitempty"`
	CreatedAt int64  `cbor:"9,keyasint,omitempty"` // Unix milliseconds
}

// CPI is the package that a virtual node runs.
type CPI struct {
	Name              string `cbor:"1,keyasint"`
	Version           string `cbor:"2,keyasint"`
	SignerSummaryHash string `cbor:"3,keyasint"`
	FileChecksum      string `cbor:"4,keyasint"` // 64 upper-case hexadecimal digits
	// GroupID is the one in its policy: CREATE_ID for an MGM's.
	GroupID string `cbor:"5,keyasint"`
}

// Status is whether one side of a virtual node works.
type Status string

// The two statuses.
const (
	Active   Status = "ACTIVE"
	Inactive Status = "INACTIVE"
)

func (s Status) orInactive() Status {
	if s == Active {
		return Active
	}
	return Inactive
}

// State is what operators set: all four statuses together.
type State string

// The two states.
const (
	StateActive      State = "ACTIVE"
	StateMaintenance State = "MAINTENANCE"
)

// ParseState reads a state, in either case as Corda does.
func ParseState(text string) (State, error) {
	switch s := State(strings.ToUpper(text)); s {
	case StateActive, StateMaintenance:
		return s, nil
	}
	return "", fault.New(fault.Invalid, "newState: must be one of ACTIVE, MAINTENANCE").With("newState", "must be one of ACTIVE, MAINTENANCE")
}

// NewGroup is the group id of a package whose virtual node makes the network (spec/networks.md 3.2).
const NewGroup = "CREATE_ID"

// New makes the record of a virtual node, active. For an MGM's package the group id of identity is the new network's;
// for any other it must be the package's. Drawing a random one is the caller's business: once per network, so that a
// repeated request makes no second one.
func New(id identity.HoldingIdentity, cpi CPI, now int64) (VirtualNode, error) {
	if id.Name.IsZero() || id.GroupID == "" || id.GroupID == NewGroup {
		return VirtualNode{}, fault.New(fault.Invalid, "a virtual node needs a member name and the id of its network, not %q and %q", id.Name, id.GroupID)
	}
	if cpi.GroupID != NewGroup && cpi.GroupID != id.GroupID {
		return VirtualNode{}, fault.New(fault.Invalid, "the package %s %s is for group %s, not for group %s", cpi.Name, cpi.Version, cpi.GroupID, id.GroupID)
	}
	r := VirtualNode{Identity: id, CPI: cpi, CreatedAt: now}
	r.setAll(Active)
	return r, nil
}

func (r *VirtualNode) setAll(s Status) { r.FlowP2P, r.FlowStart, r.Flow, r.Vault = s, s, s, s }

// ShortHash is the record's key.
func (r VirtualNode) ShortHash() identity.ShortHash { return r.Identity.ShortHash() }

// Statuses are the four with empty ones filled in, in the order FlowP2P, FlowStart, Flow, Vault.
func (r VirtualNode) Statuses() [4]Status {
	return [4]Status{r.FlowP2P.orInactive(), r.FlowStart.orInactive(), r.Flow.orInactive(), r.Vault.orInactive()}
}

// MayStartFlows says whether a new flow may be started over REST.
func (r VirtualNode) MayStartFlows() bool { return r.FlowStart == Active && r.Flow == Active }

// MayRunFlows says whether running flows go on; otherwise their inputs are held until they do.
func (r VirtualNode) MayRunFlows() bool { return r.Flow == Active }

// MayTakeSessions says whether peers may begin flow sessions. Otherwise they are told so, and messages of running ones
// stay with their senders (DESIGN.md 4). Corda stores this status and reads it nowhere.
func (r VirtualNode) MayTakeSessions() bool { return r.FlowP2P == Active && r.Flow == Active }

// CanBecome says why the virtual node can't go into the state, or nil. Going where it is already is no error.
func (r VirtualNode) CanBecome(s State) error {
	if s == StateActive && r.Operation != "" {
		return fault.New(fault.Invalid, "virtual node %s can't become active while operation %s is in progress; see its status and try again when it has ended", r.ShortHash(), r.Operation)
	}
	return nil
}

// Become puts the virtual node into a state.
func (r VirtualNode) Become(s State) (VirtualNode, error) {
	if err := r.CanBecome(s); err != nil {
		return VirtualNode{}, err
	}
	next := r
	next.setAll(Inactive)
	if s == StateActive {
		next.setAll(Active)
	}
	if next.Statuses() != r.Statuses() {
		next.Version++
	}
	return next, nil
}

// CanUpgrade says why the virtual node can't be given another package, or nil (spec/networks.md 3.4).
func (r VirtualNode) CanUpgrade(to CPI, force bool) error {
	for _, s := range r.Statuses() {
		if s != Inactive {
			return fault.New(fault.Invalid, "virtual node %s must be in state MAINTENANCE before its package is upgraded", r.ShortHash())
		}
	}
	switch {
	case to.FileChecksum == r.CPI.FileChecksum:
		return fault.New(fault.Conflict, "virtual node %s has package %s %s already", r.ShortHash(), to.Name, to.Version)
	case to.Name != r.CPI.Name:
		return fault.New(fault.Invalid, "virtual node %s runs package %s and can't be upgraded to %s", r.ShortHash(), r.CPI.Name, to.Name)
	case to.SignerSummaryHash != r.CPI.SignerSummaryHash:
		return fault.New(fault.Invalid, "package %s %s is signed by others than %s %s", to.Name, to.Version, r.CPI.Name, r.CPI.Version)
	case to.GroupID != r.CPI.GroupID:
		return fault.New(fault.Invalid, "package %s %s is for group %s, but virtual node %s runs one for group %s", to.Name, to.Version, to.GroupID, r.ShortHash(), r.CPI.GroupID)
	case r.Operation != "" && !force:
		return fault.New(fault.Conflict, "operation %s on virtual node %s is in progress; wait for its end, or force the upgrade", r.Operation, r.ShortHash())
	}
	return nil
}
