package linkmanager

import (
	"context"
	"encoding/hex"
	"strings"
	"sync"

	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/corda/p2p"
)

// Link messages of one session are all taken by the same link manager: those of a session that we have made by the one that
// made it, in whose memory it is; those of a peer's session by the owner of the session's id. The gateway hands a message to
// any of them.

// routes is where the messages of a delivery go.
type routes struct {
	here     []p2p.Payload
	toMaker  map[uint16][]topic.LinkMessage
	toOwners map[int32]topic.RoutedDelivery // by partition: a stranger may name any number of sessions
}

// route sorts messages by who takes them. fromMaker is of those that another link manager has sent here: they are not sent to
// a maker again.
func (w *Worker) route(d topic.Delivery, fromMaker bool) (r routes) {
	for _, m := range d.Messages {
		if m.Decoded == nil {
			var err error
			if m.Decoded, err = p2p.DecodeGatewayMessage(m.Body); err != nil {
				w.drop("malformed")
				continue
			}
		}
		payload := m.Decoded.Payload
		id := sessionOf(payload)
		_, made := w.index.get(id)
		maker, named := makerOf(id)
		switch {
		case made:
			r.here = append(r.here, payload)
		case named && !fromMaker && mayBeAnswer(payload) && topic.DeliverToMaker.At(w.Bus, maker):
			if r.toMaker == nil {
				r.toMaker = make(map[uint16][]topic.LinkMessage)
			}
			r.toMaker[maker] = append(r.toMaker[maker], m)
		case topic.DeliverToOwner.Mine(w.Bus, topic.RoutedDelivery{Session: id}):
			r.here = append(r.here, payload)
		default:
			r.toOwner(topic.DeliverToOwner.PartitionOf(w.Bus, topic.RoutedDelivery{Session: id}), id, m, d.Acks)
		}
	}
	return r
}

func (r *routes) toOwner(partition int32, session string, m topic.LinkMessage, acks bool) {
	if r.toOwners == nil {
		r.toOwners = make(map[int32]topic.RoutedDelivery)
	}
	to, found := r.toOwners[partition]
	if !found {
		to = topic.RoutedDelivery{Session: session, Delivery: topic.Delivery{Acks: acks}}
	}
	to.Delivery.Messages = append(to.Delivery.Messages, m)
	r.toOwners[partition] = to
}

func sessionOf(payload p2p.Payload) string {
	switch m := payload.(type) {
	case *p2p.InitiatorHello:
		return m.Header.SessionID
	case *p2p.ResponderHello:
		return m.Header.SessionID
	case *p2p.InitiatorHandshake, *p2p.ResponderHandshake, *p2p.EncryptedData, *p2p.AuthenticatedData:
		return payload.CommonHeader().SessionID
	}
	return ""
}

// mayBeAnswer says whether a message can be one for a session that we have made.
func mayBeAnswer(payload p2p.Payload) bool {
	switch payload.(type) {
	case *p2p.InitiatorHello, *p2p.InitiatorHandshake:
		return false
	}
	return true
}

// makerOf reads the number of the process that has made a session, if it was one of ours.
func makerOf(id string) (number uint16, ok bool) {
	if len(id) != 36 {
		return 0, false
	}
	b, err := hex.DecodeString(strings.ToLower(id[:4]))
	if err != nil {
		return 0, false
	}
	return uint16(b[0])<<8 | uint16(b[1]), true
}

// deliver takes what came to the gateway, and returns when it is durable. Whatever is wrong with a message is no error:
// the one who sent it is told nothing.
func (w *Worker) deliver(ctx context.Context, d topic.Delivery) (topic.Receipt, error) {
	return w.dispatchDelivery(ctx, d, false)
}

// takeReplies takes what another link manager thinks is for a session of ours.
func (w *Worker) takeReplies(ctx context.Context, d topic.Delivery) (topic.Receipt, error) {
	return w.dispatchDelivery(ctx, d, true)
}

// takeRouted takes messages of sessions whose ids are ours to look after.
func (w *Worker) takeRouted(ctx context.Context, d topic.RoutedDelivery) (topic.Receipt, error) {
	var t taking
	for _, m := range d.Delivery.Messages {
		w.guard(func() error {
			decoded := m.Decoded
			if decoded == nil {
				var err error
				if decoded, err = p2p.DecodeGatewayMessage(m.Body); err != nil {
					return dropped("malformed")
				}
			}
			return w.receive(ctx, &t, decoded.Payload)
		})
	}
	return w.conclusion(ctx, &t, d.Delivery.Acks)
}

func (w *Worker) dispatchDelivery(ctx context.Context, d topic.Delivery, fromMaker bool) (topic.Receipt, error) {
	r := w.route(d, fromMaker)
	var mu sync.Mutex
	var receipt topic.Receipt
	var failed error
	add := func(more topic.Receipt, err error) {
		mu.Lock()
		defer mu.Unlock()
		receipt.Acks = append(receipt.Acks, more.Acks...)
		if err != nil {
			failed = err
		}
	}
	var elsewhere sync.WaitGroup
	for number, messages := range r.toMaker {
		elsewhere.Go(func() {
			add(topic.DeliverToMaker.DoAt(ctx, w.Bus, number, topic.Delivery{Messages: messages, Acks: d.Acks}))
		})
	}
	for _, to := range r.toOwners {
		elsewhere.Go(func() { add(topic.DeliverToOwner.Do(ctx, w.Bus, to)) })
	}
	var t taking
	for _, payload := range r.here {
		w.guard(func() error { return w.receive(ctx, &t, payload) })
	}
	add(w.conclusion(ctx, &t, d.Acks))
	elsewhere.Wait()
	return receipt, failed
}
