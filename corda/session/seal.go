package session

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"

	"github.com/hawser-project/hawser/corda/p2p"
)

// A sealer encrypts or decrypts in one direction: AES-256-GCM with the header, in single-object encoding, as
// additional data (spec/p2p-wire.md 3.4, 3.9). It is safe for concurrent use.
type sealer struct {
	aead cipher.AEAD
	iv   [nonceLen]byte
}

func newSealer(key, iv []byte) (*sealer, error) {
	if len(key) != keyLen || len(iv) != nonceLen {
		return nil, fmt.Errorf("%w: key of %d octets, IV of %d", ErrConfig, len(key), len(iv))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("session cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("session cipher: %w", err)
	}
	return &sealer{aead: aead, iv: [nonceLen]byte(iv)}, nil
}

// headerRoom is more than nonce and encoded header take, the session id aside.
const headerRoom = nonceLen + 64

// seal returns ciphertext and tag, cut as Corda cuts them. Nonce and additional data are built behind the result in
// the same allocation.
func (s *sealer) seal(header *p2p.Header, counter int64, plaintext []byte) (ciphertext, authTag []byte) {
	n := len(plaintext) + tagLen
	buffer := make([]byte, n, n+headerRoom+len(header.SessionID))
	nonce, additional := s.inputs(buffer, header, counter)
	sealed := s.aead.Seal(buffer[:0:n], nonce, plaintext, additional)
	cut := n - splitLen
	return sealed[:cut:cut], sealed[cut:n:n]
}

// open joins ciphertext and tag, wherever they were cut, and decrypts in place.
func (s *sealer) open(header *p2p.Header, counter int64, ciphertext, authTag []byte, limit int) ([]byte, error) {
	n := len(ciphertext) + len(authTag)
	if n < tagLen {
		return nil, fmt.Errorf("%w: %d octets of ciphertext and tag", ErrMalformed, n)
	}
	if n-tagLen > limit {
		return nil, fmt.Errorf("%w: %d octets, at most %d", ErrTooLarge, n-tagLen, limit)
	}
	buffer := make([]byte, 0, n+headerRoom+len(header.SessionID))
	buffer = append(append(buffer, ciphertext...), authTag...)
	nonce, additional := s.inputs(buffer, header, counter)
	plaintext, err := s.aead.Open(buffer[:0:n], nonce, buffer, additional)
	if err != nil {
		return nil, fmt.Errorf("%w: tag of a message under %s", ErrAuthentication, header.SessionID)
	}
	return plaintext, nil
}

// inputs builds nonce and additional data in the room behind buffer. The nonce is the IV, its last eight octets
// combined with the counter.
func (s *sealer) inputs(buffer []byte, header *p2p.Header, counter int64) (nonce, additional []byte) {
	start := len(buffer)
	buffer = append(buffer, s.iv[:]...)
	tail := buffer[start+nonceLen-8:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^uint64(counter))
	buffer = header.AppendObject(buffer)
	return buffer[start : start+nonceLen : start+nonceLen], buffer[start+nonceLen:]
}
