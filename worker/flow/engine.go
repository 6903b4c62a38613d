package flow

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/worker/flow/wasm"
	"github.com/hawser-project/hawser/worker/flow/wasm/frame"
)

func hashOf(octets []byte) []byte {
	sum := sha256.Sum256(octets)
	return sum[:]
}

// next is the chain after one more entry.
func (c chain) next(given, answer []byte) chain {
	g, a := sha256.Sum256(given), sha256.Sum256(answer)
	return sha256.Sum256(append(append(c[:], g[:]...), a[:]...))
}

// call enters a module once, when its turn has come.
func (w *Worker) call(ctx context.Context, i *wasm.Instance, first bool, given []byte, fuel int64, log wasm.LogSink) (*wasm.Answer, error) {
	start := time.Now()
	t, err := w.lanes.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		t.leave()
		w.metrics.step.Observe(time.Since(start).Seconds())
		w.metrics.steps.Add(1)
	}()
	i.Log = log
	limits := wasm.Limits{Fuel: fuel, Time: w.StepTime}
	if first {
		return i.Begin(t, given, limits)
	}
	return i.Resume(t, given, limits)
}

// sink writes what the flow logs to the worker's log. Instances and steps bound how much that can be.
func (s *step) sink() wasm.LogSink {
	return func(level slog.Level, text string, attrs []slog.Attr) {
		if !s.w.Log.Enabled(s.ctx, level) {
			return
		}
		all := make([]any, len(attrs))
		for i, a := range attrs {
			all[i] = a
		}
		s.w.Log.With(s.run.attrs()...).Log(s.ctx, level, "flow log", "text", text, slog.Group("app", all...))
	}
}

// bringBack gets the flow's instance: from memory, or from a fresh one that is given the flow's events again.
func (s *step) bringBack() error {
	program, err := s.w.modules.program(s.ctx, s.run.Module)
	if err != nil {
		if s.ctx.Err() != nil {
			return s.ctx.Err()
		}
		return bus.Hold(fmt.Sprintf("module %s of flow %s: %v", s.run.Module, s.run.ID, err),
			s.w.packages.Until(s.node.CPI.FileChecksum), s.w.vnodes.Until(s.run.Holder))
	}
	if s.run.Events > 0 {
		if s.instance = s.w.hot.take(s.run.ID, s.run.Chain); s.instance != nil {
			return nil
		}
	}
	if s.instance, err = s.w.pool.Get(s.ctx, program, s.run.Holder); err != nil {
		return s.broken(err)
	}
	if s.run.Events == 0 {
		return nil
	}
	return s.replay()
}

// replayFuel is what an event may cost when it is replayed: the limit may have been higher when it was new.
const replayFuel = 4_000_000_000

// replay gives a fresh instance the flow's events. The answers must be what they were.
func (s *step) replay() error {
	s.w.metrics.replays.Inc()
	start, err := s.startFrame()
	if err != nil {
		return err
	}
	var at chain
	number := uint64(0)
	err = eachEvent(s.ctx, s.tx, s.key, s.run.ID, func(e event) error {
		given := e.Given
		if number == 0 {
			given = start
		}
		answer, err := s.w.call(s.ctx, s.instance, number == 0, given, max(replayFuel, s.w.StepFuel), nil)
		switch {
		case s.ctx.Err() != nil:
			return s.ctx.Err()
		case err != nil:
			return s.diverged(number, e, err.Error())
		case !bytes.Equal(hashOf(answer.Octets), e.Answer):
			return s.diverged(number, e, describe(answer))
		}
		at = at.next(given, answer.Octets)
		number++
		return nil
	})
	if err == nil && at != s.run.Chain {
		err = s.diverged(number, event{}, fmt.Sprintf("%d events, the record has %d", number, s.run.Events))
	}
	return err
}

// diverged holds the flow: what it did cannot be repeated, so nothing is done until somebody has looked. It is tried again
// when the virtual node or its package changes, and now and then.
func (s *step) diverged(number uint64, e event, now string) error {
	s.w.metrics.held.Inc()
	reason := fmt.Sprintf("flow %s diverged at event %d: it did %q and does %q now", s.run.ID, number, e.Did, now)
	s.w.Log.ErrorContext(s.ctx, "flow diverged", append(s.run.attrs(), "event", number, "did", e.Did, "does", now)...)
	return bus.Hold(reason, s.w.vnodes.Until(s.run.Holder), s.w.packages.Until(s.node.CPI.FileChecksum))
}

// opNames are the commands in words.
var opNames = map[frame.Op]string{
	frame.OpenSession: "open", frame.SendData: "send", frame.ReceiveData: "receive", frame.CloseSession: "close",
	frame.StorePut: "put", frame.StoreGet: "get", frame.StoreList: "list", frame.Complete: "complete", frame.Fail: "fail",
}

// describe tells a command frame in a line.
func describe(a *wasm.Answer) string {
	const most = 8
	var text strings.Builder
	for n, c := range a.List {
		if n == most {
			fmt.Fprintf(&text, "and %d more, ", len(a.List)-most)
			break
		}
		fmt.Fprintf(&text, "%s %d, ", opNames[c.Op], c.ID)
	}
	switch {
	case a.Mode == frame.Ended:
		text.WriteString("end")
	case len(a.Await) > most:
		fmt.Fprintf(&text, "wait for %d answers", len(a.Await))
	default:
		fmt.Fprintf(&text, "wait for %v", a.Await)
	}
	return text.String()
}

// errBroken is wrapped by what is wrong with a command of a module.
var errBroken = errors.New("module broke the rules of commands")
