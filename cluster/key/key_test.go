package key

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/internal/secret"
)

func setup(t *testing.T) (master, wrap *WrappingKey, managed ManagedKey) {
	t.Helper()
	master, err := MasterKey(secret.FromString("passphrase"), "salt")
	if err != nil {
		t.Fatal(err)
	}
	managed, wrap, err = NewManagedKey(P2P, 1, "root1", master, time.UnixMilli(1000))
	if err != nil {
		t.Fatal(err)
	}
	return master, wrap, managed
}

func TestIDsAreThoseOfCorda(t *testing.T) {
	t.Parallel()
	spki, _ := hex.DecodeString("3059301306072a8648ce3d020106082a8648ce3d03010703420004f559d938f7575f5cc86d19ce0a21ed58ce676613b5e8cb7e52e87403948943934e636e257f7ecf3c170c5257495f33c99f9c0dd129e27424c42d49cf95d13e16")
	if got := IDOf(spki); got != "35FE43B20F4E" {
		t.Errorf("got id %s, want 35FE43B20F4E (spec/networks.md 5.1)", got)
	}
	if full := FullIDOf(spki); !strings.HasPrefix(full, "SHA-256:35FE43B20F4E") || len(full) != 8+64 {
		t.Errorf("full id %s", full)
	}
	text := EncodePublicPEM(spki)
	if _, back, err := ParsePublicPEM("\n" + text + " \n"); err != nil || string(back) != string(spki) {
		t.Errorf("PEM round trip: %v", err)
	}
	for _, bad := range []string{"", "x" + text, text + text, strings.Replace(text, "PUBLIC", "PRIVATE", 2), strings.Repeat("x", maxPEM+1)} {
		if _, _, err := ParsePublicPEM(bad); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%.40q: got %v, want invalid", bad, err)
		}
	}
}

func TestTheMasterKeyIsTheOneCordaDerives(t *testing.T) {
	t.Parallel()
	master, wrap, managed := setup(t)
	if got := hex.EncodeToString(master.raw.Reveal()); got != "daac9f0e94cab63acd2485cb354a6d231293aee5e7cffcf7461f3f646144ea23" {
		t.Errorf("master key %s differs from the vector of spec/networks.md 5.2", got)
	}
	if s := fmt.Sprintf("%v %+v %s", master, *master, wrap); strings.Contains(s, "daac9f") || strings.Contains(s, "218 172") {
		t.Errorf("a wrapping key prints itself: %s", s)
	}
	if back, err := managed.Unwrap(master); err != nil || !back.raw.Equal(wrap.raw) {
		t.Errorf("managed key does not unwrap: %v", err)
	}
}

func TestEverySupportedSchemeIsMadeWrappedAndSignsInEverySpec(t *testing.T) {
	t.Parallel()
	_, wrap, managed := setup(t)
	for _, s := range SchemesFor(Ledger) {
		t.Run(string(s), func(t *testing.T) {
			t.Parallel()
			r, err := New("0123456789AB", "a", Ledger, s, managed, wrap, time.UnixMilli(5))
			if err != nil {
				t.Fatal(err)
			}
			signer, err := r.Signer(wrap)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := SchemeOf(signer.Public()); err != nil || got != s {
				t.Errorf("scheme of the key: %v, %v", got, err)
			}
			for _, spec := range append(schemes[s].specs, "") {
				sig, err := Sign(signer, spec, []byte("data"))
				if err != nil {
					t.Fatal(err)
				}
				if err := Verify(signer.Public(), spec, []byte("data"), sig); err != nil {
					t.Errorf("%s: %v", spec, err)
				}
				if err := Verify(signer.Public(), spec, []byte("Data"), sig); fault.KindOf(err) != fault.Invalid {
					t.Errorf("%s: other data: %v", spec, err)
				}
			}
			if _, err := Sign(signer, "MD5withRSA", nil); fault.KindOf(err) != fault.Invalid {
				t.Errorf("a foreign spec: %v", err)
			}
			b, err := cbor.Marshal(r)
			var back Record
			if err != nil || cbor.Unmarshal(b, &back) != nil || !reflect.DeepEqual(back, r) {
				t.Errorf("record round trip: %v", err)
			}
		})
	}
}

