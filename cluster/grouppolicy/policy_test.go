package grouppolicy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/corda/x500"
)

const group = "8a3f2b1c-0d4e-4f5a-9b6c-7d8e9f0a1b2c"

func trustRoot(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func name(t testing.TB, s string) x500.Name {
	t.Helper()
	n, err := x500.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func static(t testing.TB) []byte {
	t.Helper()
	text, err := RenderStatic(StaticOptions{
		GroupID: group, TLSTrustRoots: []string{trustRoot(t)}, MinimumPlatform: 50300, GroupParameters: map[string]string{"ext.a": "b"},
		Members: []StaticMember{
			{Name: name(t, "O=Alice, L=London, C=GB"), Endpoints: []Endpoint{{"https://alice.example:8080", 1}, {"https://alice2.example:8080", 1}}},
			{Name: name(t, "O=Bob, L=London, C=GB"), Status: "SUSPENDED", Serial: 3, Modified: "2024-01-31T12:00:00Z", Endpoints: []Endpoint{{"https://bob.example", 1}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// member is a policy as an MGM exports it (spec/networks.md 2.3).
func member(t testing.TB) map[string]any {
	t.Helper()
	return map[string]any{
		"fileFormatVersion": 1, "groupId": group, "registrationProtocol": memberRegistration, "synchronisationProtocol": memberSync,
		"protocolParameters": map[string]any{"sessionKeyPolicy": "Combined"},
		"p2pParameters": map[string]any{"sessionPki": "Standard", "sessionTrustRoots": []string{trustRoot(t)}, "tlsTrustRoots": []string{trustRoot(t)},
			"tlsPki": "Standard", "tlsVersion": "1.3", "protocolMode": "Authenticated_Encryption", "tlsType": "Mutual",
			"mtlsMgmClientCertificateSubject": "O=MGM, L=London, C=GB"},
		"mgmInfo":     map[string]string{"corda.name": "O=MGM, L=London, C=GB", "corda.groupId": group, "corda.endpoints.0.connectionURL": "https://mgm.example:8080", "corda.serial": "1"},
		"cipherSuite": map[string]string{},
	}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheThreeShapesAreRead(t *testing.T) {
	t.Parallel()
	p, err := Parse(static(t))
	if err != nil {
		t.Fatal(err)
	}
	bob, found := p.Network.Member(name(t, "C=GB, L=London, O=Bob"))
	if p.Shape != Static || p.GroupID != group || len(p.P2P.TLSTrustRoots) != 1 || p.P2P.SessionPKI != NoPKI || p.P2P.TLSType != OneWay ||
		p.P2P.ProtocolMode != AuthenticatedEncryption || p.SessionKeyPolicy != Distinct || p.Network.MinimumPlatform != 50300 ||
		!found || bob.Status != "SUSPENDED" || bob.Serial != 3 || len(p.Network.Members[0].Endpoints) != 2 || p.Network.GroupParameters["ext.a"] != "b" {
		t.Errorf("static: %+v %+v", p, p.Network)
	}
	p, err = Parse(RenderMGM())
	if err != nil || p.Shape != MGM || p.GroupID != NewGroup || p.P2P != nil {
		t.Errorf("MGM: %+v, %v", p, err)
	}
	p, err = Parse(encode(t, member(t)))
	if err != nil || p.Shape != Member || p.P2P.TLSType != Mutual || p.P2P.MGMClientSubject != name(t, "O=MGM, L=London, C=GB") ||
		len(p.P2P.SessionTrustRoots) != 1 || p.MGMInfo["corda.serial"] != "1" {
		t.Errorf("member: %+v, %v", p, err)
	}
}

func TestAllFaultsAreReportedTogetherWithTheirPaths(t *testing.T) {
	t.Parallel()
	m := member(t)
	m["groupId"] = "CREATE_ID"
	m["fileFormatVersion"] = 2
	p2p := m["p2pParameters"].(map[string]any)
	p2p["tlsType"] = "mutual"
	p2p["sessionPki"] = "Corda4"
	p2p["tlsTrustRoots"] = []string{"x"}
	delete(m, "cipherSuite")
	m["registrationProtocol"] = memberRegistration
	m["mgmInfo"].(map[string]string)["corda.serial"] = "x"
	m["groupId"] = group[:35]
	_, err := Parse(encode(t, m))
	details := fault.DetailsOf(err)
	if fault.KindOf(err) != fault.Invalid {
		t.Fatalf("got %v", err)
	}
	for path, want := range map[string]string{
		"$.fileFormatVersion": "only 1", "$.groupId": "not a UUID", "$.p2pParameters.tlsType": "must be OneWay or Mutual", "$.p2pParameters.sessionPki": "not supported",
		"$.p2pParameters.tlsTrustRoots[0]": "PEM", "$.cipherSuite": "missing", "$.mgmInfo.corda.serial": "not a number", "$.mgmInfo.corda.groupId": "but the policy is for",
	} {
		if !strings.Contains(details[path], want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %q, want %q in it", path, details[path], want)
		}
	}
	if len(details) != 8 {
		t.Errorf("%d faults: %v", len(details), details)
	}
}

func TestEachShapeRefusesWhatIsNotIts(t *testing.T) {
	t.Parallel()
	for want, text := range map[string]string{
		"not a JSON object":                        `[]`,
		"nothing after it":                         `{} {}`,
		"$.p2pParameters must not be":              `{"fileFormatVersion":1,"groupId":"CREATE_ID","registrationProtocol":"x","synchronisationProtocol":"y","p2pParameters":{}}`,
		"$.registrationProtocol is missing":        `{"groupId":"CREATE_ID"}`,
		"$.protocolParameters is missing":          `{"groupId":"` + group + `"}`,
		"$.protocolParameters must be an object":   `{"groupId":"` + group + `","protocolParameters":1}`,
		"$.mgmInfo must not be":                    `{"groupId":"` + group + `","protocolParameters":{"staticNetwork":{}},"mgmInfo":{}}`,
		"staticNetwork.members is missing":         `{"protocolParameters":{"staticNetwork":{}}}`,
		"members[0].name is missing":               `{"protocolParameters":{"staticNetwork":{"members":[{}]}}}`,
		"members[0].endpointUrl-1 is missing":      `{"protocolParameters":{"staticNetwork":{"members":[{}]}}}`,
		"members[0].endpointUrl-1 is \"http:":      `{"protocolParameters":{"staticNetwork":{"members":[{"endpointUrl-1":"http://x","endpointProtocol-1":1}]}}}`,
		"members[1] must be an object":             `{"protocolParameters":{"staticNetwork":{"members":[{},3]}}}`,
		"members[1].name O=A, L=B, C=GB is listed": `{"protocolParameters":{"staticNetwork":{"members":[{"name":"O=A,L=B,C=GB"},{"name":"C=GB,O=A,L=B"}]}}}`,
		"groupParameters.x is not a group":         `{"protocolParameters":{"staticNetwork":{"groupParameters":{"x":"1"}}}}`,
		"platform.version is 1, must":              `{"protocolParameters":{"staticNetwork":{"groupParameters":{"corda.minimum.platform.version":1}}}}`,
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	if _, err := Parse(make([]byte, maxPolicy+1)); fault.KindOf(err) != fault.TooLarge {
		t.Errorf("a huge policy: %v", err)
	}
	if _, err := RenderStatic(StaticOptions{GroupID: "x"}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a bad policy is written: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(static(f))
	f.Add(RenderMGM())
	f.Add(encode(f, member(f)))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err == nil && p.Shape != MGM && (p.P2P == nil || len(p.P2P.TLSTrustRoots) == 0) {
			t.Fatal("a policy without trust roots")
		}
	})
}
