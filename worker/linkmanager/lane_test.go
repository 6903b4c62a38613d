package linkmanager

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/corda/p2p"
	"github.com/hawser-project/hawser/corda/session"
)

var update = flag.Bool("update", false, "rewrite the transcripts")

// TestTranscripts runs the lane through what each file says: events above "----", what the lane asks for and where it
// stands below.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			s := newScene(t)
			for block := range strings.SplitSeq(string(text), "\n\n") {
				events, _, found := strings.Cut(block, "\n----")
				if !found {
					fmt.Fprintf(&out, "%s\n\n", strings.TrimSpace(block)) // a remark
					continue
				}
				for event := range strings.SplitSeq(strings.TrimSpace(events), "\n") {
					s.run(event)
				}
				fmt.Fprintf(&out, "%s\n----\n%s\n\n", strings.TrimSpace(events), s.report())
			}
			got := strings.TrimSpace(out.String()) + "\n"
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("got:\n%s\nwant:\n%s", got, text)
			}
		})
	}
}

// scene is a lane with a peer that does what the transcript says.
type scene struct {
	t       *testing.T
	now     time.Time
	lane    *lane
	alice   *ecdsa.PrivateKey
	bob     *ecdsa.PrivateKey
	peer    *session.Responder
	toSign  []byte
	posted  []postData
	number  int
	effects []string
}

func newScene(t *testing.T) *scene {
	s := &scene{t: t, now: time.UnixMilli(1_700_000_000_000)}
	s.lane = newLane(Tuning{}.orDefault(), func() float64 { return 0.5 })
	s.alice, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.bob, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return s
}

func (s *scene) public(k *ecdsa.PrivateKey) session.PublicKey {
	spki, err := x509.MarshalPKIXPublicKey(k.Public())
	s.ok(err)
	key, err := session.ParsePublicKey(spki)
	s.ok(err)
	return key
}

func (s *scene) sign(k *ecdsa.PrivateKey, octets []byte) []byte {
	digest := sha256.Sum256(octets)
	signature, err := k.Sign(rand.Reader, digest[:], nil)
	s.ok(err)
	return signature
}

func (s *scene) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) view(serial int64) *view {
	bob := s.public(s.bob)
	return &view{
		standing: open, group: "g", serial: serial, keys: []session.PublicKey{bob}, firstKey: bob.Hash(),
		ourKey: ourKey{hash: s.public(s.alice).Hash()}, modes: []p2p.ProtocolMode{p2p.AuthenticatedEncryption},
	}
}

// run applies one event.
func (s *scene) run(event string) {
	s.t.Helper()
	words := strings.Fields(event)
	arg := func(n int) string {
		if n < len(words) {
			return words[n]
		}
		return ""
	}
	l := s.lane
	switch words[0] {
	case "send":
		d := &delivery{msg: message.Outbound{ID: arg(1)}}
		if ttl, found := strings.CutPrefix(arg(2), "ttl="); found {
			after, err := time.ParseDuration(ttl)
			s.ok(err)
			d.msg.Expires = s.now.Add(after).UnixMilli()
		}
		l.add(s.now, l.tuning.LaneMessages, d)
	case "tick":
		after, err := time.ParseDuration(arg(1))
		s.ok(err)
		s.now = s.now.Add(after)
		l.tick(s.now)
	case "member":
		serial, err := strconv.Atoi(arg(1))
		s.ok(err)
		l.changed(s.now, s.view(int64(serial)))
	case "no-member":
		l.changed(s.now, &view{standing: unknown, reason: "Bob is not in the member list"})
	case "refuse":
		l.changed(s.now, &view{standing: refused, reason: "Bob is SUSPENDED"})
	case "handshake-posted":
		l.handshakePosted(s.now, l.opening.id, result(arg(1)))
	case "hello":
		s.hello()
	case "sign":
		l.signed(s.now, l.opening.id, s.sign(s.alice, s.toSign), nil)
	case "no-signature":
		l.signed(s.now, l.opening.id, nil, errors.New("crypto is away"))
	case "handshake":
		s.handshake()
	case "posted":
		p := s.posted[0]
		s.posted = s.posted[1:]
		outcomes := make([]outcome, len(p.deliveries))
		for i := range outcomes {
			outcomes[i] = result(arg(1))
		}
		l.posted(s.now, p.session, p.deliveries, outcomes)
	case "ack":
		l.acked(s.now, words[1:]...)
	case "reachable":
		l.reachable(s.now)
	case "lost":
		l.lost(s.now, l.session.ID())
	default:
		s.t.Fatalf("unknown event %q", event)
	}
	s.collect()
}

func result(word string) outcome {
	switch word {
	case "ok":
		return outcome{status: statusOK}
	case "refused":
		return outcome{reason: "connection refused"}
	case "too-large":
		return outcome{reason: "too large", tooLarge: true}
	}
	status, _ := strconv.Atoi(word)
	return outcome{status: status, reason: "it answered " + word}
}

