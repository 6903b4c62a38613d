package bus

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"
)

// everywhere is a placement in which all processes have all roles.
type everywhere []Instance

func (everywhere) Owner(Role, int32) (Instance, bool) { return Instance{}, false }
func (e everywhere) Instances(Role) []Instance        { return e }
func (everywhere) Changed() <-chan struct{}           { return nil }

// direct carries requests by a function call, and counts them.
type direct struct {
	to    map[uint16]*Bus
	count atomic.Int64
}

func (d *direct) Send(ctx context.Context, to Instance, r Request) (Answer, error) {
	d.count.Add(1)
	if ctx.Err() != nil {
		return Answer{}, failure(kindUnavailable, "%w", ctx.Err())
	}
	return d.to[to.Number].Serve(ctx, r), nil
}

type plain struct{}

func (plain) EncodeError(err error) []byte  { return []byte(err.Error()) }
func (plain) DecodeError(text []byte) error { return failure(kindUnavailable, "%s", text) }

// TestARequestIsNotHandedRound asks, in the name of a process behind, what two processes have the role for and neither
// answers now, as when both are stopping.
func TestARequestIsNotHandedRound(t *testing.T) {
	t.Parallel()
	all := everywhere{{Number: 1}, {Number: 2}}
	carrier := &direct{to: make(map[uint16]*Bus)}
	for _, self := range all {
		carrier.to[self.Number] = New(nil, Options{
			Log: slog.New(slog.DiscardHandler), Errors: plain{}, Self: self, Placement: all, Remote: carrier,
			Behind: []Role{"outside"}, Answerer: func(string) (Role, bool) { return "signer", true },
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if a := carrier.to[1].Serve(ctx, Request{What: whatCall, Name: "sign", Asker: "outside"}); !a.NotHere {
		t.Errorf("got %+v, want that it is not answered here", a)
	}
	if n := carrier.count.Load(); n > 0 {
		t.Errorf("the request was handed on %d times", n)
	}
}
