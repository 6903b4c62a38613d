package call

import (
	"bytes"
	"context"
	"encoding/hex"
	"reflect"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
)

var (
	fullRequest = bus.Request{
		What: "command", Name: "thing.make", Asker: "rest", Role: "admin", Partition: 7, Key: "k\xff", ID: "id-1", Instance: 513, Body: []byte{1, 2, 3},
	}
	fullAnswer = bus.Answer{
		Body: []byte{9}, Err: []byte{}, NotHere: true,
		Commit: bus.Commit{Stamps: []bus.Sent{{Topic: "t", Stamp: bus.Stamp{Source: "s", Epoch: 2, Sequence: 1 << 40}}}},
	}
)

// The octets of this release. A later one reads them still.
const (
	goldenRequest = "aa0167636f6d6d616e64026a7468696e672e6d616b65036472657374046561646d696e050706426bff074469642d3108190201091903e80a43010203"
	goldenAnswer  = "a401410902" + "81a40161740261730302041b0000010000000000" + "0340" + "04f5"
)

func TestRequestsAreWrittenAsEver(t *testing.T) {
	t.Parallel()
	golden, err := hex.DecodeString(goldenRequest)
	if err != nil {
		t.Fatal(err)
	}
	r, timeout, err := decodeRequest(golden)
	if err != nil || !reflect.DeepEqual(r, fullRequest) || timeout != time.Second {
		t.Errorf("read as %+v, %s, %v", r, timeout, err)
	}
	octets, err := encodeRequest(t.Context(), fullRequest)
	if err != nil {
		t.Fatal(err)
	}
	without := bytes.Replace(golden, []byte{0x09, 0x19, 0x03, 0xe8}, nil, 1) // no timeout: one field less
	without[0]--
	if !bytes.Equal(octets, without) {
		t.Errorf("written as %x, want %x", octets, without)
	}
}

func TestAnswersAreWrittenAsEver(t *testing.T) {
	t.Parallel()
	octets, err := encodeAnswer(fullAnswer)
	if err != nil || hex.EncodeToString(octets) != goldenAnswer {
		t.Errorf("written as %x, %v", octets, err)
	}
	a, err := decodeAnswer(octets)
	if err != nil || !reflect.DeepEqual(a, fullAnswer) {
		t.Errorf("read as %+v, %v", a, err)
	}
}

// TestAnErrorWithoutOctetsIsStillOne matters: taken for none, a failed command would count as done.
func TestAnErrorWithoutOctetsIsStillOne(t *testing.T) {
	t.Parallel()
	for _, want := range []bus.Answer{{}, {Err: []byte{}}, {Body: []byte{}}, {Body: []byte{}, Err: []byte{}}} {
		octets, err := encodeAnswer(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeAnswer(octets)
		if err != nil || (got.Err == nil) != (want.Err == nil) || (got.Body == nil) != (want.Body == nil) {
			t.Errorf("got %#v, %v, want %#v", got, err, want)
		}
	}
}

func TestCutOffOctetsAreRefused(t *testing.T) {
	t.Parallel()
	request, err := hex.DecodeString(goldenRequest)
	if err != nil {
		t.Fatal(err)
	}
	for n := range request {
		if r, _, err := decodeRequest(request[:n]); err == nil {
			t.Errorf("%d octets are read as %+v", n, r)
		}
	}
	answer, err := encodeAnswer(fullAnswer)
	if err != nil {
		t.Fatal(err)
	}
	for n := range answer {
		if a, err := decodeAnswer(answer[:n]); err == nil {
			t.Errorf("%d octets are read as %+v", n, a)
		}
	}
	hello, err := encodeHello(bus.Instance{Number: 3, Name: "n", Address: "a:1"})
	if err != nil {
		t.Fatal(err)
	}
	for n := range hello {
		if i, err := decodeHello(hello[:n]); err == nil {
			t.Errorf("%d octets are read as %+v", n, i)
		}
	}
}

func TestOddOctetsAreRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"more after the end": goldenRequest + "00",
		"a field twice":      "a20161610161 62",
		"no end":             "bf016161ff",
		"a tag":              "a10ac2420102",
		"a text as a number": "a1056161",
		"too big a number":   "a1081a00010000",
		"no text":            "a10161ff",
		"an array":           "81a0",
	} {
		octets, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(text), []byte(" "), nil)))
		if err != nil {
			t.Fatal(err)
		}
		if r, _, err := decodeRequest(octets); err == nil {
			t.Errorf("%s: read as %+v", name, r)
		}
	}
}

func TestFieldsOfALaterReleaseArePassedOver(t *testing.T) {
	t.Parallel()
	r, _, err := decodeRequest([]byte{0xa2, 0x02, 0x61, 'n', 0x18, 99, 0x61, 'x'})
	if err != nil || r.Name != "n" {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestTheTimeLeftIsNeverNone(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Microsecond)
	defer cancel()
	octets, err := encodeRequest(ctx, bus.Request{})
	if err != nil {
		t.Fatal(err)
	}
	if _, timeout, err := decodeRequest(octets); err != nil || timeout != time.Millisecond {
		t.Errorf("got %s, %v; 0 would be for ever", timeout, err)
	}
}

func FuzzDecodeRequest(f *testing.F) {
	golden, _ := hex.DecodeString(goldenRequest)
	f.Add(golden)
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, octets []byte) {
		r, timeout, err := decodeRequest(octets)
		if err != nil {
			return
		}
		if timeout < 0 {
			t.Errorf("a timeout of %s", timeout)
		}
		again, err := encodeRequest(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		if back, _, err := decodeRequest(again); err != nil || !reflect.DeepEqual(back, r) {
			t.Errorf("got %+v, %v, want %+v", back, err, r)
		}
	})
}

func FuzzDecodeAnswer(f *testing.F) {
	golden, _ := hex.DecodeString(goldenAnswer)
	f.Add(golden)
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, octets []byte) {
		a, err := decodeAnswer(octets)
		if err != nil {
			return
		}
		again, err := encodeAnswer(a)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeAnswer(again); err != nil || !reflect.DeepEqual(back, a) {
			t.Errorf("got %+v, %v, want %+v", back, err, a)
		}
	})
}

func FuzzDecodeHello(f *testing.F) {
	golden, _ := encodeHello(bus.Instance{Number: 3, Name: "n", Address: "a:1"})
	f.Add(golden)
	f.Fuzz(func(t *testing.T, octets []byte) {
		i, err := decodeHello(octets)
		if err != nil {
			return
		}
		again, err := encodeHello(i)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeHello(again); err != nil || back != i {
			t.Errorf("got %+v, %v, want %+v", back, err, i)
		}
	})
}
