package rest

import (
	"context"
	"net/http"
	"regexp"
	"strings"

	"github.com/hawser-project/hawser/cluster/cpi"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/cluster/vnode"
	"github.com/hawser-project/hawser/corda/identity"
	"github.com/hawser-project/hawser/corda/x500"
)

type virtualNodeOutput struct {
	HoldingIdentity         holderOutput `json:"holdingIdentity"`
	CPI                     packageID    `json:"cpiIdentifier"`
	VaultDDL                *string      `json:"vaultDdlConnectionId"`
	VaultDML                string       `json:"vaultDmlConnectionId"`
	CryptoDDL               *string      `json:"cryptoDdlConnectionId"`
	CryptoDML               string       `json:"cryptoDmlConnectionId"`
	UniquenessDDL           *string      `json:"uniquenessDdlConnectionId"`
	UniquenessDML           string       `json:"uniquenessDmlConnectionId"`
	HSMConnectionID         string       `json:"hsmConnectionId"`
	FlowP2P                 vnode.Status `json:"flowP2pOperationalStatus"`
	FlowStart               vnode.Status `json:"flowStartOperationalStatus"`
	Flow                    vnode.Status `json:"flowOperationalStatus"`
	Vault                   vnode.Status `json:"vaultDbOperationalStatus"`
	OperationInProgress     *string      `json:"operationInProgress"`
	ExternalMessagingRoutes *struct{}    `json:"externalMessagingRouteConfiguration"`
}

type holderOutput struct {
	Name      string `json:"x500Name"`
	GroupID   string `json:"groupId"`
	ShortHash string `json:"shortHash"`
	FullHash  string `json:"fullHash"`
}

// noConnection stands where Corda has the id of a database connection: a virtual node of ours has no database.
const noConnection = ""

func virtualNodeOf(n vnode.VirtualNode) virtualNodeOutput {
	statuses := n.Statuses()
	return virtualNodeOutput{
		HoldingIdentity: holderOutput{n.Identity.Name.String(), n.Identity.GroupID, n.Identity.ShortHash().String(), n.Identity.FullHash()},
		CPI:             packageID{n.CPI.Name, n.CPI.Version, orNull(n.CPI.SignerSummaryHash)},
		VaultDML:        noConnection, CryptoDML: noConnection, UniquenessDML: noConnection, HSMConnectionID: "null", // Corda's text
		FlowP2P: statuses[0], FlowStart: statuses[1], Flow: statuses[2], Vault: statuses[3], OperationInProgress: orNull(n.Operation),
	}
}

type virtualNodesOutput struct {
	VirtualNodes []virtualNodeOutput `json:"virtualNodes"`
}

func (w *Worker) listVirtualNodes(ctx context.Context, _ nothing) (virtualNodesOutput, error) {
	nodes, err := topic.ListVirtualNodes.Do(ctx, w.Bus, struct{}{})
	return virtualNodesOutput{list(nodes, virtualNodeOf)}, err
}

// holderInput names a virtual node.
type holderInput struct {
	Holder identity.ShortHash `path:"holdingidentityshorthash"`
}

func (w *Worker) getVirtualNode(ctx context.Context, in holderInput) (virtualNodeOutput, error) {
	node, err := topic.GetVirtualNode.Do(ctx, w.Bus, in.Holder.String())
	return virtualNodeOf(node), err
}

// node finds a virtual node for an operation on something else.
func (w *Worker) node(ctx context.Context, hash identity.ShortHash) (vnode.VirtualNode, error) {
	node, err := topic.GetVirtualNode.Do(ctx, w.Bus, hash.String())
	if fault.KindOf(err) == fault.NotFound {
		err = fault.New(fault.NotFound, "Virtual Node '%s' not found.", hash)
	}
	return node, err
}

