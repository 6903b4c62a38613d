package crypto_test

import (
	"bytes"
	stdcrypto "crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/bustest"
	"github.com/hawser-project/hawser/bus/embedded"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/key"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/cluster/vnode"
	"github.com/hawser-project/hawser/corda/identity"
	"github.com/hawser-project/hawser/corda/x500"
	"github.com/hawser-project/hawser/internal/secret"
	"github.com/hawser-project/hawser/worker/crypto"
)

const passphrase = "marker-passphrase-7d1f"

// start opens a store and runs the worker on it.
func start(t *testing.T, dir string) (*bus.Bus, func()) {
	t.Helper()
	driver, err := embedded.Open(embedded.Options{Dir: dir, Topics: topic.Definitions()})
	if err != nil {
		t.Fatal(err)
	}
	b := bustest.NewBus(t, driver, fault.Codec{})
	return b, bustest.Start(t, crypto.New(crypto.Config{
		Bus: b.As(topic.Crypto), Log: slog.New(slog.DiscardHandler), Passphrase: secret.FromString(passphrase), Salt: "salt",
	}))
}

// addNode makes a virtual node, and returns its short hash.
func addNode(t *testing.T, b *bus.Bus) string {
	t.Helper()
	name, err := x500.Parse("O=Alice, L=London, C=GB")
	if err != nil {
		t.Fatal(err)
	}
	node, err := vnode.New(identity.HoldingIdentity{Name: name, GroupID: "8a3f2b1c-0d4e-4f5a-9b6c-7d8e9f0a1b2c"}, vnode.CPI{GroupID: "8a3f2b1c-0d4e-4f5a-9b6c-7d8e9f0a1b2c"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	hash := string(node.ShortHash())
	if _, err := topic.VirtualNodes.Publish(t.Context(), b.As(topic.Admin), bus.Keyed[vnode.VirtualNode]{Key: hash, Value: node}); err != nil {
		t.Fatal(err)
	}
	return hash
}

func generate(t *testing.T, b *bus.Bus, id string, req topic.NewKey) (topic.KeyInfo, error) {
	t.Helper()
	info, _, err := topic.GenerateKey.Do(t.Context(), b.As(topic.Rest), req.Tenant, id, req)
	return info, err
}

func TestAKeySignsOnlyForItsPurpose(t *testing.T) {
	t.Parallel()
	b, _ := start(t, t.TempDir())
	tls, err := generate(t, b, "1", topic.NewKey{Tenant: "p2p", Alias: "tls", Category: "TLS", Scheme: "CORDA.ECDSA.SECP256R1"})
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("hello"))
	request := topic.SignRequest{Tenant: "p2p", KeyID: tls.ID, Data: digest[:], Hash: stdcrypto.SHA256}
	signature, err := topic.SignTLS.Do(t.Context(), b.As(topic.Gateway), request)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(tls.SPKI)
	if err != nil || !ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digest[:], signature) {
		t.Errorf("the signature does not verify: %v", err)
	}
	if _, err := topic.SignSession.Do(t.Context(), b.As(topic.LinkManager), request); fault.KindOf(err) != fault.Forbidden {
		t.Errorf("a TLS key for a link session: got %v, want forbidden", err)
	}
	if _, err := topic.SignTLS.Do(t.Context(), b.As(topic.Flow), request); fault.KindOf(err) != fault.Forbidden {
		t.Errorf("a role that has no business with TLS: got %v, want forbidden", err)
	}
	for name, data := range map[string][]byte{"a digest": digest[:], "octets": []byte("hello"), "the key": tls.SPKI} {
		for _, hash := range []stdcrypto.Hash{stdcrypto.SHA256, 0} {
			r := topic.SignRequest{Tenant: "p2p", KeyID: tls.ID, Data: data, Hash: hash}
			if _, err := topic.SignCSR.Do(t.Context(), b.As(topic.Rest), r); fault.KindOf(err) != fault.Invalid {
				t.Errorf("%s for a certificate signing request: got %v, want invalid", name, err)
			}
		}
	}
	request.Data = digest[:31]
	if _, err := topic.SignTLS.Do(t.Context(), b.As(topic.Gateway), request); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a digest of 31 octets: got %v, want invalid", err)
	}
}

