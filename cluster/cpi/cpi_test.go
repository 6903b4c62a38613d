package cpi

import (
	"archive/zip"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hawser-project/hawser/cluster/fault"
)

const policy = `{"fileFormatVersion":1,"groupId":"8a3f2b1c-0d4e-4f5a-9b6c-7d8e9f0a1b2c"}`

// signing is a signer whose certificate an authority issued.
type signing struct {
	key   crypto.Signer
	chain []*x509.Certificate // leaf, authority
}

func newSigning(t testing.TB, key crypto.Signer, name string) signing {
	t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(cn string, ca bool, pub crypto.PublicKey, parent *x509.Certificate) *x509.Certificate {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			Subject:               pkix.Name{CommonName: cn, Organization: []string{"Acme"}, Locality: []string{"London"}, Country: []string{"GB"}},
			BasicConstraintsValid: true, IsCA: ca, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		}
		if parent == nil {
			parent = c
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, caKey)
		if err != nil {
			t.Fatal(err)
		}
		parsed, _ := x509.ParseCertificate(der)
		return parsed
	}
	ca := issue(name+" CA", true, caKey.Public(), nil)
	return signing{key, []*x509.Certificate{issue(name, false, key.Public(), ca), ca}}
}

func ecSigning(t testing.TB) signing {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return newSigning(t, key, "Signer")
}

func (s signing) jar(t testing.TB, headers []header, entries ...entry) []byte {
	t.Helper()
	b, err := signedJar(headers, entries, s.key, s.chain)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func checkModule(name string, wasm []byte) ([]byte, error) {
	if bytes.Contains(wasm, []byte("bad import")) {
		return nil, fault.New(fault.Invalid, "import env.clock is not offered")
	}
	return []byte(`{"module":"` + name + `"}`), nil
}

func (s signing) options() Options {
	return Options{Trusted: s.chain[1:], CheckModule: checkModule}
}

func open(b []byte, o Options) (*Package, error) { return Open(bytes.NewReader(b), int64(len(b)), o) }

func build(t testing.TB, s signing, modules ...BuildModule) []byte {
	t.Helper()
	var out bytes.Buffer
	err := Build(&out, BuildOptions{Name: "Demo package, with a name that is long enough to be folded in a manifest ü", Version: "1.0",
		GroupPolicy: []byte(policy), Modules: modules, Signer: s.key, Chain: s.chain, CheckModule: checkModule})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestABuiltPackageOpensAgain(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]signing{"ECDSA": ecSigning(t), "RSA": newSigning(t, rsaKey, "Signer")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := build(t, s, BuildModule{Name: "payments", Version: "1.2", Wasm: []byte("\x00asm payments")}, BuildModule{Name: "audit", Version: "1", Wasm: []byte("\x00asm audit")})
			p, err := open(b, s.options())
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(p.Name, "Demo package") || !strings.HasSuffix(p.Name, "ü") || p.Version != "1.0" || p.GroupID != "8a3f2b1c-0d4e-4f5a-9b6c-7d8e9f0a1b2c" ||
				len(p.ShortChecksum()) != 12 || string(p.GroupPolicy) != policy || len(p.Modules) != 2 {
				t.Errorf("package: %+v", p)
			}
			m := p.Modules[1]
			rc, err := m.Open()
			if err != nil {
				t.Fatal(err)
			}
			wasm, _ := io.ReadAll(rc)
			if m.Name != "payments" || string(wasm) != "\x00asm payments" || m.Size != int64(len(wasm)) || string(m.Manifest) != `{"module":"payments"}` || m.HostAPI != "1" {
				t.Errorf("module: %+v with %q", m, wasm)
			}
			// The package counts the whole chain, a module the signer alone.
			if p.SignerSummaryHash == m.SignerSummaryHash || p.SignerSummaryHash[:8] != "SHA-256:" {
				t.Errorf("summary hashes: %s, %s", p.SignerSummaryHash, m.SignerSummaryHash)
			}
			info := p.Info(time.UnixMilli(7))
			encoded, err := cbor.Marshal(info)
			var back Info
			if err != nil || cbor.Unmarshal(encoded, &back) != nil || !reflect.DeepEqual(back, info) || len(info.Modules) != 2 {
				t.Errorf("record: %+v, %v", back, err)
			}
		})
	}
}

