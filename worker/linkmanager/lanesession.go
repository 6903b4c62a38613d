package linkmanager

import (
	"time"

	"github.com/hawser-project/hawser/corda/p2p"
)

// What a lane does about its session: the events of the handshake, and when a session ends.

// open begins a handshake, goes on with one, or gives it up.
func (l *lane) open(now time.Time) {
	o := l.opening
	if o != nil && !now.Before(o.over(l.tuning)) {
		l.giveUp("the handshake was not finished in time")
		l.circuit.fail(now, l.tuning, l.jitter(), "the peer does not answer the handshake")
		return
	}
	switch {
	case o == nil && l.beginning:
	case o == nil:
		l.beginning = true
		l.emit(beginSession{})
	case o.signing || o.posting:
	case o.sends == 0 || !now.Before(o.sendAgain(l.tuning)):
		o.sends++
		o.posting, o.postedAt = true, now
		l.emit(postHandshake{o.id, o.body})
	}
}

// begin takes the handshake that beginSession asked for, or why there is none.
func (l *lane) begin(now time.Time, o *opening, err error) {
	l.beginning = false
	if err != nil {
		l.circuit.fail(now, l.tuning, l.jitter(), "no session can be begun: "+err.Error())
	} else {
		l.opening = o
	}
	l.pump(now)
}

// handshakePosted says how a post of a handshake message went.
func (l *lane) handshakePosted(now time.Time, id string, o outcome) {
	if l.opening == nil || l.opening.id != id {
		return
	}
	l.opening.posting = false
	if o.status == statusOK {
		l.backOnline(now)
	} else {
		l.opening.sends = max(0, l.opening.sends-1)
		l.opening.begun = now // the peer has not had its time yet
		l.circuit.fail(now, l.tuning, l.jitter(), o.reason)
	}
	l.pump(now)
}

// responderHello takes the peer's answer to our hello. An error says that it was of no use.
func (l *lane) responderHello(now time.Time, m *p2p.ResponderHello) error {
	if l.opening == nil || l.opening.id != m.Header.SessionID {
		return errNoHandshake
	}
	toSign, err := l.opening.onHello(m)
	if err == nil && toSign != nil {
		l.emit(signHandshake{toSign})
	}
	l.pump(now)
	return err
}

// signed takes the signature of our session key, or why there is none.
func (l *lane) signed(now time.Time, id string, signature []byte, err error) {
	if l.opening == nil || l.opening.id != id {
		return
	}
	if err == nil {
		err = l.opening.onSignature(now, signature)
	}
	if err != nil {
		l.giveUp("no signature: " + err.Error())
		l.circuit.fail(now, l.tuning, l.jitter(), "no signature for the handshake: "+err.Error())
	}
	l.pump(now)
}

// responderHandshake takes the message that proves the peer. From here on what waits is sent.
func (l *lane) responderHandshake(now time.Time, m *p2p.ResponderHandshake, n nonces) error {
	if l.opening == nil || l.opening.id != m.Header.SessionID {
		return errNoHandshake
	}
	established, err := l.opening.initiator.OnResponderHandshake(m, l.view.keys)
	if err != nil {
		return err
	}
	l.session = &outSession{Session: established, serial: l.opening.serial, since: now, nonces: n}
	l.opening = nil
	l.emit(sessionUp{l.session})
	l.backOnline(now)
	l.pump(now)
	return nil
}

// lost says that the peer does not have the session any more.
func (l *lane) lost(now time.Time, id string) {
	if l.session != nil && l.session.ID() == id {
		l.end("the peer asked for a new session")
		for _, t := range l.replay.items {
			t.d.next = now
		}
		for i := range l.replay.items {
			l.replay.items[i].at = now
		}
	}
	l.pump(now)
}

func (l *lane) giveUp(why string) {
	l.emit(sessionGone{l.opening.id, why})
	l.opening = nil
}

func (l *lane) end(why string) {
	l.emit(sessionGone{l.session.ID(), why})
	l.session = nil
}

// ageSession ends a session that is worn out or taken for dead.
func (l *lane) ageSession(now time.Time) {
	s := l.session
	switch {
	case s == nil:
	case now.Sub(s.since) >= l.tuning.SessionAge, s.nonces != nil && s.nonces.used() >= l.tuning.SessionMessages:
		l.end("it is replaced by a new one")
	case !s.silentAt.IsZero() && !now.Before(s.silentAt):
		l.end("nothing was acknowledged for " + l.tuning.DeadSession.String())
	}
}
