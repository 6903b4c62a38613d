package cert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/corda/x500"
)

func parseName(t testing.TB, s string) x500.Name {
	t.Helper()
	n, err := x500.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

type issuer struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// issue makes a certificate of a key for a name; without issuer it signs itself.
func issue(t testing.TB, by *issuer, name string, key crypto.Signer) *issuer {
	t.Helper()
	subject, err := parseName(t, name).DER()
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), RawSubject: subject, NotAfter: time.Now().Add(time.Hour)}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{key, parsed}
}

func chain(issuers ...*issuer) []*x509.Certificate {
	var certs []*x509.Certificate
	for _, i := range issuers {
		certs = append(certs, i.cert)
	}
	return certs
}

const (
	alice = "O=Alice, L=London, C=GB"
	ca    = "O=CA, L=London, C=GB"
)

func TestImport(t *testing.T) {
	t.Parallel()
	root := issue(t, nil, ca, newKey(t))
	leaf := issue(t, root, alice, newKey(t))
	good := EncodeChain(chain(leaf, root))
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}))
	node := Scope("0123456789AB")
	for name, c := range map[string]struct {
		scope       Scope
		usage       Usage
		alias, text string
		member      string
		want        string
	}{
		"a chain":                      {Cluster, P2PTLS, "a", good, alice, ""},
		"a leaf alone":                 {Cluster, CodeSigner, "a", EncodeChain(chain(leaf)), alice, ""},
		"a session chain":              {node, P2PSession, "a", good, alice, ""},
		"a blank alias":                {Cluster, P2PTLS, " ", good, alice, "must not be blank"},
		"nothing":                      {Cluster, P2PTLS, "a", "", alice, "no certificate"},
		"text that is no PEM":          {Cluster, P2PTLS, "a", good + "x", alice, "not PEM after 2"},
		"a private key":                {Cluster, P2PTLS, "a", good + key, alice, "must not be uploaded"},
		"a certificate twice":          {Cluster, P2PTLS, "a", EncodeChain(chain(root, root)), alice, "there twice"},
		"the wrong order":              {Cluster, P2PTLS, "a", EncodeChain(chain(root, leaf)), alice, "from the leaf upwards"},
		"a session chain in cluster":   {Cluster, P2PSession, "a", good, alice, "belongs to a virtual node"},
		"a session chain of another":   {node, P2PSession, "a", good, "O=Bob, L=London, C=GB", "but the virtual node is"},
		"a certificate that is no DER": {Cluster, P2PTLS, "a", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), alice, "certificate 1 can't be read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Import(c.scope, c.usage, c.alias, []byte(c.text), parseName(t, c.member))
			if c.want != "" {
				if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("got %v, want %q in it", err, c.want)
				}
				return
			}
			b, _ := cbor.Marshal(got)
			var back Chain
			if err != nil || cbor.Unmarshal(b, &back) != nil || !reflect.DeepEqual(back, got) {
				t.Fatalf("%+v, %v", got, err)
			}
			if certs, err := got.Certificates(); err != nil || !certs[0].Equal(leaf.cert) {
				t.Fatal(err)
			}
		})
	}
	if _, err := ParseUsage("rpc-api-tls"); fault.KindOf(err) != fault.Invalid {
		t.Errorf("an old usage: %v", err)
	}
	if u, err := ParseUsage("p2p-tls"); err != nil || u != P2PTLS {
		t.Error(err)
	}
}