func TestAnMGMPackageHasNoBundle(t *testing.T) {
	t.Parallel()
	s := ecSigning(t)
	p, err := open(build(t, s), s.options())
	if err != nil || len(p.Modules) != 0 || p.Bundle != "" {
		t.Fatalf("%+v, %v", p, err)
	}
}

func TestTheSignerSummaryHashIsCordas(t *testing.T) {
	t.Parallel()
	// spec/networks.md 12.2 [V]
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now(),
		Subject: pkix.Name{CommonName: "Signing Key 1", Organization: []string{"R3"}, Locality: []string{"London"}, Country: []string{"GB"}}},
		&x509.Certificate{Subject: pkix.Name{CommonName: "x"}}, ecSigning(t).key.Public(), ecSigning(t).key)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := x509.ParseCertificate(der)
	if text, _ := subject(c.RawSubject); text != "C=GB,L=London,O=R3,CN=Signing Key 1" {
		t.Errorf("subject: %q", text)
	}
	got, err := SignerSummaryHash([]*x509.Certificate{c, c})
	if err != nil || got != "SHA-256:1537C1214C2344680F24579A409589F835BFDEAA250D9D264151A18F327D3EC9" {
		t.Errorf("got %s, %v", got, err)
	}
	if got := escapeLdap(` a,b=c#d"e\f `); got != `\ a\,b\=c\#d\"e\\f\ ` {
		t.Errorf("escaped: %s", got)
	}
	if compareSigned([]byte{0x80}, []byte{0x7f}) >= 0 || compareSigned([]byte{1}, []byte{2}) >= 0 || compareSigned([]byte{0xff}, []byte{0}) >= 0 {
		t.Error("hashes are not ordered as signed octets")
	}
}

// rezip changes a zip file: change returns the entries to write.
func rezip(t testing.TB, b []byte, change func([]entry) []entry) []byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var entries []entry
	for _, f := range z.File {
		rc, _ := f.Open()
		content, _ := io.ReadAll(rc)
		entries = append(entries, entry{f.Name, content, f.Method})
	}
	out, err := zipOf(change(entries))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func with(name string, edit func([]byte) []byte) func([]entry) []entry {
	return func(entries []entry) []entry {
		var out []entry
		for _, e := range entries {
			if e.name == name {
				if e.content = edit(e.content); e.content == nil {
					continue
				}
			}
			out = append(out, e)
		}
		return out
	}
}

func adding(e entry) func([]entry) []entry {
	return func(entries []entry) []entry { return append(entries, e) }
}

