// Package cpi is about application packages: it builds and signs them (Build), opens and checks them (Open), and has the
// record of an uploaded one (Info). It does not say what a good group policy or a good module is; those checks are given
// to it, and it neither stores packages nor runs them.
//
// There are three layers, each a signed JAR, as in Corda (spec/networks.md 12), with WebAssembly for Java:
//
//	demo.cpi                      installer: made by the network operator
//	  META-INF/MANIFEST.MF        Corda-CPI-Format, -Name, -Version; a digest per entry
//	  META-INF/SIGNER.SF, .EC     what the operator signed
//	  META-INF/GroupPolicy.json   the network
//	  demo.cpb                    bundle: made by the publisher; an MGM's package has none
//	    META-INF/...              Corda-CPB-Format, -Name, -Version
//	    payments.cpk              module package: made by the developer
//	      META-INF/...            Hawser-Module-Format, -Name, -Version, Hawser-Host-API
//	      module.wasm
//
// What flows a module has is written in the module itself, and nowhere else, so that the two cannot differ.
package cpi

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hawser-project/hawser/cluster/fault"
)

// Names and headers of the formats. Those of Corda are kept where they mean the same (spec/networks.md 12.1, 12.5).
const (
	manifestEntry    = "META-INF/MANIFEST.MF"
	groupPolicyEntry = "META-INF/GroupPolicy.json"
	moduleEntry      = "module.wasm"
	bundleSuffix     = ".cpb"
	moduleSuffix     = ".cpk"

	cpiFormat, cpiName, cpiVersion          = "Corda-CPI-Format", "Corda-CPI-Name", "Corda-CPI-Version"
	cpbFormat, cpbName, cpbVersion          = "Corda-CPB-Format", "Corda-CPB-Name", "Corda-CPB-Version"
	moduleFormat, moduleName, moduleVersion = "Hawser-Module-Format", "Hawser-Module-Name", "Hawser-Module-Version"
	hostAPI                                 = "Hawser-Host-API"
	minPlatform, targetPlatform             = "Min-Platform-Version", "Target-Platform-Version"
	cordaModuleFormat                       = "Corda-CPK-Format"

	packageFormat       = "2.0" // Corda 5's; 1.0 is refused by name
	moduleFormatVersion = "1.0"

	// PlatformVersion is the one of Corda 5.3, which this release is compatible with.
	PlatformVersion        = 50300
	defaultMinimumPlatform = 50000
)

// Identifier names a package on the wire (MemberInfo), in REST and in upgrades: spec/networks.md 12.2.
type Identifier struct {
	Name    string `cbor:"1,keyasint"`
	Version string `cbor:"2,keyasint"`
	// SignerSummaryHash is "SHA-256:" and 64 hexadecimal digits, made of the signers' subjects, so that it survives the
	// renewal of their keys.
	SignerSummaryHash string `cbor:"3,keyasint"`
}

func (id Identifier) String() string {
	return fmt.Sprintf("%s %s (%s)", id.Name, id.Version, id.SignerSummaryHash)
}

// Limits bound a package. Corda has only the limit of the upload (spec/networks.md 12.5).
type Limits struct {
	File     int64 // the whole .cpi; default 200 MB, Corda's limit of an upload
	Module   int64 // one module.wasm; default 64 MiB
	Inflated int64 // everything unpacked, all layers together; default 1 GiB
	Entries  int   // files of one layer; default 1024
	Modules  int   // default 64
}

// maxText bounds manifests, signature files and group policies.
const maxText = 4 << 20

func (l Limits) orDefault() Limits {
	set := func(v *int64, def int64) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&l.File, 200_000_000)
	set(&l.Module, 64<<20)
	set(&l.Inflated, 1<<30)
	if l.Entries <= 0 {
		l.Entries = 1024
	}
	if l.Modules <= 0 {
		l.Modules = 64
	}
	return l
}

// Options say how a package is checked.
type Options struct {
	// Trusted are the certificates of usage code-signer. Every signer of every layer must lead to one of them.
	Trusted []*x509.Certificate
	// AnySigner leaves out that check, for looking into a package. All others are made.
	AnySigner bool
	Limits    Limits
	// Now is when certificates must be valid; the zero value is the present.
	Now time.Time
	// CheckModule looks at a module's imports and limits and returns its manifest of flows as JSON. Required.
	CheckModule func(name string, wasm []byte) (manifest []byte, err error)
	// CheckGroupPolicy looks at the group policy. Optional.
	CheckGroupPolicy func(policy []byte) error
}

