package linkmanager

import "time"

// circuit is whether a peer's endpoint answers. While it does not, one probe at a time is sent, ever more rarely.
type circuit struct {
	failures int
	since    time.Time // of the first failure in a row
	tried    time.Time // the last attempt that failed
	next     time.Time // when to try again
	reason   string
}

func (c *circuit) open() bool { return c.failures > 0 }

// allows says whether something may be sent now.
func (c *circuit) allows(now time.Time) bool { return c.failures == 0 || !now.Before(c.next) }

// fail takes note of an attempt that failed.
func (c *circuit) fail(now time.Time, t *Tuning, jitter float64, reason string) {
	c.tried, c.reason = now, reason
	if c.failures == 0 {
		c.since = now
	} else if now.Before(c.next) {
		return // it began before the others failed
	}
	c.failures++
	limit := t.MaxRetry
	if now.Sub(c.since) < t.BelievedReachable {
		limit = t.MaxRetryReachable
	}
	c.next = now.Add(backoff(t.FirstReconnect, limit, c.failures, jitter))
}

// ok takes note of an answer, and reports whether the peer was away.
func (c *circuit) ok() (was bool) {
	was = c.failures > 0
	*c = circuit{}
	return was
}

// hint is a sign that the peer is there: the next attempt is made at once, but not in a storm where peers reach us and we
// do not reach them.
func (c *circuit) hint(now time.Time, t *Tuning) {
	if c.failures > 0 && now.Sub(c.tried) >= t.HintPause && now.Before(c.next) {
		c.next = now
	}
}

// backoff is first, doubled with every attempt up to limit, and between 80 and 120 percent of that by jitter in [0, 1).
func backoff(first, limit time.Duration, attempt int, jitter float64) time.Duration {
	d := first
	for i := 1; i < attempt && d < limit; i++ {
		d *= 2
	}
	return time.Duration(float64(min(d, limit)) * (0.8 + 0.4*jitter))
}
