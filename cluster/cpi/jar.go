package cpi

import (
	"archive/zip"
	"bytes"
	"crypto"
	_ "crypto/sha512" // SHA-384 and SHA-512 for signatures of other tools
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hawser-project/hawser/cluster/fault"
)

// jar is one layer that was checked: every entry is listed in the manifest with its digest, every signer signed that
// manifest and lists every entry, and nothing else is there (spec/networks.md 12.4).
type jar struct {
	where    string
	manifest manifest
	entries  map[string]*zip.File // without directories and signature files
	signers  [][]*x509.Certificate
}

// reader has what checking the layers of one package shares.
type reader struct {
	Options
	inflated int64 // what may still be unpacked
}

func invalid(where, format string, args ...any) error {
	return fault.New(fault.Invalid, "%s: %w", where, fmt.Errorf(format, args...))
}

// openJar opens and checks one layer. where names it in errors.
func (r *reader) openJar(where string, at io.ReaderAt, size int64) (*jar, error) {
	files, err := r.openZip(where, at, size)
	if err != nil {
		return nil, err
	}
	j := &jar{where: where, entries: map[string]*zip.File{}}
	signatures, err := j.sort(files)
	if err != nil {
		return nil, err
	}
	mf := j.entries[manifestEntry]
	delete(j.entries, manifestEntry)
	text, err := r.read(where, mf, maxText)
	if err != nil {
		return nil, err
	}
	if j.manifest, err = parseManifest(text); err != nil {
		return nil, invalid(where, "%s: %w", manifestEntry, err)
	}
	if err := r.checkSignatures(j, text, signatures); err != nil {
		return nil, err
	}
	return j, r.checkEntries(j)
}

// openZip reads the directory of a zip file, bounded.
func (r *reader) openZip(where string, at io.ReaderAt, size int64) ([]*zip.File, error) {
	// Reading the directory makes a struct per entry. The budget stops a directory of millions before that.
	const tail, perEntry = 80 << 10, 512
	limited := &budget{at: at, left: tail + int64(r.Limits.Entries)*perEntry}
	z, err := zip.NewReader(limited, size)
	switch {
	case errors.Is(err, errBudget) || err == nil && len(z.File) > r.Limits.Entries:
		return nil, fault.New(fault.TooLarge, "%s: it has more than %d entries", where, r.Limits.Entries)
	case err != nil:
		return nil, invalid(where, "it is not a zip file: %w", err)
	}
	limited.left = -1
	seen := map[string]bool{}
	for _, f := range z.File {
		if err := checkEntryName(f.Name); err != nil {
			return nil, invalid(where, "%w", err)
		}
		// Signature files are found without regard to case, so two names that differ only by that are one too many.
		if folded := strings.ToUpper(f.Name); seen[folded] {
			return nil, invalid(where, "entry %q is there twice", f.Name)
		} else {
			seen[folded] = true
		}
		if f.Flags&1 != 0 {
			return nil, invalid(where, "entry %q is encrypted", f.Name)
		}
		if f.Method != zip.Store && f.Method != zip.Deflate {
			return nil, invalid(where, "entry %q is compressed by method %d; use store or deflate", f.Name, f.Method)
		}
	}
	return z.File, nil
}

var errBudget = errors.New("directory over its limit")

// budget is a ReaderAt that gives out a bounded number of octets; none is counted while left is negative.
type budget struct {
	at   io.ReaderAt
	left int64
}

func (b *budget) ReadAt(p []byte, off int64) (int, error) {
	if b.left >= 0 {
		if int64(len(p)) > b.left {
			return 0, errBudget
		}
		b.left -= int64(len(p))
	}
	return b.at.ReadAt(p, off)
}

// checkEntryName refuses what could be read as a path outside, or in two ways.
func checkEntryName(name string) error {
	path := strings.TrimSuffix(name, "/")
	if len(name) > 255 || !utf8.ValidString(name) || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return fmt.Errorf("entry name %q is longer than 255 octets or has control characters", clip(name))
	}
	if strings.ContainsAny(path, `\:`) {
		return fmt.Errorf("entry name %q has a backslash or colon", clip(name))
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("entry name %q is not a plain relative path", clip(name))
		}
	}
	return nil
}

