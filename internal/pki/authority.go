package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hawser-project/hawser/internal/wholefile"
)

// Files of the authority's directory and of a process's.
const (
	CAFile    = "ca.pem" // in both
	CAKeyFile = "ca.key"
	CertFile  = "cert.pem"
	KeyFile   = "key.pem"
)

// How long certificates hold where nobody says otherwise.
const (
	AuthorityValidity = 10 * 365 * 24 * time.Hour
	WorkerValidity    = 365 * 24 * time.Hour

	backdating = 5 * time.Minute // for hosts whose clocks are behind
)

// Authority makes the certificates of one cluster. Its key never goes to a worker.
type Authority struct {
	Cluster string
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
}

// Init makes the authority of a cluster in a directory. It never replaces one.
func Init(dir, cluster string) (*Authority, error) {
	if !clusterName.MatchString(cluster) {
		return nil, fmt.Errorf("%q can't name a cluster: use up to 63 lower-case letters, digits and hyphens", cluster)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for _, name := range []string{CAFile, CAKeyFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return nil, fmt.Errorf("%s is there already, and is not replaced: every certificate made with it would be void", filepath.Join(dir, name))
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := template("Hawser authority of "+cluster, AuthorityValidity)
	if err != nil {
		return nil, err
	}
	template.URIs = []*url.URL{uri(cluster, authority)}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	// The key first: a certificate without its key could not be told from one that lost it.
	if err := writeKey(filepath.Join(dir, CAKeyFile), key); err != nil {
		return nil, err
	}
	if err := writePEM(filepath.Join(dir, CAFile), 0o644, "CERTIFICATE", der); err != nil {
		return nil, err
	}
	return Open(dir)
}

// Open reads the authority that Init made.
func Open(dir string) (*Authority, error) {
	certs, err := readCertificates(filepath.Join(dir, CAFile))
	if err != nil {
		return nil, err
	}
	octets, err := os.ReadFile(filepath.Join(dir, CAKeyFile))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(octets)
	if block == nil {
		return nil, fmt.Errorf("%s has no PEM block", filepath.Join(dir, CAKeyFile))
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, CAKeyFile), err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(certs[0].PublicKey) {
		return nil, fmt.Errorf("%s is not the key of %s", filepath.Join(dir, CAKeyFile), CAFile)
	}
	cluster, err := authorityCluster(certs[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, CAFile), err)
	}
	return &Authority{cluster, certs[0], key}, nil
}

func authorityCluster(c *x509.Certificate) (string, error) {
	for _, u := range c.URIs {
		if c.IsCA && u.Scheme == scheme && u.Path == authority && clusterName.MatchString(u.Host) {
			return u.Host, nil
		}
	}
	return "", errors.New("it is not the certificate of an authority that hawser pki init made")
}

// NotAfter says when the authority ends.
func (a *Authority) NotAfter() time.Time { return a.cert.NotAfter }

// Order says what certificate is wanted.
type Order struct {
	Roles    []string
	Known    []string // the roles there are
	Instance string
	Hosts    []string // names and IP addresses, for people's tools; localhost where there are none
	Validity time.Duration
}

// Issue makes a certificate and its key in a directory, and puts the authority's certificate beside them. What an
// earlier one left there is replaced: a process that runs takes up the new one.
func (a *Authority) Issue(o Order, dir string) (Identity, error) {
	if err := o.check(); err != nil {
		return Identity{}, err
	}
	if inside, err := os.Stat(filepath.Join(dir, CAKeyFile)); err == nil {
		return Identity{}, fmt.Errorf("%s is the authority's directory (it has %s): give another, that the worker may have", dir, inside.Name())
	}
	template, err := template(o.Instance, o.Validity)
	if err != nil {
		return Identity{}, err
	}
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	template.URIs = []*url.URL{uri(a.Cluster, instancePath+o.Instance)}
	for _, role := range o.Roles {
		template.URIs = append(template.URIs, uri(a.Cluster, rolePath+role))
	}
	for _, host := range o.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.BasicConstraintsValid = true
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Identity{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return Identity{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Identity{}, err
	}
	id, err := FromCertificate(cert)
	if err != nil {
		return Identity{}, err
	}
	return id, a.write(dir, key, der)
}

func (a *Authority) write(dir string, key *ecdsa.PrivateKey, der []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, CAFile), 0o644, "CERTIFICATE", a.cert.Raw); err != nil {
		return err
	}
	if err := writeKey(filepath.Join(dir, KeyFile), key); err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, CertFile), 0o644, "CERTIFICATE", der)
}

func (o *Order) check() error {
	if len(o.Roles) == 0 {
		return fmt.Errorf("name a role: %s", strings.Join(o.Known, ", "))
	}
	for _, role := range o.Roles {
		if !slices.Contains(o.Known, role) || !roleName.MatchString(role) {
			return fmt.Errorf("%q is no role; the roles are %s", role, strings.Join(o.Known, ", "))
		}
	}
	o.Roles = slices.Compact(slices.Sorted(slices.Values(o.Roles)))
	if !instanceName.MatchString(o.Instance) {
		return fmt.Errorf("%q can't name an instance: use up to 100 letters, digits, dots, hyphens and underscores", o.Instance)
	}
	if o.Validity == 0 {
		o.Validity = WorkerValidity
	}
	if o.Validity < 0 {
		return fmt.Errorf("a validity of %s is over before it begins", o.Validity)
	}
	if len(o.Hosts) == 0 {
		o.Hosts = []string{"localhost"}
	}
	return nil
}

func template(name string, validity time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	// 64 octets is what X.509 allows of a common name.
	return &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), Subject: pkix.Name{CommonName: name[:min(len(name), 64)]},
		NotBefore: now.Add(-backdating), NotAfter: now.Add(validity),
	}, nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, 0o600, "PRIVATE KEY", der)
}

func writePEM(path string, mode os.FileMode, kind string, der []byte) error {
	return wholefile.WriteString(path, mode, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

// readCertificates reads every certificate of a PEM file; there is at least one.
func readCertificates(path string) (certs []*x509.Certificate, err error) {
	octets, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, octets = pem.Decode(octets); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s has no certificate", path)
	}
	return certs, nil
}
