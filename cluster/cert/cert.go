// Package cert says what certificate chains a cluster keeps, for what (usage) and for whom (scope), which of them it
// takes, and how certificate signing requests are made (spec/networks.md 5.3, and 4 for the chains of network setup).
// It issues nothing, and holds no private keys: requests are signed by a signer it is given.
package cert

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/corda/identity"
	"github.com/hawser-project/hawser/corda/x500"
)

// Usage is what a chain is for.
type Usage string

// The usages of Corda 5.3.
const (
	P2PTLS     Usage = "p2p-tls"
	P2PSession Usage = "p2p-session"
	RestTLS    Usage = "rest-tls"
	CodeSigner Usage = "code-signer"
)

// Usages lists all usages.
var Usages = []Usage{P2PTLS, P2PSession, RestTLS, CodeSigner}

// ParseUsage reads a usage.
func ParseUsage(text string) (Usage, error) {
	if u := Usage(text); slices.Contains(Usages, u) {
		return u, nil
	}
	return "", fault.New(fault.Invalid, "certificate usage %q is not one of %v", text, Usages)
}

// Scope is whose a chain is: the cluster's (empty) or a virtual node's.
type Scope identity.ShortHash

// Cluster is the scope of the cluster.
const Cluster Scope = ""

// Chain is the record of an imported chain. Its key is scope, usage and alias: Corda keys by scope and alias alone, so
// that an alias used again under another usage silently replaces the first chain (spec/networks.md 5.3).
type Chain struct {
	Scope      Scope  `cbor:"1,keyasint,omitempty"`
	Usage      Usage  `cbor:"2,keyasint"`
	Alias      string `cbor:"3,keyasint"`
	PEM        string `cbor:"4,keyasint"`           // leaf first
	ImportedAt int64  `cbor:"5,keyasint,omitempty"` // Unix milliseconds
}

// Bounds of what is imported.
const (
	maxAlias  = 255
	maxPEM    = 1 << 20
	maxChain  = 32
	certBlock = "CERTIFICATE"
)

// Import checks a chain and makes its record. member is the name of the virtual node of the scope.
func Import(scope Scope, usage Usage, alias string, text []byte, member x500.Name) (Chain, error) {
	if strings.TrimSpace(alias) == "" || utf8.RuneCountInString(alias) > maxAlias || !utf8.ValidString(alias) {
		return Chain{}, fault.New(fault.Invalid, "a certificate alias must have 1 to %d characters and must not be blank", maxAlias)
	}
	certs, err := ParseChain(text)
	if err != nil {
		return Chain{}, err
	}
	if usage == P2PSession {
		if err := checkSession(scope, certs[0], member); err != nil {
			return Chain{}, err
		}
	}
	return Chain{Scope: scope, Usage: usage, Alias: alias, PEM: EncodeChain(certs)}, nil
}

func checkSession(scope Scope, leaf *x509.Certificate, member x500.Name) error {
	if scope == Cluster {
		return fault.New(fault.Invalid, "a certificate of usage %s belongs to a virtual node; import it there, not into the cluster", P2PSession)
	}
	subject, err := x500.ParseDER(leaf.RawSubject)
	if err != nil {
		return fault.New(fault.Invalid, "the subject of the session certificate is not a member name: %w", err)
	}
	if subject != member {
		return fault.New(fault.Invalid, "the session certificate is for %s, but the virtual node is %s", subject, member)
	}
	return nil
}

// ParseChain reads PEM certificates: at least one, none twice, each issued by the next.
func ParseChain(text []byte) ([]*x509.Certificate, error) {
	if len(text) > maxPEM {
		return nil, fault.New(fault.TooLarge, "the certificates have %d octets, at most %d are taken", len(text), maxPEM)
	}
	certs, err := ParsePEM(text)
	if err != nil {
		return nil, err
	}
	for i := 1; i < len(certs); i++ {
		if slices.ContainsFunc(certs[:i], certs[i].Equal) {
			return nil, fault.New(fault.Invalid, "the certificate of %s is there twice", certs[i].Subject)
		}
		if !bytes.Equal(certs[i-1].RawIssuer, certs[i].RawSubject) {
			return nil, fault.New(fault.Invalid, "certificate %d, of %s, is issued by %s, but certificate %d is of %s; give the chain from the leaf upwards",
				i, certs[i-1].Subject, certs[i-1].Issuer, i+1, certs[i].Subject)
		}
	}
	return certs, nil
}

// ParsePEM reads certificates and refuses PEM blocks of anything else, such as a private key. Text before a block, as
// openssl writes it, is skipped.
func ParsePEM(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := bytes.TrimSpace(text); len(rest) > 0; {
		block, after := pem.Decode(rest)
		if block == nil {
			return nil, fault.New(fault.Invalid, "there is text that is not PEM after %d certificates", len(certs))
		}
		rest = bytes.TrimSpace(after)
		if block.Type != certBlock {
			if strings.Contains(block.Type, "PRIVATE KEY") {
				return nil, fault.New(fault.Invalid, "there is a private key among the certificates; keys are made in the cluster and must not be uploaded")
			}
			return nil, fault.New(fault.Invalid, "there is a PEM block of type %.40q among the certificates", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fault.New(fault.Invalid, "certificate %d can't be read: %w", len(certs)+1, err)
		}
		if certs = append(certs, c); len(certs) > maxChain {
			return nil, fault.New(fault.Invalid, "there are more than %d certificates", maxChain)
		}
	}
	if len(certs) == 0 {
		return nil, fault.New(fault.Invalid, "there is no certificate; give at least one in PEM")
	}
	return certs, nil
}

// EncodeChain writes certificates as PEM.
func EncodeChain(certs []*x509.Certificate) string {
	var b strings.Builder
	for _, c := range certs {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: c.Raw}))
	}
	return b.String()
}

// Certificates reads the chain of a record.
func (c Chain) Certificates() ([]*x509.Certificate, error) { return ParseChain([]byte(c.PEM)) }

// CheckForNetwork checks a chain at network setup (spec/networks.md 4, step 4): linked by signatures, the leaf's key is
// the given one of the tenant, and the last certificate is signed by a trust root of the group policy or is one. Validity
// dates are not looked at, since a chain may be set up before it becomes valid; TLS and link sessions look at them.
func CheckForNetwork(certs []*x509.Certificate, key crypto.PublicKey, trustRoots []*x509.Certificate) error {
	if len(certs) == 0 {
		return fault.New(fault.Invalid, "the certificate chain is empty")
	}
	own, ok := key.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !own.Equal(certs[0].PublicKey) {
		return fault.New(fault.Invalid, "the certificate of %s is not for a key of this tenant; make a request with the key and have it certified", certs[0].Subject)
	}
	for i := 1; i < len(certs); i++ {
		if err := signedBy(certs[i-1], certs[i]); err != nil {
			return fault.New(fault.Invalid, "the certificate of %s is not signed by the next in the chain, of %s: %w", certs[i-1].Subject, certs[i].Subject, err)
		}
	}
	last := certs[len(certs)-1]
	for _, root := range trustRoots {
		if root.Equal(last) || bytes.Equal(root.RawSubject, last.RawIssuer) && signedBy(last, root) == nil {
			return nil
		}
	}
	return fault.New(fault.Invalid, "the chain ends with a certificate issued by %s, which is not a trust root of the group policy", last.Issuer)
}

// signedBy checks the signature alone. CheckSignatureFrom would also want the issuer to be marked as an authority, which
// Corda does not ask for here.
func signedBy(child, issuer *x509.Certificate) error {
	return issuer.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature)
}
