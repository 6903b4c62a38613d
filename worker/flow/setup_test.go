package flow_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/embedded"
	"github.com/hawser-project/hawser/cluster/cpi"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/member"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/cluster/vnode"
	"github.com/hawser-project/hawser/corda/identity"
	"github.com/hawser-project/hawser/corda/x500"
	worker "github.com/hawser-project/hawser/worker/flow"
	"github.com/hawser-project/hawser/worker/flow/wasm"
)

// shared is what all tests of a run use: modules are built and checked once.
var shared struct {
	dir     string
	modules []cpi.ModuleInfo
	octets  [][]byte
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if shared.dir, err = os.MkdirTemp("", "flow-worker"); err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(shared.dir) }()
		host, err := wasm.NewHost(context.Background(), wasm.Config{CacheDir: filepath.Join(shared.dir, "cache")})
		if err != nil {
			panic(err)
		}
		if err != nil {
			panic(err)
		}
		for name, pkg := range map[string]string{"trade": "github.com/hawser-project/hawser/sdk/examples/trade", "guest": "./testdata/guest"} {
			octets := build(name, pkg)
			program, err := host.Load(context.Background(), octets) // into the cache of all tests
			if err != nil {
				panic(err)
			}
			manifest, err := json.Marshal(program.Describe())
			if err != nil {
				panic(err)
			}
			blob := hash(octets)
			shared.modules = append(shared.modules, cpi.ModuleInfo{ID: cpi.Identifier{Name: name, Version: "1"}, Hash: strings.ToUpper(blob.String()), Manifest: manifest})
			shared.octets = append(shared.octets, octets)
		}
		if err := host.Close(context.Background()); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

// build compiles a module. The sources are looked at, so that go test notices that they have changed.
func build(name, pkg string) []byte {
	for _, dir := range []string{"../../sdk", "testdata/guest"} {
		_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			_, _ = os.Stat(path)
			return err
		})
	}
	out := filepath.Join(shared.dir, name+".wasm")
	cmd := exec.Command("go", wasm.BuildArgs(out, pkg)...)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
	if output, err := cmd.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build %s: %v\n%s", pkg, err, output))
	}
	octets, err := os.ReadFile(out)
	if err != nil {
		panic(err)
	}
	return octets
}

const (
	aliceName = "O=Alice, L=London, C=GB"
	bobName   = "O=Bob, L=Paris, C=FR"
	groupID   = "8a3f2b1c-0d4e-4f5a-9b6c-7d8e9f0a1b2c"
	packageID = "AA00000000000000000000000000000000000000000000000000000000000000"
)

func party(name string) identity.HoldingIdentity {
	n, err := x500.Parse(name)
	if err != nil {
		panic(err)
	}
	return identity.HoldingIdentity{Name: n, GroupID: groupID}
}

var (
	alice, bob = party(aliceName), party(bobName)
	aliceHash  = alice.ShortHash().String()
	bobHash    = bob.ShortHash().String()
)

// cluster is a flow worker on a bus, with virtual nodes for Alice and Bob and a link between them.
type cluster struct {
	t       testing.TB
	fs      vfs.FS
	driver  *embedded.Store
	bus     *bus.Bus
	rest    *bus.Client
	link    *link
	config  worker.Config
	metrics *prometheus.Registry
	log     *logs
	stop    func()
}

type option func(*cluster)

func withConfig(change func(*worker.Config)) option {
	return func(c *cluster) { change(&c.config) }
}

func withLink(l *link) option { return func(c *cluster) { c.link = l } }
func withFS(fs vfs.FS) option { return func(c *cluster) { c.fs = fs } }

// onDisk puts the store on the machine's disk, so that an fsync is one.
func onDisk(c *cluster) { c.fs = nil }

// start starts a cluster. What the file system holds already is gone on with.
func start(t testing.TB, options ...option) *cluster {
	t.Helper()
	c := &cluster{t: t, fs: vfs.NewMem(), link: &link{}, metrics: prometheus.NewRegistry(), log: &logs{}}
	c.config.CacheDir = filepath.Join(shared.dir, "cache")
	for _, o := range options {
		o(c)
	}
	c.open()
	t.Cleanup(func() { c.stop() })
	return c
}

