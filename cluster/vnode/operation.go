package vnode

import (
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/corda/identity"
)

// Operation is the record of a long operation on a virtual node: Corda's AsyncOperationStatus. Its key is the request id.
type Operation struct {
	RequestID  string          `cbor:"1,keyasint"`
	Kind       Kind            `cbor:"2,keyasint"`
	Status     OperationStatus `cbor:"3,keyasint"`
	UpdatedAt  int64           `cbor:"4,keyasint,omitempty"` // Unix milliseconds
	Stage      string          `cbor:"5,keyasint,omitempty"` // where it is, or where it failed
	Error      string          `cbor:"6,keyasint,omitempty"`
	ResourceID string          `cbor:"7,keyasint,omitempty"` // the short hash that a successful create made
	// Of is whose operation it is.
	Of identity.ShortHash `cbor:"8,keyasint,omitempty"`
}

// Kind is what an operation does.
type Kind string

// The kinds of Corda 5.3. A virtual node of Hawser has no database of its own to change.
const (
	Create   Kind = "CREATE_VIRTUAL_NODE"
	Upgrade  Kind = "UPGRADE_VIRTUAL_NODE"
	ChangeDB Kind = "CHANGE_VIRTUAL_NODE_DB"
)

// OperationStatus is how far an operation is.
type OperationStatus string

// The statuses, in the words of REST.
const (
	Accepted   OperationStatus = "ACCEPTED"
	InProgress OperationStatus = "IN_PROGRESS"
	Succeeded  OperationStatus = "SUCCEEDED"
	Failed     OperationStatus = "FAILED"
	Aborted    OperationStatus = "ABORTED"
)

// Ended says whether nothing more happens.
func (s OperationStatus) Ended() bool { return s == Succeeded || s == Failed || s == Aborted }

// Stages of failure, as Corda shows them.
const (
	StageValidation = "Validation"
	StageMigration  = "Migration"
)

// NewCreate is the operation that makes a virtual node. Its id is the short hash to be (spec/networks.md 3.2).
func NewCreate(of identity.ShortHash, now int64) Operation {
	return Operation{RequestID: of.String(), Kind: Create, Status: Accepted, UpdatedAt: now, Of: of}
}

// NewUpgrade is the operation that gives a virtual node another package. Its id is the short hash and the short
// checksums of both packages (spec/networks.md 3.4).
func NewUpgrade(r VirtualNode, to CPI, now int64) (Operation, error) {
	const short = 12
	if len(r.CPI.FileChecksum) < short || len(to.FileChecksum) < short {
		return Operation{}, fault.New(fault.Invalid, "a package checksum is shorter than %d digits", short)
	}
	id := r.ShortHash().String() + r.CPI.FileChecksum[:short] + to.FileChecksum[:short]
	return Operation{RequestID: id, Kind: Upgrade, Status: Accepted, UpdatedAt: now, Of: r.ShortHash()}, nil
}

// Advance moves the operation on. One that has ended stays as it is: a step that is run again must not open it.
func (o Operation) Advance(to OperationStatus, stage, reason string, now int64) Operation {
	if o.Status.Ended() {
		return o
	}
	o.Status, o.Stage, o.Error, o.UpdatedAt = to, stage, reason, now
	if to == Succeeded && o.Kind == Create {
		o.ResourceID = o.RequestID
	}
	return o
}
