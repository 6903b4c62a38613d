package p2p

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"testing"

	"github.com/hawser-project/hawser/corda/x500"
)

func TestSNIOfAnEndpoint(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ endpoint, want string }{
		{"https://mydepartment.mycorp.com:9955/", "mydepartment.mycorp.com"},
		{"https://10.0.0.5:4055/", "10.0.0.5.cluster.corda.net"},
		{"https://[2001:db8::1]:4055/", "2001:db8::1.cluster.corda.net"},
		{"https://[fe80::1%25eth0]:4055/", ""},
		{"https:///path", ""},
		{"https://a b", ""},
	} {
		got, err := SNI(test.endpoint)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s: got %q, %v, want %q", test.endpoint, got, err, test.want)
		}
	}
}

func TestSNIOfACorda4Member(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"O=PartyA, L=London, C=GB":           "b597e8858a2fa87424f5e8c39dc4f93c.p2p.corda.net",
		"O=PartyB, L=London, C=GB":           "e7aa0d5c6b562cc528e490d58b7040fe.p2p.corda.net",
		"CN=Alice, O=PartyA, L=London, C=GB": "33af7f30ce2dd51f919459056fa07375.p2p.corda.net",
		"C=GB, CN=Alice, L=London, O=PartyA": "33af7f30ce2dd51f919459056fa07375.p2p.corda.net",
	} {
		if got := Corda4SNI(parseName(t, name)); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestWildcards(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		pattern, host string
		want          bool
	}{
		{"*.r3.com", "www.r3.com", true},
		{"*.R3.com", "WWW.r3.COM", true},
		{"*.corda.r3.com", "a.corda.r3.com", true},
		{"al*.test.net", "alice.test.net", true},
		{"al*.test.net", "al.test.net", true},
		{"al*.test.net", "bob.test.net", false},
		{"*.r3.com", "r3.com", false},
		{"*.r3.com", "a.b.r3.com", false},
		{"*.r3.com", ".r3.com", false},
		{"www.r3.com", "www.r3.com", true},
		{"www.r3.com", "www.r4.com", false},
		{"*", "com", false},
		{"*.", "com.", false},
		{"*.com", "r3.com", false},
		{"*.*.net", "a.b.net", false},
		{"www.*.foo.bar.net", "www.a.foo.bar.net", false},
		{"www.*foo.bar.net", "www.afoo.bar.net", false},
		{"www.f*o.bar.net", "www.foo.bar.net", false},
		{"f*o.bar.net", "foo.bar.net", false},
		{"www.foo.*", "www.foo.com", false},
		{"www.foo.ne*", "www.foo.net", false},
		{"www.foo.*et", "www.foo.net", false},
		{"*.10.0.1", "a.10.0.1", false},
		{"", "", false},
	} {
		if got := matchesHost(test.pattern, test.host); got != test.want {
			t.Errorf("%q and %q: got %v, want %v", test.pattern, test.host, got, test.want)
		}
	}
}

// A fault of this table is a fault of who talks to whom: first the server's choice, then the client's verdict.
func TestServerCertificates(t *testing.T) {
	t.Parallel()
	subject := parseName(t, "CN=Alice, O=PartyA, L=London, C=GB")
	address := []net.IP{net.ParseIP("10.0.0.5")}
	for _, test := range []struct {
		about           string
		dns             []string
		ips             []net.IP
		commonName      string
		sni, host       string
		chosen, trusted bool
	}{
		{"name", []string{"a.example.com"}, nil, "Alice", "a.example.com", "a.example.com", true, true},
		{"wildcard", []string{"*.example.com"}, nil, "Alice", "a.example.com", "a.example.com", true, true},
		{"other name", []string{"b.example.com"}, nil, "Alice", "a.example.com", "a.example.com", false, false},
		{"address", nil, address, "Alice", "10.0.0.5.cluster.corda.net", "10.0.0.5", true, true},
		{"other address", nil, address, "Alice", "10.0.0.6.cluster.corda.net", "10.0.0.6", false, false},
		{"name of an address", []string{"10.0.0.5.cluster.corda.net"}, nil, "Alice", "10.0.0.5.cluster.corda.net", "10.0.0.5", false, true},
		{"address as DNS name", []string{"10.0.0.5"}, nil, "Alice", "10.0.0.5.cluster.corda.net", "10.0.0.5", false, false},
		{"common name beside DNS names", []string{"b.example.com"}, nil, "a.example.com", "a.example.com", "a.example.com", true, false},
		{"common name beside an address", nil, address, "a.example.com", "a.example.com", "a.example.com", true, true},
		{"common name alone", nil, nil, "a.example.com", "a.example.com", "a.example.com", false, true},
		{"member's hash", []string{"a.example.com"}, nil, "Alice", "33af7f30ce2dd51f919459056fa07375.p2p.corda.net", "a.example.com", true, true},
		{"other member's hash", nil, nil, "Alice", "b597e8858a2fa87424f5e8c39dc4f93c.p2p.corda.net", "a.example.com", false, false},
		{"hash too short", nil, nil, "Alice", "33af.p2p.corda.net", "a.example.com", false, false},
		{"no address", nil, address, "Alice", "host.cluster.corda.net", "host", false, false},
		{"nothing asked for", []string{"a.example.com"}, nil, "Alice", "", "", false, false},
	} {
		leaf := certificate(t, subject, test.commonName, test.dns, test.ips)
		if got := MatchesSNI(leaf, test.sni); got != test.chosen {
			t.Errorf("%s: chosen %v, want %v", test.about, got, test.chosen)
		}
		err := VerifyServer(leaf, test.sni, test.host)
		if (err == nil) != test.trusted || (err != nil && !errors.Is(err, ErrServerName)) {
			t.Errorf("%s: got %v, want trusted %v", test.about, err, test.trusted)
		}
	}
}

func TestCorda4ServerIsKnownByItsSubject(t *testing.T) {
	t.Parallel()
	subject := parseName(t, "CN=Alice, O=PartyA, L=London, C=GB")
	leaf := certificate(t, subject, "Alice", nil, nil)
	if err := VerifyCorda4Server(leaf, subject); err != nil {
		t.Error(err)
	}
	if err := VerifyCorda4Server(leaf, parseName(t, "O=PartyA, L=London, C=GB")); !errors.Is(err, ErrServerName) {
		t.Errorf("got %v, want ErrServerName", err)
	}
}

func FuzzServerName(f *testing.F) {
	f.Add("https://10.0.0.5:4055/", "al*.test.net", "alice.test.net")
	f.Fuzz(func(t *testing.T, endpoint, pattern, host string) {
		if sni, err := SNI(endpoint); err == nil && sni == "" {
			t.Errorf("%q has the empty server name", endpoint)
		}
		if matchesHost(pattern, host) && host == "" {
			t.Errorf("%q matches nothing", pattern)
		}
	})
}

func certificate(t *testing.T, subject x500.Name, commonName string, dns []string, ips []net.IP) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var name pkix.Name
	sequence := subject.RDNSequence()
	name.FillFromRDNSequence(&sequence)
	name.CommonName = commonName
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: name, DNSNames: dns, IPAddresses: ips}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func parseName(t *testing.T, text string) x500.Name {
	t.Helper()
	name, err := x500.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return name
}
