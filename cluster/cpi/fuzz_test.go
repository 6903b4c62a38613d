package cpi

import (
	"bytes"
	"testing"
)

func FuzzOpen(f *testing.F) {
	s := ecSigning(f)
	f.Add(build(f, s, BuildModule{Name: "m", Version: "1", Wasm: []byte("wasm")}))
	f.Add(build(f, s))
	o := s.options()
	o.AnySigner = true
	o.Limits = Limits{File: 1 << 20, Module: 1 << 16, Inflated: 1 << 20}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := open(b, o)
		if err == nil && p.GroupID == "" {
			t.Fatal("a package without group")
		}
	})
}

func FuzzParseManifest(f *testing.F) {
	mf, sf := makeManifest([]header{{cpiName, "a name that is so long that it must be folded into more than one line of text"}}, []entry{{"a", nil, 0}})
	f.Add(mf)
	f.Add(sf)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(b)
		if err == nil && (m.main == nil || len(m.sections) > maxSections) {
			t.Fatal("a manifest without sections, or too many")
		}
	})
}

func FuzzVerifyBlock(f *testing.F) {
	s := ecSigning(f)
	content := []byte("content")
	block, err := signBlock(content, s.key, s.chain)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(block)
	f.Fuzz(func(t *testing.T, b []byte) {
		chains, err := verifyBlock(b, content)
		if err == nil && (len(chains) == 0 || len(chains[0]) == 0) {
			t.Fatal("verified without a signer")
		}
		if _, err := verifyBlock(b, []byte("other content")); err == nil {
			t.Fatal("verified other content")
		}
	})
}

func TestAFoldedHeaderReadsBack(t *testing.T) {
	t.Parallel()
	for n := range 300 {
		value := bytes.Repeat([]byte("x"), n)
		var b bytes.Buffer
		writeHeader(&b, "Name-Of-Header", string(value))
		for _, line := range bytes.Split(b.Bytes(), []byte("\r\n")) {
			if len(line) > 70 {
				t.Fatalf("a line of %d octets", len(line))
			}
		}
		m, err := parseManifest(b.Bytes())
		if err != nil || m.header("name-of-header") != string(value) {
			t.Fatalf("%d: %v", n, err)
		}
	}
}

func TestManifestsThatCanBeReadInTwoWaysAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{" a", "A: b\nA: c", "A: b\na: c", "A:b", "A", "\nB: c", "\nName: a\n\nName: a", "\nName: a\nX: 1\nX: 2"} {
		if _, err := parseManifest([]byte(text)); err == nil {
			t.Errorf("%q is read", text)
		}
	}
}