// sort tells entries from signature files. Keys of the result are upper case.
func (j *jar) sort(files []*zip.File) (map[string]*zip.File, error) {
	signatures := map[string]*zip.File{}
	first := true
	for _, f := range files {
		name := strings.ToUpper(f.Name)
		if first && name != "META-INF/" {
			if f.Name != manifestEntry {
				return nil, invalid(j.where, "the first entry must be %s, it is %q", manifestEntry, f.Name)
			}
			first = false
		}
		switch {
		case strings.HasSuffix(name, "/"):
			if f.UncompressedSize64 != 0 {
				return nil, invalid(j.where, "directory %q has content", f.Name)
			}
		case isSignature(name):
			signatures[name] = f
		default:
			j.entries[f.Name] = f
		}
	}
	if j.entries[manifestEntry] == nil {
		return nil, invalid(j.where, "it has no %s", manifestEntry)
	}
	return signatures, nil
}

// isSignature says whether an upper-case name is of a file that is never signed itself: META-INF/*.SF and the blocks.
func isSignature(name string) bool {
	base, ok := strings.CutPrefix(name, "META-INF/")
	if !ok || strings.Contains(base, "/") {
		return false
	}
	return strings.HasSuffix(base, ".SF") || blockExtension(base) != "" || strings.HasPrefix(base, "SIG-")
}

func blockExtension(name string) string {
	for _, ext := range []string{".RSA", ".EC", ".DSA"} {
		if strings.HasSuffix(name, ext) {
			return ext
		}
	}
	return ""
}

// read unpacks an entry of at most limit octets into memory.
func (r *reader) read(where string, f *zip.File, limit int64) ([]byte, error) {
	var b bytes.Buffer
	err := r.inflate(where, f, limit, &b)
	return b.Bytes(), err
}

// inflate unpacks an entry to w, within its own limit and what is left for the package. Sizes that the file states are
// not believed.
func (r *reader) inflate(where string, f *zip.File, limit int64, w io.Writer) error {
	rc, err := f.Open()
	if err != nil {
		return invalid(where, "entry %q can't be read: %w", f.Name, err)
	}
	defer rc.Close() //nolint:errcheck // nothing to flush
	most := min(limit, r.inflated)
	n, err := io.Copy(w, io.LimitReader(rc, most+1))
	r.inflated -= n
	switch {
	case err != nil:
		return invalid(where, "entry %q can't be read: %w", f.Name, err)
	case n > limit:
		return fault.New(fault.TooLarge, "%s: entry %q has more than %d octets unpacked", where, f.Name, limit)
	case n > most:
		return fault.New(fault.TooLarge, "%s: the package has more than %d octets unpacked", where, r.Limits.Inflated)
	}
	return nil
}

// checkSignatures verifies every signature file and its block, and that all signers signed all entries.
func (r *reader) checkSignatures(j *jar, manifestText []byte, signatures map[string]*zip.File) error {
	for _, name := range slices.Sorted(maps.Keys(signatures)) {
		if ext := blockExtension(name); ext != "" {
			if signatures[strings.TrimSuffix(name, ext)+".SF"] == nil {
				return invalid(j.where, "signature block %s has no signature file (.SF)", name)
			}
			continue
		}
		base, ok := strings.CutSuffix(name, ".SF")
		if !ok {
			return invalid(j.where, "entry %s is not a signature that jarsigner makes", name)
		}
		if err := r.checkSignature(j, manifestText, base, signatures); err != nil {
			return err
		}
	}
	if len(j.signers) == 0 {
		return invalid(j.where, "it is not signed; sign it with hawser package build or with jarsigner")
	}
	return nil
}

