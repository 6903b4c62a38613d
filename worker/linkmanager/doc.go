// Package linkmanager is the worker that carries messages between members, end to end: it seals what leaves in link
// sessions and has the gateway post it until the peer has acknowledged it, and it opens, checks and commits what comes.
// A message between two members of this cluster is delivered inside it. It holds no private key of a member; crypto signs
// its handshakes. What a message says does not concern it.
//
// Outbound, one lane per pair of source and destination. A lane is a pure state machine (lane.go): its methods are the
// events, its effects are what must be done. A runner (runner.go) owns a lane and does that. A lane waits for nothing that
// another waits for, so a dead peer costs the others nothing. A message in a lane:
//
//	        +---------------- post failed; no acknowledgement in time -----------------+
//	        v                                                                          |
//	ready --post--> posting --answered 200--> sent --acknowledged--> done (record finished)
//	  |                                         |
//	  +-- expired, refused, too large ----------+--> done (the sending flow is told)
//
// Where its durable copy is, is another matter: first in its record on p2p.out, and when it stays for long in a row of
// parked state, so that the consumer's window moves on (parked.go). A parked message may also be out of memory.
//
// The link session of a lane (opening.go) is made when there is something to send, and lives in this process only:
//
//	none --open--> hello sent --ResponderHello, signature--> handshake sent --ResponderHandshake--> up
//	  ^                 |                                         |                                |
//	  +------- no answer in time, member changed -----------------+--- too old or used, no acks ---+
//
// Inbound (inbound.go, responder.go): handshakes that are not finished live in memory for a minute; sessions are stored,
// sealed, so that a peer's session survives our restart. What a peer sends is taken in this order: open, check who it is
// from and for, publish to the flows' topic, and when that is durable acknowledge. Whatever is wrong with it is counted by
// reason and dropped.
//
// Lock order: Worker.mu and directory.mu are never held together, nor while anything waits.
package linkmanager
