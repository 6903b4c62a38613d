// Package flow is the worker that runs application flows: uploaded WebAssembly modules, step by step and durably. It takes
// starts from clients and session messages from peers, gives the flow what it waits for, and commits what the flow asks
// for together with the record that it was asked. The sandbox is in package wasm, the rules of sessions in package session.
//
//	             start command            first step                the flow returns
//	(nothing) ------------------> START_REQUESTED --------> RUNNING -----------------> COMPLETED
//	    |                                                   ^   |     fails, is stopped
//	    |       a peer's session begins                     |   +-------------------> FAILED
//	    +---------------------------------------------------+
//
// A step takes a flow from one wait for a peer to the next. What the flow asks for in between is answered from the state
// within the step, and nothing of it is visible before the commit: puts, sends, events and status appear together. Each
// event, the exact octets given to the flow, is logged with the hash of the answer; a flow that is not in memory is brought
// back by giving the events to a fresh instance.
//
// An instance in memory is known by the hash of all it has been given and has answered (its chain), and a flow's record
// carries the same hash. An instance that ran ahead of a commit that failed, or was left behind, does not match and is
// dropped: nothing needs to know how a commit went.
package flow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/cpi"
	"github.com/hawser-project/hawser/cluster/member"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/cluster/vnode"
	"github.com/hawser-project/hawser/worker/flow/wasm"
)

