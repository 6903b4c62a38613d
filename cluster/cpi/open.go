package cpi

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hawser-project/hawser/cluster/fault"
)

// Open reads a package and makes every check of spec/networks.md 12.4: all three layers signed by trusted signers,
// nothing added, changed or removed; the structure; every module. An error says in which layer and entry the fault is.
// The package reads modules from the file, which must stay readable while it is used.
func Open(file io.ReaderAt, size int64, o Options) (*Package, error) {
	o.Limits = o.Limits.orDefault()
	if o.CheckModule == nil {
		panic("cpi: Options.CheckModule is missing") // a module that nobody looked at must not run
	}
	if size > o.Limits.File {
		return nil, fault.New(fault.TooLarge, "the package has %d octets, at most %d are taken", size, o.Limits.File)
	}
	sum := sha256.New()
	if n, err := io.Copy(sum, io.NewSectionReader(file, 0, size)); err != nil || n != size {
		return nil, fault.New(fault.Internal, "read the package: %d of %d octets: %w", n, size, err)
	}
	r := &reader{Options: o, inflated: o.Limits.Inflated}
	p := &Package{Size: size, FileChecksum: upperHex(sum.Sum(nil))}
	return p, r.openPackage(p, file, size)
}

func (r *reader) openPackage(p *Package, file io.ReaderAt, size int64) error {
	const where = "package"
	j, err := r.openJar(where, file, size)
	if err != nil {
		return err
	}
	if p.Identifier, err = j.identify(cpiFormat, cpiName, cpiVersion); err != nil {
		return err
	}
	var all []*x509.Certificate
	for _, chain := range j.signers {
		all = append(all, chain...)
		p.Signers = append(p.Signers, chain[0])
	}
	// All certificates of the signers count for a package, only the first of each for a module (spec 12.2).
	if p.SignerSummaryHash, err = SignerSummaryHash(all); err != nil {
		return invalid(where, "%w", err)
	}
	bundle, err := j.bundle()
	if err != nil {
		return err
	}
	if err := r.readPolicy(p, j); err != nil {
		return err
	}
	if bundle == nil {
		return nil // the package of an MGM has no bundle
	}
	return r.openBundle(p, bundle)
}

// bundle finds the one bundle, or none, and refuses what does not belong into a package.
func (j *jar) bundle() (*zip.File, error) {
	var bundle *zip.File
	for _, name := range slices.Sorted(maps.Keys(j.entries)) {
		switch {
		case strings.HasPrefix(name, "META-INF/"):
		case strings.Contains(name, "/") || !strings.HasSuffix(name, bundleSuffix):
			return nil, invalid(j.where, "entry %q does not belong into a package: it has %s and at most one bundle (%s)", name, groupPolicyEntry, bundleSuffix)
		case bundle != nil:
			return nil, invalid(j.where, "there are two bundles, %q and %q; a package has at most one", bundle.Name, name)
		default:
			bundle = j.entries[name]
		}
	}
	return bundle, nil
}

func (r *reader) readPolicy(p *Package, j *jar) error {
	entry := j.entries[groupPolicyEntry]
	if entry == nil {
		return invalid(j.where, "it has no %s", groupPolicyEntry)
	}
	var err error
	if p.GroupPolicy, err = r.read(j.where, entry, maxText); err != nil {
		return err
	}
	if p.GroupID, err = groupID(p.GroupPolicy); err != nil {
		return err
	}
	if r.CheckGroupPolicy == nil {
		return nil
	}
	return r.CheckGroupPolicy(p.GroupPolicy)
}

// groupID reads the one field of the group policy that is part of the package's record.
func groupID(policy []byte) (string, error) {
	// Not a struct: its fields would be matched without regard to case, unlike by those who read the policy later.
	var fields map[string]json.RawMessage
	var id string
	if err := json.Unmarshal(policy, &fields); err != nil {
		return "", invalid(groupPolicyEntry, "it is not a JSON object: %w", err)
	}
	if err := json.Unmarshal(fields["groupId"], &id); err != nil || strings.TrimSpace(id) == "" {
		return "", invalid(groupPolicyEntry, "groupId is missing, blank or no text")
	}
	return id, nil
}

func (r *reader) openBundle(p *Package, file *zip.File) error {
	where := file.Name
	at, size, err := r.nested("package", file)
	if err != nil {
		return err
	}
	j, err := r.openJar(where, at, size)
	if err != nil {
		return err
	}
	id, err := j.identify(cpbFormat, cpbName, cpbVersion)
	if err != nil {
		return err
	}
	p.Bundle = id.Name + " " + id.Version
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(j.entries)) {
		switch {
		case strings.HasPrefix(name, "META-INF/"):
			continue
		case strings.Contains(name, "/") || !strings.HasSuffix(name, moduleSuffix) && !strings.HasSuffix(name, ".jar"):
			return invalid(where, "entry %q does not belong into a bundle: it has module packages (%s) only", name, moduleSuffix)
		case len(p.Modules) >= r.Limits.Modules:
			return fault.New(fault.TooLarge, "%s: it has more than %d modules", where, r.Limits.Modules)
		}
		m, err := r.openModule(where+"/"+name, j.entries[name])
		if err != nil {
			return err
		}
		if seen[m.Name] {
			return invalid(where, "there are two modules of the name %s", m.Name)
		}
		seen[m.Name] = true
		p.Modules = append(p.Modules, m)
	}
	if len(p.Modules) == 0 {
		return invalid(where, "it has no module")
	}
	return nil
}

