package rest

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestACertificateIsMadeOnceAndReadAgainWhenItChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := Config{Dir: dir, Address: "rest.example:8888", Log: slog.New(slog.DiscardHandler)}
	open := func(c Config) *certificates {
		t.Helper()
		s, err := openCertificates(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first, second := open(config), open(config)
	if !bytes.Equal(first.current.Leaf.Raw, second.current.Leaf.Raw) {
		t.Error("a second start made another certificate")
	}
	for _, name := range []string{"localhost", "127.0.0.1", "rest.example"} {
		if err := first.current.Leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	config.CertFile, config.KeyFile = filepath.Join(dir, ownCertificate), filepath.Join(dir, ownKey)
	given := open(config)
	if err := makeOwn(dir, config.CertFile, config.KeyFile, "other.example:1"); err != nil {
		t.Fatal(err)
	}
	given.looked = time.Now().Add(-time.Minute)
	now, err := given.get(nil)
	if err != nil || now.Leaf.VerifyHostname("other.example") != nil {
		t.Error("a changed certificate was not read")
	}
	if err := os.WriteFile(config.CertFile, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	given.looked = time.Now().Add(-time.Minute)
	if kept, err := given.get(nil); err != nil || kept != now {
		t.Error("a damaged certificate took the place of a good one")
	}
	if _, err := openCertificates(t.Context(), Config{CertFile: "a", Log: config.Log}); err == nil {
		t.Error("a certificate without a key was taken")
	}
	if err := os.Remove(config.KeyFile); err != nil {
		t.Fatal(err)
	}
	config.CertFile, config.KeyFile = "", ""
	if bytes.Equal(open(config).current.Leaf.Raw, now.Leaf.Raw) {
		t.Error("the key is gone, and no certificate was made")
	}
}
