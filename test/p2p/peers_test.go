package p2p_test

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/bustest"
	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/corda/p2p"
	"github.com/hawser-project/hawser/corda/session"
	"github.com/hawser-project/hawser/worker/linkmanager"
)

// latencies sends one message after the other and returns how long each took to arrive, sorted.
func latencies(t testing.TB, here, there *cluster, from, to *person, n int) []time.Duration {
	t.Helper()
	var all []time.Duration
	for range n {
		begun := time.Now()
		there.wait("message", has(here.send(from, to, make([]byte, 1024))))
		all = append(all, time.Since(begun))
	}
	slices.Sort(all)
	return all
}

func TestADeadPeerDoesNotHoldUpALivingOne(t *testing.T) {
	t.Parallel()
	here, there, alice, bob := twoClusters(t, options{})
	refusing, silent := newPerson(t, "Refusing"), newPerson(t, "Silent")
	listener, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never says a word
	must(t, err)
	defer func() { _ = listener.Close() }()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	_ = closed.Close()
	here.list(alice, refusing, refusing.record("https://"+closed.Addr().String(), 1))
	here.list(alice, silent, silent.record("https://"+listener.Addr().String(), 1))

	there.wait("message", has(here.send(alice, bob, nil)))
	alone := latencies(t, here, there, alice, bob, 100)
	for range 3000 {
		here.send(alice, refusing, make([]byte, 100))
		here.send(alice, silent, make([]byte, 100))
	}
	until(t, "parked messages", func() bool {
		return slices.ContainsFunc(here.links.Status(), func(s linkmanager.PeerStatus) bool { return s.ParkedPages > 0 })
	})
	beside := latencies(t, here, there, alice, bob, 100)
	t.Logf("p50 alone %s, beside two dead peers %s; p90 %s, %s", alone[50], beside[50], alone[90], beside[90])
	if beside[90] > 10*alone[90]+100*time.Millisecond {
		t.Errorf("beside dead peers 90 percent take %s, alone %s", beside[90], alone[90])
	}
}

// deliver hands link messages to a link manager as its gateway would.
func (c *cluster) deliver(payloads ...p2p.Payload) (topic.Receipt, error) {
	d := topic.Delivery{Acks: true}
	for _, payload := range payloads {
		m := p2p.GatewayMessage{ID: "x", Payload: payload}
		d.Messages = append(d.Messages, topic.LinkMessage{Body: m.AppendBody(nil)})
	}
	return topic.Deliver.Do(c.t.Context(), c.bus.As(topic.Gateway), d)
}

func (c *cluster) dropped(reason string) float64 {
	return c.counter("hawser_link_dropped_total", reason)
}

func TestWhatAPeerSendsIsDroppedWithAReason(t *testing.T) {
	t.Parallel()
	_, there, alice, bob := twoClusters(t, options{})
	ephemeral, err := ecdh.X25519().GenerateKey(rand.Reader)
	must(t, err)
	key := func(p *person) session.KeyHash { return session.HashKey(spki(p.session)) }
	config := session.InitiatorConfig{
		SessionID: uuid.NewString(), GroupID: groupID, KeyHash: key(alice), ResponderKeyHash: key(bob), MaxMessageSize: 1_000_000,
		Modes: []p2p.ProtocolMode{p2p.AuthenticatedEncryption}, Ephemeral: ephemeral,
	}
	initiator, err := session.NewInitiator(config)
	must(t, err)
	hello, err := initiator.Hello(time.Now())
	must(t, err)
	unknownKey, otherGroup, shortKey, lowOrder, long := *hello, *hello, *hello, *hello, *hello
	unknownKey.KeyHash = make([]byte, 32)
	otherGroup.GroupID = "other"
	shortKey.KeyHash = []byte{1}
	lowOrder.PublicKey = append(slices.Clone(hello.PublicKey[:12]), make([]byte, 32)...)
	long.Header.SessionID = strings.Repeat("x", 100_000)
	header := p2p.Header{Type: p2p.TypeData, Version: 1, SessionID: "nobody's"}
	for _, c := range []struct {
		reason  string
		payload p2p.Payload
	}{
		{"unknown initiator", &unknownKey}, {"unknown initiator", &otherGroup}, {"malformed", &shortKey}, {"hello refused", &lowOrder}, {"hello refused", &long},
		{"unknown session", p2p.NewEncryptedData(header, make([]byte, 100), make([]byte, 16))},
		{"unknown session", &p2p.AuthenticatedData{Header: header}},
		{"no such handshake", p2p.NewInitiatorHandshake(header, make([]byte, 100), make([]byte, 16))},
		{"no such handshake", p2p.NewResponderHandshake(header, make([]byte, 100), make([]byte, 16))},
		{"no such handshake", &p2p.ResponderHello{Header: header}},
		{"unauthenticated message", &p2p.UnauthenticatedMessage{Subsystem: "membership"}},
	} {
		before := there.dropped(c.reason)
		if _, err := there.deliver(c.payload); err != nil {
			t.Errorf("%s: %v", c.reason, err)
		}
		if there.dropped(c.reason) != before+1 {
			t.Errorf("%T was not dropped as %q", c.payload, c.reason)
		}
	}
	// A handshake that is forged does not use up the place of the genuine one.
	if _, err := there.deliver(hello); err != nil {
		t.Fatal(err)
	}
	forged := p2p.Header{Type: p2p.TypeInitiatorHandshake, Version: 1, SessionID: config.SessionID, SequenceNo: 1}
	if _, err := there.deliver(p2p.NewInitiatorHandshake(forged, make([]byte, 200), make([]byte, 16))); err != nil || there.dropped("handshake refused") != 1 {
		t.Errorf("the forged handshake was dropped %v times, %v", there.dropped("handshake refused"), err)
	}
	if n := there.counter("hawser_link_sessions_total"); n != 0 || len(there.received) != 0 {
		t.Errorf("%v sessions, %d messages", n, len(there.received))
	}
}

