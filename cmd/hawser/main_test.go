package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-project/hawser/cluster/grouppolicy"
	"github.com/hawser-project/hawser/cmd/hawser/demo"
)

// hawser runs the command line, and returns what it printed.
func hawser(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

// material writes what a package is made of, and returns the directory.
func material(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Signer", Organization: []string{"Test"}, Locality: []string{"London"}, Country: []string{"GB"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	policy, err := grouppolicy.RenderStatic(grouppolicy.StaticOptions{GroupID: "8a3f2b1c-0d4e-4f5a-9b6c-7d8e9f0a1b2c", TLSTrustRoots: []string{string(certificate)}})
	if err != nil {
		t.Fatal(err)
	}
	module, err := demo.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	for name, octets := range map[string][]byte{
		"signer.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), "signer.pem": certificate,
		"GroupPolicy.json": policy, "trade.wasm": module, "broken.wasm": module[:100],
	} {
		if err := os.WriteFile(filepath.Join(dir, name), octets, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func buildArgs(dir, module string) []string {
	at := func(name string) string { return filepath.Join(dir, name) }
	return []string{
		"package", "build", "--name", "trade", "--version", "1.0", "--module", "trade=" + at(module), "--policy", at("GroupPolicy.json"),
		"--key", at("signer.key"), "--chain", at("signer.pem"), "--out", at("trade.cpi"),
	}
}

func TestAPackageIsBuiltAndInspected(t *testing.T) {
	t.Parallel()
	dir := material(t)
	if out, err := hawser(t, buildArgs(dir, "trade.wasm")...); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	out, err := hawser(t, "package", "inspect", "--json", filepath.Join(dir, "trade.cpi"))
	if err != nil {
		t.Fatal(err)
	}
	var report packageReport
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if report.Name != "trade" || len(report.Modules) != 1 || !strings.Contains(string(report.Modules[0].Manifest), demo.OfferTrade) {
		t.Errorf("inspected as %+v", report)
	}
	if out, err := hawser(t, "package", "inspect", filepath.Join(dir, "trade.cpi")); err != nil || !strings.Contains(out, demo.OfferTrade+" (client)") {
		t.Errorf("for people: %v\n%s", err, out)
	}
}

func TestABrokenModuleMakesNoPackage(t *testing.T) {
	t.Parallel()
	dir := material(t)
	if _, err := hawser(t, buildArgs(dir, "broken.wasm")...); err == nil || !strings.Contains(err.Error(), "trade") {
		t.Errorf("got %v, want an error that names the module", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "trade.cpi")); err == nil {
		t.Error("a package was written all the same")
	}
}

func TestADamagedPackageIsRefused(t *testing.T) {
	t.Parallel()
	dir := material(t)
	if _, err := hawser(t, buildArgs(dir, "trade.wasm")...); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "trade.cpi")
	octets, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	octets[len(octets)/2] ^= 1
	if err := os.WriteFile(path, octets, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := hawser(t, "package", "inspect", path); err == nil {
		t.Errorf("a damaged package was shown:\n%s", out)
	}
}

func TestRolesAndVersionArePrinted(t *testing.T) {
	t.Parallel()
	out, err := hawser(t, "roles")
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"rest", "admin", "crypto", "membership", "flow", "linkmanager", "gateway"} {
		if !strings.Contains(out, "\n"+role+" ") {
			t.Errorf("roles does not print %s:\n%s", role, out)
		}
	}
	if out, err := hawser(t, "version"); err != nil || !strings.HasPrefix(out, "hawser ") {
		t.Errorf("version: %q, %v", out, err)
	}
}

func TestWithoutArgumentsNothingStarts(t *testing.T) {
	t.Parallel()
	if out, err := hawser(t); err != nil || !strings.Contains(out, "Available Commands") {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestWordsThatAreOffExitWith2(t *testing.T) {
	t.Parallel()
	_, err := hawser(t, "up", "--nonsense")
	if exitCode(err) != 2 {
		t.Errorf("an unknown flag exits with %d", exitCode(err))
	}
	if _, err := hawser(t, "package", "inspect", filepath.Join(t.TempDir(), "none.cpi")); exitCode(err) != 1 {
		t.Errorf("a missing file exits with %d", exitCode(err))
	}
}
