package rest

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"strings"

	"github.com/hawser-project/hawser/cluster/cert"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/key"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/corda/identity"
	"github.com/hawser-project/hawser/corda/x500"
)

type requestCertificateInput struct {
	Tenant string `path:"tenantid"`
	KeyID  string `path:"keyid"`
	Body   struct {
		Subject    string             `json:"x500Name"`
		Names      *[]string          `json:"subjectAlternativeNames"`
		ContextMap *map[string]string `json:"contextMap"`
	} `body:""`
}

// requestCertificate makes a certificate signing request with a key of the tenant.
func (w *Worker) requestCertificate(ctx context.Context, in requestCertificateInput) (text, error) {
	info, err := w.keyBy(ctx, in.Tenant, in.KeyID)
	if err != nil {
		return "", err
	}
	public, err := x509.ParsePKIXPublicKey(info.SPKI)
	if err != nil {
		return "", err
	}
	var member x500.Name
	if tenant := key.Tenant(info.Tenant); tenant.OfVirtualNode() {
		node, err := w.node(ctx, identity.ShortHash(tenant))
		if err != nil {
			return "", err
		}
		member = node.Identity.Name
	}
	var names []string
	if in.Body.Names != nil {
		names = *in.Body.Names
	}
	var spec string
	if in.Body.ContextMap != nil {
		spec = (*in.Body.ContextMap)["signatureSpec"]
	}
	request, err := cert.ForKey(info.Category, in.Body.Subject, member, names, spec)
	if err != nil {
		return "", err
	}
	signer := &remoteSigner{ctx: ctx, w: w, key: info, public: public}
	pem, err := request.Encode(signer)
	if signer.err != nil {
		err = signer.err
	}
	return text(pem), err
}

// remoteSigner is a crypto.Signer whose private key is with the crypto worker.
type remoteSigner struct {
	ctx    context.Context //nolint:containedctx // of the one request that it signs for
	w      *Worker
	key    topic.KeyInfo
	public crypto.PublicKey
	err    error // of the call: crypto/x509 wraps it away
}

func (s *remoteSigner) Public() crypto.PublicKey { return s.public }

// Sign is not used: crypto wants to see what it signs.
func (s *remoteSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("a certificate signing request is signed whole")
}

// SignMessage asks the crypto worker: remoteSigner is a crypto.MessageSigner. Ed25519 has no hash.
func (s *remoteSigner) SignMessage(_ io.Reader, message []byte, opts crypto.SignerOpts) (signature []byte, err error) {
	signature, s.err = topic.SignCSR.Do(s.ctx, s.w.Bus, topic.SignRequest{Tenant: s.key.Tenant, KeyID: s.key.ID, Data: message, Hash: opts.HashFunc()})
	return signature, s.err
}

type clusterCertificatesInput struct {
	Usage string `path:"usage"`
}

type clusterCertificateInput struct {
	Usage string `path:"usage"`
	Alias string `path:"alias"`
}

type nodeCertificatesInput struct {
	Holder string `path:"holdingidentityid"`
	Usage  string `path:"usage"`
}

type nodeCertificateInput struct {
	Holder string `path:"holdingidentityid"`
	Usage  string `path:"usage"`
	Alias  string `path:"alias"`
}

func (w *Worker) listClusterCertificates(ctx context.Context, in clusterCertificatesInput) ([]string, error) {
	return w.aliases(ctx, cert.Cluster, in.Usage)
}

func (w *Worker) getClusterCertificate(ctx context.Context, in clusterCertificateInput) (text, error) {
	return w.chain(ctx, cert.Cluster, in.Usage, in.Alias)
}

func (w *Worker) listNodeCertificates(ctx context.Context, in nodeCertificatesInput) ([]string, error) {
	scope, err := w.scope(ctx, in.Holder)
	if err != nil {
		return nil, err
	}
	return w.aliases(ctx, scope, in.Usage)
}

func (w *Worker) getNodeCertificate(ctx context.Context, in nodeCertificateInput) (text, error) {
	scope, err := w.scope(ctx, in.Holder)
	if err != nil {
		return "", err
	}
	return w.chain(ctx, scope, in.Usage, in.Alias)
}

