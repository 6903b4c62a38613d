package rest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hawser-project/hawser/internal/wholefile"
)

// Names of the files of a certificate of our own. It is made per installation and never built in (spec 1.6).
const (
	ownCertificate = "rest-tls.crt"
	ownKey         = "rest-tls.key"
	ownYears       = 2
	renewBefore    = 30 * 24 * time.Hour
	lookAgain      = 2 * time.Second
)

// certificates has the server's certificate, and reads it again when its files change.
type certificates struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	looked  time.Time
	stamp   [2]fileStamp
	current *tls.Certificate
}

type fileStamp struct {
	modified time.Time
	size     int64
}

// openCertificates reads the configured certificate, or the one of our own, which it makes where there is none.
func openCertificates(ctx context.Context, c Config) (*certificates, error) {
	s := &certificates{certFile: c.CertFile, keyFile: c.KeyFile, log: c.Log}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return nil, errors.New("REST certificate: give both files, certificate and key, or none")
	}
	if c.CertFile == "" {
		if c.Dir == "" {
			return nil, errors.New("REST certificate: no file is given, and no directory to make one in")
		}
		s.certFile, s.keyFile = filepath.Join(c.Dir, ownCertificate), filepath.Join(c.Dir, ownKey)
		if s.stale(ctx) {
			if err := makeOwn(c.Dir, s.certFile, s.keyFile, c.Address); err != nil {
				return nil, fmt.Errorf("make a certificate for REST: %w", err)
			}
		}
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("read the REST certificate: %w", err)
	}
	s.log.InfoContext(ctx, "REST certificate", "file", s.certFile, "sha256", fmt.Sprintf("%X", sha256.Sum256(s.current.Leaf.Raw)), "until", s.current.Leaf.NotAfter)
	return s, nil
}

// stale says whether a certificate of our own is missing or about to expire.
func (s *certificates) stale(ctx context.Context) bool {
	err := s.load()
	if err == nil {
		return time.Until(s.current.Leaf.NotAfter) < renewBefore
	}
	if !errors.Is(err, os.ErrNotExist) {
		s.log.WarnContext(ctx, "the REST certificate can't be read and is made anew", "file", s.certFile, "error", err)
	}
	return true
}

func (s *certificates) load() error {
	stamp := s.stamps()
	c, err := tls.LoadX509KeyPair(s.certFile, s.keyFile)
	if err != nil {
		return err
	}
	s.stamp, s.current, s.looked = stamp, &c, time.Now()
	return nil
}

func (s *certificates) stamps() (stamp [2]fileStamp) {
	for i, name := range []string{s.certFile, s.keyFile} {
		if info, err := os.Stat(name); err == nil {
			stamp[i] = fileStamp{info.ModTime(), info.Size()}
		}
	}
	return stamp
}

// get returns the certificate for a handshake. Files that changed and don't go together are left alone: one of them may
// be written next.
func (s *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.looked) > lookAgain {
		s.looked = time.Now()
		if s.stamps() != s.stamp {
			if err := s.load(); err != nil {
				s.log.Warn("the REST certificate changed and can't be read; the old one stays in use", "error", err)
			}
		}
	}
	return s.current, nil
}

func (s *certificates) serverConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: s.get, NextProtos: []string{"http/1.1"}}
}

// makeOwn makes a key and a certificate that signs itself.
func makeOwn(dir, certFile, keyFile, address string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Hawser REST", Organization: []string{"this installation"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(ownYears, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	addNames(template, address)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := writePEM(keyFile, 0o600, &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}); err != nil {
		return err
	}
	return writePEM(certFile, 0o644, &pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// addNames adds this machine's name and the address that is listened on.
func addNames(template *x509.Certificate, address string) {
	if name, err := os.Hostname(); err == nil && name != "localhost" {
		template.DNSNames = append(template.DNSNames, name)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "" || host == "localhost" {
		return
	}
	ip := net.ParseIP(host)
	switch {
	case ip == nil:
		template.DNSNames = append(template.DNSNames, host)
	case !ip.IsUnspecified() && !ip.IsLoopback():
		template.IPAddresses = append(template.IPAddresses, ip)
	}
}

func writePEM(name string, mode os.FileMode, block *pem.Block) error {
	return wholefile.Write(name, mode, func(w io.Writer) error { return pem.Encode(w, block) })
}
