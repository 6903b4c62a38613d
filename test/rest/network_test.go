package rest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hawser-project/hawser/cluster/cpi"
	"github.com/hawser-project/hawser/cluster/grouppolicy"
	"github.com/hawser-project/hawser/cluster/key"
	"github.com/hawser-project/hawser/cluster/member"
	"github.com/hawser-project/hawser/corda/x500"
)

const (
	group = "8a3f2b1c-0d4e-4f5a-9b6c-7d8e9f0a1b2c"
	alice = "O=Alice, L=London, C=GB"
	bob   = "O=Bob, L=London, C=GB"
)

// authority issues certificates: of code signers and of endpoints.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t testing.TB, name string) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := authority{key: key}
	a.cert = a.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, key.Public())
	return a
}

func (a authority) issue(t testing.TB, c *x509.Certificate, public any) *x509.Certificate {
	t.Helper()
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent := a.cert
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func (a authority) pem() string { return pemOf(a.cert) }

func pemOf(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func name(t testing.TB, text string) x500.Name {
	t.Helper()
	n, err := x500.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// policy is a static network of Alice and Bob.
func (a authority) policy(t testing.TB, groupID string) []byte {
	t.Helper()
	text, err := grouppolicy.RenderStatic(grouppolicy.StaticOptions{
		GroupID: groupID, TLSTrustRoots: []string{a.pem()}, MinimumPlatform: 50300,
		Members: []grouppolicy.StaticMember{
			{Name: name(t, alice), Endpoints: []grouppolicy.Endpoint{{URL: "https://alice.example:8080", ProtocolVersion: 1}}},
			{Name: name(t, bob), Endpoints: []grouppolicy.Endpoint{{URL: "https://bob.example:8080", ProtocolVersion: 1}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// build makes a package that the authority's code signer signed.
func (a authority) build(t testing.TB, groupID, packageName, wasm string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := a.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "Signer"}, KeyUsage: x509.KeyUsageDigitalSignature}, key.Public())
	var out bytes.Buffer
	if err := cpi.Build(&out, cpi.BuildOptions{
		Name: packageName, Version: "1.0", GroupPolicy: a.policy(t, groupID), Signer: key, Chain: []*x509.Certificate{leaf, a.cert},
		Modules: []cpi.BuildModule{{Name: "demo", Version: "1.0", Wasm: []byte("\x00asm" + wasm)}},
	}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// trust imports the authority as code signer.
func (c *cluster) trust(a authority, alias string) {
	c.t.Helper()
	c.admin().upload("PUT", base+"/certificate/cluster/code-signer", file{"alias", "", alias}, file{"certificate", "ca.pem", a.pem()}).want(204)
}

// install uploads a package and waits until it was checked.
func (c *cluster) install(pkg string) reply {
	c.t.Helper()
	id := c.admin().upload("POST", base+"/cpi", file{"upload", "demo.cpi", pkg}).want(200).field("id")
	for range 200 {
		r := c.admin().get(base + "/cpi/status/" + id)
		if r.status != 200 || strings.Contains(r.body, `"OK"`) {
			return r
		}
		<-time.After(20 * time.Millisecond)
	}
	c.t.Fatal("the package is not checked in time")
	return reply{}
}

// node makes a virtual node and returns its short hash.
func (c *cluster) node(member, checksum string) string {
	c.t.Helper()
	id := c.admin().post(base+"/virtualnode", `{"request":{"cpiFileChecksum":"`+checksum+`","x500Name":"`+member+`"}}`).want(202).field("requestId")
	c.admin().get(base+"/virtualnode/status/"+id).want(200, `"SUCCEEDED"`, `"resourceId":"`+id+`"`)
	return id
}

// join takes a virtual node through keys, certificate, network set-up and registration.
func (c *cluster) join(a authority, hash, host string) {
	c.t.Helper()
	ad := c.admin()
	tls := ad.post(base+"/key/p2p/alias/tls-"+hash+"/category/TLS/scheme/CORDA.ECDSA.SECP256R1", "").want(200).field("id")
	csr := ad.post(base+"/certificate/p2p/"+tls, `{"x500Name":"O=Gateway, L=London, C=GB","subjectAlternativeNames":["`+host+`"]}`).want(200, "-----BEGIN CERTIFICATE REQUEST-----")
	block, _ := pem.Decode([]byte(csr.body))
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || request.CheckSignature() != nil || request.DNSNames[0] != host {
		c.t.Fatalf("the request: %+v, %v", request, err)
	}
	leaf := a.issue(c.t, &x509.Certificate{Subject: request.Subject, DNSNames: request.DNSNames, KeyUsage: x509.KeyUsageDigitalSignature}, request.PublicKey)
	ad.upload("PUT", base+"/certificate/cluster/p2p-tls", file{"alias", "", "tls-" + hash}, file{"certificate", "tls.pem", pemOf(leaf)}).want(204)
	ad.post(base+"/hsm/soft/"+hash+"/SESSION_INIT", "").want(200, `"hsmId":"SOFT"`)
	session := ad.post(base+"/key/"+hash+"/alias/session/category/SESSION_INIT/scheme/CORDA.ECDSA.SECP256R1", "").want(200).field("id")
	ad.put(base+"/network/setup/"+hash, `{"p2pTlsCertificateChainAlias":"tls-`+hash+`","useClusterLevelTlsCertificateAndKey":"true",
		"sessionKeysAndCertificates":[{"sessionKeyId":"`+session+`","preferred":true}]}`).want(204)
	registration := ad.post(base+"/membership/"+hash, `{"memberRegistrationRequest":{"context":{"corda.key.scheme":"CORDA.ECDSA.SECP256R1"}}}`).
		want(200, `"registrationStatus":"SUBMITTED"`, `"availableNow":true`).field("registrationId")
	ad.get(base+"/membership/"+hash+"/"+registration).want(200, `"APPROVED"`, `"serial":1`)
}

func TestANetworkFromThePackageToTheFlow(t *testing.T) {
	t.Parallel()
	c, ca := start(t), newAuthority(t, "CA")
	ad := c.admin()
	c.trust(ca, "signer")
	sum := c.install(ca.build(t, group, "demo", "")).want(200, `"status":"OK"`).field("cpiFileChecksum")
	ad.get(base+"/cpi").want(200, `"cpiName":"demo"`, `"cpiFileChecksum":"`+sum+`"`, `"libraries":[]`)

	a := c.node(alice, sum)
	ad.post(base+"/virtualnode", `{"cpiFileChecksum":"`+sum+`","x500Name":"`+alice+`"}`).want(409, "already exists.")
	b := c.node(bob, strings.ToLower(sum))
	c.join(ca, a, "alice.example")
	c.join(ca, b, "bob.example")

	ad.get(base+"/virtualnode/"+strings.ToLower(a)+"/").want(200, `"shortHash":"`+a+`"`, `"flowStartOperationalStatus":"ACTIVE"`, `"operationInProgress":null`)
	ad.get(base+"/virtualnode").want(200, a, b)
	ad.get(base+"/members/"+a).want(200, alice, bob)
	ad.get(base+"/members/"+a+"?O=bob").want(200, bob)
	if r := ad.get(base + "/members/" + a + "?o=bob").want(200); strings.Contains(r.body, alice) {
		t.Errorf("a filter lets others through: %s", r.body)
	}
	ad.get(base + "/members/" + a + "?statuses=GONE").want(404)
	ad.get(base+"/membership/"+a).want(200, `"registrationProtocolVersion"`)
	ad.get(base+"/certificate/cluster/p2p-tls").want(200, `"tls-`+a+`"`)
	ad.get(base+"/certificate/cluster/P2P-TLS/tls-"+a).want(200, "-----BEGIN CERTIFICATE-----")
	ad.get(base + "/certificate/cluster/p2p-tls/other").want(404)

	ad.get(base+"/flowclass/"+a).want(200, `{"flowClassNames":["demo.Ping"]}`)
	ad.post(base+"/flow/"+a, `{"clientRequestId":"r-1","flowClassName":"demo.Ping","requestBody":{"n": 1}}`).
		want(202, `"flowStatus":"START_REQUESTED"`, `"flowResult":null`, `"flowError":null`)
	if c.flows.arguments != `{"n":1}` {
		t.Errorf("arguments: %s", c.flows.arguments)
	}
	ad.post(base+"/flow/"+a, `{"clientRequestId":"r-1","flowClassName":"demo.Ping","requestBody":{"n": 1}}`).
		want(409, "A flow has already been started for the requested holdingId and clientRequestId.", `"flowStatus":"START_REQUESTED"`)
	c.flows.refuseStarts(true)
	ad.post(base+"/flow/"+a, `{"clientRequestId":"r-9","flowClassName":"demo.Ping","requestBody":{}}`).
		want(405, `"title":"Flow start capabilities of virtual node `+a+` are not operational."`)
	c.flows.refuseStarts(false)
	ad.post(base+"/flow/"+a, `{"startFlow":{"clientRequestId":"r-2","flowClassName":"demo.Ping","requestBody":"{\"n\":2}"}}`).want(202)
	if c.flows.arguments != `{"n":2}` {
		t.Errorf("arguments: %s", c.flows.arguments)
	}
	ad.post(base+"/flow/"+a, `{"clientRequestId":"r 3","flowClassName":"demo.Ping","requestBody":{}}`).want(400)
	ad.post(base+"/flow/0123456789AB", `{"clientRequestId":"r-3","flowClassName":"demo.Ping","requestBody":{}}`).want(404, "Virtual Node '0123456789AB' not found.")
	ad.get(base+"/flow/"+a+"/r-1/result").want(202, `"json":null`)
	c.flows.end(a, "r-1", `{"answer":42}`)
	ad.get(base+"/flow/"+a+"/r-1/result").want(200, `"json":{"answer":42}`)
	ad.get(base+"/flow/"+a+"/r-1").want(200, `"flowResult":"{\"answer\":42}"`)
	ad.get(base+"/flow/"+a+"/r-9").want(404, "Failed to find the flow status")
	ad.get(base+"/flow/"+a+"/?status=COMPLETED").want(200, `"r-1"`)
	ad.get(base+"/flow/"+a+"/?status=null").want(200, `"r-1"`, `"r-2"`)
	ad.get(base+"/flow/"+a+"?status=x").want(400, "IllegalArgumentException")
}

func TestPackagesThatAreRefused(t *testing.T) {
	t.Parallel()
	c, ca, other := start(t), newAuthority(t, "CA"), newAuthority(t, "Other")
	good := ca.build(t, group, "demo", "")
	c.install(good).want(400, "ValidationException", "code-signer")
	c.trust(ca, "signer")
	c.install(other.build(t, group, "other", "")).want(400, `"title":"ValidationException"`, `"errorMessage"`)
	c.install(good[:len(good)/2]).want(400, "ValidationException")
	c.install("no zip at all").want(400, "ValidationException")
	c.install(ca.build(t, group, "bad", "bad")).want(400, "imports what is not offered")
	c.install(ca.build(t, group, "unlucky", "unlucky")).want(200) // trouble of ours is no fault of the package's
	c.install(good).want(200)
	c.install(good).want(409, "DuplicateCpiUploadException")
	ad := c.admin()
	ad.get(base+"/cpi/status/nobody").want(400, "No such requestId=nobody")
	ad.post(base+"/cpi", "x").want(415)
	ad.upload("POST", base+"/cpi", file{"other", "demo.cpi", good}).want(400, "Unable to parse parameter 'upload'", `Expected file with parameter name \"upload\"`)
	cut := "--b\r\nContent-Disposition: form-data; name=\"upload\"; filename=\"x\"\r\n\r\nabc"
	ad.send("POST", base+"/cpi", "multipart/form-data; boundary=b", strings.NewReader(cut)).want(400, "cut short")
	ad.upload("PUT", base+"/certificate/cluster/p2p-tls", file{"alias", "", "a"}).want(400, "'certificate'")
	ad.upload("PUT", base+"/certificate/cluster/p2p-tls", file{"certificate", "c", ca.pem()}).want(400, "'alias'")
	ad.upload("PUT", base+"/certificate/cluster/nothing", file{"alias", "", "a"}, file{"certificate", "c", ca.pem()}).want(400, "usage")
	ad.post(base+"/virtualnode", `{"cpiFileChecksum":"000000000000","x500Name":"`+alice+`"}`).want(400, "No CPI metadata found for checksum '000000000000'.")
	ad.post(base+"/virtualnode", `{"cpiFileChecksum":"0","x500Name":"`+alice+`"}`).want(400, "checksum")
	ad.post(base+"/virtualnode", `{"cpiFileChecksum":"000000000000","x500Name":"CN=x"}`).want(400, "could not be parsed.")
	ad.post(base+"/virtualnode", `{"cpiFileChecksum":"000000000000","x500Name":"`+alice+`","vaultDmlConnection":{"database":{}}}`).want(501)
}

func TestMemberFilesCrossClusters(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "CA")
	prepare := func(member, host string) (*cluster, string) {
		c := start(t)
		c.trust(ca, "signer")
		sum := c.install(ca.build(t, group, "demo", "")).want(200).field("cpiFileChecksum")
		hash := c.node(member, sum)
		c.join(ca, hash, host)
		return c, hash
	}
	one, a := prepare(alice, "alice.example")
	two, b := prepare(bob, "bob.example")
	const files = "/api/hawser/v1/members/"
	exported := one.admin().get(files+a).want(200, `"format": "hawser-member"`).body

	imports := func(query, file string) reply { return two.admin().post(files+b+query, file) }
	fingerprint := imports("", exported).want(400, "compare it").field("details", "fingerprint")
	imports("?fingerprint=0000", exported).want(400, "do not import it")
	if r := two.admin().get(base + "/members/" + b).want(200); strings.Contains(r.body, alice) {
		t.Error("a file was taken without its fingerprint")
	}
	confirmed := "?fingerprint=" + url.QueryEscape(fingerprint)
	imports(confirmed, strings.Replace(exported, "alice.example", "mallory.example", 1)).want(400, "changed after it was signed")
	imports(confirmed, "{").want(400, "not a member file")
	imports(confirmed, exported).want(200, alice, `"serial":1`)
	imports(confirmed, exported).want(200) // again: changes nothing
	two.admin().get(base+"/members/"+b).want(200, alice, bob)
	one.admin().post(files+a+confirmed, exported).want(400, "itself")

	// A member who names another's key beside its own would have that member's sessions taken for its own.
	thief := withStolenKey(t, exported, "O=Mallory, L=London, C=GB")
	stolen := "?fingerprint=" + url.QueryEscape(imports("", thief).want(400).field("details", "fingerprint"))
	imports(stolen, thief).want(409, "names a session key that is "+alice+"'s")

	// The same name with another key: only with replace.
	three, a2 := prepare(alice, "alice.example")
	substitute := three.admin().get(files + a2).want(200).body
	second := "?fingerprint=" + url.QueryEscape(imports("", substitute).want(400).field("details", "fingerprint"))
	imports(confirmed, substitute).want(400, "do not import it")
	imports(second, substitute).want(409, "its session key", "replace")
	imports(second+"&replace=true", substitute).want(200)

	// Another group.
	four := start(t)
	four.trust(ca, "signer")
	const otherGroup = "9a3f2b1c-0d4e-4f5a-9b6c-7d8e9f0a1b2c"
	sum := four.install(ca.build(t, otherGroup, "demo", "")).want(200).field("cpiFileChecksum")
	d := four.node(bob, sum)
	four.admin().post(files+d+confirmed, exported).want(400, "is for group "+group)
	four.admin().get(files+d).want(409, "not registered yet")
}

// withStolenKey makes a member file under another name and key, which has the key of the member of the given file too.
func withStolenKey(t *testing.T, file, name string) string {
	t.Helper()
	theirs, err := member.ParseFile([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(own.Public())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := theirs.Info().SessionKeys()
	if err != nil {
		t.Fatal(err)
	}
	context := make(map[string]string)
	for _, e := range theirs.Member {
		context[e.Key] = e.Value
	}
	context[member.KeyName] = name
	for i, k := range [][]byte{spki, keys[0].SPKI} {
		context[fmt.Sprintf(member.KeySessionPEM, i)] = key.EncodePublicPEM(k)
		context[fmt.Sprintf(member.KeySessionHash, i)] = key.FullIDOf(k)
		context[fmt.Sprintf(member.KeySessionSpec, i)] = string(key.SHA256ECDSA)
	}
	signed, err := member.Sign(member.NewContext(context), 1, time.Now(), theirs.TLSTrustRoots, func(octets []byte) ([]byte, error) {
		sum := sha256.Sum256(octets)
		return ecdsa.SignASN1(rand.Reader, own, sum[:])
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}

func TestKeys(t *testing.T) {
	t.Parallel()
	ad := start(t).admin()
	ids := map[string]string{}
	for _, alias := range []string{"b", "a", "c"} {
		ids[alias] = ad.post(base+"/key/p2p/alias/"+alias+"/category/tls/scheme/CORDA.ECDSA.SECP256R1", "").want(200).field("id")
	}
	ad.post(base+"/key/p2p/alias/a/category/TLS/scheme/CORDA.RSA", "").want(409, "KeyAlreadyExistsException")
	ad.post(base+"/key/p2p/alias/d/category/TLS/scheme/CORDA.NEW", "").want(400)
	ad.post(base+"/key/p2p/alias/d/category/SESSION_INIT/scheme/CORDA.RSA", "").want(400)
	ad.post(base+"/key/0123456789AB/alias/d/category/TLS/scheme/CORDA.RSA", "").want(404)
	ad.get(base+"/key/p2p/"+strings.ToLower(ids["a"])).want(200, "-----BEGIN PUBLIC KEY-----")
	ad.get(base + "/key/p2p/000000000000").want(404)
	ad.get(base + "/key/p2p/0").want(400)
	ad.get(base+"/key/p2p/schemes/SESSION_INIT").want(200, `["CORDA.ECDSA.SECP256R1","CORDA.RSA"]`)
	if r := ad.get(base+"/key/p2p?category=TLS&ALIAS=a").want(200, ids["a"]); strings.Contains(r.body, ids["b"]) {
		t.Errorf("the filter lets others through: %s", r.body)
	}
	r := ad.get(base + "/key/p2p?orderBy=alias_desc&take=2").want(200)
	if c, b := strings.Index(r.body, ids["c"]), strings.Index(r.body, ids["b"]); c < 0 || b < c || strings.Contains(r.body, ids["a"]) {
		t.Errorf("order: %s", r.body)
	}
	ad.get(base+"/key/p2p?id="+ids["a"]+"&id="+ids["b"]+"&alias=c&take=0").want(200, ids["a"], ids["b"])
	ad.get(base+"/key/anything").want(200, "{}")
	ad.get(base+"/key/p2p?orderby=size").want(400, "orderby")
	ad.get(base+"/key/p2p?skip=x").want(400, "Unable to parse parameter 'skip'")
	ad.post(base+"/hsm/soft/p2p/TLS", "").want(200, `"masterKeyAlias"`)
	ad.get(base+"/hsm/p2p/TLS").want(200, `"category":"TLS"`)
	ad.get(base+"/hsm/p2p/LEDGER").want(404, "No association found")
	ad.get(base+"/hsm/p2p/NONE").want(404, "Invalid category: NONE")
	ad.post(base+"/certificate/p2p/"+ids["a"], `{"x500Name":"CN=x"}`).want(400)
	ad.post(base+"/certificate/p2p/"+ids["a"], `{"request":{"x500Name":"`+alice+`","contextMap":{"signatureSpec":"SHA384withECDSA"}}}`).want(200, "CERTIFICATE REQUEST")
	ad.post(base+"/certificate/p2p/"+ids["a"], `{"x500Name":"`+alice+`","contextMap":{"signatureSpec":"SHA512withRSA"}}`).want(400)
	ed := ad.post(base+"/key/p2p/alias/ed/category/LEDGER/scheme/CORDA.EDDSA.ED25519", "").want(200).field("id")
	ad.post(base+"/certificate/p2p/"+ed, `{"x500Name":"`+alice+`"}`).want(200, "CERTIFICATE REQUEST")
}
