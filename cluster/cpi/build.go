package cpi

import (
	"archive/zip"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/hawser-project/hawser/cluster/fault"
)

// BuildOptions are what a package is made of.
type BuildOptions struct {
	Name, Version string
	GroupPolicy   []byte
	// Modules may be empty only for the package of an MGM.
	Modules []BuildModule
	// Signer and Chain sign all three layers. Chain has the signer's certificate first.
	Signer crypto.Signer
	Chain  []*x509.Certificate
	// CheckModule and CheckGroupPolicy are those of Options, so that a package which no cluster would take is not made.
	// Optional.
	CheckModule      func(name string, wasm []byte) (manifest []byte, err error)
	CheckGroupPolicy func(policy []byte) error
}

// BuildModule is one module to put into a package.
type BuildModule struct {
	Name, Version  string
	Wasm           []byte
	HostAPI        string // version of the host functions it was made for; default "1"
	MinPlatform    int    // lowest platform version it runs on; default 50000
	TargetPlatform int    // platform version it was tested on; default PlatformVersion
}

// Build makes a signed package and writes it to w. The order of modules does not matter to the file's content, but
// signatures differ from one build to the next.
func Build(w io.Writer, o BuildOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	sign := func(headers []header, entries ...entry) ([]byte, error) {
		return signedJar(headers, entries, o.Signer, o.Chain)
	}
	entries := []entry{{groupPolicyEntry, o.GroupPolicy, zip.Deflate}}
	if len(o.Modules) > 0 {
		var packages []entry
		for _, m := range o.Modules {
			jar, err := sign(m.headers(), entry{moduleEntry, m.Wasm, zip.Deflate})
			if err != nil {
				return fmt.Errorf("module %s: %w", m.Name, err)
			}
			packages = append(packages, entry{m.Name + moduleSuffix, jar, zip.Store})
		}
		jar, err := sign([]header{{cpbFormat, packageFormat}, {cpbName, o.Name}, {cpbVersion, o.Version}}, packages...)
		if err != nil {
			return fmt.Errorf("bundle: %w", err)
		}
		entries = append(entries, entry{"bundle" + bundleSuffix, jar, zip.Store})
	}
	jar, err := sign([]header{{cpiFormat, packageFormat}, {cpiName, o.Name}, {cpiVersion, o.Version}}, entries...)
	if err != nil {
		return err
	}
	if _, err := w.Write(jar); err != nil {
		return fmt.Errorf("write the package: %w", err)
	}
	return nil
}

func (o BuildOptions) check() error {
	if err := checkName("package name", o.Name); err != nil {
		return err
	}
	if err := checkName("package version", o.Version); err != nil {
		return err
	}
	if err := checkSigner(o.Signer, o.Chain); err != nil {
		return err
	}
	if _, err := groupID(o.GroupPolicy); err != nil {
		return err
	}
	if o.CheckGroupPolicy != nil {
		if err := o.CheckGroupPolicy(o.GroupPolicy); err != nil {
			return err
		}
	}
	names := map[string]bool{}
	for _, m := range o.Modules {
		if err := m.check(o.CheckModule); err != nil {
			return err
		}
		if names[m.Name] {
			return fault.New(fault.Invalid, "there are two modules of the name %s; give each its own", m.Name)
		}
		names[m.Name] = true
	}
	return nil
}

func (m BuildModule) check(check func(string, []byte) ([]byte, error)) error {
	if err := checkForm("module name", m.Name); err != nil {
		return err
	}
	if err := checkForm("version of module "+m.Name, m.Version); err != nil {
		return err
	}
	if check != nil {
		if _, err := check(m.Name, m.Wasm); err != nil {
			return fmt.Errorf("module %s: %w", m.Name, err)
		}
	}
	return nil
}

func (m BuildModule) headers() []header {
	orDefault := func(v, def int) string {
		if v == 0 {
			v = def
		}
		return strconv.Itoa(v)
	}
	api := m.HostAPI
	if api == "" {
		api = "1"
	}
	return []header{
		{moduleFormat, moduleFormatVersion}, {moduleName, m.Name}, {moduleVersion, m.Version}, {hostAPI, api},
		{minPlatform, orDefault(m.MinPlatform, defaultMinimumPlatform)}, {targetPlatform, orDefault(m.TargetPlatform, PlatformVersion)},
	}
}

func checkSigner(signer crypto.Signer, chain []*x509.Certificate) error {
	if signer == nil || len(chain) == 0 {
		return fault.New(fault.Invalid, "a package must be signed: give a private key and its certificate")
	}
	switch signer.Public().(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
	default:
		return fault.New(fault.Invalid, "packages are signed with RSA or ECDSA keys, as jarsigner reads them, not with %T", signer.Public())
	}
	certified, ok := chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !certified.Equal(signer.Public()) {
		return fault.New(fault.Invalid, "the first certificate, of %s, is not that of the signing key", chain[0].Subject)
	}
	for i := 1; i < len(chain); i++ {
		if err := chain[i-1].CheckSignatureFrom(chain[i]); err != nil {
			return fault.New(fault.Invalid, "certificate %d of the chain, of %s, is not issued by the next: %w", i, chain[i-1].Subject, err)
		}
	}
	return nil
}

// entry is one file of a JAR to write.
type entry struct {
	name    string
	content []byte
	method  uint16
}

// modified is the time of every entry, so that equal content makes equal files but for the signatures.
var modified = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// signedJar makes a JAR: manifest, signature file, signature block, and the entries in their order.
func signedJar(headers []header, entries []entry, signer crypto.Signer, chain []*x509.Certificate) ([]byte, error) {
	mf, sf := makeManifest(headers, entries)
	block, err := signBlock(sf, signer, chain)
	if err != nil {
		return nil, err
	}
	extension := ".EC"
	if _, isRSA := signer.Public().(*rsa.PublicKey); isRSA {
		extension = ".RSA"
	}
	return zipOf(append([]entry{
		{manifestEntry, mf, zip.Deflate},
		{"META-INF/SIGNER.SF", sf, zip.Deflate},
		{"META-INF/SIGNER" + extension, block, zip.Deflate},
	}, entries...))
}

// zipOf writes entries. Nested packages are stored, not compressed, so that they can be read in place.
func zipOf(entries []entry) ([]byte, error) {
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, e := range entries {
		f, err := z.CreateHeader(&zip.FileHeader{Name: e.name, Method: e.method, Modified: modified})
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", e.name, err)
		}
		if _, err := f.Write(e.content); err != nil {
			return nil, fmt.Errorf("write %s: %w", e.name, err)
		}
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("write the package: %w", err)
	}
	return out.Bytes(), nil
}
