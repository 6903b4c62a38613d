// Package interop holds octets that Corda fixes, for the tests of the packages that must reproduce them. Where each
// file comes from is said in testdata/README.md. It tests nothing itself.
package interop

import (
	_ "embed"
	"encoding/hex"
	"strings"
	"testing"
)

//go:embed testdata/link-session.txt
var linkSession string

// A Vectors is a file of named octets.
type Vectors map[string][]byte

// LinkSession returns the vectors of one link session, from hello to acknowledgement.
func LinkSession(t testing.TB) Vectors {
	t.Helper()
	vectors := Vectors{}
	for line := range strings.Lines(linkSession) {
		name, digits, found := strings.Cut(strings.TrimSpace(line), " ")
		if !found || name == "#" {
			continue
		}
		octets, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatalf("vector %s: %v", name, err)
		}
		vectors[name] = octets
	}
	return vectors
}

// Get returns a copy of a vector, which must exist.
func (v Vectors) Get(t testing.TB, name string) []byte {
	t.Helper()
	octets, ok := v[name]
	if !ok {
		t.Fatalf("no vector %s", name)
	}
	return append([]byte(nil), octets...)
}
