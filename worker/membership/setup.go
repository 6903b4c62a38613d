package membership

import (
	"context"
	"crypto/x509"
	"encoding/pem"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/cert"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/hosted"
	"github.com/hawser-project/hawser/cluster/key"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/cluster/topic"
)

// setUp makes a virtual node's session keys and TLS certificate known to the link manager (spec/networks.md 4).
func (w *Worker) setUp(ctx context.Context, tx *bus.Tx, hash string, req topic.NetworkSetup) (hosted.Identity, error) {
	node, _, policy, err := w.node(ctx, hash)
	if err != nil {
		return hosted.Identity{}, err
	}
	identity := hosted.Identity{ShortHash: hash, Party: message.PartyOf(node.Identity), TLSTenant: string(key.P2P)}
	scope := cert.Cluster
	if !req.ClusterTLS {
		identity.TLSTenant, scope = hash, cert.Scope(hash)
	}
	if identity.Preferred, identity.Alternatives, err = w.sessionKeys(ctx, hash, req.SessionKeys); err != nil {
		return hosted.Identity{}, err
	}
	if identity.TLSKeyID, identity.TLSCertificates, err = w.tlsChain(ctx, identity.TLSTenant, scope, req.TLSAlias, policy.P2P.TLSTrustRoots); err != nil {
		return hosted.Identity{}, err
	}
	before, _, err := hostedIdentities.Get(tx, hash, "")
	if err != nil {
		return hosted.Identity{}, err
	}
	identity.Version = before.Version + 1
	hostedIdentities.Put(tx, hash, "", identity)
	topic.Hosted.Send(tx, hash, identity)
	return identity, nil
}

// sessionKeys looks the keys up: at least one, exactly one preferred.
func (w *Worker) sessionKeys(ctx context.Context, hash string, refs []topic.SessionKeyRef) (preferred hosted.SessionKey, others []hosted.SessionKey, err error) {
	if len(refs) == 0 {
		return preferred, nil, fault.New(fault.Invalid, "No session keys where defined.")
	}
	for _, ref := range refs {
		if ref.CertificateAlias != "" {
			return preferred, nil, fault.New(fault.NotImplemented, "session certificates (sessionCertificateChainAlias) are not in this release")
		}
		id, err := key.ParseID(ref.KeyID)
		if err != nil {
			return preferred, nil, err
		}
		found, err := topic.Keys.Do(ctx, w.Bus, topic.KeyFilter{Tenant: hash, IDs: []string{string(id)}})
		if err != nil {
			return preferred, nil, err
		}
		if len(found) == 0 {
			return preferred, nil, fault.New(fault.NotFound, "virtual node %s has no key %s", hash, id)
		}
		if found[0].Category != string(key.SessionInit) {
			return preferred, nil, fault.New(fault.Invalid, "key %s is of category %s, a session key must be of %s", id, found[0].Category, key.SessionInit)
		}
		k := hosted.SessionKey{KeyID: found[0].ID, SPKI: found[0].SPKI}
		switch {
		case !ref.Preferred:
			others = append(others, k)
		case preferred.KeyID != "":
			return preferred, nil, fault.New(fault.Invalid, "more than one session key is preferred; exactly one must be")
		default:
			preferred = k
		}
	}
	if preferred.KeyID == "" {
		return preferred, nil, fault.New(fault.Invalid, "no session key is preferred; exactly one must be")
	}
	return preferred, others, nil
}

// tlsChain finds the certificate chain of the endpoint and the tenant's key that it is for.
func (w *Worker) tlsChain(ctx context.Context, tenant string, scope cert.Scope, alias string, roots []*x509.Certificate) (keyID string, chain []string, err error) {
	records, err := topic.Certificates.Do(ctx, w.Bus, topic.CertificateFilter{Scope: scope, Usage: cert.P2PTLS, Alias: alias})
	if err != nil {
		return "", nil, err
	}
	if alias == "" || len(records) == 0 {
		return "", nil, fault.New(fault.NotFound, "there is no p2p-tls certificate with the alias %q", alias)
	}
	certificates, err := records[0].Certificates()
	if err != nil {
		return "", nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(certificates[0].PublicKey)
	if err != nil {
		return "", nil, fault.New(fault.Invalid, "the key of certificate %q can't be read: %w", alias, err)
	}
	keyID = string(key.IDOf(spki))
	found, err := topic.Keys.Do(ctx, w.Bus, topic.KeyFilter{Tenant: tenant, IDs: []string{keyID}})
	if err != nil {
		return "", nil, err
	}
	if len(found) == 0 {
		return "", nil, fault.New(fault.NotFound, "tenant %s has no key %s, which the certificate %q is for", tenant, keyID, alias)
	}
	if err := cert.CheckForNetwork(certificates, certificates[0].PublicKey, roots); err != nil {
		return "", nil, err
	}
	for _, c := range certificates {
		chain = append(chain, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})))
	}
	return keyID, chain, nil
}
