package linkmanager

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/key"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/corda/identity"
	"github.com/hawser-project/hawser/corda/p2p"
)

// openRecord is a bus.Open.
type openRecord interface {
	Finish(ctx context.Context, fn func(tx *bus.Tx) error) error
}

const (
	signTime  = 10 * time.Second
	postTime  = 30 * time.Second
	minPause  = 5 * time.Millisecond // between two looks at the clock, so that no mistake in a time makes it spin
	maxOut    = 4096                 // answers to a peer that wait to be posted
	outPosts  = 2
	statsTime = time.Second
)

// runner owns a lane: it is the goroutine that calls its methods and does what they ask for.
type runner struct {
	w                   *Worker
	pair                message.Pair
	key                 string
	source, destination identity.HoldingIdentity
	short               [2]string // hashes of both
	bad                 error     // a name that is none

	mu      sync.Mutex
	mailbox []func(now time.Time)
	wakeup  chan struct{}

	// The rest belongs to the goroutine, but for the atomic ones.
	lane     *lane
	fresh    []*delivery // whose durable copy is a record, in order
	pressed  []*delivery // whose record lies far behind the newest
	parked   parked
	term     int      // how often the pair's partition went to another process
	out      [][]byte // answers: hellos, handshakes, acknowledgements
	sending  int
	endpoint atomic.Uint32
	form     atomic.Int32 // the last one seen from the peer, plus 1
	current  atomic.Pointer[view]
	status   atomic.Pointer[PeerStatus]
	away     atomic.Bool // the circuit is open
	told     time.Time
	counted  int // messages in the gauge
	pages    int // of parked messages, in the gauge
}

func newRunner(w *Worker, p message.Pair) *runner {
	r := &runner{w: w, pair: p, key: p.Key(), wakeup: make(chan struct{}, 1), lane: newLane(w.tuning, mathrand.Float64), parked: newParked()}
	r.source, r.bad = p.Source.Identity()
	if r.bad == nil {
		r.destination, r.bad = p.Destination.Identity()
		r.short = [2]string{string(r.source.ShortHash()), string(r.destination.ShortHash())}
	}
	return r
}

// do has the goroutine run fn.
func (r *runner) do(fn func(now time.Time)) {
	r.mu.Lock()
	r.mailbox = append(r.mailbox, fn)
	r.mu.Unlock()
	select {
	case r.wakeup <- struct{}{}:
	default:
	}
}

