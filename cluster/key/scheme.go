package key

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/hawser-project/hawser/cluster/fault"
)

// Scheme is a code name of Corda for a kind of key.
type Scheme string

// The schemes of Corda 5.3. Hawser makes the first three.
const (
	ECDSAP256 Scheme = "CORDA.ECDSA.SECP256R1"
	RSA       Scheme = "CORDA.RSA"
	Ed25519   Scheme = "CORDA.EDDSA.ED25519"

	ECDSAK256 Scheme = "CORDA.ECDSA.SECP256K1"
	SM2       Scheme = "CORDA.SM2"
	GOST      Scheme = "CORDA.GOST3410.GOST3411"
	SPHINCS   Scheme = "CORDA.SPHINCS-256"
	X25519    Scheme = "CORDA.X25519"
)

// SignatureSpec is the JCA name of a way to sign.
type SignatureSpec string

// The signature specs that Hawser signs and verifies with.
const (
	SHA256ECDSA SignatureSpec = "SHA256withECDSA"
	SHA384ECDSA SignatureSpec = "SHA384withECDSA"
	SHA512ECDSA SignatureSpec = "SHA512withECDSA"
	SHA256RSA   SignatureSpec = "SHA256withRSA"
	SHA384RSA   SignatureSpec = "SHA384withRSA"
	SHA512RSA   SignatureSpec = "SHA512withRSA"
	EdDSA       SignatureSpec = "EdDSA"
)

// schemes is the table of spec/networks.md 5.1 for what is supported. The first spec is the default.
var schemes = map[Scheme]struct {
	specs   []SignatureSpec
	session bool // allowed for session keys
}{
	ECDSAP256: {[]SignatureSpec{SHA256ECDSA, SHA384ECDSA, SHA512ECDSA}, true},
	RSA:       {[]SignatureSpec{SHA512RSA, SHA256RSA, SHA384RSA}, true},
	Ed25519:   {[]SignatureSpec{EdDSA}, false},
}

// unsupported says why a scheme of Corda's is not offered.
var unsupported = map[Scheme]string{
	ECDSAK256: "the secp256k1 curve is not in Go's cryptography",
	SM2:       "the Chinese SM2 and SM3 algorithms are not in Go's cryptography",
	GOST:      "the Russian GOST algorithms are not in Go's cryptography",
	SPHINCS:   "SPHINCS-256 was replaced by a standard that is not compatible",
	X25519:    "it can't sign, and Corda's MGM refuses it too: it takes elliptic curve keys only",
}

// ParseScheme reads the name of a scheme that Hawser makes keys of.
func ParseScheme(text string) (Scheme, error) {
	s := Scheme(text)
	if _, ok := schemes[s]; ok {
		return s, nil
	}
	if why, ok := unsupported[s]; ok {
		return "", fault.New(fault.NotImplemented, "key scheme %s is not supported: %s; use %s, %s or %s", s, why, ECDSAP256, RSA, Ed25519)
	}
	return "", fault.New(fault.Invalid, "key scheme %q is unknown; use %s, %s or %s", text, ECDSAP256, RSA, Ed25519)
}

// SchemesFor lists the schemes for keys of a category, for GET /key/{tenant}/schemes/{category}.
func SchemesFor(c Category) []Scheme {
	all := []Scheme{ECDSAP256, RSA, Ed25519}
	if c == SessionInit {
		return all[:2]
	}
	return all
}

// ForSessions says whether the scheme's keys may be session keys.
func (s Scheme) ForSessions() bool { return schemes[s].session }

// DefaultSpec is how the scheme's keys sign unless told otherwise.
func (s Scheme) DefaultSpec() SignatureSpec {
	if specs := schemes[s].specs; len(specs) > 0 {
		return specs[0]
	}
	return ""
}

