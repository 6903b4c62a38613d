package x500

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestCanonicalTextIsJavas(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ about, in, want string }{
		{"order and trimming", "C=GB, L=London, O=Alice, CN=Node 1, OU=Ops, ST=Greater London",
			"CN=Node 1, OU=Ops, O=Alice, L=London, ST=Greater London, C=GB"},
		{"no blanks", "C=GB,L=London,O=Alice", "O=Alice, L=London, C=GB"},
		{"lower-case keywords", "o=Alice, l=London, c=GB", "O=Alice, L=London, C=GB"},
		{"semicolons", "O=Alice; L=London; C=GB", "O=Alice, L=London, C=GB"},
		{"object identifiers", "2.5.4.10=Alice, OID.2.5.4.7=London, oid.2.5.4.6=GB", "O=Alice, L=London, C=GB"},
		{"S for ST", "O=Alice, S=Kent, L=Dover, C=GB", "O=Alice, L=Dover, ST=Kent, C=GB"},
		{"escaped comma", `O=Acme\, Inc., L=New York, ST=New York, C=US`, `O="Acme, Inc.", L=New York, ST=New York, C=US`},
		{"escaped plus", `O=A\+B, L=X, C=GB`, `O="A+B", L=X, C=GB`},
		{"inner spaces", `O=two  spaces, L=London, C=GB`, `O="two  spaces", L=London, C=GB`},
		{"backslash", `O=back\\slash, L=London, C=GB`, `O="back\\slash", L=London, C=GB`},
		{"quote", `O=q\"uote, L=London, C=GB`, `O="q\"uote", L=London, C=GB`},
		{"quotes inside quotes", `O="A, \"B\"", L=London, C=GB`, `O="A, \"B\"", L=London, C=GB`},
		{"characters that need nothing", `O=a:b(c)/d?e, L=London, C=GB`, `O=a:b(c)/d?e, L=London, C=GB`},
		{"apostrophe, ampersand, at, bar", `O=O'Neil & Co @ a|b-c, L=London, C=GB`, `O=O'Neil & Co @ a|b-c, L=London, C=GB`},
		{"quoted spaces at the ends are trimmed", `O="  Alice  ", L=London, C=GB`, `O=Alice, L=London, C=GB`},
		{"escaped space at the end is trimmed", `O=Alice\ , L=London, C=GB`, `O=Alice, L=London, C=GB`},
		{"bare equals sign", `O=a=b, L=London, C=GB`, `O="a=b", L=London, C=GB`},
		{"hexadecimal pairs", `O=K\C3\B6ln, L=London, C=GB`, `O=Köln, L=London, C=GB`},
		{"hash inside", `O=a#b, L=London, C=GB`, `O="a#b", L=London, C=GB`},
		{"other scripts", "O=日本, L=東京, C=JP", "O=日本, L=東京, C=JP"},
		{"tab", "O=a\tb, L=London, C=GB", "O=a\tb, L=London, C=GB"},
		{"line feed", "O=\"a\nb\", L=London, C=GB", "O=\"a\nb\", L=London, C=GB"},
		{"no country", "O=Alice, L=London, C=ZZ", "O=Alice, L=London, C=ZZ"},
		{"longest organization", "O=" + strings.Repeat("a", 127) + ", L=London, C=GB", "O=" + strings.Repeat("a", 127) + ", L=London, C=GB"},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			name, err := Parse(test.in)
			if err != nil {
				t.Fatal(err)
			}
			if got := name.String(); got != test.want {
				t.Errorf("got %s\nwant %s", got, test.want)
			}
			again, err := Parse(name.String())
			if err != nil || again != name {
				t.Errorf("canonical text reads back as %v, %v", again, err)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ about, in string }{
		{"nothing", ""},
		{"no country", "O=Alice, L=London"},
		{"no locality", "O=Alice, C=GB"},
		{"no organization", "L=London, C=GB"},
		{"lower-case country", "O=Alice, L=London, C=gb"},
		{"reserved country", "O=Alice, L=London, C=UK"},
		{"two countries run together", "O=Alice, L=London, C=D "},
		{"several values in one part", "O=A+B, L=London, C=GB"},
		{"repeated attribute", "O=A, O=B, L=London, C=GB"},
		{"other attribute", "O=A, L=London, C=GB, DC=example"},
		{"blank organization", "O=, L=London, C=GB"},
		{"blank in quotes", `O="  ", L=London, C=GB`},
		{"organization of 128", "O=" + strings.Repeat("a", 128) + ", L=London, C=GB"},
		{"organization of 128 before trimming", `O="` + strings.Repeat(" ", 127) + `a", L=London, C=GB`},
		{"locality of 64", "O=A, L=" + strings.Repeat("a", 64) + ", C=GB"},
		{"locality of 64 units in 32 characters", "O=A, L=" + strings.Repeat("😀", 32) + ", C=GB"},
		{"slashes", "O=Alice/L=London/C=GB"},
		{"unescaped angle", "O=A<B, L=London, C=GB"},
		{"leading hash", "O=#41, L=London, C=GB"},
		{"open quote", `O="Alice, L=London, C=GB`},
		{"text after quote", `O="Alice"x, L=London, C=GB`},
		{"trailing separator", "O=Alice, L=London, C=GB,"},
		{"backslash at the end", `O=Alice, L=London, C=GB\`},
		{"needless escape", `O=\xlice, L=London, C=GB`},
		{"not UTF-8", "O=\xff, L=London, C=GB"},
		{"not UTF-8 by hexadecimal pair", `O=\FF, L=London, C=GB`},
		{"value in quotes of its own", `O="\"Alice\"", L=London, C=GB`},
		{"endless", "O=" + strings.Repeat(" ", maxText) + "A, L=London, C=GB"},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			if name, err := Parse(test.in); !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v, %v, want ErrInvalid", name, err)
			}
		})
	}
}

func TestCountriesAreThoseOfJDK17(t *testing.T) {
	t.Parallel()
	list := strings.Fields(countries)
	if len(list) != 249 {
		t.Errorf("got %d countries, want 249", len(list))
	}
	for i, code := range list {
		if i > 0 && list[i-1] >= code {
			t.Errorf("%s is out of order", code)
		}
		if !isCountry(code) {
			t.Errorf("%s is not taken", code)
		}
	}
}

func TestNamesAreOrderedByAttributeAndUTF16Unit(t *testing.T) {
	t.Parallel()
	sorted := []string{
		"O=A, L=X, C=GB",
		"O=A, L=Y, C=GB",
		"O=AA, L=X, C=GB",
		"O=😀, L=X, C=GB", // begins with unit D83D
		"O=\uFFFD, L=X, C=GB",
		"OU=A, O=A, L=X, C=GB",
		"CN=A, O=A, L=X, C=GB",
	}
	for i := 1; i < len(sorted); i++ {
		before, after := parse(t, sorted[i-1]), parse(t, sorted[i])
		if before.Compare(after) >= 0 || after.Compare(before) <= 0 || after.Compare(after) != 0 {
			t.Errorf("%v does not come before %v", before, after)
		}
	}
}

func TestNameTravelsAsText(t *testing.T) {
	t.Parallel()
	name := parse(t, "O=Alice, L=London, C=GB")
	encoded, err := json.Marshal(name)
	if err != nil || string(encoded) != `"O=Alice, L=London, C=GB"` {
		t.Fatalf("got %s, %v", encoded, err)
	}
	var back Name
	if err := json.Unmarshal(encoded, &back); err != nil || back != name {
		t.Errorf("got %v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`""`), &back); err == nil {
		t.Error("the empty text was taken for a name")
	}
	zero := back
	stored, _ := Name{}.MarshalBinary()
	if err := zero.UnmarshalBinary(stored); err != nil || !zero.IsZero() {
		t.Errorf("zero name reads back as %v, %v", zero, err)
	}
}

func TestNameSurvivesDER(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"O=Alice, L=London, C=GB", `CN=Node, OU=Ops, O="Müller, GmbH", L=Köln, ST=NRW, C=DE`} {
		name := parse(t, text)
		der, err := name.DER()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseDER(der); err != nil || back != name {
			t.Errorf("got %v, %v, want %v", back, err, name)
		}
		for n := range der {
			if _, err := ParseDER(der[:n]); !errors.Is(err, ErrInvalid) {
				t.Errorf("%d octets of %d: got %v, want ErrInvalid", n, len(der), err)
			}
		}
	}
	first := parse(t, "CN=x, O=Alice, L=London, C=GB").RDNSequence()[0][0]
	if got := first.Type.String(); got != "2.5.4.6" {
		t.Errorf("the sequence begins with %s, want the country as Java encodes it", got)
	}
}

func FuzzCanonicalTextReadsBack(f *testing.F) {
	f.Add("CN=Node 1, OU=Ops, O=Alice, L=London, ST=Greater London, C=GB")
	f.Add(`O="A, \"B\"", L=Lon\20don, C=GB`)
	f.Add("o=日本;l=東京;c=JP")
	f.Fuzz(func(t *testing.T, text string) {
		name, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(name.String())
		if err != nil || again != name || again.String() != name.String() {
			t.Errorf("%q: canonical text %q reads back as %q, %v", text, name, again, err)
		}
		der, err := name.DER()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseDER(der); err != nil || again != name {
			t.Errorf("%q: DER reads back as %q, %v", name, again, err)
		}
	})
}

func FuzzParseDER(f *testing.F) {
	f.Add([]byte{0x30, 0x00})
	f.Fuzz(func(t *testing.T, der []byte) {
		if name, err := ParseDER(der); err == nil {
			if again, err := Parse(name.String()); err != nil || again != name {
				t.Errorf("%q reads back as %q, %v", name, again, err)
			}
		}
	})
}

func parse(t *testing.T, text string) Name {
	t.Helper()
	name, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return name
}