type createVirtualNodeInput struct {
	Body struct {
		Name          string    `json:"x500Name"`
		Checksum      string    `json:"cpiFileChecksum"`
		VaultDDL      *jsonText `json:"vaultDdlConnection"`
		VaultDML      *jsonText `json:"vaultDmlConnection"`
		CryptoDDL     *jsonText `json:"cryptoDdlConnection"`
		CryptoDML     *jsonText `json:"cryptoDmlConnection"`
		UniquenessDDL *jsonText `json:"uniquenessDdlConnection"`
		UniquenessDML *jsonText `json:"uniquenessDmlConnection"`
	} `body:"request"`
}

type requestOutput struct {
	RequestID string `json:"requestId"`
}

var checksumForm = regexp.MustCompile(`\A[a-fA-F0-9]{12}\z`)

// createVirtualNode makes a virtual node in the group of its package. The id of the request is its short hash.
func (w *Worker) createVirtualNode(ctx context.Context, in createVirtualNodeInput) (requestOutput, error) {
	b := in.Body
	name, err := x500.Parse(b.Name)
	if err != nil {
		return requestOutput{}, fault.New(fault.Invalid, "X500 name \"%s\" could not be parsed. Cause: %w", b.Name, err)
	}
	if !checksumForm.MatchString(b.Checksum) {
		return requestOutput{}, fault.New(fault.Invalid, "Invalid CPI file checksum '%.80s': want 12 hexadecimal digits.", b.Checksum)
	}
	for _, connection := range []*jsonText{b.VaultDDL, b.VaultDML, b.CryptoDDL, b.CryptoDML, b.UniquenessDDL, b.UniquenessDML} {
		if connection != nil && *connection != "none" {
			return requestOutput{}, failure(http.StatusNotImplemented,
				"A virtual node of Hawser keeps its data in the cluster's own store; leave the database connections out.")
		}
	}
	info, err := w.packageBy(ctx, strings.ToUpper(b.Checksum))
	if err != nil {
		return requestOutput{}, err
	}
	hash := identity.HoldingIdentity{Name: name, GroupID: info.GroupID}.ShortHash().String()
	operation, _, err := topic.CreateVirtualNode.Do(ctx, w.Bus, hash, commandID(ctx), topic.NewVirtualNode{
		Actor: actor(ctx), Name: name.String(), Checksum: strings.ToUpper(b.Checksum), GroupID: info.GroupID,
	})
	return requestOutput{operation.RequestID}, err
}

func (w *Worker) packageBy(ctx context.Context, checksum string) (cpi.Info, error) {
	packages, err := topic.ListPackages.Do(ctx, w.Bus, struct{}{})
	if err != nil {
		return cpi.Info{}, err
	}
	for _, info := range packages {
		if info.ShortChecksum() == checksum {
			return info, nil
		}
	}
	return cpi.Info{}, fault.New(fault.Invalid, "No CPI metadata found for checksum '%s'.", checksum)
}

type operationOutput struct {
	RequestID   string                `json:"requestId"`
	Operation   vnode.Kind            `json:"operation"`
	Status      vnode.OperationStatus `json:"status"`
	LastUpdated instant               `json:"lastUpdatedTimestamp"`
	Stage       *string               `json:"processingStage"`
	Error       *string               `json:"errorReason"`
	ResourceID  *string               `json:"resourceId"`
}

type requestInput struct {
	RequestID string `path:"requestid"`
}

func (w *Worker) operationStatus(ctx context.Context, in requestInput) (operationOutput, error) {
	o, err := topic.GetOperation.Do(ctx, w.Bus, in.RequestID)
	if fault.KindOf(err) == fault.NotFound {
		const name = "VirtualNodeOperationNotFoundException"
		err = failure(http.StatusNotFound, name, "cause", name, "reason", "There is no operation on a virtual node with the request id '"+in.RequestID+"'.")
	}
	return operationOutput{o.RequestID, o.Kind, o.Status, instant(o.UpdatedAt), orNull(o.Stage), orNull(o.Error), orNull(o.ResourceID)}, err
}
