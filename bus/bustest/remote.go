package bustest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
)

// The tests in this file ask in one process for what another one does.

// two starts two processes with workers that both have a share, and one without.
func two(t *testing.T, h Shared, wire func(*bus.Client, *bus.Consumer)) (n *network, a, b, asker *cluster) {
	t.Helper()
	n = newNetwork()
	a = launch(t, h, setup{wire: wire, net: n})
	b = launch(t, h, setup{wire: wire, net: n})
	asker = launch(t, h, setup{idle: true, net: n})
	for _, c := range []*cluster{a, b, asker} {
		c.until("both have a share", func() bool { return len(c.owners()) == 2 })
	}
	return n, a, b, asker
}

func remoteCommand(t *testing.T, h Shared) {
	const keys = 12
	n, a, b, asker := two(t, h, adder)
	for k := range keys {
		key := keyName(k)
		for i, c := range []*cluster{a, b, asker} {
			if got, _, err := add.Do(t.Context(), c.asked, key, fmt.Sprint(i), item{N: 1}); err != nil || got.N != i+1 {
				t.Errorf("%s asked by process %d: got %d, %v; want %d", key, i, got.N, err, i+1)
			}
		}
		if got, _, err := add.Do(t.Context(), asker.asked, key, "0", item{N: 1}); err != nil || got.N != 1 {
			t.Errorf("%s asked again from elsewhere: got %d, %v; want the first reply", key, got.N, err)
		}
		if _, _, err := add.Do(t.Context(), asker.asked, key, "no", item{N: -1}); err == nil || err.Error() != "negative" {
			t.Errorf("%s: got %v, want the refusal", key, err)
		}
	}
	if n.requests(a.bus.Self.Number) == 0 || n.requests(b.bus.Self.Number) == 0 {
		t.Error("a process was never asked")
	}
}

// commandOutlives kills the process in which a command runs.
func commandOutlives(t *testing.T, h Shared) {
	n := newNetwork()
	entered, goOn := make(chan struct{}, 10), make(chan struct{})
	asker := launch(t, h, setup{idle: true, net: n})
	first := launch(t, h, setup{net: n, wire: func(_ *bus.Client, w *bus.Consumer) {
		add.Handle(w, func(ctx context.Context, tx *bus.Tx, key string, req item) (item, error) {
			entered <- struct{}{}
			<-goOn
			return req, sum(ctx, tx, key, req)
		})
	}})
	resume := sync.OnceFunc(func() { close(goOn) })
	defer resume()
	answer := asker.doLater("k", "id", item{N: 5})
	receive(t, "the command begins", entered)
	first.kill(h, n)
	resume()
	launch(t, h, setup{wire: adder, net: n})
	receiveReply(t, answer, 5)
	if got := asker.sumOf("k"); got != 5 {
		t.Errorf("the sum is %d, want 5", got)
	}
}

type reply struct {
	item item
	err  error
}

// doLater asks for a command in the background.
func (c *cluster) doLater(key, id string, req item) <-chan reply {
	answer := make(chan reply, 1)
	go func() {
		got, _, err := add.Do(c.t.Context(), c.asked, key, id, req)
		answer <- reply{got, err}
	}()
	return answer
}

func receiveReply(t testing.TB, from <-chan reply, want int) {
	t.Helper()
	select {
	case got := <-from:
		if got.err != nil || got.item.N != want {
			t.Errorf("got %d, %v; want %d", got.item.N, got.err, want)
		}
	case <-time.After(patience):
		t.Fatal("a command gets no answer")
	}
}

