package flow

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hawser-project/hawser/sdk/internal/engine"
	"github.com/hawser-project/hawser/sdk/internal/frame"
)

// Ctx is a flow's access to the world. Only the flow's own goroutine may use it.
type Ctx struct {
	task     *engine.Task
	rng      *rand.Rand
	sessions uint64
}

func newCtx(t *engine.Task) *Ctx {
	return &Ctx{task: t}
}

// ID is the flow's id, unique in the cluster.
func (c *Ctx) ID() string { return c.task.Start.FlowID }

// Me is the X.500 name of the virtual node that the flow runs on.
func (c *Ctx) Me() string { return c.task.Start.Me }

// Now is the time of the present step. It moves only when the flow waits.
func (c *Ctx) Now() time.Time { return time.Unix(0, c.task.Now()).UTC() }

// Rand is a generator of this flow's own. Two flows never share a sequence, which the top-level functions of
// math/rand do not promise here.
func (c *Ctx) Rand() *rand.Rand {
	if c.rng == nil { // most flows need none, and making one takes a few microseconds
		c.rng = rand.New(rand.NewChaCha8(c.task.Start.Seed))
	}
	return c.rng
}

// UUID makes a random (version 4) UUID.
func (c *Ctx) UUID() string {
	var u [16]byte
	for i := range u {
		u[i] = byte(c.Rand().Uint32())
	}
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// InitiateFlow begins a session with another member, named by its X.500 name. The peer's flow starts with the first
// Send, Receive or SendReceive. The flow's class must be declared with Initiates.
func (c *Ctx) InitiateFlow(peer string) (*Session, error) {
	p := c.task.Initiates()
	if p == nil {
		return nil, &Error{Code: CodeNoProtocol, Message: c.task.Start.Class + " is not declared with flow.Initiates"}
	}
	if peer == "" || len(peer) > frame.MaxName {
		return nil, &Error{Code: CodeUnknownPeer, Message: fmt.Sprintf("name of %d octets, want 1 to %d", len(peer), frame.MaxName)}
	}
	c.sessions++
	open := frame.Open{Session: c.sessions, Peer: peer, Protocol: p.Name}
	for _, v := range p.Versions {
		open.Versions = append(open.Versions, uint64(v))
	}
	if _, err := c.task.Do(frame.OpenSession, open.Append(nil)); err != nil {
		return nil, public(err)
	}
	return &Session{ctx: c, number: c.sessions, peer: peer, protocol: p.Name}, nil
}

// Store is the virtual node's store.
func (c *Ctx) Store() *Store { return &Store{task: c.task} }

// Log writes to the cluster's log, marked with the flow's id and class.
func (c *Ctx) Log() *Logger { return &Logger{task: c.task} }

// Logger writes log records with alternating keys and values.
type Logger struct{ task *engine.Task }

// Info logs what an operator may want to know.
func (l *Logger) Info(message string, keyValues ...any) { l.write(0, message, keyValues) }

// Warn logs what an operator should look at.
func (l *Logger) Warn(message string, keyValues ...any) { l.write(4, message, keyValues) }

// Error logs what an operator must act on.
func (l *Logger) Error(message string, keyValues ...any) { l.write(8, message, keyValues) }

// The levels are those of log/slog.
func (l *Logger) write(level int, message string, keyValues []any) {
	r := frame.Log{Message: engine.Clip(message, 2048)}
	for i := 0; i < len(keyValues) && i < 64; i += 2 {
		a := frame.Attr{Key: engine.Clip(fmt.Sprint(keyValues[i]), frame.MaxName), Value: "missing"}
		if i+1 < len(keyValues) {
			a.Value = engine.Clip(text(keyValues[i+1]), 2048)
		}
		r.Attrs = append(r.Attrs, a)
	}
	l.task.Log(level, r.Append(nil))
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case error, fmt.Stringer:
		return fmt.Sprint(v)
	}
	if p, err := json.Marshal(v); err == nil {
		return string(p)
	}
	return fmt.Sprint(v)
}
