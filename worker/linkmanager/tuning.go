package linkmanager

import "time"

// Tuning is the times and sizes of delivery. The zero value of a field is its default.
type Tuning struct {
	// FirstReplay is how long to wait for an acknowledgement before a message is sent again; it doubles with each attempt
	// up to MaxRetryReachable. Default 2 s.
	FirstReplay time.Duration
	// MaxRetryReachable bounds the pauses while the peer is believed reachable: for BelievedReachable after it was last
	// reached. Defaults 10 s, 5 min.
	MaxRetryReachable, BelievedReachable time.Duration
	// FirstReconnect is the pause after a post that failed; it doubles up to MaxRetry. Defaults 250 ms, 60 s.
	FirstReconnect, MaxRetry time.Duration
	// HintPause is how soon after a failed attempt a sign of life leads to another. Default 1 s.
	HintPause time.Duration
	// HandshakeResend is when an unanswered handshake message goes out again: over 2 s, or Corda ignores it. Default 2.5 s.
	HandshakeResend time.Duration
	// HandshakeTimeout is when a handshake is begun anew. Default 8 s.
	HandshakeTimeout time.Duration
	// DeadSession is how long a session lives without any acknowledgement of what was sent. Default 60 s.
	DeadSession time.Duration
	// SessionAge and SessionMessages are when a session is replaced. Defaults 6 days, 2^32.
	SessionAge      time.Duration
	SessionMessages uint64
	// Posts is how many requests to one peer are in flight, PostMessages and PostOctets what one carries. Defaults 4, 64,
	// 1 MiB.
	Posts, PostMessages, PostOctets int
	// Unacked is how many messages a peer may have that it has not acknowledged. Default 2048.
	Unacked int
	// LaneMessages is how many messages to a peer that answers are kept in memory, LaneMessagesAway how many to one that
	// does not; LaneOctets bounds their size. Defaults 6000, 1000, 16 MiB.
	LaneMessages, LaneMessagesAway, LaneOctets int
	// ParkAfter is when a message that waits is parked. Default 3 s.
	ParkAfter time.Duration
	// ParkDistance is how many records a waiting message may lie behind the newest. Default 7000.
	ParkDistance int
	// HalfOpen is how long a handshake of a peer may take. Default 1 min.
	HalfOpen time.Duration
	// KeepInbound is how long an inbound session is kept; Corda's initiators use theirs for 7 days. Default 8 days.
	KeepInbound time.Duration
}

func (t Tuning) orDefault() *Tuning {
	duration(&t.FirstReplay, 2*time.Second)
	duration(&t.MaxRetryReachable, 10*time.Second)
	duration(&t.BelievedReachable, 5*time.Minute)
	duration(&t.FirstReconnect, 250*time.Millisecond)
	duration(&t.MaxRetry, time.Minute)
	duration(&t.HintPause, time.Second)
	duration(&t.HandshakeResend, 2500*time.Millisecond)
	duration(&t.HandshakeTimeout, 8*time.Second)
	duration(&t.DeadSession, time.Minute)
	duration(&t.SessionAge, 6*24*time.Hour)
	duration(&t.ParkAfter, 3*time.Second)
	duration(&t.HalfOpen, time.Minute)
	duration(&t.KeepInbound, 8*24*time.Hour)
	number(&t.Posts, 4)
	number(&t.PostMessages, 64)
	number(&t.PostOctets, 1<<20)
	number(&t.Unacked, 2048)
	number(&t.LaneMessages, 6000)
	number(&t.LaneMessagesAway, 1000)
	number(&t.LaneOctets, 16<<20)
	number(&t.ParkDistance, 7000)
	if t.SessionMessages == 0 {
		t.SessionMessages = 1 << 32
	}
	return &t
}

func duration(v *time.Duration, def time.Duration) {
	if *v <= 0 {
		*v = def
	}
}

func number(v *int, def int) {
	if *v <= 0 {
		*v = def
	}
}

// maxMessage is the largest plaintext that we propose and accept: header and key of a message included.
const maxMessage = 1_000_000

// headroom is what names, ids and framing add to a payload at most, as far as the limit is checked before sealing.
const headroom = 2048
