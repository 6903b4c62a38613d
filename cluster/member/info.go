// Package member says what is known of a member of an application network: its MemberInfo, the record of it in a member
// list, and the signed file by which members of a static network get to know each other across clusters. It decides what
// an import may change (Import). Registration with an MGM is not here; its records are the same.
//
// A MemberInfo is two contexts of sorted keys and values (spec/networks.md 6.4): the member context, which the member
// signs, and the MGM context, which the MGM adds. In a static network nobody runs the network, so the importing cluster
// writes the MGM context from the file.
package member

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/corda/identity"
	"github.com/hawser-project/hawser/corda/x500"
)

// Keys of the member context; "%d" counts from 0.
const (
	KeyName            = "corda.name"
	KeyGroupID         = "corda.groupId"
	KeyEndpointURL     = "corda.endpoints.%d.connectionURL"
	KeyEndpointVersion = "corda.endpoints.%d.protocolVersion"
	KeySessionPEM      = "corda.session.keys.%d.pem"
	KeySessionHash     = "corda.session.keys.%d.hash"
	KeySessionSpec     = "corda.session.keys.%d.signature.spec"
	KeyLedgerPEM       = "corda.ledger.keys.%d.pem"
	KeyLedgerHash      = "corda.ledger.keys.%d.hash"
	KeyLedgerSpec      = "corda.ledger.keys.%d.signature.spec"
	KeyPlatform        = "corda.platformVersion"
	KeySoftware        = "corda.softwareVersion"
	KeyCPIName         = "corda.cpi.name"
	KeyCPIVersion      = "corda.cpi.version"
	KeyCPISigner       = "corda.cpi.signer.summary.hash"
	KeyRegistrationID  = "corda.registration.id"
	KeyTLSSubject      = "corda.tls.certificate.subject"
)

// Keys of the MGM context.
const (
	KeyStatus   = "corda.status"
	KeySerial   = "corda.serial"
	KeyCreated  = "corda.creationTime"
	KeyModified = "corda.modifiedTime"
	KeyIsMGM    = "corda.mgm"
)

// PlatformVersion is what our members state.
const PlatformVersion = 50300

// Status is whether a member takes part in its network.
type Status string

// The statuses of a member.
const (
	Active    Status = "ACTIVE"
	Suspended Status = "SUSPENDED"
	Pending   Status = "PENDING"
)

// Entry is one key and its value.
type Entry struct {
	Key   string `cbor:"1,keyasint"`
	Value string `cbor:"2,keyasint"`
}

// Context is entries sorted by key as text, so that "10" is before "2" (spec/networks.md 15 no. 5).
type Context []Entry

// Bounds of a context.
const (
	maxEntries = 1024
	maxKey     = 255
	maxValue   = 64 << 10
)

