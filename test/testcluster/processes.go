// Package testcluster starts whole clusters for tests: as processes of their own, set up through their REST APIs.
package testcluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-project/hawser/cmd/hawser/demo"
)

var built atomic.Bool

// build makes the hawser binary once for all tests.
var build = sync.OnceValues(func() (string, error) {
	built.Store(true)
	dir, err := os.MkdirTemp("", "hawser-e2e-")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "hawser")
	cmd := exec.Command("go", "build", "-o", binary, "./cmd/hawser")
	cmd.Dir = "../.."
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build hawser: %w\n%s", err, output)
	}
	return binary, nil
})

// Main runs a package's tests and removes what Network has built. It is for TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if built.Load() {
		if binary, err := build(); err == nil {
			_ = os.RemoveAll(filepath.Dir(binary))
		}
	}
	os.Exit(code)
}

// Network starts two clusters that know each other, and stops them at the end of the test.
func Network(t testing.TB) *demo.Network {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return network(t, func(dir string) (*demo.Network, error) { return demo.Open(dir, binary) })
}

func network(t testing.TB, open func(dir string) (*demo.Network, error)) *demo.Network {
	t.Helper()
	dir := t.TempDir()
	n, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	step := func(what string, do func() error) error {
		start := time.Now()
		err := do()
		if _, bench := t.(*testing.B); !bench {
			t.Logf("%-60s %v", what, time.Since(start).Round(time.Millisecond))
		}
		return err
	}
	t.Cleanup(func() {
		if err := n.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		if t.Failed() {
			for _, org := range []string{"alice", "bob"} {
				log, _ := os.ReadFile(filepath.Join(dir, org+".log"))
				t.Logf("log of %s:\n%s", org, tail(string(log), 60))
			}
		}
	})
	if err := n.Start(t.Context(), step); err != nil {
		t.Fatal(err)
	}
	module, err := demo.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.SetUp(t.Context(), module, step); err != nil {
		t.Fatal(err)
	}
	return n
}

func tail(s string, lines int) string {
	all := strings.Split(s, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
