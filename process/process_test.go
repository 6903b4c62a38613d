package process_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-project/hawser/internal/secret"
	"github.com/hawser-project/hawser/process"
)

// up runs a cluster until stop is called, which returns how it ended.
func up(t *testing.T, c process.Config) (at process.Addresses, stop func() error) {
	t.Helper()
	c.Rest, c.Gateway, c.Ops = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	ready, ended := make(chan process.Addresses, 1), make(chan error, 1)
	c.Ready = func(a process.Addresses) { ready <- a }
	ctx, cancel := context.WithCancel(context.Background())
	go func() { ended <- process.Run(ctx, c) }()
	select {
	case at = <-ready:
	case err := <-ended:
		cancel()
		t.Fatalf("did not start: %v", err)
	}
	return at, func() error { cancel(); return <-ended }
}

func status(t *testing.T, at net.Addr, path string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s%s", at, path), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestAClusterStartsStopsAndStartsAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var passwords []string
	for range 2 {
		at, stop := up(t, process.Config{Data: dir})
		if got := status(t, at.Ops, "/ready"); got != http.StatusOK {
			t.Errorf("/ready is %d", got)
		}
		start := time.Now()
		if err := stop(); err != nil {
			t.Fatalf("stop: %v", err)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("the stop took %v", took)
		}
		octets, err := os.ReadFile(filepath.Join(dir, "secrets", "admin-password"))
		if err != nil {
			t.Fatal(err)
		}
		passwords = append(passwords, string(octets))
	}
	if passwords[0] != passwords[1] || len(strings.TrimSpace(passwords[0])) < 20 {
		t.Errorf("the first administrator was made twice, or with a short password")
	}
}

func TestSecretsAreReadableByTheirOwnerAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, stop := up(t, process.Config{Data: dir})
	defer func() { _ = stop() }()
	for _, name := range []string{"secrets/admin-password", "secrets/master-passphrase", "secrets/master-salt", "rest/rest-tls.key"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o, want 600", name, info.Mode().Perm())
		}
	}
}

func TestGivenSecretsAreNotWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, stop := up(t, process.Config{
		Data: dir, AdminPassword: secret.FromString("marker-admin-4711"), MasterPassphrase: secret.FromString("marker-master-4711"), MasterSalt: "salt",
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		octets, err := os.ReadFile(path)
		if strings.Contains(string(octets), "4711") {
			t.Errorf("%s holds a secret in clear", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestADataDirectoryServesOneProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, stop := up(t, process.Config{Data: dir})
	defer func() { _ = stop() }()
	err := process.Run(t.Context(), process.Config{Data: dir, Rest: "127.0.0.1:0", Gateway: "127.0.0.1:0"})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second process: got %v, want that the store is in use", err)
	}
}

func TestAWrongMasterPassphraseIsNoticed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, stop := up(t, process.Config{Data: dir, MasterPassphrase: secret.FromString("right"), MasterSalt: "salt"})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := process.Run(ctx, process.Config{Data: dir, Rest: "127.0.0.1:0", Gateway: "127.0.0.1:0", MasterPassphrase: secret.FromString("wrong"), MasterSalt: "salt"})
	if err == nil || !strings.Contains(err.Error(), "passphrase") {
		t.Errorf("got %v, want that the passphrase is wrong", err)
	}
}

func TestEveryRoleIsOnThePage(t *testing.T) {
	t.Parallel()
	folders, err := os.ReadDir("../worker")
	if err != nil {
		t.Fatal(err)
	}
	listed := make(map[string]bool)
	for _, r := range process.Roles() {
		listed[r.Name] = true
		if r.Job == "" || r.Alone == "" {
			t.Errorf("%s does not say what it does, or what only it does", r.Name)
		}
	}
	for _, f := range folders {
		if f.IsDir() && !listed[f.Name()] {
			t.Errorf("worker/%s is not in roles.go", f.Name())
		}
	}
	if len(listed) != 7 {
		t.Errorf("%d roles are listed, want 7", len(listed))
	}
}
