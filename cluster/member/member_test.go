package member

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/corda/x500"
)

const group = "8a3f2b1c-0d4e-4f5a-9b6c-7d8e9f0a1b2c"

var issued = time.Date(2025, 1, 31, 12, 0, 0, 5, time.UTC)

// alice is a member with a session key.
type alice struct {
	key     crypto.Signer
	hash    crypto.Hash
	context map[string]string
	roots   []string
}

func newAlice(t testing.TB, key crypto.Signer, hash crypto.Hash) alice {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return alice{key, hash, map[string]string{
		KeyName: "O=Alice, L=London, C=GB", KeyGroupID: group, KeyPlatform: "50300", KeySoftware: "hawser-1",
		"corda.endpoints.0.connectionURL": "https://alice.example:8080", "corda.endpoints.0.protocolVersion": "1",
		"corda.session.keys.0.pem":  string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})),
		"corda.session.keys.0.hash": hashText(spki),
	}, []string{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}}
}

func ecAlice(t testing.TB) alice {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return newAlice(t, key, crypto.SHA256)
}

func (a alice) sign(octets []byte) ([]byte, error) {
	h := a.hash.New()
	h.Write(octets)
	return a.key.Sign(rand.Reader, h.Sum(nil), a.hash)
}

func (a alice) file(t testing.TB, serial int64) []byte {
	t.Helper()
	b, err := Sign(NewContext(a.context), serial, issued, a.roots, a.sign)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t testing.TB, b []byte) File {
	t.Helper()
	f, err := ParseFile(b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestASignedFileReadsBack(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]alice{"ECDSA": ecAlice(t), "RSA": newAlice(t, rsaKey, crypto.SHA512)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := parse(t, a.file(t, 2))
			i := f.Info()
			e, err := i.Endpoints()
			if err != nil || len(e) != 1 || e[0].URL != "https://alice.example:8080" || i.Name().Organization() != "Alice" || i.GroupID() != group ||
				i.PlatformVersion() != PlatformVersion || i.Serial() != 2 || i.Status() != Active || i.IsMGM() || !i.Modified().Equal(issued.Truncate(time.Second)) {
				t.Errorf("%+v, %v", i, err)
			}
			keys, err := i.SessionKeys()
			if err != nil || sha256.Sum256(keys[0].SPKI) != keys[0].Hash() {
				t.Errorf("%v", err)
			}
			// Reformatting is no change.
			var compact bytes.Buffer
			if err := json.Compact(&compact, a.file(t, 2)); err != nil {
				t.Fatal(err)
			}
			parse(t, compact.Bytes())
		})
	}
}