func TestADuplicateIsAcknowledgedAgainAndNotDeliveredAgain(t *testing.T) {
	t.Parallel()
	initiator, there, alice, bob := rawPeer(t)
	session := initiator.session
	m := outbound(alice, bob, []byte("x"))
	plain := (&p2p.DataPayload{Key: m.Key, Message: p2p.AuthenticatedMessage{
		Destination: p2p.IdentityOf(bob.identity), Source: p2p.IdentityOf(alice.identity), MessageID: m.ID, Subsystem: flow.Subsystem, Payload: m.Payload,
	}}).AppendObject(nil)
	seal := func(sequence int64, plain []byte) p2p.Payload {
		payload, err := session.Seal(sequence, 1, plain)
		must(t, err)
		return payload
	}
	for i, payload := range []p2p.Payload{seal(7, plain), seal(7, plain), seal(8, plain)} {
		receipt, err := there.deliver(payload)
		must(t, err)
		if len(receipt.Acks) != 1 {
			t.Fatalf("copy %d: %d acknowledgements", i, len(receipt.Acks))
		}
		answer, err := p2p.DecodePayload(receipt.Acks[0])
		must(t, err)
		opened, err := session.Open(answer)
		must(t, err)
		if ack, err := p2p.DecodeAck(opened); err != nil || ack.MessageID != m.ID || answer.CommonHeader().SequenceNo != payload.CommonHeader().SequenceNo {
			t.Errorf("copy %d: %+v, %v", i, ack, err)
		}
	}
	there.wait("message", has(m.ID))
	if n := there.counter("hawser_link_inbound_total", "new"); n != 1 {
		t.Errorf("delivered %v times", n)
	}
	forged := (&p2p.DataPayload{Key: m.Key, Message: p2p.AuthenticatedMessage{
		Destination: p2p.IdentityOf(bob.identity), Source: p2p.IdentityOf(newPerson(t, "Mallory").identity), MessageID: "other", Subsystem: flow.Subsystem,
	}}).AppendObject(nil)
	if receipt, err := there.deliver(seal(9, forged)); err != nil || len(receipt.Acks) != 0 || there.dropped("source or destination forged") != 1 {
		t.Errorf("a forged source: %d acknowledgements, %v", len(receipt.Acks), err)
	}
}

