package pki_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-project/hawser/internal/pki"
)

var known = []string{"alpha", "beta", pki.Operator}

// logged is a log that a test can read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

func (l *logged) log() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func authority(t *testing.T, cluster string) *pki.Authority {
	t.Helper()
	a, err := pki.Init(filepath.Join(t.TempDir(), "ca"), cluster)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue(t *testing.T, a *pki.Authority, dir string, o pki.Order) pki.Identity {
	t.Helper()
	o.Known = known
	id, err := a.Issue(o, dir)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func load(t *testing.T, dir string) *pki.Loader {
	t.Helper()
	l, err := pki.FilesIn(dir).Load(new(logged).log())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestACertificateSaysWhatWasOrdered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	issued := issue(t, authority(t, "london"), dir, pki.Order{Roles: []string{"beta", "alpha"}, Instance: "host-1.a", Hosts: []string{"host-1", "10.0.0.1"}})
	got := load(t, dir).Identity()
	if got.Cluster != "london" || got.Instance != "host-1.a" || !slices.Equal(got.Roles, []string{"alpha", "beta"}) || !got.NotAfter.Equal(issued.NotAfter) {
		t.Errorf("got %+v", got)
	}
	if left := time.Until(got.NotAfter); left < pki.WorkerValidity-time.Hour || left > pki.WorkerValidity {
		t.Errorf("it holds for %s", left)
	}
	shown, err := pki.Show(filepath.Join(dir, pki.CertFile))
	if err != nil || shown.Kind != "worker" || !slices.Equal(shown.Hosts, []string{"host-1", "10.0.0.1"}) || !strings.Contains(shown.String(), "alpha, beta") {
		t.Errorf("shown as %+v, %v", shown, err)
	}
}

func TestKeysAreForTheirOwnerOnlyAndTheAuthoritysStaysBehind(t *testing.T) {
	t.Parallel()
	ca, dir := filepath.Join(t.TempDir(), "ca"), t.TempDir()
	a, err := pki.Init(ca, "london")
	if err != nil {
		t.Fatal(err)
	}
	issue(t, a, dir, pki.Order{Roles: []string{"alpha"}, Instance: "a"})
	for _, path := range []string{filepath.Join(ca, pki.CAKeyFile), filepath.Join(dir, pki.KeyFile)} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("the worker got %v, %v", entries, err)
	}
	if _, err := a.Issue(pki.Order{Roles: []string{"alpha"}, Instance: "a", Known: known}, ca); err == nil {
		t.Error("a worker's certificate was put beside the authority's key")
	}
	if shown, err := pki.Show(filepath.Join(ca, pki.CAFile)); err != nil || shown.Kind != "authority" || shown.Cluster != "london" {
		t.Errorf("the authority is shown as %+v, %v", shown, err)
	}
}

func TestAnAuthorityIsNeverReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := pki.Init(dir, "london"); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(filepath.Join(dir, pki.CAKeyFile))
	if _, err := pki.Init(dir, "london"); err == nil || !strings.Contains(err.Error(), "not replaced") {
		t.Errorf("got %v", err)
	}
	if after, _ := os.ReadFile(filepath.Join(dir, pki.CAKeyFile)); !bytes.Equal(before, after) {
		t.Error("the key has changed")
	}
	if a, err := pki.Open(dir); err != nil || a.Cluster != "london" {
		t.Errorf("opened as %+v, %v", a, err)
	}
}

func TestOrdersThatAreOffAreRefused(t *testing.T) {
	t.Parallel()
	a := authority(t, "london")
	for name, o := range map[string]pki.Order{
		`"gamma" is no role; the roles are alpha, beta, operator`: {Roles: []string{"gamma"}, Instance: "a"},
		"name a role":              {Instance: "a"},
		"can't name an instance":   {Roles: []string{"alpha"}, Instance: "a/b"},
		"over before it begins":    {Roles: []string{"alpha"}, Instance: "a", Validity: -time.Hour},
		`"" can't name an instanc`: {Roles: []string{"alpha"}},
	} {
		o.Known = known
		if _, err := a.Issue(o, t.TempDir()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %s", err, name)
		}
	}
	if _, err := pki.Init(t.TempDir(), "not a name"); err == nil {
		t.Error("a cluster was named \"not a name\"")
	}
}

func TestURIsThatAreOffGrantNothing(t *testing.T) {
	t.Parallel()
	for _, uris := range [][]string{
		{},
		{"hawser://london/role/alpha"},
		{"hawser://london/instance/a"},
		{"hawser://london/instance/a", "hawser://paris/role/alpha"},
		{"hawser://london/instance/a", "hawser://london/instance/b", "hawser://london/role/alpha"},
		{"hawser://london/instance/a", "hawser://london/role/alpha/beta"},
		{"hawser://london/instance/a", "hawser://london/role/alpha?x"},
		{"hawser://london/instance/a", "hawser://u@london/role/alpha"},
		{"hawser://london/instance/a", "hawser://london/role/alph%61%2f"},
		{"https://london/instance/a", "https://london/role/alpha"},
	} {
		c := &x509.Certificate{}
		for _, text := range uris {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		}
		if id, err := pki.FromCertificate(c); err == nil {
			t.Errorf("%v says %+v", uris, id)
		}
	}
}

// shake makes one handshake, and returns what each side found.
func shake(t *testing.T, server, client *tls.Config) (state tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	a, b := net.Pipe()
	defer func() { _, _ = a.Close(), b.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := tls.Server(a, server).HandshakeContext(ctx)
		if err != nil {
			_ = a.Close()
		}
		done <- err
	}()
	c := tls.Client(b, client)
	if clientErr = c.HandshakeContext(ctx); clientErr != nil {
		_ = b.Close()
	} else {
		go func() { _, _ = c.Read(make([]byte, 1)) }() // takes the alert, if there is one
	}
	return c.ConnectionState(), <-done, clientErr
}

