package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser-project/hawser/internal/pki"
)

func TestCertificatesAreMadeAndShown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	authority, worker := filepath.Join(dir, "authority"), filepath.Join(dir, "worker")
	issue := func(roles string) (string, error) {
		return hawser(t, "pki", "issue", "--dir", authority, "--role", roles, "--instance", "w-1", "--host", "10.0.0.7", "--host", "w", "--out", worker)
	}
	if _, err := issue("flow"); err == nil || !strings.Contains(err.Error(), "hawser pki init") {
		t.Errorf("without an authority: %v", err)
	}
	if out, err := hawser(t, "pki", "init", "--cluster", "london", "--dir", authority); err != nil || !strings.Contains(out, "cluster london") {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := hawser(t, "pki", "init", "--cluster", "london", "--dir", authority); exitCode(err) != 1 {
		t.Errorf("made twice: %v", err)
	}
	if _, err := issue("flow,cook"); err == nil || !strings.Contains(err.Error(), `"cook" is no role`) || !strings.Contains(err.Error(), "linkmanager") {
		t.Errorf("an unknown role: %v", err)
	}
	if out, err := issue("flow,linkmanager"); err != nil || !strings.Contains(out, "w-1 of cluster london (flow, linkmanager)") {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := hawser(t, "pki", "show", "--json", filepath.Join(worker, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	var shown pki.Shown
	if err := json.Unmarshal([]byte(out), &shown); err != nil || shown.Kind != "worker" || len(shown.Roles) != 2 || len(shown.Hosts) != 2 {
		t.Errorf("shown as %s, %v", out, err)
	}
	if out, err := hawser(t, "pki", "show", filepath.Join(authority, "ca.pem")); err != nil || !strings.Contains(out, "authority") || !strings.Contains(out, "(in 36") {
		t.Errorf("shown as %s, %v", out, err)
	}
}
