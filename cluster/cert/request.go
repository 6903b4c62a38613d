package cert

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"net/netip"
	"regexp"
	"strings"

	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/corda/x500"
)

// Request says what a certificate signing request is for (spec/networks.md 5.3).
type Request struct {
	Subject x500.Name
	// Names are the subject alternative names: host names and IP addresses.
	Names []string
	// SignatureSpec is the JCA name of how to sign; empty is the default of the key's scheme.
	SignatureSpec string
}

// ForKey reads the subject of a request for a key of the category. A session key's is the virtual node's own name; any
// other's is a member name. Corda takes any X.500 name for categories beside TLS and SESSION_INIT; no authority of a
// network certifies such, so they are refused here with the reason.
func ForKey(category, subject string, virtualNode x500.Name, names []string, signatureSpec string) (Request, error) {
	n, err := x500.Parse(subject)
	if err != nil {
		return Request{}, fault.New(fault.Invalid, "the subject %q of the request is not a member name (O, L and C, at most CN, OU, ST beside): %w", subject, err)
	}
	if category == "SESSION_INIT" && n != virtualNode {
		return Request{}, fault.New(fault.Invalid, "the subject of a session key's request must be the virtual node's name %s, it is %s", virtualNode, n)
	}
	return Request{Subject: n, Names: names, SignatureSpec: signatureSpec}, nil
}

var (
	oidKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSAN      = asn1.ObjectIdentifier{2, 5, 29, 17}
	hostForm    = regexp.MustCompile(`\A(\*\.)?[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?)*\z`)
)

const (
	maxNames    = 100
	maxHostName = 253
)

// Encode makes the request, PKCS#10 in PEM. Both extensions are critical, as Corda's are.
func (r Request) Encode(signer crypto.Signer) ([]byte, error) {
	algorithm, err := algorithmFor(signer.Public(), r.SignatureSpec)
	if err != nil {
		return nil, err
	}
	subject, err := r.Subject.DER()
	if err != nil {
		return nil, fault.New(fault.Invalid, "the subject of the request: %w", err)
	}
	// digitalSignature is the first bit.
	usage, err := asn1.Marshal(asn1.BitString{Bytes: []byte{0x80}, BitLength: 1})
	if err != nil {
		return nil, fault.New(fault.Internal, "encode the key usage: %w", err)
	}
	extensions := []pkix.Extension{{Id: oidKeyUsage, Critical: true, Value: usage}}
	if len(r.Names) > 0 {
		san, err := alternativeNames(r.Names)
		if err != nil {
			return nil, err
		}
		extensions = append(extensions, pkix.Extension{Id: oidSAN, Critical: true, Value: san})
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		RawSubject: subject, SignatureAlgorithm: algorithm, ExtraExtensions: extensions,
	}, signer)
	if err != nil {
		return nil, fault.New(fault.Internal, "make the certificate signing request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// CheckToSign says whether the octets are those that are signed in a certificate signing request for the key (RFC 2986
// 4.1), so that the signature is good for nothing else.
func CheckToSign(octets, spki []byte) error {
	var info struct {
		Version                        int
		Subject, PublicKey, Attributes asn1.RawValue
	}
	rest, err := asn1.Unmarshal(octets, &info)
	if err != nil || len(rest) > 0 || info.Version != 0 || !bytes.Equal(info.PublicKey.FullBytes, spki) {
		return fault.New(fault.Invalid, "what is to be signed is no certificate signing request for the key")
	}
	return nil
}

// Tags of a GeneralName.
const (
	tagDNS = 2
	tagIP  = 7
)

// alternativeNames encodes GeneralNames: what parses as an IP address is one, the rest are host names.
func alternativeNames(names []string) ([]byte, error) {
	if len(names) > maxNames {
		return nil, fault.New(fault.Invalid, "a request has at most %d subject alternative names, this one has %d", maxNames, len(names))
	}
	var values []asn1.RawValue
	for _, name := range names {
		if ip, err := netip.ParseAddr(name); err == nil && ip.Zone() == "" {
			values = append(values, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagIP, Bytes: ip.AsSlice()})
			continue
		}
		if len(name) > maxHostName || !hostForm.MatchString(name) {
			return nil, fault.New(fault.Invalid, "subject alternative name %.80q is neither a host name nor an IP address; give it without scheme and port", name)
		}
		values = append(values, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagDNS, Bytes: []byte(strings.ToLower(name))})
	}
	return asn1.Marshal(values)
}

// algorithms are the signature specs of spec/networks.md 5.1; the first of a kind of key is its default.
var algorithms = []struct {
	spec      string
	algorithm x509.SignatureAlgorithm
	kind      string
}{
	{"SHA256withECDSA", x509.ECDSAWithSHA256, "ECDSA"}, {"SHA384withECDSA", x509.ECDSAWithSHA384, "ECDSA"}, {"SHA512withECDSA", x509.ECDSAWithSHA512, "ECDSA"},
	{"SHA512withRSA", x509.SHA512WithRSA, "RSA"}, {"SHA256withRSA", x509.SHA256WithRSA, "RSA"}, {"SHA384withRSA", x509.SHA384WithRSA, "RSA"},
	{"EdDSA", x509.PureEd25519, "Ed25519"},
}

func algorithmFor(key crypto.PublicKey, spec string) (x509.SignatureAlgorithm, error) {
	kind := ""
	switch key.(type) {
	case *ecdsa.PublicKey:
		kind = "ECDSA"
	case *rsa.PublicKey:
		kind = "RSA"
	case ed25519.PublicKey:
		kind = "Ed25519"
	}
	for _, a := range algorithms {
		if a.kind == kind && (spec == "" || spec == a.spec) {
			return a.algorithm, nil
		}
	}
	return 0, fault.New(fault.Invalid, "a request for a key of type %T can't be signed with %q", key, spec)
}
