// Package key says what a key pair of a cluster is: the schemes and categories of Corda, whose it is (tenant), how it is
// identified, how it is wrapped at rest and what it signs with (spec/networks.md 5). It makes and unwraps private keys
// for the crypto worker, which alone calls those functions; everyone else uses the ids, the names and Verify.
package key

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/corda/identity"
)

// Record is one key pair as the crypto worker keeps it. The private key in it is wrapped.
type Record struct {
	ID        ID       `cbor:"1,keyasint"`
	FullID    string   `cbor:"2,keyasint"` // "SHA-256:" and 64 hexadecimal digits
	Tenant    Tenant   `cbor:"3,keyasint"`
	Alias     string   `cbor:"4,keyasint"`
	Category  Category `cbor:"5,keyasint"`
	Scheme    Scheme   `cbor:"6,keyasint"`
	PublicKey []byte   `cbor:"7,keyasint"` // SubjectPublicKeyInfo
	// PrivateKey is PKCS#8 wrapped under the managed key WrappingAlias of WrappingGeneration.
	PrivateKey         []byte `cbor:"8,keyasint"`
	WrappingAlias      string `cbor:"9,keyasint"`
	WrappingGeneration int    `cbor:"10,keyasint,omitempty"`
	CreatedAt          int64  `cbor:"11,keyasint,omitempty"` // Unix milliseconds
}

// ManagedKey is a tenant's wrapping key, itself wrapped under the master key of the alias.
type ManagedKey struct {
	Alias       string `cbor:"1,keyasint"`
	Tenant      Tenant `cbor:"2,keyasint"`
	Generation  int    `cbor:"3,keyasint,omitempty"`
	MasterAlias string `cbor:"4,keyasint"`
	Wrapped     []byte `cbor:"5,keyasint"`
	CreatedAt   int64  `cbor:"6,keyasint,omitempty"` // Unix milliseconds
}

// Assignment says that a tenant may have keys of a category: POST /hsm/soft/{tenant}/{category}.
type Assignment struct {
	ID          string   `cbor:"1,keyasint"`
	Tenant      Tenant   `cbor:"2,keyasint"`
	Category    Category `cbor:"3,keyasint"`
	MasterAlias string   `cbor:"4,keyasint"`
}

// ID is the short id of a public key: 12 upper-case hexadecimal digits. It is a type of its own so that it is not taken
// for the short hash of an identity, which looks the same.
type ID string

const (
	idLength     = 12
	fullIDPrefix = "SHA-256:"
)

// FullIDOf returns the id that member contexts call the hash of a key (spec 5.1).
func FullIDOf(spki []byte) string {
	sum := sha256.Sum256(spki)
	return fullIDPrefix + strings.ToUpper(hex.EncodeToString(sum[:]))
}

// IDOf returns the id that REST and registration contexts use.
func IDOf(spki []byte) ID { return ID(FullIDOf(spki)[len(fullIDPrefix):][:idLength]) }

// ParseID reads an id in either case.
func ParseID(text string) (ID, error) {
	if _, err := hex.DecodeString(text); err != nil || len(text) != idLength {
		return "", fault.New(fault.Invalid, "key id %q is not 12 hexadecimal digits", text)
	}
	return ID(strings.ToUpper(text)), nil
}

// Tenant is whose a key is: the short hash of a virtual node, or the cluster itself (P2P).
type Tenant string

// P2P is the tenant of the cluster's own keys, such as those of TLS.
const P2P Tenant = "p2p"

// ParseTenant reads a tenant. Corda's older "rest" is no tenant any more (spec 5.1).
func ParseTenant(text string) (Tenant, error) {
	if Tenant(text) == P2P {
		return P2P, nil
	}
	h, err := identity.ParseShortHash(text)
	if err != nil {
		return "", fault.New(fault.Invalid, "tenant %q is neither p2p nor the short hash of a virtual node", text)
	}
	return Tenant(h), nil
}

// OfVirtualNode says whether the tenant is a virtual node.
func (t Tenant) OfVirtualNode() bool { return t != P2P }

// Category is what a key is for.
type Category string

// The categories of Corda 5.3.
const (
	Accounts         Category = "ACCOUNTS"
	CI               Category = "CI"
	Ledger           Category = "LEDGER"
	Notary           Category = "NOTARY"
	PreAuth          Category = "PRE_AUTH"
	SessionInit      Category = "SESSION_INIT"
	TLS              Category = "TLS"
	JWTKey           Category = "JWT_KEY"
	EncryptionSecret Category = "ENCRYPTION_SECRET"
)

// Categories lists all categories in Corda's order.
var Categories = []Category{Accounts, CI, Ledger, Notary, PreAuth, SessionInit, TLS, JWTKey, EncryptionSecret}

// ParseCategory reads a category, in either case as Corda does.
func ParseCategory(text string) (Category, error) {
	if c := Category(strings.ToUpper(text)); slices.Contains(Categories, c) {
		return c, nil
	}
	return "", fault.New(fault.Invalid, "key category %q is not one of %v", text, Categories)
}

const maxAlias = 255

// Check says whether a key pair of this category and scheme may be made for the tenant under the alias.
func Check(tenant Tenant, alias string, category Category, scheme Scheme) error {
	if strings.TrimSpace(alias) == "" || utf8.RuneCountInString(alias) > maxAlias || !utf8.ValidString(alias) {
		return fault.New(fault.Invalid, "a key alias must have 1 to %d characters and must not be blank", maxAlias)
	}
	if category == SessionInit && !tenant.OfVirtualNode() {
		return fault.New(fault.Invalid, "a session key belongs to a virtual node; make it for its short hash, not for tenant %s", tenant)
	}
	if category == SessionInit && !scheme.ForSessions() {
		return fault.New(fault.Invalid, "scheme %s can't be used for session keys; use %s or %s", scheme, ECDSAP256, RSA)
	}
	return nil
}

// maxPEM bounds what ParsePublicPEM looks at.
const maxPEM = 16 << 10

// EncodePublicPEM writes a public key as Corda's contexts have it: 64 columns, newline after each line.
func EncodePublicPEM(spki []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
}

// ParsePublicPEM reads one public key. Compare keys by the SubjectPublicKeyInfo it returns, not by their text.
func ParsePublicPEM(text string) (pub crypto.PublicKey, spki []byte, err error) {
	if len(text) > maxPEM {
		return nil, nil, fault.New(fault.Invalid, "the public key is longer than %d octets", maxPEM)
	}
	block, rest := pem.Decode([]byte(strings.TrimSpace(text)))
	if block == nil || block.Type != "PUBLIC KEY" || len(block.Headers) > 0 || strings.TrimSpace(string(rest)) != "" ||
		!strings.HasPrefix(strings.TrimSpace(text), "-----BEGIN") {
		return nil, nil, fault.New(fault.Invalid, "the public key is not one PEM block of type PUBLIC KEY")
	}
	pub, err = x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, nil, fault.New(fault.Invalid, "the public key can't be read: %w", err)
	}
	return pub, block.Bytes, nil
}
