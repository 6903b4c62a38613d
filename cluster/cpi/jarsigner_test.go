package cpi

import (
	"archive/zip"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "make the golden packages again with jarsigner")

// tools finds the JDK's tools, or skips.
func tools(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("making keys with the JDK takes seconds; golden packages signed by it are checked in")
	}
	for _, tool := range []string{"keytool", "jarsigner"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed (it comes with a JDK); golden packages signed by it are checked in", tool)
		}
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestJarsignerAcceptsWhatBuildMakes(t *testing.T) {
	t.Parallel()
	tools(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]signing{"ECDSA": ecSigning(t), "RSA": newSigning(t, rsaKey, "Signer")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "demo.cpi")
			b := build(t, s, BuildModule{Name: "m", Version: "1", Wasm: []byte("wasm")})
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if out := run(t, "jarsigner", "-verify", "-verbose", path); !strings.Contains(out, "jar verified.") || strings.Contains(out, "unsigned entries") {
				t.Fatalf("jarsigner says:\n%s", out)
			}
		})
	}
}

// signWithJDK makes a package whose three layers jarsigner signed, and the certificate of the signer.
func signWithJDK(t *testing.T, algorithm, size string, flags ...string) (file []byte, cert *x509.Certificate) {
	t.Helper()
	dir := t.TempDir()
	store := filepath.Join(dir, "keys.p12")
	secrets := []string{"-keystore", store, "-storepass", "changeit"}
	run(t, "keytool", append([]string{"-genkeypair", "-alias", "k", "-keyalg", algorithm, size[:strings.Index(size, " ")], size[strings.Index(size, " ")+1:],
		"-dname", "CN=JDK Signer, O=Acme, L=London, C=GB", "-validity", "36500"}, secrets...)...)
	exported := run(t, "keytool", append([]string{"-exportcert", "-rfc", "-alias", "k"}, secrets...)...)
	block, _ := pem.Decode([]byte(exported[strings.Index(exported, "-----BEGIN"):]))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(name string, headers []header, entries ...entry) []byte {
		mf, _ := makeManifest(headers, nil)
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, must(zipOf(append([]entry{{manifestEntry, mf, zip.Deflate}}, entries...))), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "jarsigner", append(append(append([]string{}, secrets...), flags...), path, "k")...)
		return must(os.ReadFile(path))
	}
	module := sign("m.cpk", BuildModule{Name: "m", Version: "1"}.headers(), entry{moduleEntry, []byte("wasm"), zip.Deflate})
	bundle := sign("b.cpb", []header{{cpbFormat, "2.0"}, {cpbName, "n"}, {cpbVersion, "1"}}, entry{"m.cpk", module, zip.Store})
	return sign("n.cpi", []header{{cpiFormat, "2.0"}, {cpiName, "n"}, {cpiVersion, "1"}},
		entry{groupPolicyEntry, []byte(policy), zip.Deflate}, entry{"b.cpb", bundle, zip.Store}), cert
}

func TestWhatJarsignerSignsVerifies(t *testing.T) {
	t.Parallel()
	tools(t)
	for name, c := range map[string][]string{
		"EC as it comes":  {"EC", "-groupname secp256r1"},
		"RSA as it comes": {"RSA", "-keysize 3072"},
		"RSA SHA-512":     {"RSA", "-keysize 2048", "-sigalg", "SHA512withRSA", "-digestalg", "SHA-512"},
		"EC SHA-256":      {"EC", "-groupname secp384r1", "-sigalg", "SHA256withECDSA", "-digestalg", "SHA-256"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, cert := signWithJDK(t, c[0], c[1], c[2:]...)
			checkJDK(t, b, cert)
		})
	}
}

// checkJDK opens a package of signWithJDK, and a copy with one octet of its policy changed.
func checkJDK(t *testing.T, b []byte, cert *x509.Certificate) {
	t.Helper()
	o := Options{Trusted: []*x509.Certificate{cert}, CheckModule: checkModule, Now: cert.NotBefore.Add(time.Hour)}
	p, err := open(b, o)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "n" || len(p.Modules) != 1 || len(p.Signers) != 1 {
		t.Errorf("got %+v", p)
	}
	// The subject has the same six attributes for any key: the summary hash is known.
	if want, _ := SignerSummaryHash([]*x509.Certificate{cert}); p.SignerSummaryHash != want || p.Modules[0].SignerSummaryHash != want {
		t.Errorf("summary hash %s, want %s", p.SignerSummaryHash, want)
	}
	bad := rezip(t, b, with(groupPolicyEntry, bytes.ToUpper))
	if _, err := open(bad, o); err == nil || !strings.Contains(err.Error(), "was changed after signing") {
		t.Errorf("a changed package: got %v", err)
	}
}

// The golden packages were made by jarsigner of JDK 17 or later: go test -run Golden -update ./cluster/cpi
func TestGoldenPackagesOfJarsignerVerify(t *testing.T) {
	t.Parallel()
	for name, c := range map[string][2]string{"ec": {"EC", "-groupname secp256r1"}, "rsa": {"RSA", "-keysize 2048"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join("testdata", "jarsigner-"+name)
			if *update {
				tools(t)
				b, cert := signWithJDK(t, c[0], c[1])
				if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path+".cpi", b, 0o600), os.WriteFile(path+".crt", cert.Raw, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			cert, err := x509.ParseCertificate(must(os.ReadFile(path + ".crt")))
			if err != nil {
				t.Fatal(err)
			}
			checkJDK(t, must(os.ReadFile(path+".cpi")), cert)
		})
	}
}