func TestAChangedFileIsRefused(t *testing.T) {
	t.Parallel()
	a, mallory := ecAlice(t), ecAlice(t)
	good := string(a.file(t, 1))
	edit := func(old, text string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %q in the file", old)
		}
		return strings.Replace(good, old, text, 1)
	}
	root, _ := json.Marshal(a.roots[0])
	other, _ := json.Marshal(mallory.roots[0])
	for name, c := range map[string]struct{ text, want string }{
		"another endpoint":      {edit("alice.example", "mallory.example"), "changed after it was signed"},
		"another group":         {edit(group, "9a3f2b1c-0d4e-4f5a-9b6c-7d8e9f0a1b2c"), "changed after it was signed"},
		"another serial":        {edit(`"serial": 1`, `"serial": 2`), "changed after it was signed"},
		"another time":          {edit("2025-01-31", "2026-01-31"), "changed after it was signed"},
		"another root":          {edit(string(root), string(other)), "changed after it was signed"},
		"one more key":          {edit(`"corda.name"`, `"corda.a": "b", "corda.name"`), "changed after it was signed"},
		"another spec":          {edit(`"SHA256withECDSA"`, `"SHA256withRSA"`), "which its session key can't make"},
		"another format":        {edit("hawser-member", "x"), "not a member file"},
		"a later version":       {edit(`"version": 1`, `"version": 2`), "reads version 1"},
		"a field we don't know": {edit(`"version": 1`, `"version": 1, "x": 1`), "unknown field"},
		"a wrong hash":          {edit("SHA-256:", "SHA-256:0"), "hash of session key 0"},
		"no root":               {edit(string(root), ""), "1 to 20 TLS trust roots"},
		"http":                  {edit("https:", "http:"), "endpoint 0"},
		"a name not canonical":  {edit("O=Alice, L=London", "L=London, O=Alice"), "canonical"},
		"something after it":    {good + "{}", "after the end"},
		"no JSON":               {"x", "not a member file"},
	} {
		if _, err := ParseFile([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
		}
	}
	if _, err := ParseFile(make([]byte, maxFile+1)); fault.KindOf(err) != fault.TooLarge {
		t.Errorf("a huge file: %v", err)
	}
	if _, err := Sign(NewContext(a.context), 1, issued, a.roots, mallory.sign); err == nil {
		t.Error("a file signed by another key is made")
	}
	if _, err := Sign(NewContext(a.context), 0, issued, a.roots, a.sign); fault.KindOf(err) != fault.Invalid {
		t.Errorf("serial 0: %v", err)
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	a, stranger := ecAlice(t), ecAlice(t)
	first := parse(t, a.file(t, 2))
	now := issued.Add(time.Hour)
	known, err := Import(nil, first, first.Fingerprint(), false, group, now)
	if err != nil {
		t.Fatal(err)
	}
	older := parse(t, a.file(t, 1))
	a.context["corda.endpoints.0.connectionURL"] = "https://new.example"
	moved := parse(t, a.file(t, 3))
	rekeyed := parse(t, stranger.file(t, 1))
	sum := first.Info()
	keys, _ := sum.SessionKeys()

	for _, c := range []struct {
		name        string
		current     *Record
		file        File
		fingerprint string
		replace     bool
		group       string
		want        string // in the error; "" for none
		kind        fault.Kind
	}{
		{"a new member", nil, first, first.Fingerprint(), false, group, "", 0},
		{"a fingerprint as the member context has it", nil, first, hashText(keys[0].SPKI), false, group, "", 0},
		{"a fingerprint in lower case with colons", nil, first, strings.ToLower(strings.ReplaceAll(first.Fingerprint(), " ", ":")), false, group, "", 0},
		{"no fingerprint shows it", nil, first, "", false, group, first.Fingerprint(), fault.Invalid},
		{"another fingerprint", nil, first, rekeyed.Fingerprint(), false, group, "do not import it", fault.Invalid},
		{"a part of the fingerprint is not enough", nil, first, first.Fingerprint()[:40], false, group, "do not import it", fault.Invalid},
		{"another group", nil, first, first.Fingerprint(), true, "other", "is for group " + group, fault.Invalid},
		{"the same again", &known, first, first.Fingerprint(), false, group, "", 0},
		{"a change", &known, moved, moved.Fingerprint(), false, group, "changes its endpoints", fault.Conflict},
		{"a change with replace", &known, moved, moved.Fingerprint(), true, group, "", 0},
		{"another key", &known, rekeyed, rekeyed.Fingerprint(), false, group, "changes its session key", fault.Conflict},
		{"another key with replace", &known, rekeyed, rekeyed.Fingerprint(), true, group, "", 0},
		{"another key with replace still needs its fingerprint", &known, rekeyed, first.Fingerprint(), true, group, "do not import it", fault.Invalid},
		{"an older file, even with replace", &known, older, older.Fingerprint(), true, group, "serial 2 is trusted already", fault.Conflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := Import(c.current, c.file, c.fingerprint, c.replace, c.group, now.Add(time.Hour))
			if c.want == "" {
				if err != nil || !reflect.DeepEqual(got.Info.Member, c.file.Member) || got.Info.MGM.value(KeyCreated) != known.Info.MGM.value(KeyCreated) {
					t.Fatalf("got %+v, %v", got, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || fault.KindOf(err) != c.kind {
				t.Fatalf("got %v (%v), want %q in it (%v)", err, fault.KindOf(err), c.want, c.kind)
			}
		})
	}
	again, _ := Import(&known, first, first.Fingerprint(), true, group, now.Add(time.Hour))
	if again.ImportedAt != known.ImportedAt {
		t.Error("importing the same file again changed the record")
	}
	b, err := cbor.Marshal(known)
	var back Record
	if err != nil || cbor.Unmarshal(b, &back) != nil || !reflect.DeepEqual(back, known) {
		t.Errorf("record round trip: %v", err)
	}
	// The stored file is one that others can import.
	parse(t, known.File)
}

func TestContextsAreSortedAsText(t *testing.T) {
	t.Parallel()
	c := NewContext(map[string]string{"k.10": "b", "k.2": "c", "a": "a"})
	if fmt.Sprint(c) != "[{a a} {k.10 b} {k.2 c}]" || c.Check() != nil {
		t.Errorf("got %v, %v", c, c.Check())
	}
	for _, bad := range []Context{{{"b", ""}, {"a", ""}}, {{"a", ""}, {"a", ""}}, {{"", ""}}, make(Context, maxEntries+1)} {
		if fault.KindOf(bad.Check()) != fault.Invalid {
			t.Errorf("%.3v: %v", bad, bad.Check())
		}
	}
}

func TestADescriptionMakesACompleteContext(t *testing.T) {
	t.Parallel()
	a := ecAlice(t)
	name, err := x500.Parse("C=GB,L=London,O=Alice")
	if err != nil {
		t.Fatal(err)
	}
	c := Description{Name: name, GroupID: group, Software: "hawser-1", Endpoints: []Endpoint{{URL: "https://alice.example:8080"}},
		SessionKeys: []Key{{PEM: a.context["corda.session.keys.0.pem"], Hash: a.context["corda.session.keys.0.hash"]}}}.Context()
	if want := NewContext(a.context); !reflect.DeepEqual(c, want) {
		t.Errorf("got %v, want %v", c, want)
	}
	if err := (Info{Member: c}).Check(); err != nil {
		t.Error(err)
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add(ecAlice(f).file(f, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := ParseFile(b)
		if err == nil && (file.Fingerprint() == "" || file.Info().Check() != nil) {
			t.Fatal("a file without key or with bad information")
		}
	})
}
