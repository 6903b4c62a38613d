// Package process runs a cluster, or some of its workers, in one operating-system process: it opens the bus, starts the
// workers in order, serves the operations port, and stops everything in the reverse order. roles.go has every worker on
// one page. What the workers do is theirs alone.
package process

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/embedded"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/internal/run"
	"github.com/hawser-project/hawser/internal/secret"
	"github.com/hawser-project/hawser/internal/telemetry"
	"github.com/hawser-project/hawser/internal/wholefile"
)

// Config is how a process is booted. What can change while it runs is not here.
type Config struct {
	// Data is the directory that holds everything the cluster keeps: store, blobs, secrets, compiled modules.
	Data string
	// Rest, Gateway and Ops are HOST:PORT to listen on. Ops may be empty.
	Rest, Gateway, Ops string
	// Profile serves the Go runtime's profiles on the operations port.
	Profile bool
	// RestCert and RestKey are PEM files; empty: a certificate is made at the first start.
	RestCert, RestKey string
	// AdminPassword is the first administrator's; empty: a random one goes to the file secrets/admin-password.
	AdminPassword secret.Secret
	// MasterPassphrase and MasterSalt make the master wrapping key; empty: random ones are kept in secrets/.
	MasterPassphrase secret.Secret
	MasterSalt       string

	Log *slog.Logger
	// Ready is told the addresses once every worker is ready. May be nil.
	Ready func(Addresses)
}

// Addresses are where a process listens.
type Addresses struct{ Rest, Gateway, Ops net.Addr }

// stopTime is how long each worker may take to stop. Together they are done within 10 s: most need none of it.
const stopTime = 8 * time.Second

// Run runs a cluster until ctx ends. A clean stop loses nothing; neither does a kill.
func Run(ctx context.Context, c Config) (err error) {
	if err := c.prepare(); err != nil {
		return err
	}
	registry := telemetry.NewRegistry()
	store, err := embedded.Open(embedded.Options{
		Dir: c.Data, Topics: topic.Definitions(), Log: c.Log, Metrics: registry, MemTable: memTable, Cache: blockCache,
		Fatal: func(err error) {
			c.Log.Error("the store failed; the process ends so that nothing is acknowledged that is not safe", "error", err)
			os.Exit(70) //nolint:revive // nothing may run on after a failed fsync
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	p := &platform{
		Config: c, registry: registry,
		bus: bus.New(store, bus.Options{Log: c.Log, Errors: fault.Codec{}, Metrics: registry}),
	}
	var group run.Group
	services := []run.Named{{Name: "ops", Service: &telemetry.Ops{
		Address: c.Ops, Profile: c.Profile, States: group.States, Metrics: registry, Log: c.Log, Bound: p.bound(func(a *Addresses, at net.Addr) { a.Ops = at }),
	}}}
	for _, r := range roles {
		services = append(services, run.Named{Name: string(r.Name), Service: r.make(p)})
	}
	services = append(services,
		run.Named{Name: "sweep", Service: run.Func(p.sweep)},
		run.Named{Name: "control", Service: &control{data: c.Data, store: store, bus: p.bus, log: p.log("control")}})
	return group.Run(ctx, stopTime, func() {
		at := p.snapshot()
		c.Log.InfoContext(ctx, "cluster ready", "rest", at.Rest.String(), "gateway", at.Gateway.String())
		if c.Ready != nil {
			c.Ready(at)
		}
	}, services...)
}

// Memory of the store: enough for the budgets of DESIGN.md 8, small enough for an idle cluster.
const (
	memTable   = 16 << 20
	blockCache = 16 << 20
)

// platform is what workers are made of.
type platform struct {
	Config
	bus      *bus.Bus
	registry *prometheus.Registry

	mu        sync.Mutex
	addresses Addresses
}

func (p *platform) bound(set func(*Addresses, net.Addr)) func(net.Addr) {
	return func(at net.Addr) {
		p.mu.Lock()
		defer p.mu.Unlock()
		set(&p.addresses, at)
	}
}

// log is the process's log with the worker's role.
func (p *platform) log(role string) *slog.Logger { return p.Log.With("role", role) }

func (p *platform) snapshot() Addresses {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addresses
}

// sweep removes blobs that nothing refers to any more.
func (p *platform) sweep(ctx context.Context, ready func()) error {
	ready()
	ticker := time.NewTicker(time.Hour)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			if removed, err := p.bus.SweepBlobs(ctx, now); err != nil {
				p.Log.WarnContext(ctx, "sweep blobs", "error", err)
			} else if removed > 0 {
				p.Log.InfoContext(ctx, "swept blobs", "removed", removed)
			}
		}
	}
}

// prepare checks the configuration and fills in the secrets that are kept in the data directory.
func (c *Config) prepare() error {
	if c.Data == "" {
		return errors.New("a data directory is needed")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if (c.RestCert == "") != (c.RestKey == "") {
		return errors.New("the REST certificate and its key are given together or not at all")
	}
	if err := os.MkdirAll(c.secrets(), 0o700); err != nil {
		return err
	}
	if c.MasterPassphrase.IsZero() {
		passphrase, err := keptSecret(filepath.Join(c.secrets(), "master-passphrase"))
		if err != nil {
			return fmt.Errorf("master passphrase: %w", err)
		}
		c.MasterPassphrase = passphrase
	}
	if c.MasterSalt == "" {
		salt, err := keptSecret(filepath.Join(c.secrets(), "master-salt"))
		if err != nil {
			return fmt.Errorf("master salt: %w", err)
		}
		c.MasterSalt = salt.RevealString()
	}
	return nil
}

func (c *Config) secrets() string { return filepath.Join(c.Data, "secrets") }

// keptSecret reads a secret from its file, and makes a random one at first. The file is durable before it is used: what is
// wrapped under a lost secret is lost too.
func keptSecret(path string) (secret.Secret, error) {
	octets, err := os.ReadFile(path)
	if err == nil {
		return secret.FromString(strings.TrimSpace(string(octets))), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return secret.Secret{}, err
	}
	s := rand.Text() + rand.Text()
	return secret.FromString(s), wholefile.WriteString(path, 0o600, s+"\n")
}