// Package is a package that was checked.
type Package struct {
	Identifier
	Size         int64
	FileChecksum string // SHA-256 of the file, 64 upper-case hexadecimal digits
	GroupPolicy  []byte
	GroupID      string // as in the policy, so CREATE_ID for a new network
	Bundle       string // name and version of the bundle; empty for an MGM's package
	Signers      []*x509.Certificate
	Modules      []Module
}

// ShortChecksum is the form REST calls cpiFileChecksum.
func (p *Package) ShortChecksum() string { return p.FileChecksum[:12] }

// Module is one WebAssembly module of a package.
type Module struct {
	Identifier
	Hash     string // SHA-256 of module.wasm, 64 upper-case hexadecimal digits: what flows run by
	FileHash string // the same of the module package
	Size     int64  // of module.wasm
	HostAPI  string
	Manifest []byte // JSON, as Options.CheckModule returned it

	open func() (io.ReadCloser, error)
}

// Open reads module.wasm. The file given to the function Open of this package must still be readable.
func (m Module) Open() (io.ReadCloser, error) { return m.open() }

// Info is what the admin worker keeps of an uploaded package.
type Info struct {
	ID           Identifier   `cbor:"1,keyasint"`
	FileChecksum string       `cbor:"2,keyasint"` // full
	Size         int64        `cbor:"3,keyasint,omitempty"`
	GroupPolicy  string       `cbor:"4,keyasint"`
	GroupID      string       `cbor:"5,keyasint"`
	Modules      []ModuleInfo `cbor:"6,keyasint,omitempty"`
	UploadedAt   int64        `cbor:"7,keyasint,omitempty"` // Unix milliseconds
	Bundle       string       `cbor:"8,keyasint,omitempty"`
	Signers      []string     `cbor:"9,keyasint,omitempty"` // subjects, for people
}

// ModuleInfo is what Info has of a module.
type ModuleInfo struct {
	ID       Identifier `cbor:"1,keyasint"`
	Hash     string     `cbor:"2,keyasint"` // of module.wasm: names its blob
	FileHash string     `cbor:"3,keyasint,omitempty"`
	Size     int64      `cbor:"4,keyasint,omitempty"`
	Manifest []byte     `cbor:"5,keyasint,omitempty"` // JSON
	HostAPI  string     `cbor:"6,keyasint,omitempty"`
}

// ShortChecksum is the form REST calls cpiFileChecksum.
func (i Info) ShortChecksum() string { return i.FileChecksum[:12] }

// Info makes the record.
func (p *Package) Info(uploaded time.Time) Info {
	info := Info{
		ID: p.Identifier, FileChecksum: p.FileChecksum, Size: p.Size, GroupPolicy: string(p.GroupPolicy), GroupID: p.GroupID,
		UploadedAt: uploaded.UnixMilli(), Bundle: p.Bundle,
	}
	for _, c := range p.Signers {
		info.Signers = append(info.Signers, c.Subject.String())
	}
	for _, m := range p.Modules {
		info.Modules = append(info.Modules, ModuleInfo{m.Identifier, m.Hash, m.FileHash, m.Size, m.Manifest, m.HostAPI})
	}
	return info
}

// nameForm is for the names of modules, which become file names, and for all versions.
var nameForm = regexp.MustCompile(`\A[A-Za-z0-9][-A-Za-z0-9._+]{0,99}\z`)

// checkName is for the names of packages and bundles, which Corda does not restrict.
func checkName(what, name string) error {
	if name == "" || strings.TrimSpace(name) != name || !utf8.ValidString(name) || len(name) > 255 ||
		strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fault.New(fault.Invalid, "%s %q must have 1 to 255 octets, no control characters and no space at its ends", what, name)
	}
	return nil
}

func checkForm(what, text string) error {
	if !nameForm.MatchString(text) {
		return fault.New(fault.Invalid, "%s %q must be 1 to 100 of the characters A-Za-z0-9._+- and begin with a letter or digit", what, text)
	}
	return nil
}

func upperHex(sum []byte) string { return strings.ToUpper(hex.EncodeToString(sum)) }
