// Package flow is what an author of Hawser flows writes against. A flow is an ordinary function: it sends to and
// receives from other members of its group, keeps records in its virtual node's store, and returns. It may wait for
// days; Hawser keeps its state over restarts of any process, and the author does nothing for that.
//
// Flows are declared in init functions:
//
//	func init() {
//		flow.Startable("com.example.trade.OfferTrade", OfferTrade)
//		flow.Initiates("com.example.trade.OfferTrade", "com.example.trade", 1)
//		flow.Responder("com.example.trade.AnswerOffer", "com.example.trade", []int{1}, AnswerOffer)
//	}
//
// Arguments, results, messages and stored values are JSON. Inside a flow there is no file, network, environment or
// sleeping; time and randomness come from Ctx, and anything from package time or crypto/rand stands still or is
// derived from the flow's own seed. A flow may use goroutines, but only its own goroutine may use its Ctx and
// Sessions. Global variables belong to one flow: every flow begins with them as init left them.
package flow

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/hawser-project/hawser/sdk/internal/engine"
	"github.com/hawser-project/hawser/sdk/internal/frame"
)

// Startable declares a flow that clients start over the REST API. The request body is decoded into In; Out is
// encoded as the flow's result. An error fails the flow with the error's text.
func Startable[In, Out any](class string, run func(*Ctx, In) (Out, error)) {
	engine.Flows.Add(&engine.Flow{
		Class: class,
		Run: func(t *engine.Task) ([]byte, error) {
			var in In
			if err := decode(t.Start.Args, &in); err != nil {
				return nil, &Error{Code: CodeBadMessage, Message: fmt.Sprintf("arguments of %s: %v", class, err)}
			}
			out, err := run(newCtx(t), in)
			if err != nil {
				return nil, err
			}
			p, err := json.Marshal(out)
			if err != nil {
				return nil, fmt.Errorf("encode result of %s: %w", class, err)
			}
			return p, nil
		},
		Warm: func() {
			warm(reflect.TypeFor[In]())
			warm(reflect.TypeFor[Out]())
		},
	})
}

// Initiates declares the protocol that sessions begun by a flow speak, and the versions of it that the flow
// understands. A flow without this declaration cannot begin sessions.
func Initiates(class, protocol string, versions ...int) {
	engine.Flows.Initiate(class, &engine.Protocol{Name: protocol, Versions: versions})
}

// Responder declares the flow that runs when a peer's flow begins a session in the given protocol. Hawser picks the
// highest version that both sides understand; Session.Version tells it. The class is what operators see.
func Responder(class, protocol string, versions []int, run func(*Ctx, *Session) error) {
	engine.Flows.Add(&engine.Flow{
		Class:    class,
		Responds: &engine.Protocol{Name: protocol, Versions: append([]int(nil), versions...)},
		Run: func(t *engine.Task) ([]byte, error) {
			c := newCtx(t)
			s := &Session{ctx: c, peer: t.Start.Counterparty, protocol: t.Start.Protocol, version: int(t.Start.Version)}
			return []byte("null"), run(c, s)
		},
	})
}

// Messages names values of the types that flows send or store, so that the work of a type's first use is done once
// for all flows instead of once in each. It only makes flows quicker.
func Messages(examples ...any) {
	engine.Flows.Warmer(func() {
		for _, e := range examples {
			warm(reflect.TypeOf(e))
		}
	})
}

// warm runs a type through the codec once. Only the caches that this fills are wanted, so errors do not matter.
func warm(t reflect.Type) {
	if t == nil {
		return
	}
	v := reflect.New(t)
	p, err := json.Marshal(v.Interface())
	if err == nil {
		_ = json.Unmarshal(p, v.Interface())
	}
}

// decode reads JSON; no octets at all leave v as it is.
func decode(p []byte, v any) error {
	if len(p) == 0 {
		return nil
	}
	return json.Unmarshal(p, v)
}

func encode(v any) ([]byte, error) {
	p, err := json.Marshal(v)
	if err != nil {
		return nil, &Error{Code: CodeBadMessage, Message: err.Error()}
	}
	if len(p) > frame.MaxPayload {
		return nil, &Error{Code: CodeTooLarge, Message: fmt.Sprintf("%d octets, at most %d", len(p), frame.MaxPayload)}
	}
	return p, nil
}
