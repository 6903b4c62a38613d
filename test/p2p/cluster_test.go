// Package p2p_test runs link managers and gateways of several clusters in one process, on the embedded bus and over real
// TLS on the loopback interface.
package p2p_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/embedded"
	"github.com/hawser-project/hawser/cluster/cpi"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/grouppolicy"
	"github.com/hawser-project/hawser/cluster/hosted"
	"github.com/hawser-project/hawser/cluster/member"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/cluster/vnode"
	"github.com/hawser-project/hawser/corda/identity"
	"github.com/hawser-project/hawser/corda/x500"
	"github.com/hawser-project/hawser/internal/secret"
	"github.com/hawser-project/hawser/worker/gateway"
	"github.com/hawser-project/hawser/worker/linkmanager"
)

const groupID = "8a3f2b1c-0d4e-4f5a-9b6c-7d8e9f0a1b2c"

// deadline bounds every wait on a condition.
const deadline = 30 * time.Second

// authority is the one who issues TLS certificates to everybody.
type authority struct {
	key *ecdsa.PrivateKey
	der []byte
	pem string
}

var roots = sync.OnceValue(func() *authority {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return &authority{key, der, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
})

// policy is the group policy of the network.
var policy = sync.OnceValue(func() []byte {
	text, err := grouppolicy.RenderStatic(grouppolicy.StaticOptions{GroupID: groupID, TLSTrustRoots: []string{roots().pem}})
	if err != nil {
		panic(err)
	}
	return text
})

// person is a member with its keys.
type person struct {
	identity identity.HoldingIdentity
	session  *ecdsa.PrivateKey
	tls      *ecdsa.PrivateKey
	chain    []string
}

func newPerson(t testing.TB, name string) *person {
	t.Helper()
	parsed, err := x500.Parse("O=" + name + ", L=London, C=GB")
	must(t, err)
	p := &person{identity: identity.HoldingIdentity{Name: parsed, GroupID: groupID}}
	p.session, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	p.tls, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{Organization: []string{name}, Locality: []string{"London"}, Country: []string{"GB"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{strings.ToLower(name) + ".example.com"},
	}
	parent, err := x509.ParseCertificate(roots().der)
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, c, parent, p.tls.Public(), roots().key)
	must(t, err)
	p.chain = []string{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
	return p
}

func (p *person) short() string        { return string(p.identity.ShortHash()) }
func (p *person) party() message.Party { return message.PartyOf(p.identity) }

func spki(key crypto.Signer) []byte {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		panic(err)
	}
	return der
}

func keyID(key crypto.Signer) string {
	sum := sha256.Sum256(spki(key))
	return strings.ToUpper(hex.EncodeToString(sum[:6]))
}

// record is what a member list says of the person.
func (p *person) record(url string, serial int64) member.Record {
	sum := sha256.Sum256(spki(p.session))
	return member.Record{Info: member.Info{
		Member: member.NewContext(map[string]string{
			member.KeyName: p.identity.Name.String(), member.KeyGroupID: groupID, member.KeyPlatform: "50300", member.KeySoftware: "hawser",
			"corda.endpoints.0.connectionURL": url, "corda.endpoints.0.protocolVersion": "1",
			"corda.session.keys.0.pem":  string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki(p.session)})),
			"corda.session.keys.0.hash": "SHA-256:" + strings.ToUpper(hex.EncodeToString(sum[:])),
		}),
		MGM: member.NewContext(map[string]string{member.KeyStatus: string(member.Active), member.KeySerial: fmt.Sprint(serial)}),
	}}
}

// cluster is a link manager and a gateway with what they need, and a flow worker that keeps what it gets.
type cluster struct {
	t       testing.TB
	name    string
	fs      vfs.FS
	dir     string
	people  []*person
	listen  string
	dataKey []byte
	options options

	store   *embedded.Store
	bus     *bus.Bus
	links   *linkmanager.Worker
	gateway *gateway.Worker
	metrics *prometheus.Registry
	stop    func()

	mu       sync.Mutex
	received []flow.Input
	arrived  chan struct{}
	credit   chan struct{} // of a benchmark: gets one for each message, which is not kept
}

type options struct {
	tuning  linkmanager.Tuning
	noBatch bool
	disk    bool                                                   // the machine's file system, fsync and all
	crypto  func(ctx context.Context, req topic.SignRequest) error // may refuse
	log     slog.Level
}