func TestEveryFaultHasItsOwnError(t *testing.T) {
	t.Parallel()
	s, other := ecSigning(t), ecSigning(t)
	good := build(t, s, BuildModule{Name: "m", Version: "1", Wasm: []byte("wasm")})
	cpiHeaders := []header{{cpiFormat, "2.0"}, {cpiName, "n"}, {cpiVersion, "1"}}
	cpbHeaders := []header{{cpbFormat, "2.0"}, {cpbName, "n"}, {cpbVersion, "1"}}
	moduleHeaders := func(name string) []header { return BuildModule{Name: name, Version: "1"}.headers() }
	gp := entry{groupPolicyEntry, []byte(policy), zip.Deflate}
	module := func(name string, entries ...entry) entry {
		return entry{name + moduleSuffix, s.jar(t, moduleHeaders(name), entries...), zip.Store}
	}
	wasm := entry{moduleEntry, []byte("wasm"), zip.Deflate}
	bundled := func(entries ...entry) []byte {
		return s.jar(t, cpiHeaders, gp, entry{"b.cpb", s.jar(t, cpbHeaders, entries...), zip.Store})
	}
	upper := func(b []byte) []byte { return bytes.ToUpper(b) }
	remove := func([]byte) []byte { return nil }

	for name, c := range map[string]struct {
		file []byte
		want string
		o    func(*Options)
	}{
		"not a zip file":             {[]byte("hello"), "not a zip file", nil},
		"an empty file":              {nil, "not a zip file", nil},
		"a changed entry":            {rezip(t, good, with(groupPolicyEntry, upper)), `"META-INF/GroupPolicy.json" was changed after signing`, nil},
		"an added entry":             {rezip(t, good, adding(entry{"META-INF/x", nil, zip.Store})), `"META-INF/x" is not in the manifest: it was added`, nil},
		"a removed entry":            {rezip(t, good, with("bundle.cpb", remove)), `lists "bundle.cpb", which is not there`, nil},
		"a changed manifest":         {rezip(t, good, with(manifestEntry, func(b []byte) []byte { return bytes.Replace(b, []byte("1.0"), []byte("1.1"), 2) })), "manifest was changed after", nil},
		"a changed signature file":   {rezip(t, good, with("META-INF/SIGNER.SF", func(b []byte) []byte { return append(b, '\n') })), "does not match the signature file", nil},
		"no signature":               {rezip(t, good, func(e []entry) []entry { return append(e[:1:1], e[3:]...) }), "it is not signed", nil},
		"no signature block":         {rezip(t, good, with("META-INF/SIGNER.EC", remove)), "has no signature block", nil},
		"no signature file":          {rezip(t, good, with("META-INF/SIGNER.SF", remove)), "has no signature file", nil},
		"a damaged signature block":  {rezip(t, good, with("META-INF/SIGNER.EC", func(b []byte) []byte { return b[:len(b)-1] })), "not a PKCS#7", nil},
		"a second block":             {rezip(t, good, adding(entry{"META-INF/SIGNER.RSA", []byte("x"), zip.Store})), "two signature blocks", nil},
		"the manifest not first":     {rezip(t, good, func(e []entry) []entry { return append(append(e[1:2:2], e[0]), e[2:]...) }), "the first entry must be", nil},
		"a path that climbs":         {rezip(t, good, adding(entry{"../x", nil, zip.Store})), "not a plain relative path", nil},
		"an absolute path":           {rezip(t, good, adding(entry{"/x", nil, zip.Store})), "not a plain relative path", nil},
		"a backslash":                {rezip(t, good, adding(entry{`a\x`, nil, zip.Store})), "backslash", nil},
		"a duplicate":                {rezip(t, good, adding(entry{"bundle.cpb", nil, zip.Store})), `"bundle.cpb" is there twice`, nil},
		"a duplicate but for case":   {rezip(t, good, adding(entry{"meta-inf/manifest.mf", nil, zip.Store})), "is there twice", nil},
		"a signer that is not known": {good, "is not trusted", func(o *Options) { o.Trusted = other.chain[1:] }},
		"no trusted signer at all":   {good, "no code signer is trusted yet", func(o *Options) { o.Trusted = nil }},
		"a signer of the past":       {good, "is not trusted", func(o *Options) { o.Now = time.Now().Add(48 * time.Hour) }},
		"another format":             {s.jar(t, []header{{cpiFormat, "1.0"}}, gp), `Corda-CPI-Format is "1.0"`, nil},
		"no format":                  {s.jar(t, nil, gp), "has no Corda-CPI-Format", nil},
		"no version":                 {s.jar(t, cpiHeaders[:2], gp), "Corda-CPI-Version", nil},
		"no group policy":            {s.jar(t, cpiHeaders, entry{"META-INF/x", nil, zip.Store}), "has no META-INF/GroupPolicy.json", nil},
		"a policy that is no JSON":   {s.jar(t, cpiHeaders, entry{groupPolicyEntry, []byte("x"), zip.Store}), "not a JSON object", nil},
		"a policy without group":     {s.jar(t, cpiHeaders, entry{groupPolicyEntry, []byte("{}"), zip.Store}), "groupId is missing", nil},
		"a refused policy":           {good, "policy says no", func(o *Options) { o.CheckGroupPolicy = func([]byte) error { return errors.New("policy says no") } }},
		"two bundles":                {s.jar(t, cpiHeaders, gp, entry{"a.cpb", nil, zip.Store}, entry{"b.cpb", nil, zip.Store}), "two bundles", nil},
		"a stranger in the package":  {s.jar(t, cpiHeaders, gp, entry{"a.txt", nil, zip.Store}), "does not belong into a package", nil},
		"a stranger in the bundle":   {bundled(module("m", wasm), entry{"a.txt", nil, zip.Store}), "does not belong into a bundle", nil},
		"a stranger in the module":   {bundled(module("m", wasm, entry{"a.txt", nil, zip.Store})), "does not belong into a module", nil},
		"a bundle without modules":   {bundled(entry{"META-INF/x", nil, zip.Store}), "has no module", nil},
		"a module without code":      {bundled(module("m", entry{"META-INF/x", nil, zip.Store})), "has no module.wasm", nil},
		"a module that is Java":      {bundled(entry{"m.jar", s.jar(t, []header{{cordaModuleFormat, "2.0"}}, wasm), zip.Store}), "CPK with Java code", nil},
		"two modules of one name":    {bundled(module("m", wasm), entry{"n.cpk", s.jar(t, moduleHeaders("m"), wasm), zip.Store}), "two modules of the name m", nil},
		"a module for a later one":   {bundled(entry{"m.cpk", s.jar(t, BuildModule{Name: "m", Version: "1", MinPlatform: 60000}.headers(), wasm), zip.Store}), "needs platform version 60000", nil},
		"a module that is refused":   {bundled(module("m", entry{moduleEntry, []byte("bad import"), zip.Store})), "b.cpb/m.cpk: import env.clock", nil},
		"a module of another signer": {bundled(entry{"m.cpk", other.jar(t, moduleHeaders("m"), wasm), zip.Store}), "b.cpb/m.cpk: its signer", nil},
		"an unsigned module":         {bundled(entry{"m.cpk", must(zipOf([]entry{{manifestEntry, []byte("Manifest-Version: 1.0\r\n\r\nName: module.wasm\r\n\r\n"), zip.Store}, wasm})), zip.Store}), "m.cpk: it is not signed", nil},
		"a file over the limit":      {good, "at most 10 are taken", func(o *Options) { o.Limits.File = 10 }},
		"a module over the limit":    {good, "more than 3 octets", func(o *Options) { o.Limits.Module = 3 }},
		"more unpacked than allowed": {bundled(module("m", entry{moduleEntry, make([]byte, 1<<20), zip.Deflate})), "more than 100000 octets unpacked", func(o *Options) { o.Limits.Inflated = 100_000 }},
		"more entries than allowed":  {good, "more than 2 entries", func(o *Options) { o.Limits.Entries = 2 }},
		"more modules than allowed":  {bundled(module("m", wasm), module("n", wasm)), "more than 1 modules", func(o *Options) { o.Limits.Modules = 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := s.options()
			if c.o != nil {
				c.o(&o)
			}
			_, err := open(c.file, o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q in it", err, c.want)
			}
			if k := fault.KindOf(err); k != fault.Invalid && k != fault.TooLarge && name != "a refused policy" {
				t.Errorf("kind %v of %v", k, err)
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestEveryEntryMustHaveTheSameSigners(t *testing.T) {
	t.Parallel()
	s, other := ecSigning(t), ecSigning(t)
	entries := []entry{{groupPolicyEntry, []byte(policy), zip.Deflate}, {"META-INF/x", nil, zip.Store}}
	headers := []header{{cpiFormat, "2.0"}, {cpiName, "n"}, {cpiVersion, "1"}}
	mf, sf := makeManifest(headers, entries)
	_, part := makeManifest(headers, entries[:1])
	// The second signer's file is over the whole manifest, but lists one entry less.
	part = bytes.Replace(part, []byte(sum64(must2(makeManifest(headers, entries[:1])))), []byte(sum64(mf)), 1)
	file := must(zipOf(append([]entry{
		{manifestEntry, mf, zip.Deflate},
		{"META-INF/A.SF", sf, zip.Deflate}, {"META-INF/A.EC", must(signBlock(sf, s.key, s.chain)), zip.Deflate},
		{"META-INF/B.SF", part, zip.Deflate}, {"META-INF/B.EC", must(signBlock(part, other.key, other.chain)), zip.Deflate},
	}, entries...)))
	o := s.options()
	o.Trusted = append(o.Trusted, other.chain[1])
	if _, err := open(file, o); err == nil || !strings.Contains(err.Error(), `"META-INF/x" is not signed by`) {
		t.Fatalf("got %v", err)
	}
	both := rezip(t, file, with("META-INF/B.SF", func([]byte) []byte { return sf }))
	both = rezip(t, both, with("META-INF/B.EC", func([]byte) []byte { return must(signBlock(sf, other.key, other.chain)) }))
	p, err := open(both, o)
	if err != nil || len(p.Signers) != 2 {
		t.Fatalf("two signers of everything: %v", err)
	}
	o.Trusted = o.Trusted[:1]
	if _, err := open(both, o); err == nil || !strings.Contains(err.Error(), "is not trusted") {
		t.Fatalf("one of two signers is not trusted: got %v", err)
	}
}

func must2(a, _ []byte) []byte { return a }

func TestACompressedBundleIsTakenToo(t *testing.T) {
	t.Parallel()
	s := ecSigning(t)
	stored := build(t, s, BuildModule{Name: "m", Version: "1", Wasm: []byte("wasm")})
	b := rezip(t, stored, func(e []entry) []entry { e[len(e)-1].method = zip.Deflate; return e })
	if p, err := open(b, s.options()); err != nil || len(p.Modules) != 1 {
		t.Fatal(err)
	}
}

func TestWhatNoClusterWouldTakeIsNotBuilt(t *testing.T) {
	t.Parallel()
	s, other := ecSigning(t), ecSigning(t)
	good := BuildOptions{Name: "n", Version: "1", GroupPolicy: []byte(policy), Signer: s.key, Chain: s.chain, CheckModule: checkModule}
	for name, edit := range map[string]func(*BuildOptions){
		"no name":            func(o *BuildOptions) { o.Name = "" },
		"a header in a name": func(o *BuildOptions) { o.Name = "a\r\nCorda-CPI-Version: 2" },
		"no policy":          func(o *BuildOptions) { o.GroupPolicy = nil },
		"no key":             func(o *BuildOptions) { o.Signer = nil },
		"another's chain":    func(o *BuildOptions) { o.Chain = other.chain },
		"a broken chain":     func(o *BuildOptions) { o.Chain = []*x509.Certificate{s.chain[0], other.chain[1]} },
		"a bad module": func(o *BuildOptions) {
			o.Modules = []BuildModule{{Name: "m", Version: "1", Wasm: []byte("bad import")}}
		},
		"a bad module name": func(o *BuildOptions) { o.Modules = []BuildModule{{Name: "../m", Version: "1"}} },
		"two of a name":     func(o *BuildOptions) { o.Modules = []BuildModule{{Name: "m", Version: "1"}, {Name: "m", Version: "2"}} },
	} {
		o := good
		edit(&o)
		var out bytes.Buffer
		if err := Build(&out, o); fault.KindOf(err) != fault.Invalid || out.Len() > 0 {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
