package crypto

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"runtime"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/cert"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/key"
	"github.com/hawser-project/hawser/cluster/topic"
)

const (
	maxSigners = 4096 // unwrapped keys kept in memory
	maxWaiting = 1000 // signatures waiting in one lane
	maxToSign  = 1 << 20
)

// lane is the queue of one purpose, so that a flood of hellos can't take a flow's signature (DESIGN.md 6).
type lane struct {
	purpose string
	slots   chan struct{}
	waiting atomic.Int64
}

func newLane(purpose string) *lane {
	return &lane{purpose: purpose, slots: make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))}
}

// enter waits for a place in the lane. The caller must leave it by calling the returned function.
func (l *lane) enter(ctx context.Context) (leave func(), err error) {
	if l.waiting.Add(1) > maxWaiting {
		l.waiting.Add(-1)
		return nil, fault.New(fault.Unavailable, "%d signatures for %s are waiting already", maxWaiting, l.purpose)
	}
	defer l.waiting.Add(-1)
	select {
	case l.slots <- struct{}{}:
		return func() { <-l.slots }, nil
	case <-ctx.Done():
		return nil, fault.New(fault.Unavailable, "waiting to sign for %s: %w", l.purpose, ctx.Err())
	}
}

type signerKey struct{ tenant, id string }

// signer is an unwrapped private key.
type signer struct {
	crypto.Signer
	category key.Category
	scheme   key.Scheme
	spki     []byte
}

// signFor answers calls of one purpose: only keys of the category are used. Without one it is certificate signing requests,
// of keys of any category.
func (w *Worker) signFor(l *lane, category key.Category) func(context.Context, topic.SignRequest) ([]byte, error) {
	return func(ctx context.Context, req topic.SignRequest) ([]byte, error) {
		if len(req.Data) > maxToSign {
			return nil, fault.New(fault.TooLarge, "%d octets are too many to sign", len(req.Data))
		}
		leave, err := l.enter(ctx)
		if err != nil {
			return nil, err
		}
		defer leave()
		s, err := w.signer(ctx, signerKey{req.Tenant, req.KeyID})
		if err != nil {
			return nil, err
		}
		switch {
		case category == "":
			if req, err = certificateRequest(s, req); err != nil {
				return nil, err
			}
		case s.category != category:
			return nil, fault.New(fault.Forbidden, "key %s of tenant %s is of category %s and does not sign for %s", req.KeyID, req.Tenant, s.category, l.purpose)
		}
		if req.Hash != 0 {
			return signDigest(s, req)
		}
		spec := req.Spec
		if spec == "" {
			spec = s.scheme.DefaultSpec()
		} else if spec, err = s.scheme.Spec(string(spec)); err != nil {
			return nil, err
		}
		return key.Sign(s.Signer, spec, req.Data)
	}
}

// certificateRequest checks that a certificate signing request is what is to be signed, which comes whole for that, and
// makes the digest that was asked for.
func certificateRequest(s *signer, req topic.SignRequest) (topic.SignRequest, error) {
	if err := cert.CheckToSign(req.Data, s.spki); err != nil || req.Hash == 0 {
		return req, err
	}
	if !req.Hash.Available() {
		return req, fault.New(fault.Invalid, "the hash %d of the request is not one that keys sign", req.Hash)
	}
	digest := req.Hash.New()
	digest.Write(req.Data)
	req.Data = digest.Sum(nil)
	return req, nil
}

// signDigest signs as a TLS stack asks for it.
func signDigest(s *signer, req topic.SignRequest) ([]byte, error) {
	if !req.Hash.Available() || len(req.Data) != req.Hash.Size() {
		return nil, fault.New(fault.Invalid, "%d octets are no digest of %v", len(req.Data), req.Hash)
	}
	var opts crypto.SignerOpts = req.Hash
	if req.PSS {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: req.Hash}
	}
	return s.Sign(rand.Reader, req.Data, opts)
}

// signer unwraps a key, or finds it unwrapped.
func (w *Worker) signer(ctx context.Context, k signerKey) (*signer, error) {
	w.mu.Lock()
	s, found := w.signers[k]
	w.mu.Unlock()
	if found {
		return s, nil
	}
	var record key.Record
	var managed key.ManagedKey
	err := w.Bus.View(ctx, func(r bus.Reader) (err error) {
		if record, found, err = keys.Get(r, k.tenant, k.id); err != nil || !found {
			return err
		}
		managed, _, err = managedKeys.Get(r, k.tenant, "")
		return err
	})
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fault.New(fault.NotFound, "tenant %s has no key %s", k.tenant, k.id)
	}
	wrap, err := managed.Unwrap(w.master)
	if err != nil {
		return nil, err
	}
	private, err := record.Signer(wrap)
	if err != nil {
		return nil, err
	}
	s = &signer{private, record.Category, record.Scheme, record.PublicKey}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.signers) >= maxSigners {
		for other := range w.signers { // any one: a key that is used again is unwrapped again
			delete(w.signers, other)
			break
		}
	}
	w.signers[k] = s
	return s, nil
}

func randomKey() []byte {
	k := make([]byte, 32)
	_, _ = rand.Read(k) // never fails: it crashes the process instead
	return k
}

func newUUID() string { return uuid.NewString() }