func TestBothSidesAreVerified(t *testing.T) {
	t.Parallel()
	london, other, paris := authority(t, "london"), authority(t, "london"), authority(t, "paris")
	dirs := make(map[string]string)
	for name, a := range map[string]*pki.Authority{"server": london, "client": london, "other": other, "paris": paris} {
		dirs[name] = t.TempDir()
		issue(t, a, dirs[name], pki.Order{Roles: []string{"alpha"}, Instance: name})
	}
	dirs["expired"] = t.TempDir()
	issue(t, london, dirs["expired"], pki.Order{Roles: []string{"alpha"}, Instance: "expired", Validity: time.Nanosecond})
	server, client := load(t, dirs["server"]), load(t, dirs["client"])
	if state, s, c := shake(t, server.Server("p"), client.Client("p")); s != nil || c != nil || state.Version != tls.VersionTLS13 || state.NegotiatedProtocol != "p" {
		t.Fatalf("two of one cluster: %v, %v, %+v", s, c, state)
	}
	if _, err := pki.FilesIn(dirs["expired"]).Load(new(logged).log()); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired certificate is taken for our own: %v", err)
	}
	for name, want := range map[string]string{"other": "unknown authority", "paris": "unknown authority", "expired": "expired"} {
		cert, err := tls.LoadX509KeyPair(filepath.Join(dirs[name], pki.CertFile), filepath.Join(dirs[name], pki.KeyFile))
		if err != nil {
			t.Fatal(err)
		}
		bad := &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, ClientAuth: tls.RequestClientCert, NextProtos: []string{"p"}}
		if _, s, _ := shake(t, server.Server("p"), bad); s == nil || !strings.Contains(s.Error(), want) {
			t.Errorf("a client that is %s: %v", name, s)
		}
		if _, _, c := shake(t, bad, client.Client("p")); c == nil || !strings.Contains(c.Error(), want) {
			t.Errorf("a server that is %s: %v", name, c)
		}
	}
	bare := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"p"}}
	if _, s, _ := shake(t, server.Server("p"), bare); s == nil {
		t.Error("a client without a certificate is let in")
	}
	old := client.Client("p")
	old.MinVersion, old.MaxVersion = 0, tls.VersionTLS12
	if _, s, _ := shake(t, server.Server("p"), old); s == nil {
		t.Error("TLS 1.2 is let in")
	}
}

// TestTheClusterIsCheckedBesideTheChain has two clusters that trust one authority, as somebody might set up by hand.
func TestTheClusterIsCheckedBesideTheChain(t *testing.T) {
	t.Parallel()
	london, paris := authority(t, "london"), authority(t, "paris")
	a, b := t.TempDir(), t.TempDir()
	issue(t, london, a, pki.Order{Roles: []string{"alpha"}, Instance: "a"})
	issue(t, paris, b, pki.Order{Roles: []string{"alpha"}, Instance: "b"})
	var both []byte
	for _, dir := range []string{a, b} {
		octets, err := os.ReadFile(filepath.Join(dir, pki.CAFile))
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, octets...)
	}
	for _, dir := range []string{a, b} {
		if err := os.WriteFile(filepath.Join(dir, pki.CAFile), both, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := shake(t, load(t, a).Server("p"), load(t, b).Client("p"))
	if err == nil || !strings.Contains(err.Error(), "of cluster london, not paris") {
		t.Errorf("got %v", err)
	}
}

// until waits for a condition that handshakes bring about.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatal("waited in vain: ", what)
		}
	}
}

func TestFilesAreReadAgainAndBrokenOnesAreNotUsed(t *testing.T) {
	t.Parallel()
	a := authority(t, "london")
	dir := t.TempDir()
	first := issue(t, a, dir, pki.Order{Roles: []string{"alpha"}, Instance: "first"})
	var log logged
	l, err := pki.FilesIn(dir).Load(log.log())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, pki.CertFile)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("broken")}), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "the log says that the file is broken", func() bool { _ = l.Identity(); return log.has("can't be used") })
	if got := l.Identity(); got.Instance != first.Instance {
		t.Errorf("uses %+v", got)
	}
	issue(t, a, dir, pki.Order{Roles: []string{"alpha"}, Instance: "second"})
	until(t, "the new certificate is used", func() bool { return l.Identity().Instance == "second" })
	issue(t, authority(t, "paris"), dir, pki.Order{Roles: []string{"alpha"}, Instance: "third"})
	until(t, "another cluster's is refused", func() bool { _ = l.Identity(); return log.has("of cluster paris, not london") })
	if got := l.Identity(); got.Instance != "second" {
		t.Errorf("uses %+v", got)
	}
}

func TestTheLogWarnsBeforeACertificateEnds(t *testing.T) {
	t.Parallel()
	for validity, want := range map[time.Duration]bool{29 * 24 * time.Hour: true, 31 * 24 * time.Hour: false} {
		dir := t.TempDir()
		issue(t, authority(t, "london"), dir, pki.Order{Roles: []string{"alpha"}, Instance: "a", Validity: validity})
		var log logged
		if _, err := pki.FilesIn(dir).Load(log.log()); err != nil {
			t.Fatal(err)
		}
		if got := log.has("ends soon"); got != want {
			t.Errorf("with %s left: warned %v, want %v", validity, got, want)
		}
	}
}
