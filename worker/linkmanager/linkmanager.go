package linkmanager

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/cluster/topic"
)

// Config is what the worker needs.
type Config struct {
	Bus     *bus.Client
	Log     *slog.Logger
	Metrics prometheus.Registerer // may be nil
	Tuning  Tuning                // the zero value is the defaults
}

// Worker is the link manager.
type Worker struct {
	Config
	tuning    *Tuning
	metrics   *metrics
	directory *directory
	index     *index
	sessions  *sessions
	responder *responder
	instance  uint16
	changed   chan struct{} // what the gateway is told may have changed

	dispatching sync.Mutex
	outstanding map[int32][]outstanding // by partition; guarded by dispatching

	tasks sync.WaitGroup // what runners have begun
	lanes atomic.Int64

	mu       sync.Mutex
	runners  map[message.Pair]*runner
	ctx      context.Context // of runners; set by Run
	stopping bool
}

// New wires the worker. It does no I/O.
func New(c Config) *Worker {
	w := &Worker{
		Config: c, tuning: c.Tuning.orDefault(), metrics: newMetrics(c.Metrics), directory: newDirectory(c.Bus), index: newIndex(),
		instance: instanceOf(c.Bus.Self()), changed: make(chan struct{}, 1), runners: make(map[message.Pair]*runner),
	}
	w.sessions, w.responder, w.outstanding = newSessions(w), newResponder(w), make(map[int32][]outstanding)
	w.directory.onChange(w.refresh)
	return w
}

// Run works until ctx ends.
func (w *Worker) Run(ctx context.Context, ready func()) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	w.mu.Lock()
	w.ctx = inner
	w.mu.Unlock()

	var tables sync.WaitGroup
	failed := make(chan error, 4)
	if err := w.runTables(ctx, inner, &tables, failed); err != nil {
		cancel()
		tables.Wait()
		return err
	}
	err := w.work(ctx, inner, ready, failed)
	w.mu.Lock()
	w.stopping = true
	w.mu.Unlock()
	cancel()
	w.tasks.Wait()
	tables.Wait()
	return err
}

// runTables starts the tables and returns when they have caught up.
func (w *Worker) runTables(ctx, inner context.Context, group *sync.WaitGroup, failed chan<- error) error {
	d := w.directory
	caughtUp := make(chan struct{}, 4)
	for _, table := range []func(context.Context, func()) error{d.hosted.Run, d.members.Run, d.vnodes.Run, d.packages.Run} {
		group.Go(func() {
			if err := table(inner, func() { caughtUp <- struct{}{} }); err != nil {
				failed <- err
			}
		})
	}
	for range 4 {
		select {
		case <-caughtUp:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// work answers and delivers until ctx ends or something fails.
func (w *Worker) work(ctx, inner context.Context, ready func(), failed <-chan error) error {
	if err := w.takeDataKey(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	consumer := w.Bus.Consumer()
	topic.P2POut.HandleOpen(consumer, w.dispatch)
	topic.StoreSession.Handle(consumer, w.keep)
	topic.SettleParked.Handle(consumer, w.settle)
	consumer.HandleTimers(w.expire)
	consumer.Before(w.loadParked)
	consumer.After(w.letGo)
	for _, stop := range []func(){
		topic.Deliver.Answer(w.Bus, w.deliver), topic.DeliverToOwner.Answer(w.Bus, w.takeRouted), topic.DeliverToMaker.Answer(w.Bus, w.takeReplies),
		topic.SessionLost.Answer(w.Bus, w.sessionLost),
	} {
		defer stop()
		defer context.AfterFunc(ctx, stop)() // before the consumer drains, so that nothing new comes in
	}
	w.tasks.Go(func() { w.feedGateway(inner) })

	consuming, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- consumer.Run(consuming, ready) }()
	select {
	case err := <-ended:
		return err
	case err := <-failed:
		cancel()
		return errors.Join(err, <-ended)
	}
}

// takeDataKey asks crypto for the key that seals stored sessions, until it is there.
func (w *Worker) takeDataKey(ctx context.Context) error {
	for {
		key, err := topic.DataKey.Do(ctx, w.Bus, topic.LinkSessionPurpose)
		if err == nil {
			return w.sessions.useKey(key.Reveal())
		}
		if ctx.Err() != nil {
			return nil
		}
		w.Log.WarnContext(ctx, "the key of link sessions is not there yet", "error", err)
		timer := time.NewTimer(200 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// runner returns the runner of a pair, and starts it at its first use.
func (w *Worker) runner(p message.Pair) *runner {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r, found := w.runners[p]; found {
		return r
	}
	r := newRunner(w, p)
	w.runners[p] = r
	w.lanes.Add(1)
	if !w.stopping && w.ctx != nil {
		ctx := w.ctx
		w.tasks.Go(func() { r.run(ctx) })
		w.notifyFeed()
	}
	return r
}

// letGo forgets what belongs to a partition that another process has now.
func (w *Worker) letGo(has func(key string) bool) {
	w.dispatching.Lock()
	for p, list := range w.outstanding {
		if len(list) > 0 && has(list[0].r.key) {
			delete(w.outstanding, p)
		}
	}
	w.dispatching.Unlock()
	w.sessions.letGo(has)
	w.responder.letGo(has)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.runners {
		if has(r.key) {
			r.do(r.letGo)
		}
	}
}

// refresh has the lanes of whom it concerns look at the tables again.
func (w *Worker) refresh(ours, peer string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.runners {
		if r.concerns(ours, peer) {
			r.do(r.refresh)
		}
	}
	w.notifyFeed()
}

func (r *runner) concerns(ours, peer string) bool {
	if r.bad != nil {
		return false
	}
	from, to := r.short[0], r.short[1]
	switch {
	case ours == "":
		return true
	case peer == "":
		return ours == from || ours == to
	}
	return ours == from && peer == to
}