func TestALostAcknowledgementLeadsToARepetitionWithoutEffect(t *testing.T) {
	t.Parallel()
	o := options{noBatch: true, tuning: linkmanager.Tuning{FirstReplay: 100 * time.Millisecond, MaxRetryReachable: 200 * time.Millisecond}}
	here, there, alice, bob := twoClusters(t, o)
	there.wait("message", has(here.send(alice, bob, []byte("1"))))
	until(t, "acknowledgement", func() bool { return here.counter("hawser_link_outbound_total", "acknowledged") == 1 })
	nowhere, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	_ = nowhere.Close()
	there.list(bob, alice, alice.record("https://"+nowhere.Addr().String(), 1)) // acknowledgements go there
	sent := 1.0
	until(t, "repetitions", func() bool {
		here.send(alice, bob, []byte("2"))
		sent++
		return there.counter("hawser_link_inbound_total", "again") > 3
	})
	there.list(bob, alice, alice.record(here.url(), 1))
	until(t, "acknowledgements", func() bool { return here.counter("hawser_link_outbound_total", "acknowledged") == sent })
	there.mu.Lock()
	defer there.mu.Unlock()
	for id, n := range got(there.received) {
		if n != 1 {
			t.Errorf("message %s arrived %d times", id, n)
		}
	}
}

func TestNothingIsLostWhenClustersRestartUnderLoad(t *testing.T) {
	modes(t, func(t *testing.T, o options) {
		o.tuning = linkmanager.Tuning{FirstReplay: 100 * time.Millisecond, MaxRetryReachable: 300 * time.Millisecond, FirstReconnect: 20 * time.Millisecond, HandshakeTimeout: 3 * time.Second}
		here, there, alice, bob := twoClusters(t, o)
		var sent []string
		for round := range 6 {
			for range 100 {
				sent = append(sent, here.send(alice, bob, make([]byte, 500)))
			}
			if round%2 == 0 {
				there.restart()
			} else {
				here.restart()
			}
		}
		there.wait("all messages", has(sent...))
		until(t, "end of all", func() bool {
			s := here.links.Status()
			return len(s) == 1 && s[0].Messages == 0 && s[0].ParkedPages == 0
		})
	})
}

// raw is an initiator that the test plays itself.
type raw struct{ session *session.Session }

// rawPeer makes a session with a cluster, by hand: the cluster's answers come to a gateway that the test stands for.
func rawPeer(t *testing.T) (peer raw, there *cluster, alice, bob *person) {
	t.Helper()
	alice, bob = newPerson(t, "Alice"), newPerson(t, "Bob")
	there = newCluster(t, "there", options{}, bob)
	answers := make(chan p2p.Payload, 10)
	topic.GatewayPost.Answer(there.bus.As(topic.Gateway), func(_ context.Context, p topic.Post) (topic.PostResult, error) {
		result := topic.PostResult{}
		for _, body := range p.Bodies {
			m, err := p2p.DecodeGatewayMessage(body)
			if err == nil {
				answers <- m.Payload
			}
			result.Outcomes = append(result.Outcomes, topic.PostOutcome{Status: 200})
		}
		return result, nil
	})
	there.introduce(1, map[*person]string{alice: "https://alice.example.com:1", bob: there.url()})
	ephemeral, err := ecdh.X25519().GenerateKey(rand.Reader)
	must(t, err)
	config := session.InitiatorConfig{
		SessionID: uuid.NewString(), GroupID: groupID, KeyHash: session.HashKey(spki(alice.session)), ResponderKeyHash: session.HashKey(spki(bob.session)),
		MaxMessageSize: 1_000_000, Modes: []p2p.ProtocolMode{p2p.AuthenticatedEncryption}, Ephemeral: ephemeral,
	}
	initiator, err := session.NewInitiator(config)
	must(t, err)
	hello, err := initiator.Hello(time.Now())
	must(t, err)
	until(t, "tables", func() bool {
		_, err := there.deliver(hello)
		must(t, err)
		return len(answers) > 0
	})
	toSign, err := initiator.OnResponderHello((<-answers).(*p2p.ResponderHello))
	must(t, err)
	proof, err := initiator.Handshake(signWith(t, alice, toSign), time.Now())
	must(t, err)
	_, err = there.deliver(proof)
	must(t, err)
	public, err := session.ParsePublicKey(spki(bob.session))
	must(t, err)
	peer.session, err = initiator.OnResponderHandshake((<-answers).(*p2p.ResponderHandshake), []session.PublicKey{public})
	must(t, err)
	return peer, there, alice, bob
}