// NewContext sorts a map into a context.
func NewContext(m map[string]string) Context {
	c := make(Context, 0, len(m))
	for k, v := range m {
		c = append(c, Entry{k, v})
	}
	slices.SortFunc(c, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return c
}

// Get finds a value.
func (c Context) Get(key string) (string, bool) {
	i, found := slices.BinarySearchFunc(c, key, func(e Entry, k string) int { return strings.Compare(e.Key, k) })
	if !found {
		return "", false
	}
	return c[i].Value, true
}

func (c Context) value(format string, args ...any) string {
	v, _ := c.Get(fmt.Sprintf(format, args...))
	return v
}

// Check says whether it is sorted, without repeats, and within bounds.
func (c Context) Check() error {
	if len(c) > maxEntries {
		return fault.New(fault.Invalid, "a context has at most %d entries, this one has %d", maxEntries, len(c))
	}
	for i, e := range c {
		if i > 0 && c[i-1].Key >= e.Key {
			return fault.New(fault.Invalid, "the context is not sorted: %q follows %q", clip(e.Key), clip(c[i-1].Key))
		}
		if e.Key == "" || len(e.Key) > maxKey || len(e.Value) > maxValue {
			return fault.New(fault.Invalid, "the entry %q has no key, a key over %d or a value over %d octets", clip(e.Key), maxKey, maxValue)
		}
	}
	return nil
}

// Info is a MemberInfo.
type Info struct {
	Member Context `cbor:"1,keyasint"`
	MGM    Context `cbor:"2,keyasint,omitempty"`
}

// Check says whether all that readers need is there (spec/networks.md 6.4).
func (i Info) Check() error {
	for _, c := range []Context{i.Member, i.MGM} {
		if err := c.Check(); err != nil {
			return err
		}
	}
	name, err := x500.Parse(i.Member.value(KeyName))
	if err != nil {
		return fault.New(fault.Invalid, "%s: %w", KeyName, err)
	}
	if got := i.Member.value(KeyName); got != name.String() {
		return fault.New(fault.Invalid, "%s %q is not in its canonical form %q", KeyName, got, name)
	}
	if i.GroupID() == "" {
		return fault.New(fault.Invalid, "%s is missing", KeyGroupID)
	}
	if i.PlatformVersion() <= 0 || i.Member.value(KeySoftware) == "" {
		return fault.New(fault.Invalid, "%s or %s is missing", KeyPlatform, KeySoftware)
	}
	if _, err := i.Endpoints(); err != nil {
		return err
	}
	_, err = i.SessionKeys()
	return err
}

// Name is the member's name; zero if it has none that can be read.
func (i Info) Name() x500.Name {
	n, err := x500.Parse(i.Member.value(KeyName))
	if err != nil {
		return x500.Name{}
	}
	return n
}

// GroupID is the network.
func (i Info) GroupID() string { return i.Member.value(KeyGroupID) }

// Identity is name and network.
func (i Info) Identity() identity.HoldingIdentity {
	return identity.HoldingIdentity{Name: i.Name(), GroupID: i.GroupID()}
}

// PlatformVersion is 0 if it can't be read.
func (i Info) PlatformVersion() int {
	n, err := strconv.Atoi(i.Member.value(KeyPlatform))
	if err != nil {
		return 0
	}
	return n
}

// Serial counts the versions of a member's information; 0 if it can't be read.
func (i Info) Serial() int64 {
	n, err := strconv.ParseInt(i.MGM.value(KeySerial), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Status is whether the member takes part.
func (i Info) Status() Status { return Status(i.MGM.value(KeyStatus)) }

// IsMGM says whether the member runs the network.
func (i Info) IsMGM() bool { return i.MGM.value(KeyIsMGM) == "true" }

// Modified is when this version was made; zero if it can't be read.
func (i Info) Modified() time.Time {
	t, err := time.Parse(time.RFC3339Nano, i.MGM.value(KeyModified))
	if err != nil {
		return time.Time{}
	}
	return t
}

// Endpoint is where a member's gateway is.
type Endpoint struct {
	URL             string
	ProtocolVersion int
}

const (
	maxEndpoints = 10
	maxKeys      = 10
)

// Endpoints lists the gateways in their order; there is at least one.
func (i Info) Endpoints() ([]Endpoint, error) {
	var all []Endpoint
	for n := 0; n <= maxEndpoints; n++ {
		text, there := i.Member.Get(fmt.Sprintf(KeyEndpointURL, n))
		if !there {
			break
		}
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || n == maxEndpoints {
			return nil, fault.New(fault.Invalid, "endpoint %d %q is not a URL such as https://gateway.example.org:8080, or there are more than %d", n, clip(text), maxEndpoints)
		}
		version, err := strconv.Atoi(i.Member.value(KeyEndpointVersion, n))
		if err != nil || version < 1 {
			return nil, fault.New(fault.Invalid, "the protocol version of endpoint %d is missing or no number", n)
		}
		all = append(all, Endpoint{text, version})
	}
	if len(all) == 0 {
		return nil, fault.New(fault.Invalid, "the member has no endpoint ("+KeyEndpointURL+")", 0)
	}
	return all, nil
}

// SessionKey is a key by which a member's link sessions are known.
type SessionKey struct {
	Public crypto.PublicKey
	SPKI   []byte
	Spec   string // may be empty: the default of the key's scheme
}

// Hash is SHA-256 of the SubjectPublicKeyInfo, by which session hellos name the key.
func (k SessionKey) Hash() [sha256.Size]byte { return sha256.Sum256(k.SPKI) }

// SessionKeys lists the keys in their order; there is at least one. Their stated hashes must be right.
func (i Info) SessionKeys() ([]SessionKey, error) {
	var all []SessionKey
	for n := 0; n <= maxKeys; n++ {
		text, there := i.Member.Get(fmt.Sprintf(KeySessionPEM, n))
		if !there {
			break
		}
		if n == maxKeys {
			return nil, fault.New(fault.Invalid, "a member has at most %d session keys", maxKeys)
		}
		pub, spki, err := parsePublic(text)
		if err != nil {
			return nil, fault.New(fault.Invalid, "session key %d: %w", n, err)
		}
		if stated, there := i.Member.Get(fmt.Sprintf(KeySessionHash, n)); there && !strings.EqualFold(stated, hashText(spki)) {
			return nil, fault.New(fault.Invalid, "the hash of session key %d is not that of the key", n)
		}
		all = append(all, SessionKey{pub, spki, i.Member.value(KeySessionSpec, n)})
	}
	if len(all) == 0 {
		return nil, fault.New(fault.Invalid, "the member has no session key ("+KeySessionPEM+")", 0)
	}
	return all, nil
}

// hashText is how contexts state the hash of a key.
func hashText(spki []byte) string {
	sum := sha256.Sum256(spki)
	return "SHA-256:" + strings.ToUpper(hex.EncodeToString(sum[:]))
}

func parsePublic(text string) (crypto.PublicKey, []byte, error) {
	text = strings.TrimSpace(text)
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" || !strings.HasPrefix(text, "-----BEGIN") || strings.TrimSpace(string(rest)) != "" {
		return nil, nil, fmt.Errorf("it is not one PEM block of type PUBLIC KEY")
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	return pub, block.Bytes, err
}

// clip shortens what an error quotes.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
