package session

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"strings"
)

// The constants of the protocol (spec/p2p-wire.md 3.1; corda-runtime-os libs/p2p-crypto).
const (
	// MinMessageSize is the least that a peer may propose as largest message.
	MinMessageSize = 10_000

	keyLen   = 32
	nonceLen = 12
	tagLen   = 16
	// splitLen is how many octets of ciphertext and tag travel as authTag. Corda takes the nonce's length for it.
	splitLen = 12

	labelInitiatorHandshakeKey = "Corda client hs enc key"
	labelResponderHandshakeKey = "Corda server hs enc key"
	labelInitiatorHandshakeIV  = "Corda client hs enc iv"
	labelResponderHandshakeIV  = "Corda server hs enc iv"
	labelInitiatorHandshakeMAC = "Corda client hs mac key"
	labelResponderHandshakeMAC = "Corda server hs mac key"
	labelInitiatorSessionKey   = "Corda client session key"
	labelResponderSessionKey   = "Corda server session key"
	labelInitiatorSessionIV    = "Corda client session iv"
	labelResponderSessionIV    = "Corda server session iv"
)

// What stands before the hash in signatures, so that a signature is good for nothing else.
var (
	initiatorSignaturePrefix = strings.Repeat(" ", 64) + "Corda, client signature verify\x00"
	responderSignaturePrefix = strings.Repeat(" ", 64) + "Corda, server signature verify\x00"
)

// toSign returns what a party signs: prefix and hash of the transcript.
func toSign(prefix string, transcript ...[]byte) []byte {
	return append([]byte(prefix), hash(transcript...)...)
}

// finished returns a party's MAC over the transcript.
func finished(key []byte, transcript ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(hash(transcript...))
	return mac.Sum(nil)
}

func hash(parts ...[]byte) []byte {
	h := sha256.New()
	for _, part := range parts {
		h.Write(part)
	}
	return h.Sum(nil)
}

// A handshakeKeys has what encrypts and authenticates the two handshake messages.
type handshakeKeys struct {
	initiator, responder       *sealer
	initiatorMAC, responderMAC []byte
}

// deriveHandshake takes the transcript of the two hellos as salt.
func deriveHandshake(shared, hellos []byte) (keys handshakeKeys, err error) {
	x := newExpander(shared, hellos)
	keys.initiator = x.sealer(labelInitiatorHandshakeKey, labelInitiatorHandshakeIV)
	keys.responder = x.sealer(labelResponderHandshakeKey, labelResponderHandshakeIV)
	keys.initiatorMAC = x.expand(labelInitiatorHandshakeMAC, keyLen)
	keys.responderMAC = x.expand(labelResponderHandshakeMAC, keyLen)
	return keys, x.err
}

// A sessionKeys has what protects the data of a session, by direction.
type sessionKeys struct {
	initiatorKey, initiatorIV, responderKey, responderIV []byte
}

// deriveSession takes the whole transcript as salt. The X25519 result goes in once more; nothing of the handshake
// keys does (spec/p2p-wire.md 3.7).
func deriveSession(shared []byte, transcript ...[]byte) (keys sessionKeys, err error) {
	var salt []byte
	for _, part := range transcript {
		salt = append(salt, part...)
	}
	x := newExpander(shared, salt)
	keys.initiatorKey = x.expand(labelInitiatorSessionKey, keyLen)
	keys.initiatorIV = x.expand(labelInitiatorSessionIV, nonceLen)
	keys.responderKey = x.expand(labelResponderSessionKey, keyLen)
	keys.responderIV = x.expand(labelResponderSessionIV, nonceLen)
	return keys, x.err
}

// An expander is HKDF-SHA256 after its extract step. The first error sticks; there is none outside of FIPS mode.
type expander struct {
	key []byte
	err error
}

func newExpander(shared, salt []byte) *expander {
	key, err := hkdf.Extract(sha256.New, shared, salt)
	if err != nil {
		err = fmt.Errorf("derive keys: %w", err)
	}
	return &expander{key, err}
}

func (x *expander) expand(label string, n int) []byte {
	if x.err != nil {
		return nil
	}
	octets, err := hkdf.Expand(sha256.New, x.key, label, n)
	if err != nil {
		x.err = fmt.Errorf("derive %s: %w", label, err)
	}
	return octets
}

func (x *expander) sealer(keyLabel, ivLabel string) *sealer {
	key, iv := x.expand(keyLabel, keyLen), x.expand(ivLabel, nonceLen)
	if x.err != nil {
		return nil
	}
	s, err := newSealer(key, iv)
	if err != nil {
		x.err = err
	}
	return s
}