// scope reads the id of a virtual node as the certificate operations do: what follows the short hash is dropped.
func (w *Worker) scope(ctx context.Context, holder string) (cert.Scope, error) {
	var hash identity.ShortHash
	if err := parseHash(holder[:min(len(holder), 12)], &hash); err != nil {
		return "", err
	}
	_, err := w.node(ctx, hash)
	return cert.Scope(hash), err
}

func (w *Worker) aliases(ctx context.Context, scope cert.Scope, usageText string) ([]string, error) {
	usage, err := cert.ParseUsage(strings.ToLower(usageText))
	if err != nil {
		return nil, err
	}
	chains, err := topic.Certificates.Do(ctx, w.Bus, topic.CertificateFilter{Scope: scope, Usage: usage})
	return list(chains, func(c cert.Chain) string { return c.Alias }), err
}

func (w *Worker) chain(ctx context.Context, scope cert.Scope, usageText, alias string) (text, error) {
	usage, err := cert.ParseUsage(strings.ToLower(usageText))
	if err != nil {
		return "", err
	}
	chains, err := topic.Certificates.Do(ctx, w.Bus, topic.CertificateFilter{Scope: scope, Usage: usage, Alias: alias})
	if err != nil {
		return "", err
	}
	if len(chains) == 0 {
		return "", fault.New(fault.NotFound, "alias '%s' not found.", alias)
	}
	return text(chains[0].PEM), nil
}

type importClusterInput struct {
	Usage string `path:"usage"`
	Form  form
}

type importNodeInput struct {
	Holder string `path:"holdingidentityid"`
	Usage  string `path:"usage"`
	Form   form
}

func (w *Worker) importClusterCertificate(ctx context.Context, in importClusterInput) (none, error) {
	return none{}, w.importChain(ctx, cert.Cluster, in.Usage, in.Form)
}

func (w *Worker) importNodeCertificate(ctx context.Context, in importNodeInput) (none, error) {
	scope, err := w.scope(ctx, in.Holder)
	if err != nil {
		return none{}, err
	}
	return none{}, w.importChain(ctx, scope, in.Usage, in.Form)
}

func (w *Worker) importChain(ctx context.Context, scope cert.Scope, usageText string, f form) error {
	usage, err := cert.ParseUsage(strings.ToLower(usageText))
	if err != nil {
		return err
	}
	alias, pem, err := readChain(f)
	if err != nil {
		return err
	}
	_, _, err = topic.ImportCertificate.Do(ctx, w.Bus, topic.CertificateKey(scope), commandID(ctx), topic.NewCertificate{
		Actor: actor(ctx), Scope: scope, Usage: usage, Alias: alias, PEM: pem,
	})
	return err
}

const (
	maxChain = 1 << 19 // octets of all certificates of one import
	maxAlias = 4 << 10
)

// readChain reads the fields of a certificate import: alias, and one or more files certificate.
func readChain(f form) (alias string, pem []byte, err error) {
	var hasAlias, hasFile bool
	for {
		part, err := f.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", nil, formError(err)
		}
		switch {
		case part.FormName() == "certificate" && part.FileName() != "":
			octets, err := io.ReadAll(io.LimitReader(part, maxChain+1))
			if err != nil {
				return "", nil, formError(err)
			}
			pem, hasFile = append(append(pem, octets...), '\n'), true
		case strings.EqualFold(part.FormName(), "alias"):
			octets, err := io.ReadAll(io.LimitReader(part, maxAlias))
			if err != nil {
				return "", nil, formError(err)
			}
			alias, hasAlias = string(octets), true
		}
		if len(pem) > maxChain {
			return "", nil, fault.New(fault.TooLarge, "the certificates have more than %d octets", maxChain)
		}
	}
	switch {
	case !hasAlias:
		return "", nil, unparsable("alias", `Expected form field with parameter name "alias" but it was not found.`)
	case !hasFile:
		return "", nil, unparsable("certificate", `Expected file with parameter name "certificate" but it was not found.`)
	}
	return alias, pem, nil
}
