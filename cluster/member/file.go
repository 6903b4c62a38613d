package member

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hawser-project/hawser/cluster/fault"
)

// A member file carries a member's information to other clusters of a static network by hand. It is JSON for people to
// read; what is signed is not the JSON but the octets of File.signed, so that a reformatted file stays valid.
//
//	{ "format": "hawser-member", "version": 1, "serial": 1, "issued": "2025-01-31T12:00:00Z",
//	  "member": { "corda.name": "O=Alice, L=London, C=GB", ... },
//	  "tlsTrustRoots": [ "-----BEGIN CERTIFICATE-----..." ],
//	  "signature": { "spec": "SHA256withECDSA", "value": "base64" } }
//
// The signature is by the member's first session key. Who imports it compares the key's fingerprint with one that came
// by another way.
const (
	fileFormat  = "hawser-member"
	fileVersion = 1
	maxFile     = 256 << 10
	maxRoots    = 20
)

// File is a member file whose signature was checked.
type File struct {
	Member        Context
	Serial        int64
	Issued        time.Time // to the second
	TLSTrustRoots []string  // PEM
	Spec          string
	Signature     []byte
}

type fileJSON struct {
	Format        string            `json:"format"`
	Version       int               `json:"version"`
	Serial        int64             `json:"serial"`
	Issued        time.Time         `json:"issued"`
	Member        map[string]string `json:"member"`
	TLSTrustRoots []string          `json:"tlsTrustRoots"`
	Signature     struct {
		Spec  string `json:"spec"`
		Value string `json:"value"`
	} `json:"signature"`
}

// signed is the octets under the signature: a label, then everything as length (4 octets, big-endian) and text.
func (f File) signed() []byte {
	out := []byte("hawser member file 1\n")
	put := func(s string) {
		out = binary.BigEndian.AppendUint32(out, uint32(len(s)))
		out = append(out, s...)
	}
	out = binary.BigEndian.AppendUint64(out, uint64(f.Serial))
	put(f.Issued.UTC().Format(time.RFC3339))
	out = binary.BigEndian.AppendUint32(out, uint32(len(f.Member)))
	for _, e := range f.Member {
		put(e.Key)
		put(e.Value)
	}
	out = binary.BigEndian.AppendUint32(out, uint32(len(f.TLSTrustRoots)))
	for _, r := range f.TLSTrustRoots {
		put(r)
	}
	return out
}

// Sign makes the file. sign is given the octets and makes the signature of the member's first session key, with the
// spec of that key in the context (KeySessionSpec 0) or its scheme's default.
func Sign(member Context, serial int64, issued time.Time, tlsTrustRoots []string, sign func(octets []byte) ([]byte, error)) ([]byte, error) {
	f := File{Member: member, Serial: serial, Issued: issued.UTC().Truncate(time.Second), TLSTrustRoots: tlsTrustRoots}
	key, err := f.check()
	if err != nil {
		return nil, err
	}
	f.Spec = key.spec()
	if f.Signature, err = sign(f.signed()); err != nil {
		return nil, fmt.Errorf("sign the member file: %w", err)
	}
	if err := f.verify(key); err != nil {
		return nil, err
	}
	return f.encode()
}

func (f File) encode() ([]byte, error) {
	j := fileJSON{Format: fileFormat, Version: fileVersion, Serial: f.Serial, Issued: f.Issued, Member: map[string]string{}, TLSTrustRoots: f.TLSTrustRoots}
	for _, e := range f.Member {
		j.Member[e.Key] = e.Value
	}
	j.Signature.Spec, j.Signature.Value = f.Spec, base64.StdEncoding.EncodeToString(f.Signature)
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(j); err != nil {
		return nil, fmt.Errorf("write the member file: %w", err)
	}
	return out.Bytes(), nil
}

