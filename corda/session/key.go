package session

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
)

// A KeyHash names a member's session key: SHA-256 of its SubjectPublicKeyInfo.
type KeyHash [sha256.Size]byte

// HashKey returns the hash of a SubjectPublicKeyInfo in DER.
func HashKey(spki []byte) KeyHash { return sha256.Sum256(spki) }

// ParseKeyHash takes the octets of a hash as they come in messages.
func ParseKeyHash(octets []byte) (KeyHash, error) {
	if len(octets) != sha256.Size {
		return KeyHash{}, fmt.Errorf("%w: key hash of %d octets", ErrMalformed, len(octets))
	}
	return KeyHash(octets), nil
}

// String returns the hash in hexadecimal.
func (h KeyHash) String() string { return hex.EncodeToString(h[:]) }

// A PublicKey is a member's session key.
type PublicKey struct {
	hash KeyHash
	key  crypto.PublicKey // *ecdsa.PublicKey or *rsa.PublicKey
}

// RSA keys outside these bounds are refused: the first as weak, the second because checking would take too long.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// ParsePublicKey reads a SubjectPublicKeyInfo in DER: EC on P-256, P-384 or P-521, or RSA. Corda also admits
// secp256k1, which is ErrUnsupported here; a member's other keys can still be used.
func ParsePublicKey(spki []byte) (PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: session key: %w", ErrUnsupported, err)
	}
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P224() {
			return PublicKey{}, fmt.Errorf("%w: session key on curve P-224", ErrUnsupported)
		}
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return PublicKey{}, fmt.Errorf("%w: RSA session key of %d bits", ErrUnsupported, bits)
		}
	default:
		return PublicKey{}, fmt.Errorf("%w: session key of type %T", ErrUnsupported, key)
	}
	return PublicKey{hash: HashKey(spki), key: key}, nil
}

// Hash returns the name of the key.
func (k PublicKey) Hash() KeyHash { return k.hash }

// Verify checks a signature over a message: SHA256withECDSA in DER, or SHA256withRSA (PKCS #1 v1.5). The scheme
// follows from the key; it does not travel.
func (k PublicKey) Verify(message, signature []byte) error {
	digest := sha256.Sum256(message)
	valid := false
	switch key := k.key.(type) {
	case *ecdsa.PublicKey:
		valid = ecdsa.VerifyASN1(key, digest[:], signature)
	case *rsa.PublicKey:
		valid = rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
	}
	if !valid {
		return fmt.Errorf("%w: signature under key %s", ErrAuthentication, k.hash)
	}
	return nil
}

// ephemeralPrefix is what stands before the 32 octets of an X25519 key in its SubjectPublicKeyInfo.
var ephemeralPrefix = []byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00}

func appendEphemeral(b []byte, key *ecdh.PublicKey) []byte {
	return append(append(b, ephemeralPrefix...), key.Bytes()...)
}

// agree returns the X25519 result with a peer's key. A key of low order, which would give zero, is malformed.
func agree(own *ecdh.PrivateKey, peer []byte) ([]byte, error) {
	octets, found := bytes.CutPrefix(peer, ephemeralPrefix)
	if !found {
		return nil, fmt.Errorf("%w: ephemeral key is not an X25519 key", ErrMalformed)
	}
	key, err := ecdh.X25519().NewPublicKey(octets)
	if err != nil {
		return nil, fmt.Errorf("%w: ephemeral key: %w", ErrMalformed, err)
	}
	shared, err := own.ECDH(key)
	if err != nil {
		return nil, fmt.Errorf("%w: ephemeral key: %w", ErrMalformed, err)
	}
	return shared, nil
}

func checkEphemeral(key *ecdh.PrivateKey) error {
	if key == nil || key.Curve() != ecdh.X25519() {
		return fmt.Errorf("%w: an ephemeral X25519 key is needed", ErrConfig)
	}
	return nil
}
