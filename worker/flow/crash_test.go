package flow_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/topic"
	worker "github.com/hawser-project/hawser/worker/flow"
)

// crash goes on with what the disk would have after a loss of power at this moment.
func (c *cluster) crash(rng *rand.Rand) {
	c.t.Helper()
	left := c.fs.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
	c.stop()
	c.fs = left
	c.open()
}

// TestFlowsSurviveCrashes kills the cluster at random moments while flows run between two virtual nodes over a link that
// doubles and reorders. Every flow whose start was acknowledged completes, and each side has its record once.
func TestFlowsSurviveCrashes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 7))
			c := start(t, withFS(vfs.NewCrashableMem()), withLink(&link{chaos: true}))
			c.t = t
			acked := 0
			for range 3 {
				crashed := make(chan struct{})
				go func() {
					defer close(crashed)
					<-time.After(time.Duration(rng.IntN(60)) * time.Millisecond)
				}()
				for over := false; !over; {
					if _, err := c.begin(alice, fmt.Sprint("ask-", acked), "ask", question{Peer: bobName, Texts: []string{"a", "b"}, Close: true}); err == nil {
						c.mustBegin(alice, fmt.Sprint("trade-", acked), "com.example.trade.OfferTrade", offer{"X", 1, 1, bobName})
						acked++
					}
					select {
					case <-crashed:
						over = true
					default:
					}
				}
				c.crash(rng)
			}
			t.Logf("%d times two flows were begun", acked)
			for n := range acked {
				if st := c.end(alice, fmt.Sprint("ask-", n)); st.State != flow.Completed || string(st.Result) != `"echo:a echo:b"` {
					t.Errorf("ask-%d: got %s %s %s", n, st.State, st.Result, st.ErrorMessage)
				}
				if st := c.end(alice, fmt.Sprint("trade-", n)); st.State != flow.Completed {
					t.Errorf("trade-%d: got %s %s", n, st.State, st.ErrorMessage)
				}
			}
			c.until("all responders to end", func() bool { return len(c.flows(bob, flow.Running)) == 0 })
			trades := 0
			for _, st := range append(c.flows(alice, ""), c.flows(bob, "")...) {
				if st.State != flow.Completed {
					t.Errorf("flow %s of class %s is %s: %s", st.FlowID, st.Class, st.State, st.ErrorMessage)
				}
				if st.Class == "com.example.trade.AnswerOffer" {
					trades++
				}
			}
			has := func(me string, list string) int { return len(decode[[]trade](t, list)) }
			if n := has("Bob", c.result(bob, "list", "com.example.trade.ListTrades", nil)); n != acked || trades != acked {
				t.Errorf("Bob has %d trades of %d responders, want %d", n, trades, acked)
			}
			if n := has("Alice", c.result(alice, "list", "com.example.trade.ListTrades", nil)); n != acked {
				t.Errorf("Alice has %d trades, want %d", n, acked)
			}
		})
	}
}

// TestFlowsThatAreNotInMemoryAreBroughtBack runs flows with room for no waiting flow in memory.
func TestFlowsThatAreNotInMemoryAreBroughtBack(t *testing.T) {
	t.Parallel()
	c := start(t, withConfig(func(c *worker.Config) { c.HotBytes = 1 }))
	texts := strings.Split(strings.Repeat("abcdefghij", 2), "")
	got := c.result(alice, "r", "ask", question{Peer: bobName, Texts: texts, Close: true})
	if strings.Count(got, "echo:") != len(texts) {
		t.Errorf("got %s", got)
	}
	if n := c.counter("hawser_flow_replays_total"); n < float64(len(texts)) {
		t.Errorf("%v replays, want at least %d", n, len(texts))
	}
}

// TestAFlowThatDivergesIsHeld changes what the log says that a flow has answered, as a faulty release would.
func TestAFlowThatDivergesIsHeld(t *testing.T) {
	t.Parallel()
	c := start(t, withConfig(func(c *worker.Config) { c.HotBytes = 1; c.SessionTimeout = 2 * time.Second }))
	c.mustBegin(alice, "r", "ask", question{Peer: bobName, Texts: []string{"silence"}})
	var id flow.ID
	c.until("the flow to wait", func() bool {
		st, err := c.status(alice, "r")
		if err != nil || st.Waiting == "" {
			return false
		}
		id, err = flow.ParseID(st.FlowID)
		return err == nil
	})
	spoil(t, c, id)
	c.until("the flow to be held", func() bool { return c.log.has("flow diverged") })
	if st, _ := c.status(alice, "r"); st.State != flow.Running {
		t.Errorf("the flow is %s, want it still running", st.State)
	}
	if c.counter("hawser_flow_diverged_total") < 1 {
		t.Error("the divergence is not counted")
	}
}

type loggedEvent struct {
	Given  []byte `cbor:"1,keyasint,omitempty"`
	Answer []byte `cbor:"2,keyasint"`
	Did    string `cbor:"3,keyasint,omitempty"`
}

func spoil(t *testing.T, c *cluster, id flow.ID) {
	t.Helper()
	logged := bus.State[[]byte]{Name: "flow.events", Owner: topic.Flow}
	var rows []bus.Entry[[]byte]
	if err := c.bus.As(topic.Flow).View(t.Context(), func(r bus.Reader) (err error) {
		rows, err = logged.List(r, id.Slot().Key(), id.String()+"/")
		return err
	}); err != nil || len(rows) != 1 {
		t.Fatalf("got %d rows of events, %v", len(rows), err)
	}
	var list []loggedEvent
	if err := bus.Decode(rows[0].Value, &list); err != nil {
		t.Fatal(err)
	}
	list[len(list)-1].Answer[0] ^= 1
	octets, err := bus.Encode(list)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	c.driver.Submit(&bus.Step{
		Writes: []bus.Write{{RowKey: bus.RowKey{Kind: logged.Name, Key: id.Slot().Key(), Row: rows[0].Row}, Value: octets}},
		Done:   func(_ bus.Commit, err error) { done <- err },
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestConcurrentStartsOfOneRequestMakeOneFlow asks for the same flow from many sides at once.
func TestConcurrentStartsOfOneRequestMakeOneFlow(t *testing.T) {
	t.Parallel()
	c := start(t)
	var mu sync.Mutex
	var all sync.WaitGroup
	begun, refused := 0, 0
	for range 16 {
		all.Go(func() {
			_, err := c.begin(alice, "r", "increment", 1)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				begun++
			case fault.KindOf(err) == fault.Conflict:
				refused++
			}
		})
	}
	all.Wait()
	c.end(alice, "r")
	if begun != 1 || refused != 15 {
		t.Errorf("%d starts were taken and %d refused, want 1 and 15", begun, refused)
	}
	if got := c.result(alice, "sum", "increment", 0); got != "1" {
		t.Errorf("the counter is %s, want 1", got)
	}
}