// Config is what the worker needs. Bus and Log are required; zero values elsewhere mean the defaults.
type Config struct {
	Bus     *bus.Client
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// CacheDir keeps compiled modules between runs. Empty: none are kept, and each start compiles anew.
	CacheDir string

	// StepFuel is how many branches back and calls a flow may take from one wait for a peer to the next. Default
	// 1,000,000,000: a second in the tightest loop, more in ordinary code.
	StepFuel int64
	// StepTime is how long such a step may take by the clock, waiting for its turn included. Default 2 min.
	StepTime time.Duration
	// MemoryPages is the most memory of a flow, in pages of 64 KiB. Default 1024, which is 64 MiB.
	MemoryPages uint32
	// MessageTTL is how long a session message is tried. Default 24 h.
	MessageTTL time.Duration
	// SessionTimeout is how long a receive or a close waits for the peer. Default 30 min.
	SessionTimeout time.Duration
	// Retention is how long the status of a flow is kept after its end. Default 7 days.
	Retention time.Duration
	// HotFlows and HotBytes bound the waiting flows that are kept in memory, and HotTime is how long one stays there
	// unused. Defaults 512, 256 MiB, 30 s.
	HotFlows int
	HotBytes int
	HotTime  time.Duration
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func (c Config) withDefaults() Config {
	orDefault(&c.StepFuel, 1_000_000_000)
	orDefault(&c.StepTime, 2*time.Minute)
	orDefault(&c.MessageTTL, 24*time.Hour)
	orDefault(&c.SessionTimeout, 30*time.Minute)
	orDefault(&c.Retention, 7*24*time.Hour)
	orDefault(&c.HotFlows, 512)
	orDefault(&c.HotBytes, 256<<20)
	orDefault(&c.HotTime, 30*time.Second)
	return c
}

// Instances that wait for the next flow, per virtual node and module, and in all.
const poolPerNode, poolTotal = 128, 512

// Worker is the flow worker.
type Worker struct {
	Config
	vnodes   *bus.Table[vnode.VirtualNode]
	packages *bus.Table[cpi.Info]
	members  *bus.Table[member.Record]

	modules *modules
	pool    *wasm.Pool
	hot     *hot
	lanes   *lanes
	metrics *metrics
	// wanted is told when a virtual node or a package has changed, whose modules are to be made ready.
	wanted chan struct{}

	mu      sync.Mutex
	overdue map[string]bool // flows whose present step took too long once; guarded by mu
}

// New wires the worker. It does no I/O.
func New(c Config) *Worker {
	c = c.withDefaults()
	w := &Worker{
		Config: c, vnodes: topic.VirtualNodes.Table(c.Bus), packages: topic.Packages.Table(c.Bus), members: topic.Members.Table(c.Bus),
		pool: wasm.NewPool(poolPerNode, poolTotal), lanes: newLanes(), metrics: newMetrics(c.Metrics), overdue: make(map[string]bool),
		wanted: make(chan struct{}, 1),
	}
	want := func(string) {
		select {
		case w.wanted <- struct{}{}:
		default:
		}
	}
	w.vnodes.OnChange(want)
	w.packages.OnChange(want)
	w.modules = newModules(c)
	w.hot = newHot(c.HotFlows, c.HotBytes, func(i *wasm.Instance) { w.putBack(i) })
	w.metrics.watch(c.Metrics, w.hot.len)
	return w
}

// Run runs flows until ctx ends.
func (w *Worker) Run(ctx context.Context, ready func()) (err error) {
	// Everything beside the steps goes on until the last step has ended.
	outer := context.WithoutCancel(ctx)
	if err := w.modules.open(outer); err != nil {
		return err
	}
	defer func() {
		w.hot.evict(0)
		err = errors.Join(err, w.pool.Close(), w.modules.close(outer))
	}()
	background, stop := context.WithCancel(outer)
	var running sync.WaitGroup
	defer func() { stop(); running.Wait() }()
	if err := w.runTables(ctx, background, &running); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	running.Go(func() { w.preload(background) })
	running.Go(func() { w.evictIdle(background) })
	return w.consume(ctx, ready)
}

// consume wires the handlers and runs them.
func (w *Worker) consume(ctx context.Context, ready func()) error {
	consumer := w.Bus.Consumer()
	consumer.HandleTimers(w.timer)
	topic.StartFlow.Handle(consumer, w.start)
	topic.FlowIn.Handle(consumer, w.input)
	for _, stop := range []func(){
		topic.FlowStatus.Answer(w.Bus, w.flowStatus),
		topic.Flows.Answer(w.Bus, w.flows),
		topic.FlowClasses.Answer(w.Bus, w.flowClasses),
		topic.CheckModule.Answer(w.Bus, w.checkModule),
	} {
		defer stop()
	}
	return consumer.Run(ctx, ready)
}

// runTables starts to follow the tables, and returns when they have caught up.
func (w *Worker) runTables(ctx, background context.Context, running *sync.WaitGroup) error {
	tables := map[string]func(context.Context, func()) error{
		"virtual nodes": w.vnodes.Run, "packages": w.packages.Run, "members": w.members.Run,
	}
	caughtUp, failed := make(chan struct{}, len(tables)), make(chan error, len(tables))
	for name, run := range tables {
		running.Go(func() {
			if err := run(background, func() { caughtUp <- struct{}{} }); err != nil {
				w.Log.Error("table ended", "table", name, "error", err)
				failed <- fmt.Errorf("table of %s: %w", name, err)
			}
		})
	}
	for range tables {
		select {
		case <-caughtUp:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// evictIdle takes flows out of memory that have waited for a while, and gives instances back that nobody has used since.
func (w *Worker) evictIdle(ctx context.Context) {
	ticker := time.NewTicker(max(w.HotTime/4, time.Millisecond))
	defer ticker.Stop()
	before := w.metrics.steps.Load()
	for quiet := 0; ; quiet++ {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		w.hot.evict(w.HotTime)
		if now := w.metrics.steps.Load(); now != before {
			before, quiet = now, 0
		}
		if quiet == 8 { // twice HotTime
			if err := w.pool.Drop(func(*wasm.Program, string) bool { return true }); err != nil {
				w.Log.WarnContext(ctx, "close idle instances", "error", err)
			}
		}
	}
}

// putBack hands an instance to the pool, whatever state it is in.
func (w *Worker) putBack(i *wasm.Instance) {
	if err := w.pool.Put(i); err != nil {
		w.Log.Warn("close a flow's instance", "error", err)
	}
}