func BenchmarkMessages(b *testing.B) {
	for name, o := range map[string]options{"batch": {}, "compatible": {noBatch: true}, "batch-disk": {disk: true}} {
		b.Run(name, func(b *testing.B) {
			here, there, alice, bob := twoClusters(b, o)
			there.wait("message", has(here.send(alice, bob, nil)))
			payload := make([]byte, 1024)
			publisher := here.bus.As(topic.Flow)
			until(b, "acknowledgement", func() bool { return here.counter("hawser_link_outbound_total", "acknowledged") == 1 })
			there.credit = make(chan struct{}, b.N+1)
			outstanding := make(chan struct{}, 2000)
			var publishers sync.WaitGroup
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			for range 64 {
				publishers.Go(func() {
					for left.Add(-1) >= 0 {
						outstanding <- struct{}{}
						m := outbound(alice, bob, payload)
						if _, err := topic.P2POut.Publish(context.Background(), publisher, bus.Keyed[messageOut]{Key: m.Pair().Key(), Value: m}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for range b.N {
				<-there.credit
				<-outstanding
			}
			publishers.Wait()
			until(b, "acknowledgements", func() bool { return int(here.counter("hawser_link_outbound_total", "acknowledged")) > b.N })
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			b.ReportMetric(float64(b.N)/max(1, there.counter("hawser_gateway_requests_total")), "messages/request")
		})
	}
}

func BenchmarkLatency(b *testing.B) {
	here, there, alice, bob := twoClusters(b, options{disk: true})
	there.wait("message", has(here.send(alice, bob, nil)))
	until(b, "acknowledgement", func() bool { return here.counter("hawser_link_outbound_total", "acknowledged") == 1 })
	there.credit = make(chan struct{}, 1)
	var all []time.Duration
	b.ResetTimer()
	for range b.N {
		begun := time.Now()
		here.send(alice, bob, make([]byte, 1024))
		<-there.credit
		all = append(all, time.Since(begun))
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-us")
}

// BenchmarkBesideDeadPeers compares the time to a living peer alone with that beside two dead peers, one that refuses
// connections and one that never says a word, each with 1,000 messages waiting.
func BenchmarkBesideDeadPeers(b *testing.B) {
	here, there, alice, bob := twoClusters(b, options{})
	there.wait("message", has(here.send(alice, bob, nil)))
	until(b, "acknowledgement", func() bool { return here.counter("hawser_link_outbound_total", "acknowledged") == 1 })
	there.credit = make(chan struct{}, 1)
	measure := func() (p50, p99 time.Duration) {
		var all []time.Duration
		for range b.N {
			begun := time.Now()
			here.send(alice, bob, make([]byte, 1024))
			<-there.credit
			all = append(all, time.Since(begun))
		}
		slices.Sort(all)
		return all[len(all)/2], all[len(all)*99/100]
	}
	aloneHalf, aloneMost := measure()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	defer func() { _ = silent.Close() }()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	_ = closed.Close()
	for name, address := range map[string]string{"Refusing": closed.Addr().String(), "Silent": silent.Addr().String()} {
		p := newPerson(b, name)
		here.list(alice, p, p.record("https://"+address, 1))
		for range 1000 {
			here.send(alice, p, make([]byte, 100))
		}
	}
	until(b, "parked messages", func() bool { return here.parkedRecords() >= 2000 })
	besideHalf, besideMost := measure()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(aloneHalf.Microseconds()), "alone-p50-us")
	b.ReportMetric(float64(aloneMost.Microseconds()), "alone-p99-us")
	b.ReportMetric(float64(besideHalf.Microseconds()), "beside-p50-us")
	b.ReportMetric(float64(besideMost.Microseconds()), "beside-p99-us")
}

// parkedRecords is how many records of p2p.out are finished although their messages are not delivered.
func (c *cluster) parkedRecords() int {
	all, err := c.store.Current(context.Background(), topic.P2POut.Name)
	must(c.t, err)
	open, err := bustest.Unfinished(context.Background(), c.store, topic.P2POut.Name)
	must(c.t, err)
	return int(all.Stamps[0].Stamp.Sequence) - int(open) - int(c.counter("hawser_link_outbound_total", "acknowledged"))
}

// parkedPages is how many pages of parked messages the store knows of, empty ones included.
func (c *cluster) parkedPages() (n int) {
	must(c.t, c.store.Scan(context.Background(), bus.Range{Kind: "linkmanager.parked-pages", AllKeys: true}, func(bus.Row) bool {
		n++
		return true
	}))
	return n
}
