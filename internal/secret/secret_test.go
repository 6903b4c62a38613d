package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

const marker = "marker-4711"

func TestASecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	type holder struct {
		Password Secret
		inner    Secret
	}
	h := holder{FromString(marker), FromString(marker)}
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "s", h.Password, "h", h)
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "s", &h.Password, "h", h)
	asJSON, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	all := logged.String() + string(asJSON)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		all += fmt.Sprintf(verb, h.Password) + fmt.Sprintf(verb, &h.Password) + fmt.Sprintf(verb, h)
	}
	for _, leak := range []string{marker, fmt.Sprintf("%x", marker), fmt.Sprintf("%X", marker), fmt.Sprint([]byte(marker))} {
		if strings.Contains(all, leak) {
			t.Fatalf("%q is in %s", leak, all)
		}
	}
}

func TestASecretTravelsInCBOR(t *testing.T) {
	t.Parallel()
	b, err := cbor.Marshal(map[int]Secret{1: FromString(marker)})
	if err != nil {
		t.Fatal(err)
	}
	var back map[int]Secret
	if err := cbor.Unmarshal(b, &back); err != nil || !back[1].Equal(FromString(marker)) || back[1].RevealString() != marker {
		t.Fatalf("got %q, %v, want the marker", back[1].Reveal(), err)
	}
	if FromString("a").Equal(FromString("b")) || !(Secret{}).IsZero() {
		t.Fatal("Equal or IsZero is wrong")
	}
	var s Secret
	if err := json.Unmarshal([]byte(`"abc"`), &s); err != nil || s.RevealString() != "abc" {
		t.Fatalf("from JSON: %q, %v", s.Reveal(), err)
	}
}