// lostAnswer loses the answer of a command, and then another with the process that has done it.
func lostAnswer(t *testing.T, h Shared) {
	n := newNetwork()
	asker := launch(t, h, setup{idle: true, net: n})
	first := launch(t, h, setup{wire: adder, net: n})
	lost := make(chan struct{}, 10)
	goOn := make(chan struct{}, 1)
	goOn <- struct{}{}
	var answers atomic.Int32
	n.loseAnswers(first.bus.Self.Number, func(r bus.Request, a bus.Answer) error {
		if a.NotHere || r.ID != "id-1" && r.ID != "id-2" || r.ID == "id-1" && answers.Add(1) > 1 {
			return nil
		}
		lost <- struct{}{}
		<-goOn
		return errBroken
	})
	receiveReply(t, asker.doLater("k", "id-1", item{N: 5}), 5)
	if got := answers.Load(); got < 2 {
		t.Errorf("a command whose answer was lost was asked %d times", got)
	}
	receive(t, "the first loss", lost)
	answer := asker.doLater("k", "id-2", item{N: 2})
	receive(t, "the second loss", lost)
	first.kill(h, n)
	close(goOn)
	launch(t, h, setup{wire: adder, net: n})
	receiveReply(t, answer, 7)
	if got := asker.sumOf("k"); got != 7 {
		t.Errorf("the sum is %d, want 7", got)
	}
}

var (
	whose = bus.Call[item, item]{Name: "whose", Askers: []bus.Role{client}, Answers: []bus.Role{worker}, Key: func(i item) string { return i.Text }}
	once  = bus.Call[item, item]{Name: "once", Askers: []bus.Role{client}, Answers: []bus.Role{worker}, Once: true}
)

// answering makes a process answer all calls with its number, and counts them.
func answering(c *cluster, count *atomic.Int32) {
	for _, call := range []bus.Call[item, item]{ask, whose, once} {
		c.t.Cleanup(call.Answer(c.bus.As(worker), func(context.Context, item) (item, error) {
			count.Add(1)
			return item{N: int(c.bus.Self.Number)}, nil
		}))
	}
}

func remoteCalls(t *testing.T, h Shared) {
	_, a, b, asker := two(t, h, summing)
	var count atomic.Int32
	answering(a, &count)
	answering(b, &count)
	numberA, numberB := int(a.bus.Self.Number), int(b.bus.Self.Number)
	for k := range 12 {
		key := keyName(k)
		owner, _ := asker.bus.Placement.Owner(worker, partitionOf(asker.driver, key))
		for _, c := range []*cluster{a, b, asker} {
			if got, err := whose.Do(t.Context(), c.asked, item{Text: key}); err != nil || got.N != int(owner.Number) {
				t.Errorf("%s was answered by %d, %v; want %d", key, got.N, err, owner.Number)
			}
		}
		if mine := whose.Mine(a.asked, item{Text: key}); mine != (owner.Number == a.bus.Self.Number) {
			t.Errorf("%s is the first process's: %v", key, mine)
		}
	}
	for _, of := range []*cluster{a, b} {
		if got, err := ask.DoAt(t.Context(), asker.asked, of.bus.Self.Number, item{}); err != nil || got.N != int(of.bus.Self.Number) {
			t.Errorf("asked %d and was answered by %d, %v", of.bus.Self.Number, got.N, err)
		}
	}
	if !ask.At(asker.asked, a.bus.Self.Number) || ask.At(asker.asked, 65000) {
		t.Error("At does not know where the call is answered")
	}
	if _, err := ask.DoAt(t.Context(), asker.asked, 65000, item{}); kindOf(err) != "unavailable" {
		t.Errorf("a process that is not there: got %v, want that it is unavailable", err)
	}
	if got, err := ask.Do(t.Context(), a.asked, item{}); err != nil || got.N != numberA {
		t.Errorf("a call that this process can answer was answered by %d, %v", got.N, err)
	}
	asker.stop() // it is of the role and answers nothing: asking it takes patience
	a.until("two processes are left", func() bool { return len(a.bus.Placement.Instances(worker)) == 2 })
	replies, errs := ask.Everywhere(t.Context(), a.asked, item{})
	if replies[uint16(numberA)].N != numberA || replies[uint16(numberB)].N != numberB || len(replies) != 2 {
		t.Errorf("asked everywhere: got %v, %v; want an answer of %d and %d", replies, errs, numberA, numberB)
	}
}