func TestAKeySurvivesRotationOfBothWrappingKeys(t *testing.T) {
	t.Parallel()
	master, wrap, managed := setup(t)
	r, err := New(P2P, "tls", TLS, ECDSAP256, managed, wrap, time.UnixMilli(5))
	if err != nil {
		t.Fatal(err)
	}
	master2, _ := MasterKey(secret.FromString("other"), "salt")
	moved, err := managed.Rewrap(master, master2, "root2")
	if err != nil || moved.MasterAlias != "root2" {
		t.Fatal(err)
	}
	again, err := moved.Unwrap(master2)
	if err != nil {
		t.Fatal(err)
	}
	managed2, wrap2, _ := NewManagedKey(P2P, 2, "root2", master2, time.UnixMilli(6))
	r2, err := r.Rewrap(again, managed2, wrap2)
	if err != nil || r2.WrappingGeneration != 2 || r2.ID != r.ID {
		t.Fatalf("%+v, %v", r2, err)
	}
	if _, err := r2.Signer(wrap2); err != nil {
		t.Error(err)
	}
	if _, err := r2.Signer(wrap); err == nil {
		t.Error("the old wrapping key still opens the key")
	}
	if _, err := moved.Unwrap(master); err == nil {
		t.Error("the old master key still opens the managed key")
	}
	other, _ := New(P2P, "tls2", TLS, ECDSAP256, managed2, wrap2, time.UnixMilli(7))
	other.PrivateKey = r2.PrivateKey
	if _, err := other.Signer(wrap2); err == nil {
		t.Error("a private key of another record is taken")
	}
}

func TestSchemesThatAreNotSupportedAreRefusedByName(t *testing.T) {
	t.Parallel()
	for s := range unsupported {
		if _, err := ParseScheme(string(s)); fault.KindOf(err) != fault.NotImplemented || !strings.Contains(err.Error(), string(s)) {
			t.Errorf("%s: got %v", s, err)
		}
		if _, err := Generate(s); fault.KindOf(err) != fault.NotImplemented {
			t.Errorf("%s is generated: %v", s, err)
		}
	}
	if _, err := ParseScheme("RSA"); fault.KindOf(err) != fault.Invalid {
		t.Errorf("an unknown scheme: %v", err)
	}
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	for _, pub := range []crypto.PublicKey{p384.Public(), "text"} {
		if _, err := SchemeOf(pub); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%T: %v", pub, err)
		}
	}
}

func TestWhatMayNotBeMade(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		Check(P2P, "a", SessionInit, ECDSAP256),
		Check("0123456789AB", "a", SessionInit, Ed25519),
		Check(P2P, " ", TLS, ECDSAP256),
		second(ParseTenant("rest")), second(ParseTenant("0123456789a")), second(ParseCategory("X")), second(ParseID("xyz")),
		second(MasterKey(secret.Secret{}, "salt")),
	} {
		if fault.KindOf(err) != fault.Invalid {
			t.Errorf("got %v, want invalid", err)
		}
	}
	if tenant, err := ParseTenant("0123456789ab"); err != nil || tenant != "0123456789AB" || !tenant.OfVirtualNode() {
		t.Errorf("%v %v", tenant, err)
	}
	if c, err := ParseCategory("tls"); err != nil || c != TLS {
		t.Errorf("%v %v", c, err)
	}
}

func second[T any](_ T, err error) error { return err }

func FuzzUnwrap(f *testing.F) {
	master, err := MasterKey(secret.FromString("passphrase"), "salt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(master.Wrap([]byte("x")))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = master.Unwrap(b)
		_, _ = Record{PrivateKey: b}.Signer(master)
	})
}

func FuzzParsePublicPEM(f *testing.F) {
	k, _ := Generate(ECDSAP256)
	spki, _ := x509.MarshalPKIXPublicKey(k.Public())
	f.Add(EncodePublicPEM(spki))
	f.Fuzz(func(t *testing.T, s string) {
		pub, spki, err := ParsePublicPEM(s)
		if err == nil && (pub == nil || len(spki) == 0) {
			t.Fatal("no key and no error")
		}
	})
}
