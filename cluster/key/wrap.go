package key

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/internal/secret"
)

// The wrapping hierarchy of spec/networks.md 5.2: a master key made of passphrase and salt wraps one managed key per
// tenant, which wraps the tenant's private keys. What is stored is nonce(12) || ciphertext || tag(16), AES-256-GCM
// without additional data, so that Corda's own databases can be read.
const (
	masterIterations = 65_536
	aesKeyLength     = 32
	// maxWrapped bounds what Unwrap looks at; the PKCS#8 of an 8192 bit RSA key has 4.7 KB.
	maxWrapped = 16 << 10
)

// WrappingKey wraps other keys. It is safe for concurrent use and can't be printed.
type WrappingKey struct {
	aead cipher.AEAD
	raw  secret.Secret
}

// MasterKey derives the unmanaged key from a passphrase and a salt.
func MasterKey(passphrase secret.Secret, salt string) (*WrappingKey, error) {
	if passphrase.IsZero() || salt == "" {
		return nil, fault.New(fault.Invalid, "the master wrapping key needs a passphrase and a salt")
	}
	raw, err := pbkdf2.Key(sha256.New, passphrase.RevealString(), []byte(salt), masterIterations, aesKeyLength)
	if err != nil {
		return nil, fmt.Errorf("derive the master wrapping key: %w", err)
	}
	return newWrappingKey(raw)
}

func newWrappingKey(raw []byte) (*WrappingKey, error) {
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, fmt.Errorf("make a wrapping key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("make a wrapping key: %w", err)
	}
	return &WrappingKey{aead: aead, raw: secret.New(raw)}, nil
}

// String keeps the key out of logs.
func (k *WrappingKey) String() string { return k.raw.String() }

// Wrap seals octets. A random nonce is right here: a key wraps far fewer than 2^32 things.
func (k *WrappingKey) Wrap(plain []byte) []byte {
	out := make([]byte, k.aead.NonceSize(), k.aead.NonceSize()+len(plain)+k.aead.Overhead())
	_, _ = rand.Read(out) // never fails: it crashes the process instead
	return k.aead.Seal(out, out, plain, nil)
}

// Unwrap opens what Wrap sealed.
func (k *WrappingKey) Unwrap(wrapped []byte) ([]byte, error) {
	n := k.aead.NonceSize()
	if len(wrapped) < n+k.aead.Overhead() || len(wrapped) > maxWrapped {
		return nil, fmt.Errorf("unwrap a key: %d octets can't be a wrapped key", len(wrapped))
	}
	plain, err := k.aead.Open(nil, wrapped[:n], wrapped[n:], nil)
	if err != nil {
		return nil, fmt.Errorf("unwrap a key: it is damaged or was wrapped with another key: %w", err)
	}
	return plain, nil
}

// NewManagedKey makes a tenant's wrapping key under a master key.
func NewManagedKey(tenant Tenant, generation int, masterAlias string, master *WrappingKey, now time.Time) (ManagedKey, *WrappingKey, error) {
	raw, alias := make([]byte, aesKeyLength), make([]byte, idLength/2)
	_, _ = rand.Read(raw)
	_, _ = rand.Read(alias)
	k, err := newWrappingKey(raw)
	if err != nil {
		return ManagedKey{}, nil, err
	}
	return ManagedKey{
		Alias: strings.ToUpper(hex.EncodeToString(alias)), Tenant: tenant, Generation: generation, MasterAlias: masterAlias,
		Wrapped: master.Wrap(raw), CreatedAt: now.UnixMilli(),
	}, k, nil
}

// Unwrap opens a managed key with the master key of its MasterAlias.
func (m ManagedKey) Unwrap(master *WrappingKey) (*WrappingKey, error) {
	raw, err := master.Unwrap(m.Wrapped)
	if err != nil {
		return nil, fmt.Errorf("wrapping key %s of tenant %s under master key %s (check its passphrase and salt): %w", m.Alias, m.Tenant, m.MasterAlias, err)
	}
	if len(raw) != aesKeyLength {
		return nil, fmt.Errorf("wrapping key %s of tenant %s has %d octets", m.Alias, m.Tenant, len(raw))
	}
	return newWrappingKey(raw)
}

// Rewrap puts a managed key under another master key: rotation of the master.
func (m ManagedKey) Rewrap(from, to *WrappingKey, toAlias string) (ManagedKey, error) {
	k, err := m.Unwrap(from)
	if err != nil {
		return ManagedKey{}, err
	}
	m.MasterAlias, m.Wrapped = toAlias, to.Wrap(k.raw.Reveal())
	return m, nil
}

// New makes a key pair and its record, wrapped under the tenant's managed key.
func New(tenant Tenant, alias string, category Category, scheme Scheme, managed ManagedKey, wrap *WrappingKey, now time.Time) (Record, error) {
	if err := Check(tenant, alias, category, scheme); err != nil {
		return Record{}, err
	}
	signer, err := Generate(scheme)
	if err != nil {
		return Record{}, fmt.Errorf("make a key of scheme %s: %w", scheme, err)
	}
	spki, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return Record{}, fmt.Errorf("encode the public key: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return Record{}, fmt.Errorf("encode the private key: %w", err)
	}
	return Record{
		ID: IDOf(spki), FullID: FullIDOf(spki), Tenant: tenant, Alias: alias, Category: category, Scheme: scheme,
		PublicKey: spki, PrivateKey: wrap.Wrap(private), WrappingAlias: managed.Alias,
		WrappingGeneration: managed.Generation, CreatedAt: now.UnixMilli(),
	}, nil
}

// Signer unwraps the private key, and checks that it is the one of the record's public key.
func (r Record) Signer(wrap *WrappingKey) (crypto.Signer, error) {
	der, err := wrap.Unwrap(r.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("key %s of tenant %s: %w", r.ID, r.Tenant, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("key %s of tenant %s can't be read", r.ID, r.Tenant) // the cause may quote key material
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key %s of tenant %s can't sign", r.ID, r.Tenant)
	}
	spki, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil || IDOf(spki) != r.ID || string(spki) != string(r.PublicKey) {
		return nil, fmt.Errorf("key %s of tenant %s: private and public key don't belong together", r.ID, r.Tenant)
	}
	return signer, nil
}

// Rewrap puts the private key under another managed key: rotation of the tenant's key.
func (r Record) Rewrap(from *WrappingKey, managed ManagedKey, to *WrappingKey) (Record, error) {
	if _, err := r.Signer(from); err != nil {
		return Record{}, err
	}
	der, err := from.Unwrap(r.PrivateKey)
	if err != nil {
		return Record{}, err
	}
	r.PrivateKey, r.WrappingAlias, r.WrappingGeneration = to.Wrap(der), managed.Alias, managed.Generation
	return r, nil
}
