package linkmanager

import (
	"time"

	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/corda/identity"
	"github.com/hawser-project/hawser/corda/p2p"
	"github.com/hawser-project/hawser/corda/session"
)

// standing is what can be done for a pair of source and destination.
type standing uint8

const (
	unknown standing = iota // wait: something about them is not known yet
	refused                 // they may not talk
	here                    // the destination is hosted here too
	open                    // it is reached through a gateway
)

// view is what is known of a pair of source and destination, at one moment. It is never changed.
type view struct {
	standing standing
	reason   string        // of unknown and refused
	grace    time.Duration // how long a message waits before it is refused

	group     string
	serial    int64
	platform  int
	endpoints []string
	keys      []session.PublicKey // of the destination, as far as we can use them
	firstKey  session.KeyHash     // by which a session with it is asked for
	ourKey    ourKey
	modes     []p2p.ProtocolMode
	trust     topic.Trust
	holder    identity.ShortHash // of a destination that is hosted here
}

// ourKey is a session key of a hosted identity, by its name.
type ourKey struct {
	tenant, id string
	hash       session.KeyHash
	rsa        bool
}

// nonces gives the sequence numbers of a session, none twice.
type nonces interface {
	next() int64
	used() uint64
}

// outcome is how a post of one message went.
type outcome struct {
	status   int // of HTTP; 0: no answer
	reason   string
	tooLarge bool // it was not posted: it is larger than the session allows
}

// The statuses that mean something (spec/p2p-wire.md 6.2).
const (
	statusOK       = 200
	statusGone     = 410
	statusTooLarge = 413
)
