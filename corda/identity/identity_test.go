package identity

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/hawser-project/hawser/corda/x500"
)

const group = "8a3f2b1c-0d4e-4f5a-9b6c-7d8e9f0a1b2c"

func TestShortHashIsCordas(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, want string }{
		{"O=Alice, L=London, C=GB", "D0F5EFA8EF2E"},
		{`O="Acme, Inc.", L=New York, ST=New York, C=US`, "D09037F429B4"},
		{"O=Müller GmbH, L=Köln, C=DE", "4AA636A4D528"},
		{"CN=Node 1, OU=Ops, O=Alice, L=London, ST=Greater London, C=GB", "8FBF0DE7A6A6"},
	} {
		if got := holder(t, test.name).ShortHash(); string(got) != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
	const full = "D0F5EFA8EF2EAAF863BD6FBF6ADE74E80CE92639F2AA99F307BD9EF0A524FDE5"
	if got := holder(t, "O=Alice, L=London, C=GB").FullHash(); got != full {
		t.Errorf("got full hash %s, want %s", got, full)
	}
}

func TestParseShortHashTakesTwelveDigitsInEitherCase(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		in   string
		want ShortHash
	}{
		{"d0f5efa8ef2e", "D0F5EFA8EF2E"},
		{"D0F5EFA8EF2E", "D0F5EFA8EF2E"},
		{"D0F5EFA8EF2", ""},
		{"D0F5EFA8EF2E0", ""},
		{"D0F5EFA8EF2G", ""},
		{"", ""},
	} {
		got, err := ParseShortHash(test.in)
		if got != test.want || (err == nil) != (test.want != "") || (err != nil && !errors.Is(err, ErrShortHash)) {
			t.Errorf("%q: got %q, %v, want %q", test.in, got, err, test.want)
		}
	}
}

func TestHoldingIdentitySurvivesJSON(t *testing.T) {
	t.Parallel()
	alice := holder(t, "O=Alice, L=London, C=GB")
	encoded, err := json.Marshal(alice)
	if err != nil {
		t.Fatal(err)
	}
	var back HoldingIdentity
	if err := json.Unmarshal(encoded, &back); err != nil || back != alice {
		t.Errorf("%s reads back as %v, %v", encoded, back, err)
	}
}

func FuzzParseShortHash(f *testing.F) {
	f.Add("d0f5efa8ef2e")
	f.Fuzz(func(t *testing.T, text string) {
		hash, err := ParseShortHash(text)
		if err != nil {
			return
		}
		if again, err := ParseShortHash(hash.String()); err != nil || again != hash {
			t.Errorf("%q reads back as %q, %v", hash, again, err)
		}
	})
}

func holder(t *testing.T, name string) HoldingIdentity {
	t.Helper()
	parsed, err := x500.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return HoldingIdentity{Name: parsed, GroupID: group}
}
