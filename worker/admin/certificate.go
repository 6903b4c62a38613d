package admin

import (
	"context"
	"crypto/x509"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/cert"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/corda/x500"
)

// chains has the imported certificate chains: key topic.CertificateKey, row usage and alias.
var chains = bus.State[cert.Chain]{Name: "admin.certificates", Owner: topic.Admin}

func chainRow(usage cert.Usage, alias string) string { return string(usage) + "/" + alias }

func (w *Worker) importCertificate(_ context.Context, tx *bus.Tx, key string, req topic.NewCertificate) (cert.Chain, error) {
	var member x500.Name
	if req.Scope != cert.Cluster {
		node, err := virtualNodeIn(tx, string(req.Scope))
		if err != nil {
			return cert.Chain{}, err
		}
		member = node.Identity.Name
	}
	chain, err := cert.Import(req.Scope, req.Usage, req.Alias, req.PEM, member)
	if err != nil {
		return cert.Chain{}, err
	}
	chain.ImportedAt = tx.Now().UnixMilli()
	chains.Put(tx, key, chainRow(chain.Usage, chain.Alias), chain)
	w.audit(tx, req.Actor, "CERTIFICATE_IMPORT", key+" "+chainRow(chain.Usage, chain.Alias))
	return chain, nil
}

func (w *Worker) certificates(ctx context.Context, f topic.CertificateFilter) (found []cert.Chain, err error) {
	err = w.Bus.View(ctx, func(r bus.Reader) error {
		entries, err := chains.List(r, topic.CertificateKey(f.Scope), string(f.Usage)+"/")
		found = make([]cert.Chain, 0, len(entries))
		for _, e := range entries {
			if f.Alias == "" || e.Value.Alias == f.Alias {
				found = append(found, e.Value)
			}
		}
		return err
	})
	if err == nil && f.Alias != "" && len(found) == 0 {
		err = fault.New(fault.NotFound, "alias '%s' not found.", f.Alias)
	}
	return found, err
}

// codeSigners returns the certificates that packages may be signed by.
func codeSigners(r bus.Reader) (signers []*x509.Certificate, err error) {
	entries, err := chains.List(r, topic.CertificateKey(cert.Cluster), string(cert.CodeSigner)+"/")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		certificates, err := e.Value.Certificates()
		if err != nil {
			return nil, err
		}
		signers = append(signers, certificates...)
	}
	return signers, nil
}
