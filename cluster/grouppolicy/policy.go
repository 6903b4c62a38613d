// Package grouppolicy reads, checks and writes group policies: the file META-INF/GroupPolicy.json of a package, which
// says what application network its virtual nodes belong to and how members talk (spec/networks.md 2). It says what is
// in a policy; who acts on it is the membership worker's and the link manager's business.
package grouppolicy

import (
	"crypto/x509"

	"github.com/hawser-project/hawser/corda/x500"
)

// NewGroup is the group id in the policy of a network that does not exist yet: an MGM's.
const NewGroup = "CREATE_ID"

// Shape is which of the three kinds of policy it is.
type Shape string

// The three shapes of spec/networks.md 2.
const (
	MGM    Shape = "MGM"    // for the virtual node that will run a network
	Member Shape = "member" // for members of a network that an MGM runs
	Static Shape = "static" // for members of a network that nobody runs
)

// The class names by which Corda picks its services; here they tell the shapes apart.
const (
	mgmRegistration    = "net.corda.membership.impl.registration.dynamic.mgm.MGMRegistrationService"
	memberRegistration = "net.corda.membership.impl.registration.dynamic.member.DynamicMemberRegistrationService"
	staticRegistration = "net.corda.membership.impl.registration.staticnetwork.StaticMemberRegistrationService"
	mgmSync            = "net.corda.membership.impl.synchronisation.MgmSynchronisationServiceImpl"
	memberSync         = "net.corda.membership.impl.synchronisation.MemberSynchronisationServiceImpl"
	staticSync         = "net.corda.membership.impl.sync.staticnetwork.StaticMemberSyncService"
)

// Policy is a policy that was checked.
type Policy struct {
	Shape                   Shape
	GroupID                 string // NewGroup for an MGM's; else a UUID, its case kept
	RegistrationProtocol    string
	SynchronisationProtocol string
	SessionKeyPolicy        SessionKeyPolicy  // empty for an MGM's
	P2P                     *P2P              // nil for an MGM's
	MGMInfo                 map[string]string // a member's only: the MGM's member context and corda.serial
	Network                 *StaticNetwork    // a static one's only
}

// SessionKeyPolicy says whether the ledger key is the session key too.
type SessionKeyPolicy string

// The values of sessionKeyPolicy.
const (
	Combined SessionKeyPolicy = "Combined"
	Distinct SessionKeyPolicy = "Distinct"
)

// SessionPKI says whether session keys have certificates.
type SessionPKI string

// The values of sessionPki that a link manager implements, also Corda's.
const (
	SessionStandard SessionPKI = "Standard"
	NoPKI           SessionPKI = "NoPKI"
)

// TLSType says who shows a certificate.
type TLSType string

// The values of tlsType.
const (
	OneWay TLSType = "OneWay"
	Mutual TLSType = "Mutual"
)

// ProtocolMode says how link messages are protected.
type ProtocolMode string

// The values of protocolMode.
const (
	Authentication          ProtocolMode = "Authentication"
	AuthenticatedEncryption ProtocolMode = "Authenticated_Encryption"
)

// P2P is how members of the network talk.
type P2P struct {
	SessionPKI        SessionPKI
	SessionTrustRoots []*x509.Certificate // empty for NoPKI
	TLSTrustRoots     []*x509.Certificate
	// TLSVersion is the lowest version that the network asks for, "1.2" or "1.3". Hawser always talks 1.3.
	TLSVersion   string
	ProtocolMode ProtocolMode
	TLSType      TLSType
	// MGMClientSubject is whose client certificate the MGM shows under Mutual; zero if not given.
	MGMClientSubject x500.Name
}

// StaticNetwork is the list of members in a static policy (spec/networks.md 10.1). It may be empty: between clusters,
// members become known by their signed member files.
type StaticNetwork struct {
	Members []StaticMember
	// GroupParameters are the ext.* entries.
	GroupParameters map[string]string
	// MinimumPlatform is corda.minimum.platform.version, 0 if not given.
	MinimumPlatform int
}

// StaticMember is a member as the policy lists it.
type StaticMember struct {
	Name      x500.Name
	Status    string // ACTIVE unless given
	Endpoints []Endpoint
	Serial    int64  // 1 unless given
	Modified  string // as given, empty if not
	Software  string
}

// Endpoint is where a member's gateway is.
type Endpoint struct {
	URL             string
	ProtocolVersion int
}

// Member finds a listed member.
func (n *StaticNetwork) Member(name x500.Name) (StaticMember, bool) {
	for _, m := range n.Members {
		if m.Name == name {
			return m, true
		}
	}
	return StaticMember{}, false
}