// Spec reads the name of a signature spec for a key of the scheme; empty means the default.
func (s Scheme) Spec(text string) (SignatureSpec, error) {
	if text == "" {
		return s.DefaultSpec(), nil
	}
	if spec := SignatureSpec(text); slices.Contains(schemes[s].specs, spec) {
		return spec, nil
	}
	return "", fault.New(fault.Invalid, "a key of scheme %s can't sign with %q; use one of %v", s, text, schemes[s].specs)
}

const rsaBits = 3072

// Generate makes a private key of the scheme. For the crypto worker alone.
func Generate(s Scheme) (crypto.Signer, error) {
	switch s { //nolint:exhaustive // the others are refused below, each by its name
	case ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA:
		return rsa.GenerateKey(rand.Reader, rsaBits)
	case Ed25519:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	_, err := ParseScheme(string(s))
	return nil, err
}

// SchemeOf tells the scheme of a public key.
func SchemeOf(pub crypto.PublicKey) (Scheme, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return ECDSAP256, nil
		}
		return "", fault.New(fault.Invalid, "an elliptic curve key must be on secp256r1, this one is on %s", k.Curve.Params().Name)
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 || k.N.BitLen() > 8192 {
			return "", fault.New(fault.Invalid, "an RSA key must have 2048 to 8192 bits, this one has %d", k.N.BitLen())
		}
		return RSA, nil
	case ed25519.PublicKey:
		return Ed25519, nil
	}
	return "", fault.New(fault.Invalid, "keys of type %T are not supported", pub)
}

// digests gives the hash of each spec; EdDSA has none of its own.
var digests = map[SignatureSpec]crypto.Hash{
	SHA256ECDSA: crypto.SHA256, SHA384ECDSA: crypto.SHA384, SHA512ECDSA: crypto.SHA512,
	SHA256RSA: crypto.SHA256, SHA384RSA: crypto.SHA384, SHA512RSA: crypto.SHA512,
	EdDSA: 0,
}

// algorithms are the specs in the words of crypto/x509.
var algorithms = map[SignatureSpec]x509.SignatureAlgorithm{
	SHA256ECDSA: x509.ECDSAWithSHA256, SHA384ECDSA: x509.ECDSAWithSHA384, SHA512ECDSA: x509.ECDSAWithSHA512,
	SHA256RSA: x509.SHA256WithRSA, SHA384RSA: x509.SHA384WithRSA, SHA512RSA: x509.SHA512WithRSA,
	EdDSA: x509.PureEd25519,
}

// X509 is the spec as crypto/x509 calls it.
func (s SignatureSpec) X509() x509.SignatureAlgorithm { return algorithms[s] }

// Sign signs data: ECDSA in DER, RSA by PKCS#1 v1.5, as Corda does (spec 15 no. 6).
func Sign(signer crypto.Signer, spec SignatureSpec, data []byte) ([]byte, error) {
	scheme, err := SchemeOf(signer.Public())
	if err != nil {
		return nil, err
	}
	if spec, err = scheme.Spec(string(spec)); err != nil {
		return nil, err
	}
	message := data
	if h := digests[spec]; h != 0 {
		d := h.New()
		d.Write(data)
		message = d.Sum(nil)
	}
	signature, err := signer.Sign(rand.Reader, message, digests[spec])
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", spec, err)
	}
	return signature, nil
}

// Verify checks a signature made by Sign or by Corda.
func Verify(pub crypto.PublicKey, spec SignatureSpec, data, signature []byte) error {
	scheme, err := SchemeOf(pub)
	if err != nil {
		return err
	}
	if spec, err = scheme.Spec(string(spec)); err != nil {
		return err
	}
	// CheckSignature picks the primitive by algorithm and key, and refuses a mismatch of the two.
	if err := (&x509.Certificate{PublicKey: pub}).CheckSignature(algorithms[spec], data, signature); err != nil {
		return fault.New(fault.Invalid, "the signature does not match: %w", err)
	}
	return nil
}