func callsAgain(t *testing.T, h Shared) {
	n, a, b, asker := two(t, h, summing)
	var count atomic.Int32
	answering(a, &count)
	answering(b, &count)
	breaks := func(bus.Request, bus.Answer) error { return errBroken }
	n.loseAnswers(a.bus.Self.Number, breaks)
	for range 6 { // each is likely to come by the first process at some time
		if got, err := ask.Do(t.Context(), asker.asked, item{}); err != nil || got.N != int(b.bus.Self.Number) {
			t.Errorf("where one process loses answers, %d answered, %v; want %d", got.N, err, b.bus.Self.Number)
		}
	}
	n.loseAnswers(b.bus.Self.Number, breaks)
	count.Store(0)
	if _, err := once.Do(t.Context(), asker.asked, item{}); kindOf(err) != "unavailable" {
		t.Errorf("a call whose answer was lost: got %v, want that it is unavailable", err)
	}
	if got := count.Load(); got != 1 {
		t.Errorf("a call to be made once was made %d times", got)
	}
	n.loseAnswers(b.bus.Self.Number, nil)
	n.leave(a.bus.Self.Number) // nobody has noticed that it is gone
	for range 6 {
		for _, call := range []bus.Call[item, item]{ask, once} {
			if got, err := call.Do(t.Context(), asker.asked, item{}); err != nil || got.N != int(b.bus.Self.Number) {
				t.Errorf("where one process is gone, %d answered %s, %v; want %d", got.N, call.Name, err, b.bus.Self.Number)
			}
		}
	}
}

// operate asks a process as an operator does, and then those that it names.
func operate(t *testing.T, n *network, first *cluster, r bus.Request) bus.Answer {
	t.Helper()
	a := n.serve(t.Context(), first.bus.Self.Number, r)
	for _, i := range a.Elsewhere {
		if !a.NotHere {
			break
		}
		a = n.serve(t.Context(), i.Number, r)
	}
	if a.NotHere || a.Err != nil {
		t.Errorf("%s of %q: not here %v, error %s", r.Name, r.Key, a.NotHere, a.Err)
	}
	return a
}

// remoteOperator sets aside two inputs of every key, and replays and drops them by way of any process.
func remoteOperator(t *testing.T, h Shared) {
	const keys = 6
	var cured atomic.Bool
	n, a, b, asker := two(t, h, func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(ctx context.Context, tx *bus.Tx, key string, v item) error {
			if !cured.Load() {
				return errors.New("cannot be handled")
			}
			return sum(ctx, tx, key, v)
		})
	})
	asker.round(keys)
	asker.round(keys)
	held := func(c *cluster, key string) (list []bus.Held) {
		t.Helper()
		if err := bus.Decode(operate(t, n, c, bus.HeldRequest(worker, key)).Body, &list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	for _, c := range []*cluster{a, b, asker} {
		c.until("all are set aside", func() bool { return len(held(c, "")) == 2*keys })
	}
	cured.Store(true)
	for k := range keys {
		key := keyName(k)
		c := []*cluster{a, b, asker}[k%3]
		list := held(c, key)
		if len(list) != 2 {
			t.Fatalf("%s has %d inputs set aside, want 2", key, len(list))
		}
		if k < keys/2 {
			operate(t, n, c, bus.ReplayRequest(worker, key))
		} else {
			operate(t, n, c, bus.DropRequest(worker, key, list[0].Row))
		}
	}
	for k := range keys {
		want := 2
		if k >= keys/2 {
			want = 1
		}
		asker.until(keyName(k)+" goes on", func() bool { return asker.sumOf(keyName(k)) == want })
	}
	a.until("nothing is set aside", func() bool { return len(a.aside()) == 0 })
}