// ParseFile reads a file and checks everything that can be checked without knowing the member: form, bounds, and the
// signature by the session key in it. Whether that key is the member's is for Import and the fingerprint.
func ParseFile(text []byte) (File, error) {
	if len(text) > maxFile {
		return File{}, fault.New(fault.TooLarge, "a member file has at most %d octets, this one has %d", maxFile, len(text))
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var j fileJSON
	if err := d.Decode(&j); err != nil {
		return File{}, fault.New(fault.Invalid, "this is not a member file: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return File{}, fault.New(fault.Invalid, "there is something after the end of the member file")
	}
	if j.Format != fileFormat {
		return File{}, fault.New(fault.Invalid, "this is not a member file: its format is %q, not %q", clip(j.Format), fileFormat)
	}
	if j.Version != fileVersion {
		return File{}, fault.New(fault.Invalid, "the member file has version %d, this release reads version %d; export it with the same release", j.Version, fileVersion)
	}
	signature, err := base64.StdEncoding.DecodeString(j.Signature.Value)
	if err != nil {
		return File{}, fault.New(fault.Invalid, "the signature of the member file is not base64")
	}
	f := File{Member: NewContext(j.Member), Serial: j.Serial, Issued: j.Issued.UTC().Truncate(time.Second), TLSTrustRoots: j.TLSTrustRoots,
		Spec: j.Signature.Spec, Signature: signature}
	key, err := f.check()
	if err != nil {
		return File{}, err
	}
	return f, f.verify(key)
}

// check looks at the content and returns the key that signs.
func (f File) check() (SessionKey, error) {
	if f.Serial < 1 {
		return SessionKey{}, fault.New(fault.Invalid, "the serial of a member file must be 1 or more, it is %d", f.Serial)
	}
	if y := f.Issued.Year(); y < 2000 || y > 9999 {
		return SessionKey{}, fault.New(fault.Invalid, "the member file has no sensible time of issue")
	}
	info := f.Info()
	if err := info.Check(); err != nil {
		return SessionKey{}, err
	}
	if len(f.TLSTrustRoots) == 0 || len(f.TLSTrustRoots) > maxRoots {
		return SessionKey{}, fault.New(fault.Invalid, "a member file has 1 to %d TLS trust roots, this one has %d", maxRoots, len(f.TLSTrustRoots))
	}
	for i, root := range f.TLSTrustRoots {
		block, rest := pem.Decode([]byte(root))
		if block == nil || block.Type != "CERTIFICATE" || !strings.HasPrefix(root, "-----BEGIN") || strings.TrimSpace(string(rest)) != "" {
			return SessionKey{}, fault.New(fault.Invalid, "TLS trust root %d is not one certificate in PEM", i)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return SessionKey{}, fault.New(fault.Invalid, "TLS trust root %d can't be read: %w", i, err)
		}
	}
	keys, err := info.SessionKeys()
	if err != nil {
		return SessionKey{}, err
	}
	return keys[0], nil
}

// Info is the MemberInfo that the file stands for in a static network: nobody else adds the MGM context.
func (f File) Info() Info {
	issued := f.Issued.UTC().Format(time.RFC3339)
	return Info{Member: f.Member, MGM: NewContext(map[string]string{
		KeyCreated: issued, KeyModified: issued, KeySerial: fmt.Sprint(f.Serial), KeyStatus: string(Active),
	})}
}

// Fingerprint is SHA-256 of the session key that signed, for people to compare: 64 digits in groups of four.
func (f File) Fingerprint() string {
	keys, err := f.Info().SessionKeys()
	if err != nil {
		return ""
	}
	sum := keys[0].Hash()
	digits := strings.ToUpper(hex.EncodeToString(sum[:]))
	var groups []string
	for group := range slices.Chunk([]byte(digits), 4) {
		groups = append(groups, string(group))
	}
	return strings.Join(groups, " ")
}

// sameFingerprint compares as people type: any case, with or without spaces, colons and the prefix.
func sameFingerprint(a, b string) bool {
	normal := func(s string) string {
		s = strings.ToUpper(strings.TrimSpace(s))
		s = strings.TrimPrefix(s, "SHA-256:")
		return strings.NewReplacer(" ", "", ":", "", "\t", "").Replace(s)
	}
	return len(normal(a)) == 2*sha256.Size && normal(a) == normal(b)
}

// specs are the ways session keys sign (spec/networks.md 5.1).
var specs = map[string]struct {
	rsa       bool
	algorithm x509.SignatureAlgorithm
}{
	"SHA256withECDSA": {false, x509.ECDSAWithSHA256}, "SHA384withECDSA": {false, x509.ECDSAWithSHA384}, "SHA512withECDSA": {false, x509.ECDSAWithSHA512},
	"SHA256withRSA": {true, x509.SHA256WithRSA}, "SHA384withRSA": {true, x509.SHA384WithRSA}, "SHA512withRSA": {true, x509.SHA512WithRSA},
}

// spec is the stated spec, or the default of the key's scheme.
func (k SessionKey) spec() string {
	if k.Spec != "" {
		return k.Spec
	}
	if _, isRSA := k.Public.(*rsa.PublicKey); isRSA {
		return "SHA512withRSA"
	}
	return "SHA256withECDSA"
}

func checkSessionKey(pub crypto.PublicKey) (isRSA bool, err error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return false, nil
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n >= 2048 && n <= 8192 {
			return true, nil
		}
	}
	return false, errors.New("a session key must be ECDSA on secp256r1, or RSA with 2048 to 8192 bits")
}

func (f File) verify(key SessionKey) error {
	isRSA, err := checkSessionKey(key.Public)
	if err != nil {
		return fault.New(fault.Invalid, "%w", err)
	}
	spec, known := specs[f.Spec]
	if !known || spec.rsa != isRSA {
		return fault.New(fault.Invalid, "the member file is signed with %q, which its session key can't make; session keys sign with one of %v",
			clip(f.Spec), slices.Sorted(maps.Keys(specs)))
	}
	if err := (&x509.Certificate{PublicKey: key.Public}).CheckSignature(spec.algorithm, f.signed(), f.Signature); err != nil {
		return fault.New(fault.Invalid, "the member file was changed after it was signed, or its signature is not by its session key: %w", err)
	}
	return nil
}