// run works until ctx ends.
func (r *runner) run(ctx context.Context) {
	r.refresh(time.Now())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		r.mu.Lock()
		box := r.mailbox
		r.mailbox = nil
		r.mu.Unlock()
		now := time.Now()
		for _, fn := range box {
			fn(now)
		}
		if len(box) == 0 {
			r.lane.tick(now)
		}
		r.parkOld(ctx, now)
		r.lane.shrink(r.limit())
		r.act(ctx, now)
		r.flush(ctx)
		r.refill(ctx)
		r.publishStatus(now)
		timer.Reset(r.pause(now))
		select {
		case <-r.wakeup:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

func (r *runner) pause(now time.Time) time.Duration {
	wait := time.Hour
	if at, set := r.lane.wake(); set {
		wait = at.Sub(now)
	}
	if len(r.fresh) > 0 {
		wait = min(wait, r.fresh[0].since.Add(r.w.tuning.ParkAfter).Sub(now))
	}
	if r.lane.count > 0 {
		wait = min(wait, statsTime)
	}
	return max(wait, minPause)
}

// refresh takes in what the tables say now.
func (r *runner) refresh(now time.Time) {
	var v *view
	if r.bad != nil {
		v = &view{standing: refused, reason: "not a member's name: " + r.bad.Error()}
	} else {
		v = r.w.directory.view(r.source, r.destination)
	}
	r.current.Store(v)
	r.lane.changed(now, v)
}

// limit is how many messages the lane may have in memory. Lanes whose peer is away share what the window of the consumer
// leaves them.
func (r *runner) limit() int {
	l := r.lane
	switch {
	case l.view.standing == here, l.view.standing == open && l.session != nil && !l.circuit.open():
		return r.w.tuning.LaneMessages
	}
	return max(16, min(r.w.tuning.LaneMessagesAway, 4*r.w.tuning.LaneMessagesAway/max(1, int(r.w.lanes.Load()))))
}

// act does what the lane asks for.
func (r *runner) act(ctx context.Context, now time.Time) {
	for effects := r.lane.take(); len(effects) > 0; effects = r.lane.take() {
		for _, e := range effects {
			switch e := e.(type) {
			case beginSession:
				r.begin(now)
			case signHandshake:
				r.sign(ctx, e.toSign)
			case postHandshake:
				r.postHandshake(ctx, e)
			case postData:
				r.postData(ctx, e)
			case sessionUp:
				r.w.index.established(e.session.ID(), e.session.Session)
				r.w.metrics.sessions.WithLabelValues("initiator").Inc()
				r.w.Log.InfoContext(ctx, "link session is up", "session", e.session.ID(), "peer", r.pair.Destination.Name)
			case sessionGone:
				r.w.index.retire(e.id, now)
				r.w.Log.InfoContext(ctx, "link session has ended", "session", e.id, "peer", r.pair.Destination.Name, "reason", e.why)
			case finish:
				for _, d := range e.deliveries {
					r.w.metrics.delay.Observe(now.Sub(d.since).Seconds())
					r.end(ctx, d, topic.ParkedEnd{}, "acknowledged")
				}
			case fail:
				r.end(ctx, e.delivery, topic.ParkedEnd{Failure: &message.Failure{
					ID: e.delivery.msg.ID, Key: e.delivery.msg.Key, Destination: e.delivery.msg.Destination, Code: e.code, Reason: e.reason,
				}}, e.code)
			case deliverHere:
				for _, d := range e.deliveries {
					r.end(ctx, d, topic.ParkedEnd{Here: true}, "here")
				}
			case evict:
				r.evict(ctx, e.deliveries)
			}
		}
	}
}

// begin makes what a new session is begun with.
func (r *runner) begin(now time.Time) {
	id := r.w.newSessionID()
	ephemeral, err := ecdh.X25519().GenerateKey(rand.Reader)
	var o *opening
	if err == nil {
		o, err = newOpening(now, newSessionConfig(r.lane.view, id, ephemeral), r.lane.view.serial)
	}
	if err == nil {
		r.w.index.add(id, r, now)
	}
	r.lane.begin(now, o, err)
}

func (r *runner) sign(ctx context.Context, toSign []byte) {
	id, k := r.lane.opening.id, r.lane.view.ourKey
	r.w.tasks.Go(func() {
		signature, err := r.w.sign(ctx, k, toSign)
		r.do(func(now time.Time) { r.lane.signed(now, id, signature, err) })
	})
}

// sign has crypto sign with a session key.
func (w *Worker) sign(ctx context.Context, k ourKey, toSign []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, signTime)
	defer cancel()
	spec := key.SHA256ECDSA
	if k.rsa {
		spec = key.SHA256RSA
	}
	return topic.SignSession.Do(ctx, w.Bus, topic.SignRequest{Tenant: k.tenant, KeyID: k.id, Spec: spec, Data: toSign})
}

func (r *runner) postHandshake(ctx context.Context, e postHandshake) {
	r.w.tasks.Go(func() {
		outcomes := r.post(ctx, [][]byte{e.body})
		r.do(func(now time.Time) { r.lane.handshakePosted(now, e.id, outcomes[0]) })
	})
}

// post hands messages to the gateway, for one of the peer's endpoints: the one that answered last.
func (r *runner) post(ctx context.Context, bodies [][]byte) []outcome {
	v, n := r.current.Load(), r.endpoint.Load()
	outcomes := make([]outcome, len(bodies))
	failAll := func(reason string) []outcome {
		for i := range outcomes {
			outcomes[i].reason = reason
		}
		return outcomes
	}
	if v.standing != open {
		return failAll(v.reason)
	}
	ctx, cancel := context.WithTimeout(ctx, postTime)
	defer cancel()
	result, err := topic.GatewayPost.Do(ctx, r.w.Bus, topic.Post{URL: v.endpoints[int(n)%len(v.endpoints)], Trust: v.trust, Bodies: bodies})
	if err != nil || len(result.Outcomes) != len(bodies) {
		r.endpoint.CompareAndSwap(n, n+1)
		if err == nil {
			return failAll("the gateway did not answer for every message")
		}
		return failAll("the gateway can't post: " + err.Error())
	}
	answered := false
	for i, o := range result.Outcomes {
		outcomes[i] = outcome{status: o.Status, reason: o.Error}
		answered = answered || o.Status == statusOK
	}
	if !answered {
		r.endpoint.CompareAndSwap(n, n+1)
	}
	if len(result.Received) > 0 {
		r.w.receiveAnswers(ctx, result.Received)
	}
	return outcomes
}

// postData seals and posts messages.
func (r *runner) postData(ctx context.Context, e postData) {
	r.w.tasks.Go(func() {
		bodies := make([][]byte, 0, len(e.deliveries))
		outcomes := make([]outcome, len(e.deliveries))
		sealed := make([]int, 0, len(e.deliveries))
		now, form := time.Now().UnixMilli(), r.dataForm()
		for i, d := range e.deliveries {
			payload, err := e.session.Seal(e.session.nonces.next(), now, plaintext(&d.msg, form))
			if err != nil {
				outcomes[i] = outcome{reason: err.Error(), tooLarge: true}
				continue
			}
			bodies = append(bodies, gatewayBody(d.msg.ID, payload))
			sealed = append(sealed, i)
		}
		r.w.metrics.attempts.Add(float64(len(bodies)))
		if len(bodies) > 0 {
			for n, o := range r.post(ctx, bodies) {
				outcomes[sealed[n]] = o
			}
		}
		r.do(func(now time.Time) { r.lane.posted(now, e.session, e.deliveries, outcomes) })
	})
}

// dataForm is the form of data that the peer reads: the one last seen from it, or that of its platform version.
func (r *runner) dataForm() p2p.Form {
	if seen := r.form.Load(); seen != 0 {
		return p2p.Form(seen - 1)
	}
	return p2p.FormFor(r.current.Load().platform)
}

// answer posts a handshake message or an acknowledgement to the peer, once. What is lost the peer asks for again.
func (r *runner) answer(bodies ...[]byte) {
	r.do(func(time.Time) {
		if len(r.out)+len(bodies) > maxOut {
			r.w.drop("answers waiting")
			return
		}
		r.out = append(r.out, bodies...)
	})
}

// flush posts answers that wait.
func (r *runner) flush(ctx context.Context) {
	posts := outPosts
	if r.lane.circuit.open() {
		posts = 1
	}
	for len(r.out) > 0 && r.sending < posts {
		n := min(len(r.out), r.w.tuning.PostMessages)
		bodies := r.out[:n:n]
		r.out = r.out[n:]
		r.sending++
		r.w.tasks.Go(func() {
			outcomes := r.post(ctx, bodies)
			r.do(func(now time.Time) {
				r.sending--
				for _, o := range outcomes {
					if o.status == statusOK {
						r.lane.reachable(now)
					} else {
						r.w.drop("answer not posted")
					}
				}
			})
		})
	}
	if s, any := r.parked.take(); any {
		r.settle(ctx, s)
	}
}

// letGo forgets what another process has now: the messages that have a durable copy.
func (r *runner) letGo(now time.Time) {
	r.act(r.w.ctx, now) // what the lane has asked for is of before
	r.term++
	r.fresh, r.pressed, r.parked = nil, nil, newParked()
	r.lane.forget(func(d *delivery) bool { return d.copy.open != nil || d.copy.row != 0 })
}