// hello is the peer answering our hello.
func (s *scene) hello() {
	ephemeral, err := ecdh.X25519().GenerateKey(rand.Reader)
	s.ok(err)
	s.peer, err = session.NewResponder(ephemeral)
	s.ok(err)
	m, err := p2p.DecodeGatewayMessage(s.lane.opening.body)
	s.ok(err)
	s.ok(s.peer.OnInitiatorHello(m.Payload.(*p2p.InitiatorHello)))
	answer, err := s.peer.Hello(s.now)
	s.ok(err)
	s.ok(s.lane.responderHello(s.now, answer))
}

// handshake is the peer answering our handshake.
func (s *scene) handshake() {
	m, err := p2p.DecodeGatewayMessage(s.lane.opening.body)
	s.ok(err)
	terms := session.Terms{MaxMessageSize: maxMessage, Modes: []p2p.ProtocolMode{p2p.AuthenticatedEncryption}}
	_, toSign, err := s.peer.OnInitiatorHandshake(m.Payload.(*p2p.InitiatorHandshake), s.public(s.alice), terms)
	s.ok(err)
	answer, _, err := s.peer.Handshake(s.sign(s.bob, toSign), s.now)
	s.ok(err)
	s.ok(s.lane.responderHandshake(s.now, answer, newCounter()))
}

// collect does what needs nothing of the world, and writes down all.
func (s *scene) collect() {
	for effects := s.lane.take(); len(effects) > 0; effects = s.lane.take() {
		for _, e := range effects {
			switch e := e.(type) {
			case beginSession:
				s.number++
				s.effects = append(s.effects, fmt.Sprintf("begin session s%d", s.number))
				ephemeral, err := ecdh.X25519().GenerateKey(rand.Reader)
				s.ok(err)
				o, err := newOpening(s.now, newSessionConfig(s.lane.view, fmt.Sprintf("s%d", s.number), ephemeral), s.lane.view.serial)
				s.lane.begin(s.now, o, err)
			case signHandshake:
				s.toSign = e.toSign
				s.effects = append(s.effects, "sign")
			case postHandshake:
				m, err := p2p.DecodeGatewayMessage(e.body)
				s.ok(err)
				s.effects = append(s.effects, fmt.Sprintf("post %T of %s", m.Payload, e.id))
			case postData:
				s.posted = append(s.posted, e)
				s.effects = append(s.effects, "post "+ids(e.deliveries)+" in "+e.session.ID())
			case sessionUp:
				s.effects = append(s.effects, e.session.ID()+" is up")
			case sessionGone:
				s.effects = append(s.effects, e.id+" has ended: "+e.why)
			case finish:
				s.effects = append(s.effects, "finish "+ids(e.deliveries))
			case fail:
				s.effects = append(s.effects, fmt.Sprintf("fail %s %s: %s", e.delivery.msg.ID, e.code, e.reason))
			case evict:
				s.effects = append(s.effects, "evict "+ids(e.deliveries))
			}
		}
	}
}

func ids(list []*delivery) string {
	var names []string
	for _, d := range list {
		names = append(names, d.msg.ID)
	}
	return strings.Join(names, " ")
}

// report writes what was asked for since the last report, what the lane waits for, and when it wants to be woken.
func (s *scene) report() string {
	lines := s.effects
	s.effects = nil
	what, _, _ := s.lane.waiting()
	state := fmt.Sprintf("= %d waiting, %d unacknowledged", len(s.lane.queue), s.lane.unacked)
	if what != "" {
		state += "; waits for " + what
	}
	if at, set := s.lane.wake(); set {
		state += "; wake in " + at.Sub(s.now).Round(time.Millisecond).String()
	}
	return strings.Join(append(lines, state), "\n")
}

func TestMayTalkFollowsCordasTable(t *testing.T) {
	t.Parallel()
	active, suspended, absent := party{present: true, active: true}, party{present: true}, party{}
	mgm := party{present: true, active: true, mgm: true}
	for _, c := range []struct {
		a, b party
		want bool
	}{
		{active, active, true}, {active, suspended, false}, {active, absent, false}, {suspended, suspended, false}, {absent, absent, false},
		{mgm, active, true}, {mgm, suspended, true}, {mgm, absent, true}, {mgm, mgm, true},
	} {
		if mayTalk(c.a, c.b) != c.want || mayTalk(c.b, c.a) != c.want {
			t.Errorf("%+v and %+v: %v, want %v", c.a, c.b, !c.want, c.want)
		}
	}
}

func TestRecentForgetsTheOldest(t *testing.T) {
	t.Parallel()
	var r recent
	for i := range recentIDs + 1 {
		r.add(strconv.Itoa(i))
	}
	if r.has("0") || !r.has("1") || len(r.seen) != recentIDs {
		t.Errorf("0: %v, 1: %v, %d ids", r.has("0"), r.has("1"), len(r.seen))
	}
}

func TestClosedPagesAreBelowWhatIsBeingWritten(t *testing.T) {
	t.Parallel()
	p := newParked()
	base := p.last / pageRows
	first := p.begin(&delivery{})
	for range 2 * pageRows {
		p.written(p.begin(&delivery{}), true)
	}
	if got := p.closed() - base; got != 0 {
		t.Errorf("page %d is the first open one while the first row is not written", got)
	}
	p.written(first, true)
	if got := p.closed() - base; got != 2 {
		t.Errorf("page %d is the first open one, want 2", got)
	}
}
