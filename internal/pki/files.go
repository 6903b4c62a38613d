package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	lookAgain  = time.Second         // how often at most the files are looked at
	warnBefore = 30 * 24 * time.Hour // less than this before a certificate ends, the log says so
	warnEvery  = 12 * time.Hour
)

// Files are where a process's certificate is.
type Files struct{ Cert, Key, CA string }

// FilesIn returns the files that Issue wrote to a directory.
func FilesIn(dir string) Files {
	return Files{Cert: filepath.Join(dir, CertFile), Key: filepath.Join(dir, KeyFile), CA: filepath.Join(dir, CAFile)}
}

// Load reads the files, and makes what reads them again when they change.
func (f Files) Load(log *slog.Logger) (*Loader, error) {
	l := &Loader{files: f, log: log}
	stamps, err := l.look()
	if err != nil {
		return nil, err
	}
	if l.current, err = f.read(); err != nil {
		return nil, err
	}
	l.stamps, l.looked = stamps, time.Now()
	l.warn(l.looked)
	return l, nil
}

// Loader gives the TLS configuration of both sides. On a handshake, at most once a second, it looks whether the files have
// changed and reads them again. Files that can't be used are logged, and those before stay in use.
type Loader struct {
	files Files
	log   *slog.Logger

	mu      sync.Mutex
	current *material
	stamps  [3]stamp
	looked  time.Time
	warned  time.Time
}

type material struct {
	cert     tls.Certificate
	identity Identity
	roots    *x509.CertPool
}

type stamp struct {
	modified time.Time
	size     int64
}

// Identity returns what the certificate in use says.
func (l *Loader) Identity() Identity { return l.use().identity }

// Server returns the configuration of the side that listens, for the protocols, the first that both know being used.
//
// The chain is verified in VerifyConnection instead of by ClientCAs, because the roots may change while the process runs,
// and so that both sides do it in the same few lines.
func (l *Loader) Server(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: protocols, SessionTicketsDisabled: true,
		GetCertificate:   func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &l.use().cert, nil },
		ClientAuth:       tls.RequireAnyClientCert,
		VerifyConnection: func(s tls.ConnectionState) error { return l.verify(s, x509.ExtKeyUsageClientAuth) },
	}
}

// Client returns the configuration of the side that opens a connection.
//
// InsecureSkipVerify turns off one thing that is not wanted: that the server's certificate must have the name that was
// dialed. Processes are found by addresses out of a database, and what authorises is the cluster and the roles in the
// certificate's URIs. Everything else that it turns off (chain, time, usage) VerifyConnection does.
func (l *Loader) Client(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: protocols,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &l.use().cert, nil },
		InsecureSkipVerify:   true, //nolint:gosec // VerifyConnection verifies the chain; see above
		VerifyConnection:     func(s tls.ConnectionState) error { return l.verify(s, x509.ExtKeyUsageServerAuth) },
	}
}

// verify says whether the other side has a certificate of our authority, that holds now, for our cluster.
func (l *Loader) verify(s tls.ConnectionState, usage x509.ExtKeyUsage) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("the other side shows no certificate")
	}
	m := l.use()
	id, err := m.check(s.PeerCertificates, usage)
	if err != nil {
		return err
	}
	if id.Cluster != m.identity.Cluster {
		return fmt.Errorf("the certificate is of cluster %s, not %s", id.Cluster, m.identity.Cluster)
	}
	return nil
}

func (m *material) check(chain []*x509.Certificate, usage x509.ExtKeyUsage) (Identity, error) {
	opts := x509.VerifyOptions{Roots: m.roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{usage}}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(opts); err != nil {
		return Identity{}, err
	}
	return FromCertificate(chain[0])
}

// use returns what is to be used now.
func (l *Loader) use() *material {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(l.looked) < lookAgain {
		return l.current
	}
	l.looked = now
	l.refresh()
	l.warn(now)
	return l.current
}

// refresh reads the files if they have changed. l.mu is held.
func (l *Loader) refresh() {
	stamps, err := l.look()
	if err == nil && stamps == l.stamps {
		return
	}
	var fresh *material
	if err == nil {
		l.stamps = stamps // also where they are broken, so that the log says so once
		fresh, err = l.files.read()
	}
	if err == nil && fresh.identity.Cluster != l.current.identity.Cluster {
		err = fmt.Errorf("the certificate is of cluster %s, not %s", fresh.identity.Cluster, l.current.identity.Cluster)
	}
	if err != nil {
		l.log.LogAttrs(context.Background(), slog.LevelError, "new certificate files can't be used; the old ones stay in use",
			slog.String("cert", l.files.Cert), slog.Any("error", err))
		return
	}
	l.current, l.warned = fresh, time.Time{}
	l.log.LogAttrs(context.Background(), slog.LevelInfo, "certificate files read again",
		slog.String("cert", l.files.Cert), slog.Time("until", fresh.identity.NotAfter))
}

// warn says that the certificate ends soon. l.mu is held, or nobody else has l.
func (l *Loader) warn(now time.Time) {
	if l.current.identity.NotAfter.Sub(now) > warnBefore || now.Sub(l.warned) < warnEvery {
		return
	}
	l.warned = now
	l.log.LogAttrs(context.Background(), slog.LevelWarn, "the certificate of this process ends soon: make a new one with hawser pki issue",
		slog.String("cert", l.files.Cert), slog.Time("until", l.current.identity.NotAfter))
}

func (l *Loader) look() (stamps [3]stamp, err error) {
	for i, path := range []string{l.files.Cert, l.files.Key, l.files.CA} {
		info, err := os.Stat(path)
		if err != nil {
			return stamps, err
		}
		stamps[i] = stamp{info.ModTime(), info.Size()}
	}
	return stamps, nil
}

func (f Files) read() (*material, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("%s with %s: %w", f.Cert, f.Key, err)
	}
	authorities, err := readCertificates(f.CA)
	if err != nil {
		return nil, err
	}
	m := &material{cert: cert, roots: x509.NewCertPool()}
	for _, c := range authorities {
		m.roots.AddCert(c)
	}
	chain := []*x509.Certificate{cert.Leaf}
	for _, der := range cert.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Cert, err)
		}
		chain = append(chain, c)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if m.identity, err = m.check(chain, usage); err != nil { // what nobody else would take
			return nil, fmt.Errorf("%s: %w", f.Cert, err)
		}
	}
	return m, nil
}
