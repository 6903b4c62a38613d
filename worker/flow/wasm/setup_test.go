package wasm

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hawser-project/hawser/worker/flow/wasm/frame"
)

const (
	probePackage = "github.com/hawser-project/hawser/sdk/internal/testguests/probe"
	tradePackage = "github.com/hawser-project/hawser/sdk/examples/trade"
)

// shared is what all tests of a run use: modules are built once, and compiled once.
var shared struct {
	dir    string
	host   *Host
	mu     sync.Mutex
	builds map[string]*build
}

type build struct {
	once   sync.Once
	octets []byte
	err    error
	output []byte
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if shared.dir, err = os.MkdirTemp("", "flow-modules"); err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(shared.dir) }()
		shared.builds = map[string]*build{}
		if shared.host, err = NewHost(context.Background(), Config{CacheDir: filepath.Join(shared.dir, "cache")}); err != nil {
			panic(err)
		}
		defer func() { _ = shared.host.Close(context.Background()) }()
		return m.Run()
	}())
}

// octets builds a package into a module.
func octets(tb testing.TB, pkg string) []byte {
	tb.Helper()
	shared.mu.Lock()
	b := shared.builds[pkg]
	if b == nil {
		b = &build{}
		shared.builds[pkg] = b
	}
	shared.mu.Unlock()
	b.once.Do(func() {
		consult(tb, "../../../sdk")
		b.octets, b.output, b.err = compile(filepath.Join(shared.dir, filepath.Base(pkg)+".wasm"), pkg)
	})
	if b.err != nil {
		tb.Fatalf("build %s: %v\n%s", pkg, b.err, b.output)
	}
	return b.octets
}

func compile(out, pkg string) (octets, output []byte, err error) {
	cmd := exec.Command("go", BuildArgs(out, pkg)...)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
	if output, err = cmd.CombinedOutput(); err == nil {
		octets, err = os.ReadFile(out)
	}
	return octets, output, err
}

// consult looks at the sources of the modules, so that go test does not take a result from its cache after they
// have changed: it cannot know that the test builds them.
func consult(tb testing.TB, dir string) {
	tb.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
}

func load(tb testing.TB, pkg string) *Program {
	tb.Helper()
	p, err := shared.host.Load(context.Background(), octets(tb, pkg))
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// instance gives a fresh instance of the probe.
func instance(tb testing.TB) *Instance {
	tb.Helper()
	pool := NewPool(0, 0)
	i, err := pool.Get(context.Background(), load(tb, probePackage), "owner")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = pool.Put(i) })
	return i
}

const (
	alice = "O=Alice, L=London, C=GB"
	bob   = "O=Bob, L=Paris, C=FR"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC).UnixNano()

// start is a start frame of a client flow.
func start(class string, args any) []byte {
	p, err := json.Marshal(args)
	if err != nil {
		panic(err)
	}
	s := frame.Start{Kind: frame.Client, Class: class, FlowID: "4e1f0000-0000-8000-8000-000000000001", Me: alice, Args: p, Now: noon}
	copy(s.Seed[:], "seed of "+class)
	return s.Append(nil)
}

func resume(now int64, completions ...frame.Completion) []byte {
	return (&frame.Resume{Now: now, Completions: completions}).Append(nil)
}

// result is the JSON of an answer that completes the flow.
func result(tb testing.TB, a *Answer, err error) string {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	if a.Mode != frame.Ended || len(a.List) == 0 {
		tb.Fatalf("got %+v, want the end", a.Commands)
	}
	last := a.List[len(a.List)-1]
	if last.Op != frame.Complete {
		tb.Fatalf("got op %d with %q, want a result", last.Op, last.Body)
	}
	return string(last.Body)
}

// failure is what an answer that fails the flow says.
func failure(tb testing.TB, a *Answer, err error) frame.Failure {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	if a.Mode != frame.Ended || len(a.List) == 0 || a.List[len(a.List)-1].Op != frame.Fail {
		tb.Fatalf("got %+v, want a failure", a.Commands)
	}
	f, err := frame.DecodeFailure(a.List[len(a.List)-1].Body)
	if err != nil {
		tb.Fatal(err)
	}
	return *f
}