func TestChainsForNetworkSetup(t *testing.T) {
	t.Parallel()
	root := issue(t, nil, ca, newKey(t))
	middle := issue(t, root, "O=Middle, L=London, C=GB", newKey(t))
	leaf := issue(t, middle, alice, newKey(t))
	impostor := issue(t, nil, ca, newKey(t))
	for name, c := range map[string]struct {
		certs []*x509.Certificate
		key   crypto.PublicKey
		roots []*x509.Certificate
		want  string
	}{
		"up to below the root": {chain(leaf, middle), leaf.key.Public(), chain(impostor, root), ""},
		"with the root":        {chain(leaf, middle, root), leaf.key.Public(), chain(root), ""},
		"another's key":        {chain(leaf, middle), root.key.Public(), chain(root), "not for a key of this tenant"},
		"a gap":                {chain(leaf, root), leaf.key.Public(), chain(root), "not signed by the next"},
		"a root of one name":   {chain(leaf, middle), leaf.key.Public(), chain(impostor), "not a trust root"},
		"no roots":             {chain(leaf, middle), leaf.key.Public(), nil, "not a trust root"},
		"nothing":              {nil, leaf.key.Public(), chain(root), "empty"},
	} {
		err := CheckForNetwork(c.certs, c.key, c.roots)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestARequestHasCordasExtensions(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	for name, c := range map[string]struct {
		key  crypto.Signer
		spec string
		want x509.SignatureAlgorithm
	}{
		"ECDSA": {newKey(t), "", x509.ECDSAWithSHA256}, "ECDSA SHA-384": {newKey(t), "SHA384withECDSA", x509.ECDSAWithSHA384},
		"RSA": {rsaKey, "", x509.SHA512WithRSA}, "Ed25519": {edKey, "", x509.PureEd25519},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := ForKey("TLS", "C=GB, L=London, O=Alice", x500.Name{}, []string{"Alice.example", "*.alice.example", "10.0.0.1", "::1"}, c.spec)
			if err != nil {
				t.Fatal(err)
			}
			text, err := r.Encode(c.key)
			if err != nil {
				t.Fatal(err)
			}
			block, _ := pem.Decode(text)
			got, err := x509.ParseCertificateRequest(block.Bytes)
			if err != nil || got.CheckSignature() != nil || got.SignatureAlgorithm != c.want {
				t.Fatalf("%+v, %v", got, err)
			}
			if n, err := x500.ParseDER(got.RawSubject); err != nil || n.String() != alice {
				t.Errorf("subject %v, %v", n, err)
			}
			if strings.Join(got.DNSNames, ",") != "alice.example,*.alice.example" || len(got.IPAddresses) != 2 {
				t.Errorf("names %v %v", got.DNSNames, got.IPAddresses)
			}
			for _, e := range got.Extensions {
				if !e.Critical {
					t.Errorf("extension %v is not critical", e.Id)
				}
			}
			if len(got.Extensions) != 2 {
				t.Errorf("extensions %v", got.Extensions)
			}
		})
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	node := parseName(t, alice)
	for _, c := range []struct{ category, subject string }{{"TLS", "CN=x"}, {"SESSION_INIT", ca}, {"LEDGER", "CN=x"}, {"TLS", ""}} {
		if _, err := ForKey(c.category, c.subject, node, nil, ""); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%v: got %v", c, err)
		}
	}
	r, err := ForKey("SESSION_INIT", alice, node, nil, "SHA256withRSA")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Encode(newKey(t)); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a spec of another kind of key: %v", err)
	}
	for _, name := range []string{"", "https://x", "a b", "x:80", "-x", "fe80::1%eth0", strings.Repeat("a.", 200)} {
		if _, err := (Request{Subject: node, Names: []string{name}}).Encode(newKey(t)); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%.20q: got %v", name, err)
		}
	}
}

func FuzzParseChain(f *testing.F) {
	root := issue(f, nil, ca, newKey(f))
	f.Add([]byte(EncodeChain(chain(issue(f, root, alice, newKey(f)), root))))
	f.Fuzz(func(t *testing.T, b []byte) {
		certs, err := ParseChain(b)
		if err != nil {
			return
		}
		if again, err := ParseChain([]byte(EncodeChain(certs))); err != nil || len(again) != len(certs) {
			t.Fatalf("does not read back: %v", err)
		}
	})
}