func (r *reader) checkSignature(j *jar, manifestText []byte, base string, signatures map[string]*zip.File) error {
	var block *zip.File
	for _, ext := range []string{".RSA", ".EC", ".DSA"} {
		if f := signatures[base+ext]; f != nil {
			if block != nil {
				return invalid(j.where, "signature file %s.SF has two signature blocks", base)
			}
			block = f
		}
	}
	if block == nil {
		return invalid(j.where, "signature file %s.SF has no signature block (.RSA, .EC)", base)
	}
	text, err := r.read(j.where, signatures[base+".SF"], maxText)
	if err != nil {
		return err
	}
	octets, err := r.read(j.where, block, maxBlock)
	if err != nil {
		return err
	}
	chains, err := verifyBlock(octets, text)
	if err != nil {
		return invalid(j.where, "signature block %s: %w", block.Name, err)
	}
	signed, err := parseManifest(text)
	if err != nil {
		return invalid(j.where, "signature file %s.SF: %w", base, err)
	}
	if err := checkDigests(signed.main, "-digest-manifest", manifestText); err != nil {
		return invalid(j.where, "the manifest was changed after %s signed it: %w", chains[0][0].Subject, err)
	}
	for name := range j.manifest.sections {
		if signed.sections[name] == nil {
			return invalid(j.where, "entry %q is not signed by %s; every entry must have the same signers", name, chains[0][0].Subject)
		}
	}
	for _, chain := range chains {
		if err := r.checkTrust(j.where, chain); err != nil {
			return err
		}
	}
	j.signers = append(j.signers, chains...)
	return nil
}

func (r *reader) checkTrust(where string, chain []*x509.Certificate) error {
	if r.AnySigner {
		return nil
	}
	if len(r.Trusted) == 0 {
		return invalid(where, "no code signer is trusted yet; upload the certificate of %s, or of its issuer, with usage code-signer", chain[0].Subject)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range r.Trusted {
		roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: r.Now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return invalid(where, "its signer %s is not trusted (upload its certificate, or that of its issuer, with usage code-signer): %w", chain[0].Subject, err)
	}
	return nil
}

// checkEntries compares manifest and entries, both ways, and the digest of every entry.
func (r *reader) checkEntries(j *jar) error {
	for _, name := range slices.Sorted(maps.Keys(j.manifest.sections)) {
		if strings.HasSuffix(name, "/") || isSignature(strings.ToUpper(name)) {
			continue // some tools list directories
		}
		if j.entries[name] == nil {
			return invalid(j.where, "the manifest lists %q, which is not there: it was removed after signing", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(j.entries)) {
		section := j.manifest.sections[name]
		if section == nil {
			return invalid(j.where, "entry %q is not in the manifest: it was added after signing", name)
		}
		digests, err := digestsOf(section, "-digest")
		if err != nil {
			return invalid(j.where, "entry %q: %w", name, err)
		}
		if err := r.inflate(j.where, j.entries[name], r.Limits.Inflated, digests); err != nil {
			return err
		}
		if err := digests.check(); err != nil {
			return invalid(j.where, "entry %q was changed after signing: %w", name, err)
		}
	}
	return nil
}

// manifestDigests are the digests of a manifest that are believed; others beside them are ignored, alone they are refused.
var manifestDigests = []struct {
	name string
	hash crypto.Hash
}{{"sha-256", crypto.SHA256}, {"sha-384", crypto.SHA384}, {"sha-512", crypto.SHA512}}

type digest struct {
	hash.Hash
	name string
	want []byte
}

type digests []digest

// digestsOf finds the headers such as SHA-256-Digest. All that are there must match.
func digestsOf(section map[string]string, suffix string) (digests, error) {
	var found digests
	for _, d := range manifestDigests {
		text, ok := section[d.name+suffix]
		if !ok {
			continue
		}
		want, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(want) != d.hash.Size() {
			return nil, fmt.Errorf("its %s digest is not base64 of %d octets", d.name, d.hash.Size())
		}
		found = append(found, digest{d.hash.New(), d.name, want})
	}
	if len(found) == 0 {
		return nil, errors.New("there is no SHA-256, SHA-384 or SHA-512 digest")
	}
	return found, nil
}

func (d digests) Write(p []byte) (int, error) {
	for _, x := range d {
		x.Hash.Write(p)
	}
	return len(p), nil
}

func (d digests) check() error {
	for _, x := range d {
		if !bytes.Equal(x.Sum(nil), x.want) {
			return fmt.Errorf("its %s digest does not match", x.name)
		}
	}
	return nil
}

func checkDigests(section map[string]string, suffix string, content []byte) error {
	d, err := digestsOf(section, suffix)
	if err != nil {
		return err
	}
	_, _ = d.Write(content)
	return d.check()
}