func TestSessionKeysNeedAVirtualNodeAndAnAssignment(t *testing.T) {
	t.Parallel()
	b, _ := start(t, t.TempDir())
	request := topic.NewKey{Tenant: "D0F5EFA8EF2E", Alias: "session", Category: "SESSION_INIT", Scheme: "CORDA.ECDSA.SECP256R1"}
	if _, err := generate(t, b, "1", request); fault.KindOf(err) != fault.NotFound {
		t.Errorf("an unknown virtual node: got %v, want not found", err)
	}
	if hash := addNode(t, b); hash != request.Tenant {
		t.Fatalf("the node's short hash is %s", hash)
	}
	if _, err := generate(t, b, "2", request); fault.KindOf(err) != fault.Invalid {
		t.Errorf("without an assignment: got %v, want invalid", err)
	}
	hsm := topic.HSMRequest{Tenant: request.Tenant, Category: request.Category}
	for _, id := range []string{"a", "b"} {
		if _, _, err := topic.AssignHSM.Do(t.Context(), b.As(topic.Rest), request.Tenant, id, hsm); err != nil {
			t.Fatal(err)
		}
	}
	made, err := generate(t, b, "3", request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := generate(t, b, "4", request); fault.KindOf(err) != fault.Conflict {
		t.Errorf("the alias again: got %v, want conflict", err)
	}
	signature, err := topic.SignSession.Do(t.Context(), b.As(topic.LinkManager), topic.SignRequest{Tenant: request.Tenant, KeyID: made.ID, Spec: key.SHA256ECDSA, Data: []byte("hello")})
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(made.SPKI)
	if err != nil {
		t.Fatal(err)
	}
	if err := key.Verify(public, key.SHA256ECDSA, []byte("hello"), signature); err != nil {
		t.Error(err)
	}
}

func TestKeysAndDataKeysSurviveARestartAndAreWrappedAtRest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	driver, err := embedded.Open(embedded.Options{Dir: dir, Topics: topic.Definitions()})
	if err != nil {
		t.Fatal(err)
	}
	b := bus.New(driver, bus.Options{Log: slog.New(slog.DiscardHandler), Errors: fault.Codec{}})
	stop := bustest.Start(t, crypto.New(crypto.Config{Bus: b.As(topic.Crypto), Log: slog.New(slog.DiscardHandler), Passphrase: secret.FromString(passphrase), Salt: "salt"}))
	made, err := generate(t, b, "1", topic.NewKey{Tenant: "p2p", Alias: "tls", Category: "TLS", Scheme: "CORDA.ECDSA.SECP256R1"})
	if err != nil {
		t.Fatal(err)
	}
	data, err := topic.DataKey.Do(t.Context(), b.As(topic.LinkManager), topic.LinkSessionPurpose)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := topic.DataKey.Do(t.Context(), b.As(topic.LinkManager), "something else"); fault.KindOf(err) != fault.Forbidden {
		t.Errorf("another purpose: got %v, want forbidden", err)
	}
	stop()
	if err := driver.Close(); err != nil {
		t.Fatal(err)
	}
	for _, mark := range [][]byte{[]byte(passphrase), data.Reveal()} {
		if where := found(t, dir, mark); where != "" {
			t.Errorf("a secret is in clear in %s", where)
		}
	}

	again, _ := start(t, dir)
	list, err := topic.Keys.Do(t.Context(), again.As(topic.Rest), topic.KeyFilter{Tenant: "p2p"})
	if err != nil || len(list) != 1 || list[0].ID != made.ID {
		t.Errorf("after the restart there are %+v, %v", list, err)
	}
	same, err := topic.DataKey.Do(t.Context(), again.As(topic.LinkManager), topic.LinkSessionPurpose)
	if err != nil || !same.Equal(data) {
		t.Errorf("the data key has changed: %v", err)
	}
}

// found returns the file that holds the octets.
func found(t *testing.T, dir string, mark []byte) (where string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		octets, err := os.ReadFile(path)
		if bytes.Contains(octets, mark) {
			where = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return where
}