func (c *cluster) open() {
	c.t.Helper()
	o := embedded.Options{Dir: "data", FS: c.fs, Topics: topic.Definitions(), MemTable: 8 << 20}
	if c.fs == nil {
		o.Dir = c.t.TempDir()
	}
	var err error
	if c.driver, err = embedded.Open(o); err != nil {
		c.t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(c.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c.bus = bus.New(c.driver, bus.Options{Log: log, Errors: fault.Codec{}})
	c.rest = c.bus.As(topic.Rest)
	c.publishWorld()

	config := c.config
	config.Bus, config.Log, config.Metrics = c.bus.As(topic.Flow), log, prometheus.NewRegistry()
	c.metrics = config.Metrics.(*prometheus.Registry)
	stops := []func(){c.run("flow", worker.New(config).Run)}
	if c.link != nil {
		stops = append(stops, c.run("link", c.link.run(c.bus.As(topic.LinkManager))))
	}
	c.stop = sync.OnceFunc(func() {
		for _, stop := range stops {
			stop()
		}
		if err := c.driver.Close(); err != nil {
			c.t.Errorf("close: %v", err)
		}
	})
}

func (c *cluster) run(name string, run func(context.Context, func()) error) (stop func()) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- run(ctx, sync.OnceFunc(func() { close(ready) })) }()
	select {
	case <-ready:
	case err := <-ended:
		c.t.Fatalf("%s: %v", name, err)
	}
	return func() {
		cancel()
		if err := <-ended; err != nil {
			c.t.Errorf("%s ended: %v", name, err)
		}
	}
}