func (r *reader) openModule(where string, file *zip.File) (Module, error) {
	at, size, err := r.nested(where, file)
	if err != nil {
		return Module{}, err
	}
	j, err := r.openJar(where, at, size)
	if err != nil {
		return Module{}, err
	}
	m := Module{HostAPI: j.manifest.header(hostAPI)}
	if m.Identifier, err = j.identifyModule(); err != nil {
		return Module{}, err
	}
	for name := range j.entries {
		if name != moduleEntry && !strings.HasPrefix(name, "META-INF/") {
			return Module{}, invalid(where, "entry %q does not belong into a module package: it has %s only", name, moduleEntry)
		}
	}
	entry := j.entries[moduleEntry]
	if entry == nil {
		return Module{}, invalid(where, "it has no %s", moduleEntry)
	}
	wasm, err := r.read(where, entry, r.Limits.Module)
	if err != nil {
		return Module{}, err
	}
	if m.Manifest, err = r.CheckModule(m.Name, wasm); err != nil {
		return Module{}, fault.New(kindOr(err, fault.Invalid), "%s: %w", where, err)
	}
	sum, fileSum := sha256.Sum256(wasm), sha256.New()
	if _, err := io.Copy(fileSum, io.NewSectionReader(at, 0, size)); err != nil {
		return Module{}, invalid(where, "%w", err)
	}
	m.Hash, m.FileHash, m.Size, m.open = upperHex(sum[:]), upperHex(fileSum.Sum(nil)), int64(len(wasm)), entry.Open
	return m, nil
}

// kindOr is the kind of an error that has one.
func kindOr(err error, otherwise fault.Kind) fault.Kind {
	if k := fault.KindOf(err); k != fault.Internal {
		return k
	}
	return otherwise
}

// maxCompressed bounds a nested package that is compressed, since it must be unpacked into memory to be read.
const maxCompressed = 64 << 20

// nested opens an entry that is a package itself: in place if it is stored, as Build writes it.
func (r *reader) nested(where string, f *zip.File) (io.ReaderAt, int64, error) {
	if f.Method == zip.Store {
		raw, err := f.OpenRaw()
		if err != nil {
			return nil, 0, invalid(where, "entry %q can't be read: %w", f.Name, err)
		}
		if at, ok := raw.(io.ReaderAt); ok && f.UncompressedSize64 == f.CompressedSize64 {
			return at, int64(f.CompressedSize64), nil
		}
	}
	if f.UncompressedSize64 > maxCompressed {
		return nil, 0, fault.New(fault.TooLarge, "%s: entry %q is compressed and has more than %d octets; store it without compression", where, f.Name, maxCompressed)
	}
	octets, err := r.read(where, f, maxCompressed)
	if err != nil {
		return nil, 0, err
	}
	return bytes.NewReader(octets), int64(len(octets)), nil
}

// identify reads format, name and version of a package or bundle.
func (j *jar) identify(format, name, version string) (Identifier, error) {
	switch got := j.manifest.header(format); got {
	case packageFormat:
	case "":
		return Identifier{}, invalid(j.where, "its manifest has no %s: it is something else, or was not made as a package", format)
	default:
		return Identifier{}, invalid(j.where, "its %s is %q; only %s is supported", format, clip(got), packageFormat)
	}
	id := Identifier{Name: j.manifest.header(name), Version: j.manifest.header(version)}
	if err := checkName(name, id.Name); err != nil {
		return Identifier{}, invalid(j.where, "%w", err)
	}
	if err := checkName(version, id.Version); err != nil {
		return Identifier{}, invalid(j.where, "%w", err)
	}
	return id, nil
}

func (j *jar) identifyModule() (Identifier, error) {
	header := j.manifest.header
	switch got := header(moduleFormat); {
	case got == "" && header(cordaModuleFormat) != "":
		return Identifier{}, invalid(j.where, "it is a CPK with Java code; Hawser runs WebAssembly modules, see hawser package build")
	case got == "":
		return Identifier{}, invalid(j.where, "its manifest has no %s: it is not a module package", moduleFormat)
	case got != moduleFormatVersion:
		return Identifier{}, invalid(j.where, "its %s is %q; only %s is supported", moduleFormat, clip(got), moduleFormatVersion)
	}
	id := Identifier{Name: header(moduleName), Version: header(moduleVersion)}
	if err := checkForm(moduleName, id.Name); err != nil {
		return Identifier{}, invalid(j.where, "%w", err)
	}
	if err := checkForm(moduleVersion, id.Version); err != nil {
		return Identifier{}, invalid(j.where, "%w", err)
	}
	if text := header(minPlatform); text != "" {
		lowest, err := strconv.Atoi(text)
		if err != nil || lowest < 1 {
			return Identifier{}, invalid(j.where, "its %s %q is not a number", minPlatform, clip(text))
		}
		if lowest > PlatformVersion {
			return Identifier{}, invalid(j.where, "it needs platform version %d, this cluster has %d; update the cluster or build the module for it", lowest, PlatformVersion)
		}
	}
	leaves := make([]*x509.Certificate, 0, len(j.signers))
	for _, chain := range j.signers {
		leaves = append(leaves, chain[0])
	}
	var err error
	if id.SignerSummaryHash, err = SignerSummaryHash(leaves); err != nil {
		return Identifier{}, invalid(j.where, "%w", err)
	}
	return id, nil
}
