package frame

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The golden frames are shared with the host's codec, which has a test like this one.
const goldenDir = "../../testdata/frames"

var update = flag.Bool("update", false, "write the golden frames anew")

func seed() (s [32]byte) {
	for i := range s {
		s[i] = byte(i)
	}
	return s
}

// golden is one value of each message, and the message with nothing in it where that is allowed.
var golden = map[string]interface{ Append([]byte) []byte }{
	"start-client": &Start{Kind: Client, Class: "com.example.Offer", FlowID: "4e1f0000-0000-8000-8000-000000000001",
		Me: "O=Alice, L=London, C=GB", Args: []byte(`{"n":1}`), Now: 1_780_315_200_000_000_000, Seed: seed()},
	"start-responder": &Start{Kind: Responder, Class: "com.example.Answer", FlowID: "4e1f0000-0000-8000-8000-000000000002",
		Me: "O=Bob, L=Paris, C=FR", Counterparty: "O=Älice, L=London, C=GB", Now: 1, Protocol: "com.example", Version: 3},
	"resume": &Resume{Now: 1_780_315_200_000_000_001, Completions: []Completion{
		{ID: 1, Body: []byte("payload")}, {ID: 300}, {ID: 301, Code: "session-error", Message: "peer failed"}, {}}},
	"resume-empty": &Resume{},
	"commands": &Commands{Mode: All, Await: []uint64{7, 0, 1 << 40}, List: []Command{
		{ID: 6, Op: SendData, Body: []byte("body")}, {ID: 7, Op: ReceiveData}, {ID: 8, Op: 99, Body: []byte{0}}}},
	"commands-any":   &Commands{Mode: Any, Await: []uint64{1, 2}},
	"commands-ended": &Commands{List: []Command{{ID: 1, Op: Complete, Body: []byte("null")}}},
	"open":           &Open{Session: 1, Peer: "O=Bob, L=Paris, C=FR", Protocol: "com.example", Versions: []uint64{1, 2}},
	"send":           &Send{Session: 2, Payload: []byte(`"hello"`)},
	"send-zero":      &Send{},
	"entry":          &Entry{Key: "trade/1", Value: []byte(`{}`)},
	"found":          &Found{Found: true, Value: []byte(`{}`)},
	"found-none":     &Found{},
	"list":           &List{Prefix: "trade/", After: "trade/1", Limit: 1000},
	"page":           &Page{Entries: []Entry{{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte("2")}}, More: true},
	"failure":        &Failure{Type: "com.example.Declined", Message: "no"},
	"log":            &Log{Message: "hello", Attrs: []Attr{{"n", "1"}, {"empty", ""}}},
}

// refused are octets that no decoder of their kind may take.
var refused = map[string][]byte{
	"start-without-kind":         appendField(nil, 8, make([]byte, 32)),
	"start-short-seed":           appendField(appendUint(nil, 1, 1), 8, make([]byte, 31)),
	"start-time-out-of-range":    append([]byte{1, 1, 1, 7, 10}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
	"resume-field-zero":          {0, 0},
	"resume-fields-out-of-order": append((&Resume{Completions: []Completion{{}}}).Append(nil), 1, 1, 5),
	"resume-field-twice":         {1, 1, 5, 1, 1, 5},
	"resume-written-zero":        {1, 1, 0},
	"resume-padded-number":       {1, 2, 0x85, 0},
	"resume-two-numbers":         {1, 2, 5, 5},
	"resume-cut-short":           {1, 4, 5},
	"resume-huge-length":         {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
	"commands-without-op":        {1, 3, 1, 1, 1},
	"commands-mode":              {2, 1, 3},
	"commands-too-many":          bytes.Repeat([]byte{3, 1, 0}, MaxItems+1),
	"open-long-peer":             appendField(nil, 2, make([]byte, MaxName+1)),
	"send-empty-payload":         {2, 0},
	"entry-not-utf8":             {1, 1, 0xff},
	"found-two":                  {1, 1, 2},
	"page-bad-entry":             {1, 2, 1, 5},
	"log-bad-attr":               {2, 2, 1, 5},
}

// decode reads octets as the kind of message that a golden's name begins with, and writes it again.
func decode(name string, p []byte) ([]byte, error) {
	kind, _, _ := strings.Cut(name, "-")
	var v interface{ Append([]byte) []byte }
	var err error
	switch kind {
	case "start":
		v, err = DecodeStart(p)
	case "resume":
		v, err = DecodeResume(p)
	case "commands":
		v, err = DecodeCommands(p)
	case "open":
		v, err = DecodeOpen(p)
	case "send":
		v, err = DecodeSend(p)
	case "entry":
		v, err = DecodeEntry(p)
	case "found":
		v, err = DecodeFound(p)
	case "list":
		v, err = DecodeList(p)
	case "page":
		v, err = DecodePage(p)
	case "failure":
		v, err = DecodeFailure(p)
	case "log":
		v, err = DecodeLog(p)
	default:
		return nil, errors.New("no such kind")
	}
	if err != nil {
		return nil, err
	}
	return v.Append(nil), nil
}

func file(t *testing.T, path string, octets []byte) []byte {
	t.Helper()
	path = filepath.Join(goldenDir, path+".hex")
	if *update {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(octets)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestGoldenFramesAreWrittenAndRead(t *testing.T) {
	t.Parallel()
	for name, v := range golden {
		want := file(t, name, v.Append(nil))
		if got := v.Append(nil); !bytes.Equal(got, want) {
			t.Errorf("%s: got %x, want %x", name, got, want)
		}
		if got, err := decode(name, want); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: read and written: got %x, %v, want %x", name, got, err, want)
		}
	}
}

func TestMalformedFramesAreRefused(t *testing.T) {
	t.Parallel()
	for name, p := range refused {
		if got, err := decode(name, file(t, "refused/"+name, p)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %x, %v, want a malformed frame", name, got, err)
		}
	}
}

func TestAFrameCutShortIsNeverTheWholeFrame(t *testing.T) {
	t.Parallel()
	for name, v := range golden {
		p := v.Append(nil)
		for n := range len(p) {
			if got, err := decode(name, p[:n]); err == nil && !bytes.Equal(got, p[:n]) {
				t.Errorf("%s cut to %d: got %x", name, n, got)
			}
		}
	}
}

func TestFieldsOfALaterReleaseAreSkipped(t *testing.T) {
	t.Parallel()
	for name, v := range golden {
		p := v.Append(nil)
		if got, err := decode(name, append(bytes.Clone(p), 100, 2, 1, 2)); err != nil || !bytes.Equal(got, p) {
			t.Errorf("%s: got %x, %v, want %x", name, got, err, p)
		}
	}
}

// What a decoder takes is written the same way again, unknown fields apart: so once read, writing is stable.
func FuzzDecode(f *testing.F) {
	kinds := []string{"start", "resume", "commands", "open", "send", "entry", "found", "list", "page", "failure", "log"}
	for name, v := range golden {
		for i, k := range kinds {
			if strings.HasPrefix(name, k) {
				f.Add(uint8(i), v.Append(nil))
			}
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, p []byte) {
		name := kinds[int(kind)%len(kinds)]
		once, err := decode(name, p)
		if err != nil {
			return
		}
		if twice, err := decode(name, once); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("got %x, %v, want %x", twice, err, once)
		}
	})
}