// publishWorld writes what other workers would have written.
func (c *cluster) publishWorld() {
	c.t.Helper()
	ctx := context.Background()
	admin, membership := c.bus.As(topic.Admin), c.bus.As(topic.Membership)
	for _, octets := range shared.octets {
		if _, err := admin.PutBlob(ctx, bytes.NewReader(octets), 64<<20); err != nil {
			c.t.Fatal(err)
		}
	}
	info := cpi.Info{ID: cpi.Identifier{Name: "app", Version: "1", SignerSummaryHash: "SHA-256:00"}, FileChecksum: packageID, GroupID: groupID, Modules: shared.modules}
	if _, err := topic.Packages.Publish(ctx, admin, bus.Keyed[cpi.Info]{Key: packageID, Value: info}); err != nil {
		c.t.Fatal(err)
	}
	for _, me := range []identity.HoldingIdentity{alice, bob} {
		c.publishNode(me, nil)
		for _, peer := range []identity.HoldingIdentity{alice, bob} {
			r := member.Record{Info: member.Info{
				Member: member.Description{Name: peer.Name, GroupID: peer.GroupID}.Context(),
				MGM:    member.NewContext(map[string]string{member.KeyStatus: string(member.Active)}),
			}}
			key := me.ShortHash().String() + "/" + peer.ShortHash().String()
			if _, err := topic.Members.Publish(ctx, membership, bus.Keyed[member.Record]{Key: key, Value: r}); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

// publishNode writes the record of a virtual node, changed.
func (c *cluster) publishNode(me identity.HoldingIdentity, change func(*vnode.VirtualNode)) {
	c.t.Helper()
	v, err := vnode.New(me, vnode.CPI{Name: "app", Version: "1", SignerSummaryHash: "SHA-256:00", FileChecksum: packageID, GroupID: groupID}, 1)
	if err != nil {
		c.t.Fatal(err)
	}
	if change != nil {
		change(&v)
	}
	if _, err := topic.VirtualNodes.Publish(context.Background(), c.bus.As(topic.Admin), bus.Keyed[vnode.VirtualNode]{Key: me.ShortHash().String(), Value: v}); err != nil {
		c.t.Fatal(err)
	}
}

// begin asks for a flow on a virtual node.
func (c *cluster) begin(me identity.HoldingIdentity, id, class string, args any) (flow.Status, error) {
	text, err := json.Marshal(args)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	st, _, err := topic.StartFlow.Do(ctx, c.rest, flow.StartSlot(me, id).Key(), fmt.Sprint(id, "/", rand.Uint64()), flow.Start{
		Holder: me.ShortHash().String(), ClientRequestID: id, Class: class, Arguments: text, User: "test",
	})
	return st, err
}

// mustBegin is begin where nothing may go wrong.
func (c *cluster) mustBegin(me identity.HoldingIdentity, id, class string, args any) flow.Status {
	c.t.Helper()
	st, err := c.begin(me, id, class, args)
	if err != nil {
		c.t.Fatalf("start %s: %v", class, err)
	}
	return st
}

func (c *cluster) status(me identity.HoldingIdentity, id string) (flow.Status, error) {
	return topic.FlowStatus.Do(context.Background(), c.rest, topic.FlowRef{Holder: me.ShortHash().String(), ClientRequestID: id})
}

// end waits for the end of a flow.
func (c *cluster) end(me identity.HoldingIdentity, id string) flow.Status {
	c.t.Helper()
	var st flow.Status
	c.until("the end of flow "+id, func() bool {
		var err error
		st, err = c.status(me, id)
		return err == nil && st.State.Terminal()
	})
	return st
}

// result runs a flow to its end and wants it to succeed.
func (c *cluster) result(me identity.HoldingIdentity, id, class string, args any) string {
	c.t.Helper()
	c.mustBegin(me, id, class, args)
	st := c.end(me, id)
	if st.State != flow.Completed {
		c.t.Fatalf("flow %s %s: got %s %s %s, want COMPLETED", class, id, st.State, st.ErrorType, st.ErrorMessage)
	}
	return string(st.Result)
}

// failure runs a flow to its end and wants it to fail.
func (c *cluster) failure(me identity.HoldingIdentity, id, class string, args any) flow.Status {
	c.t.Helper()
	c.mustBegin(me, id, class, args)
	st := c.end(me, id)
	if st.State != flow.Failed {
		c.t.Fatalf("flow %s %s: got %s %s, want FAILED", class, id, st.State, st.Result)
	}
	return st
}

func (c *cluster) flows(me identity.HoldingIdentity, state flow.State) []flow.Status {
	c.t.Helper()
	list, err := topic.Flows.Do(context.Background(), c.rest, topic.FlowFilter{Holder: me.ShortHash().String(), State: state})
	if err != nil {
		c.t.Fatal(err)
	}
	return list
}

// until waits for a condition, for up to 30 s.
func (c *cluster) until(what string, condition func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); <-time.After(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("waited in vain: %s\n%s", what, c.log.last())
		}
	}
}

// counter reads a metric of the worker, summed over its labels.
func (c *cluster) counter(name string) (sum float64) {
	families, err := c.metrics.Gather()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// link plays the link manager between the virtual nodes of one cluster.
type link struct {
	// chaos delays messages at random, so that they overtake each other, and doubles some.
	chaos bool
	// refuse gives a message back as undeliverable.
	refuse func(message.Outbound) bool
	// lose makes a message disappear.
	lose func(message.Outbound) bool

	mu   sync.Mutex
	seen []message.Outbound
}

var flying = bus.State[flow.Input]{Name: "link.flying", Owner: topic.LinkManager}

func (l *link) run(client *bus.Client) func(context.Context, func()) error {
	return func(ctx context.Context, ready func()) error {
		consumer := client.Consumer()
		topic.P2POut.Handle(consumer, l.carry)
		consumer.HandleTimers(func(_ context.Context, tx *bus.Tx, key, name string) error {
			in, found, err := flying.Get(tx, key, name)
			if err == nil && found {
				topic.FlowIn.Send(tx, slotOf(in), in)
				flying.Delete(tx, key, name)
			}
			return err
		})
		return consumer.Run(ctx, ready)
	}
}

func (l *link) carry(_ context.Context, tx *bus.Tx, key string, out message.Outbound) error {
	l.mu.Lock()
	l.seen = append(l.seen, out)
	l.mu.Unlock()
	in := flow.Input{Holder: holderOf(out.Destination), Inbound: &message.Inbound{
		Source: out.Source, Destination: out.Destination, ID: out.ID, Key: out.Key, Subsystem: out.Subsystem, Payload: out.Payload,
	}}
	switch {
	case l.lose != nil && l.lose(out):
		return nil
	case l.refuse != nil && l.refuse(out):
		in = flow.Input{Holder: holderOf(out.Source), Failed: &message.Failure{
			ID: out.ID, Key: out.Key, Destination: out.Destination, Code: message.Expired, Reason: "nobody was there",
		}}
		source, _ := out.Source.Identity()
		peer, _ := out.Destination.Identity()
		slot, err := flow.SlotOfFailure(source, peer, out.Key)
		topic.FlowIn.Send(tx, slot.Key(), in)
		return err
	case l.chaos:
		for range 1 + rand.IntN(2) {
			name := fmt.Sprint(rand.Uint64())
			flying.Put(tx, key, name, in)
			tx.SetTimer(name, tx.Now().Add(time.Duration(rand.IntN(20))*time.Millisecond))
		}
		return nil
	}
	topic.FlowIn.Send(tx, slotOf(in), in)
	return nil
}

func (l *link) messages() []message.Outbound {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]message.Outbound(nil), l.seen...)
}

func holderOf(p message.Party) string {
	id, err := p.Identity()
	if err != nil {
		panic(err)
	}
	return id.ShortHash().String()
}

func slotOf(in flow.Input) string {
	receiver, err := in.Inbound.Destination.Identity()
	if err != nil {
		panic(err)
	}
	sender, err := in.Inbound.Source.Identity()
	if err != nil {
		panic(err)
	}
	slot, err := flow.SlotOfMessage(receiver, sender, in.Inbound.Key)
	if err != nil {
		panic(err)
	}
	return slot.Key()
}

// logs keeps the end of what was logged, for the failure of a test.
type logs struct {
	mu    sync.Mutex
	lines []string
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	l.lines = l.lines[max(0, len(l.lines)-500):]
	return len(p), nil
}

func (l *logs) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines[max(0, len(l.lines)-30):], "")
}

func (l *logs) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(strings.Join(l.lines, ""), text)
}
