package gateway

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/corda/p2p"
)

// certificates is what the server shows. It is replaced as a whole.
type certificates struct {
	current atomic.Pointer[certificateSet]
}

type certificateSet struct {
	version string
	list    []*tls.Certificate
}

func (c *certificates) version() string {
	if set := c.current.Load(); set != nil {
		return set.version
	}
	return ""
}

// replace takes another set, and returns what is wrong with those that can't be used.
func (c *certificates) replace(config topic.GatewayConfig, signer func(topic.TLSIdentity, crypto.PublicKey) crypto.Signer) (faults []string) {
	set := &certificateSet{version: config.Version}
	for _, identity := range config.Certificates {
		if len(identity.Chain) == 0 {
			faults = append(faults, fmt.Sprintf("key %s of %s has no certificate", identity.KeyID, identity.Tenant))
			continue
		}
		leaf, err := x509.ParseCertificate(identity.Chain[0])
		if err != nil {
			faults = append(faults, fmt.Sprintf("certificate of key %s of %s: %v", identity.KeyID, identity.Tenant, err))
			continue
		}
		set.list = append(set.list, &tls.Certificate{Certificate: identity.Chain, Leaf: leaf, PrivateKey: signer(identity, leaf.PublicKey)})
	}
	c.current.Store(set)
	return faults
}

// choose finds the certificate for a handshake: the first that is for the name asked for and whose key the client can
// check (spec/p2p-wire.md 6.4). There is none if no name is asked for. Without certificate and error the TLS library
// answers with the alert unrecognized_name, as Corda does; with any error it would be internal_error.
func (c *certificates) choose(hello *tls.ClientHelloInfo) *tls.Certificate {
	set := c.current.Load()
	if set == nil || hello.ServerName == "" {
		return nil
	}
	for _, certificate := range set.list {
		if p2p.MatchesSNI(certificate.Leaf, hello.ServerName) && supportsKey(hello, certificate) {
			return certificate
		}
	}
	return nil
}

// supportsKey says whether the client can check the key. Our rules for names are not the TLS library's, so it is asked
// without one.
func supportsKey(hello *tls.ClientHelloInfo, certificate *tls.Certificate) bool {
	nameless := *hello
	nameless.ServerName = ""
	return nameless.SupportsCertificate(certificate) == nil
}

// signer is a private key that is with crypto.
type signer struct {
	worker   *Worker
	identity topic.TLSIdentity
	public   crypto.PublicKey
}

func (w *Worker) signer(identity topic.TLSIdentity, public crypto.PublicKey) crypto.Signer {
	return &signer{w, identity, public}
}

// Public returns the public key.
func (s *signer) Public() crypto.PublicKey { return s.public }

// Sign has crypto sign a digest.
func (s *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.worker.mu.Lock()
	ctx := s.worker.ctx
	s.worker.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, signTime)
	defer cancel()
	_, pss := opts.(*rsa.PSSOptions)
	s.worker.metrics.signatures.Inc()
	return topic.SignTLS.Do(ctx, s.worker.Bus, topic.SignRequest{
		Tenant: s.identity.Tenant, KeyID: s.identity.KeyID, Data: digest, Hash: opts.HashFunc(), PSS: pss,
	})
}

// aesSuites are the only ones of the protocol (spec/p2p-wire.md 6.3).
var aesSuites = []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384}

func offersAES(suites []uint16) bool {
	return slices.ContainsFunc(suites, func(s uint16) bool { return slices.Contains(aesSuites, s) })
}
