package member

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hawser-project/hawser/cluster/fault"
)

// Record is one entry of a member list.
type Record struct {
	Info Info `cbor:"1,keyasint"`
	// SignedMember and SignedMGM are the two contexts as an MGM sent them, octet for octet: they are never encoded again
	// (spec/networks.md 15 no. 4). Nil in a static network.
	SignedMember *Signed `cbor:"2,keyasint,omitempty"`
	SignedMGM    *Signed `cbor:"3,keyasint,omitempty"`
	// File is the member file it came from, for export to others. Empty in a dynamic network.
	File []byte `cbor:"4,keyasint,omitempty"`
	// Fingerprint is of the session key that signed the file, as a person confirmed it.
	Fingerprint string `cbor:"5,keyasint,omitempty"`
	// TLSTrustRoots are the peer's, in PEM, beside those of the group policy.
	TLSTrustRoots []string `cbor:"6,keyasint,omitempty"`
	ImportedAt    int64    `cbor:"7,keyasint,omitempty"` // Unix milliseconds
}

// Signed is a context as it travelled: the octets and the signature over them.
type Signed struct {
	Data      []byte `cbor:"1,keyasint"` // Avro KeyValuePairList
	PublicKey []byte `cbor:"2,keyasint,omitempty"`
	Signature []byte `cbor:"3,keyasint,omitempty"`
	Spec      string `cbor:"4,keyasint,omitempty"`
}

// Import decides what a member file changes: it returns the record to store. current is what is known of the member by
// that name in that group, or nil. The rules:
//
//   - the file must be for the group it is imported into;
//   - the fingerprint of its key must be repeated by the person who imports, who had it from the member by another way;
//   - the same file again changes nothing and is no error;
//   - what is trusted already changes only with replace, and never to an older serial under the same key.
func Import(current *Record, f File, fingerprint string, replace bool, groupID string, now time.Time) (Record, error) {
	info := f.Info()
	if info.GroupID() != groupID {
		return Record{}, fault.New(fault.Invalid, "the member file of %s is for group %s, not for group %s; ask the member for its file in this group", info.Name(), info.GroupID(), groupID)
	}
	if err := confirm(f, info, fingerprint); err != nil {
		return Record{}, err
	}
	file, err := f.encode()
	if err != nil {
		return Record{}, err
	}
	next := Record{Info: info, File: file, Fingerprint: f.Fingerprint(), TLSTrustRoots: f.TLSTrustRoots, ImportedAt: now.UnixMilli()}
	if current == nil {
		return next, nil
	}
	if current.Info.Identity() != info.Identity() {
		panic(fmt.Sprintf("member: import of %s over %s", info.Identity(), current.Info.Identity()))
	}
	changes := differences(*current, next)
	if len(changes) == 0 {
		return *current, nil
	}
	sameKey := current.Fingerprint == next.Fingerprint
	if sameKey && info.Serial() < current.Info.Serial() {
		return Record{}, fault.New(fault.Conflict, "the member file of %s has serial %d, but serial %d is trusted already; ask the member for its newest file", info.Name(), info.Serial(), current.Info.Serial())
	}
	if !replace {
		return Record{}, fault.New(fault.Conflict, "%s is trusted already, and this file changes %s; if the member told you of the change, import it again with replace",
			info.Name(), strings.Join(changes, ", "))
	}
	next.Info.MGM = created(next.Info.MGM, current.Info.MGM)
	return next, nil
}

// confirm checks the fingerprint that a person repeats. The error shows it, so that asking without one is the way to
// see it.
func confirm(f File, info Info, fingerprint string) error {
	want := f.Fingerprint()
	if strings.TrimSpace(fingerprint) == "" {
		return fault.New(fault.Invalid, "the member file of %s is signed by a key with the fingerprint %s; compare it with the one the member told you, and repeat it to import the file", info.Name(), want).
			With("fingerprint", want)
	}
	if !sameFingerprint(fingerprint, want) {
		return fault.New(fault.Invalid, "the member file of %s is signed by a key with the fingerprint %s, not %s; do not import it until you know why", info.Name(), want, clip(fingerprint)).
			With("fingerprint", want)
	}
	return nil
}

// differences names what differs, for the error.
func differences(a, b Record) []string {
	var names []string
	if a.Fingerprint != b.Fingerprint {
		names = append(names, "its session key")
	}
	ea, _ := a.Info.Endpoints()
	eb, _ := b.Info.Endpoints()
	if !slices.Equal(ea, eb) {
		names = append(names, "its endpoints")
	}
	if !slices.Equal(a.TLSTrustRoots, b.TLSTrustRoots) {
		names = append(names, "its TLS trust roots")
	}
	if len(names) == 0 && (!slices.Equal(a.Info.Member, b.Info.Member) || a.Info.Serial() != b.Info.Serial()) {
		names = append(names, "other information on it")
	}
	return names
}

// created keeps the time at which a member was first known.
func created(next, before Context) Context {
	if at, there := before.Get(KeyCreated); there {
		for i := range next {
			if next[i].Key == KeyCreated {
				next[i].Value = at
			}
		}
	}
	return next
}
