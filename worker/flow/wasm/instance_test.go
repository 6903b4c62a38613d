package wasm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hawser-project/hawser/worker/flow/wasm/frame"
)

func TestAFlowRunsToItsResult(t *testing.T) {
	t.Parallel()
	a, err := instance(t).Begin(t.Context(), start("echo", "hello"), Limits{})
	if got := result(t, a, err); got != `"hello"` {
		t.Errorf("got %s, want hello", got)
	}
}

func TestAMistakeOfTheAuthorIsAnOrdinaryFailure(t *testing.T) {
	t.Parallel()
	for class, want := range map[string]frame.Failure{
		"panic":       {Type: "panic", Message: "oh dear"},
		"stray panic": {Type: "panic", Message: "stray"},
		"deadlock":    {Type: "deadlock", Message: "never happen"},
		"sleep":       {Type: "deadlock", Message: "never ends"},
		"fail":        {Type: "probe.Code", Message: "wrapped: probe.Code: no luck"},
		"nothing":     {Type: "unknown-flow", Message: "no flow nothing"},
	} {
		t.Run(class, func(t *testing.T) {
			t.Parallel()
			a, err := instance(t).Begin(t.Context(), start(class, 0), Limits{})
			got := failure(t, a, err)
			if got.Type != want.Type || !strings.Contains(got.Message, want.Message) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestAnExitIsATrapAndTheInstanceIsDead(t *testing.T) {
	t.Parallel()
	i := instance(t)
	_, err := i.Begin(t.Context(), start("exit", 3), Limits{})
	if trap, ok := errors.AsType[*TrapError](err); !ok || trap.Reason != "exit 3" {
		t.Fatalf("got %v, want exit 3", err)
	}
	if _, err := i.Resume(t.Context(), resume(noon), Limits{}); !errors.Is(err, ErrDead) {
		t.Errorf("got %v, want a dead instance", err)
	}
}

func TestWhatRunsTooLongIsStoppedAlone(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	t.Cleanup(cancel)
	for _, c := range []struct {
		name, class string
		args        int
		ctx         context.Context
		limits      Limits
		want        error
	}{
		{"a loop, by fuel", "spin", 0, t.Context(), Limits{Fuel: 10_000_000}, ErrFuel},
		{"recursion, by fuel", "fibonacci", 80, t.Context(), Limits{Fuel: 10_000_000}, ErrFuel},
		{"a loop, by the clock", "spin", 0, t.Context(), Limits{Time: 50 * time.Millisecond}, ErrDeadline},
		{"recursion, by the clock", "fibonacci", 80, t.Context(), Limits{Time: 50 * time.Millisecond}, ErrDeadline},
		{"a loop, by its caller", "spin", 0, cancelled, Limits{}, context.DeadlineExceeded},
		{"endless recursion", "fibonacci", 1 << 30, t.Context(), Limits{}, nil},
		{"memory", "allocate", 1000, t.Context(), Limits{}, ErrMemory},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			i := instance(t)
			_, err := i.Begin(c.ctx, start(c.class, c.args), c.limits)
			if c.want != nil && !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err == nil || i.reset() {
				t.Error("the instance can be used again")
			}
		})
	}
}

func TestALoopingFlowDoesNotHoldUpTheHostsGarbageCollector(t *testing.T) {
	i := instance(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = i.Begin(ctx, start("spin", 0), Limits{})
	}()
	worst := time.Duration(0)
	for range 10 {
		began := time.Now()
		runtime.GC()
		worst = max(worst, time.Since(began))
	}
	cancel()
	<-done
	t.Logf("longest collection: %v", worst)
	if worst > time.Second {
		t.Errorf("a collection took %v while a flow was looping", worst)
	}
}

func TestALogHasALimit(t *testing.T) {
	t.Parallel()
	i := instance(t)
	var lines []string
	i.Log = func(level slog.Level, message string, attrs []slog.Attr) {
		lines = append(lines, fmt.Sprintf("%v %s %v", level, message, attrs))
	}
	a, err := i.Begin(t.Context(), start("log", 100), Limits{LogBytes: 5000})
	if got := result(t, a, err); got != "100" {
		t.Errorf("got %s, want the flow to go on", got)
	}
	if lines[0] != fmt.Sprintf("WARN hello [n=100 me=%s]", alice) || lines[1] != "INFO on standard output []" {
		t.Errorf("got %q", lines[:2])
	}
	if n := len(lines); n != 7 || !strings.Contains(lines[n-1], "the rest is dropped") {
		t.Errorf("got %d lines, the last %.80q, want 7", n, lines[n-1])
	}
}

type noise struct {
	Crypto, UUID string
	Rand         uint64
	Now          time.Time
	Wall         int64
	Moved        bool
	Environ      int
}

func entropy(t *testing.T, seed byte) (n noise) {
	t.Helper()
	s := frame.Start{Kind: frame.Client, Class: "entropy", Args: []byte("0"), Now: noon, Seed: [32]byte{seed}}
	a, err := instance(t).Begin(t.Context(), s.Append(nil), Limits{})
	if err := json.Unmarshal([]byte(result(t, a, err)), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestClockAndRandomnessComeFromTheStartFrame(t *testing.T) {
	t.Parallel()
	a, again, other := entropy(t, 1), entropy(t, 1), entropy(t, 2)
	if a != again {
		t.Errorf("got %+v, then %+v", a, again)
	}
	if a.Crypto == other.Crypto || a.Rand == other.Rand || a.UUID == other.UUID {
		t.Errorf("another seed gave %+v, as did %+v", other, a)
	}
	if !a.Now.Equal(time.Unix(0, noon)) || a.Wall < noon || a.Wall > noon+int64(time.Second) || !a.Moved || a.Environ != 0 {
		t.Errorf("got %+v, want noon and no environment", a)
	}
}

// drive answers everything a "mix" flow asks for and keeps the octets both ways.
func drive(t *testing.T, i *Instance, n int) (in, out [][]byte) {
	t.Helper()
	next := start("mix", n)
	a, err := i.Begin(t.Context(), next, Limits{})
	for now := noon; ; now += int64(time.Second) {
		if err != nil {
			t.Fatal(err)
		}
		in, out = append(in, next), append(out, a.Octets)
		if a.Mode == frame.Ended {
			result(t, a, nil)
			return in, out
		}
		var answers []frame.Completion
		for _, id := range a.Await {
			answers = append(answers, frame.Completion{ID: id, Body: []byte(`{"n":1,"text":"x","map":{"a":1},"raw":[1,2]}`)})
		}
		next = resume(now, answers...)
		a, err = i.Resume(t.Context(), next, Limits{})
	}
}

func TestTheSameOctetsGiveTheSameOctetsAndTheSameMemory(t *testing.T) {
	t.Parallel()
	first := instance(t)
	in, want := drive(t, first, 300)
	if int(first.memory().Size()) == len(first.program.image.octets) {
		t.Error("the flow did not even grow its memory: this proves little")
	}
	again := instance(t)
	for n, octets := range in {
		take := again.Resume
		if n == 0 {
			take = again.Begin
		}
		a, err := take(t.Context(), octets, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if string(a.Octets) != string(want[n]) {
			t.Fatalf("step %d: got %q, want %q", n, a.Octets, want[n])
		}
	}
	if got, want := again.Sum(), first.Sum(); got != want {
		t.Errorf("memory: got %x, want %x", got, want)
	}
}

func TestFramesThatAreNoneAreRefused(t *testing.T) {
	t.Parallel()
	i := instance(t)
	if _, err := i.Begin(t.Context(), []byte("nonsense"), Limits{}); !errors.Is(err, frame.ErrMalformed) {
		t.Errorf("got %v, want a malformed frame", err)
	}
	if _, err := i.Resume(t.Context(), resume(noon), Limits{}); !errors.Is(err, ErrDead) {
		t.Errorf("got %v, want no flow to resume", err)
	}
}
