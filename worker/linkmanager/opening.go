package linkmanager

import (
	"crypto/ecdh"
	"time"

	"github.com/hawser-project/hawser/corda/p2p"
	"github.com/hawser-project/hawser/corda/session"
)

// opening is our side of a handshake that is not finished: what was sent last, and when to send it again. A peer ignores
// the same octets within 2 s, and must never see others under the same session id.
type opening struct {
	id        string
	serial    int64
	initiator *session.Initiator
	body      []byte // the gateway message sent last
	begun     time.Time
	postedAt  time.Time
	sends     int
	signing   bool
	posting   bool
}

// newOpening makes the first message of a handshake.
func newOpening(now time.Time, config session.InitiatorConfig, serial int64) (*opening, error) {
	initiator, err := session.NewInitiator(config)
	if err != nil {
		return nil, err
	}
	hello, err := initiator.Hello(now)
	if err != nil {
		return nil, err
	}
	return &opening{id: config.SessionID, serial: serial, initiator: initiator, body: gatewayBody(config.SessionID, hello), begun: now}, nil
}

// onHello takes the responder's hello. It returns what is to be signed, or nil: nothing is to be done but perhaps to
// send again what was sent.
func (o *opening) onHello(m *p2p.ResponderHello) (toSign []byte, err error) {
	if o.signing || o.initiator.Step() != session.HelloSent {
		return nil, nil // a duplicate; the timer sends again
	}
	toSign, err = o.initiator.OnResponderHello(m)
	if err == nil {
		o.signing = true
	}
	return toSign, err
}

// onSignature makes the second message.
func (o *opening) onSignature(now time.Time, signature []byte) error {
	m, err := o.initiator.Handshake(signature, now)
	if err != nil {
		return err
	}
	o.signing = false
	o.body, o.sends, o.postedAt = gatewayBody(o.id, m), 0, time.Time{}
	return nil
}

// waitsForAnswer says whether the present message is out.
func (o *opening) waitsForAnswer() bool { return o.signing || o.posting || o.sends > 0 }

// sendAgain is when the present message goes out again.
func (o *opening) sendAgain(t *Tuning) time.Time { return o.postedAt.Add(t.HandshakeResend) }

// over is when the handshake is given up.
func (o *opening) over(t *Tuning) time.Time { return o.begun.Add(t.HandshakeTimeout) }

func (o *opening) String() string {
	if o.initiator.Step() == session.HelloSent {
		return "waiting for the peer's hello"
	}
	return "waiting for the peer's handshake"
}

// gatewayBody makes the octets that a gateway posts.
func gatewayBody(id string, payload p2p.Payload) []byte {
	m := p2p.GatewayMessage{ID: id, Payload: payload}
	return m.AppendBody(nil)
}

// newSessionConfig says how a session with the peer is begun.
func newSessionConfig(v *view, id string, ephemeral *ecdh.PrivateKey) session.InitiatorConfig {
	return session.InitiatorConfig{
		SessionID: id, GroupID: v.group, KeyHash: v.ourKey.hash, ResponderKeyHash: v.firstKey,
		MaxMessageSize: maxMessage, Modes: v.modes, Ephemeral: ephemeral,
	}
}