func newCluster(t testing.TB, name string, o options, people ...*person) *cluster {
	t.Helper()
	c := &cluster{t: t, name: name, fs: vfs.NewMem(), dir: "store", people: people, listen: "127.0.0.1:0", dataKey: make([]byte, 32), options: o, arrived: make(chan struct{})}
	_, _ = rand.Read(c.dataKey)
	if o.disk {
		c.fs, c.dir = vfs.Default, t.TempDir()
	}
	c.start()
	t.Cleanup(func() { c.shutDown() })
	return c
}

// start opens the store and starts the workers.
func (c *cluster) start() {
	c.t.Helper()
	var err error
	c.store, err = embedded.Open(embedded.Options{Dir: c.dir, FS: c.fs, Topics: topic.Definitions()})
	must(c.t, err)
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("HAWSER_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: c.options.log})).With("cluster", c.name)
	}
	c.metrics = prometheus.NewRegistry()
	c.bus = bus.New(c.store, bus.Options{Log: log, Errors: fault.Codec{}, Metrics: c.metrics})
	c.answerCrypto()
	c.links = linkmanager.New(linkmanager.Config{Bus: c.bus.As(topic.LinkManager), Log: log, Metrics: c.metrics, Tuning: c.options.tuning})
	c.gateway = gateway.New(gateway.Config{Bus: c.bus.As(topic.Gateway), Log: log, Metrics: c.metrics, Listen: c.listen, NoBatch: c.options.noBatch})
	flows := c.bus.As(topic.Flow).Consumer()
	topic.FlowIn.Handle(flows, func(_ context.Context, _ *bus.Tx, key string, in flow.Input) error {
		c.take(in)
		return nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	var ready sync.WaitGroup
	for _, run := range []func(context.Context, func()) error{flows.Run, c.links.Run, c.gateway.Run} {
		ready.Add(1)
		group.Go(func() {
			if err := run(ctx, ready.Done); err != nil {
				c.t.Errorf("%s: %v", c.name, err)
			}
		})
	}
	ready.Wait()
	c.listen = c.gateway.Addr().String()
	c.stop = func() {
		cancel()
		group.Wait()
		must(c.t, c.store.Close())
	}
}

func (c *cluster) shutDown() {
	if c.stop != nil {
		c.stop()
		c.stop = nil
	}
}

// restart stops the cluster and starts it again on what is stored.
func (c *cluster) restart() {
	c.t.Helper()
	c.shutDown()
	c.start()
}

func (c *cluster) url() string { return "https://" + c.listen }

// answerCrypto does what the crypto worker does, with keys in clear.
func (c *cluster) answerCrypto() {
	client := c.bus.As(topic.Crypto)
	sign := func(ctx context.Context, req topic.SignRequest) ([]byte, error) {
		if c.options.crypto != nil {
			if err := c.options.crypto(ctx, req); err != nil {
				return nil, err
			}
		}
		for _, p := range c.people {
			for _, key := range []*ecdsa.PrivateKey{p.session, p.tls} {
				if keyID(key) != req.KeyID || p.short() != req.Tenant {
					continue
				}
				digest := req.Data
				if req.Hash == 0 {
					sum := sha256.Sum256(req.Data)
					digest = sum[:]
				}
				return key.Sign(rand.Reader, digest, crypto.SHA256)
			}
		}
		return nil, fault.New(fault.NotFound, "no key %s", req.KeyID)
	}
	topic.SignTLS.Answer(client, sign)
	topic.SignSession.Answer(client, sign)
	topic.DataKey.Answer(client, func(context.Context, string) (secret.Secret, error) { return secret.New(c.dataKey), nil })
}

func (c *cluster) take(in flow.Input) {
	if c.credit != nil {
		c.credit <- struct{}{}
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.received = append(c.received, in)
	close(c.arrived)
	c.arrived = make(chan struct{})
}

// introduce makes people known to the cluster: those it hosts as hosted, all in the member list of each of its own.
func (c *cluster) introduce(serial int64, where map[*person]string) {
	c.t.Helper()
	ctx := context.Background()
	checksum := strings.Repeat("A", 64)
	_, err := topic.Packages.Publish(ctx, c.bus.As(topic.Admin), bus.Keyed[cpi.Info]{Key: checksum, Value: cpi.Info{FileChecksum: checksum, GroupPolicy: string(policy()), GroupID: groupID}})
	must(c.t, err)
	for _, p := range c.people {
		v, err := vnode.New(p.identity, vnode.CPI{Name: "n", Version: "1", FileChecksum: checksum, GroupID: groupID}, 1)
		must(c.t, err)
		_, err = topic.VirtualNodes.Publish(ctx, c.bus.As(topic.Admin), bus.Keyed[vnode.VirtualNode]{Key: p.short(), Value: v})
		must(c.t, err)
		_, err = topic.Hosted.Publish(ctx, c.bus.As(topic.Membership), bus.Keyed[hosted.Identity]{Key: p.short(), Value: hosted.Identity{
			ShortHash: p.short(), Party: p.party(), TLSTenant: p.short(), TLSKeyID: keyID(p.tls), TLSCertificates: p.chain,
			Preferred: hosted.SessionKey{KeyID: keyID(p.session), SPKI: spki(p.session)},
		}})
		must(c.t, err)
		for other, url := range where {
			c.list(p, other, other.record(url, serial))
		}
	}
}

// list writes one entry of a member list.
func (c *cluster) list(viewer, seen *person, r member.Record) {
	c.t.Helper()
	_, err := topic.Members.Publish(context.Background(), c.bus.As(topic.Membership), bus.Keyed[member.Record]{Key: viewer.short() + "/" + seen.short(), Value: r})
	must(c.t, err)
}

// send puts a message on p2p.out, and returns its id.
func (c *cluster) send(from, to *person, payload []byte, change ...func(*message.Outbound)) string {
	c.t.Helper()
	m := outbound(from, to, payload)
	for _, fn := range change {
		fn(&m)
	}
	_, err := topic.P2POut.Publish(context.Background(), c.bus.As(topic.Flow), bus.Keyed[message.Outbound]{Key: m.Pair().Key(), Value: m})
	must(c.t, err)
	return m.ID
}

func outbound(from, to *person, payload []byte) message.Outbound {
	session := flow.NewID(flow.StartSlot(from.identity, uuid.NewString()), 1).Session(1)
	return message.Outbound{
		Source: from.party(), Destination: to.party(), ID: session.String() + "-" + uuid.NewString(), Key: flow.MessageKey(session, true),
		Subsystem: flow.Subsystem, Expires: time.Now().Add(time.Hour).UnixMilli(), Payload: payload,
	}
}

// wait returns when what the flow worker has got is enough.
func (c *cluster) wait(what string, enough func(received []flow.Input) bool) {
	c.t.Helper()
	timeout := time.After(deadline)
	for {
		c.mu.Lock()
		ok, arrived := enough(c.received), c.arrived
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-arrived:
		case <-timeout:
			c.t.Fatalf("%s: no %s within %s; received %d; status %+v", c.name, what, deadline, len(c.received), c.links.Status())
		}
	}
}

// got says how often each message has reached the flow worker.
func got(received []flow.Input) map[string]int {
	count := make(map[string]int)
	for _, in := range received {
		if in.Inbound != nil {
			count[in.Inbound.ID]++
		}
	}
	return count
}

func has(ids ...string) func([]flow.Input) bool {
	return func(received []flow.Input) bool {
		count := got(received)
		for _, id := range ids {
			if count[id] == 0 {
				return false
			}
		}
		return true
	}
}

// until polls a condition that nothing signals.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(deadline)
	for !ok() {
		select {
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("no %s within %s", what, deadline)
		}
	}
}

// counter reads a counter of the cluster, with a label value where it has one.
func (c *cluster) counter(name string, label ...string) float64 {
	families, err := c.metrics.Gather()
	must(c.t, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			matches := len(label) == 0
			for _, l := range m.GetLabel() {
				matches = matches || l.GetValue() == label[0]
			}
			if matches {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pair starts two clusters that know each other.
func twoClusters(t testing.TB, o options) (here, there *cluster, alice, bob *person) {
	t.Helper()
	alice, bob = newPerson(t, "Alice"), newPerson(t, "Bob")
	here, there = newCluster(t, "here", o, alice), newCluster(t, "there", o, bob)
	where := map[*person]string{alice: here.url(), bob: there.url()}
	here.introduce(1, where)
	there.introduce(1, where)
	return here, there, alice, bob
}

// setActive sets the state of a virtual node.
func (c *cluster) setActive(p *person, active bool) {
	c.t.Helper()
	state := vnode.StateMaintenance
	if active {
		state = vnode.StateActive
	}
	v, err := vnode.New(p.identity, vnode.CPI{Name: "n", Version: "1", FileChecksum: strings.Repeat("A", 64), GroupID: groupID}, 1)
	must(c.t, err)
	v, err = v.Become(state)
	must(c.t, err)
	_, err = topic.VirtualNodes.Publish(context.Background(), c.bus.As(topic.Admin), bus.Keyed[vnode.VirtualNode]{Key: p.short(), Value: v})
	must(c.t, err)
}

type messageOut = message.Outbound

func signWith(t testing.TB, p *person, octets []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(octets)
	signature, err := p.session.Sign(rand.Reader, digest[:], crypto.SHA256)
	must(t, err)
	return signature
}
