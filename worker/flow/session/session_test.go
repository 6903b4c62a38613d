package session_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/worker/flow/session"
)

var update = flag.Bool("update", false, "write the transcripts as the code has them")

// TestTranscripts plays the transcripts in testdata: commands, a line of dashes, what the session made of them.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("got\n%s\nwant\n%s", got, text)
			}
		})
	}
}

func play(t *testing.T, text string) string {
	var out strings.Builder
	var s session.Session
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		commands, _, _ := strings.Cut(block, "\n----")
		fmt.Fprintf(&out, "%s\n----\n", commands)
		for line := range strings.Lines(commands) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				fmt.Fprintln(&out, do(t, &s, strings.Fields(line)))
			}
		}
		out.WriteString("\n")
	}
	return out.String()
}

func do(t *testing.T, s *session.Session, f []string) string {
	peer := message.Party{Name: "Bob", GroupID: "g"}
	switch f[0] {
	case "initiator":
		*s = session.Initiate(1, "id", peer, flow.Init{Protocol: "p", Versions: []int{1}})
		return "ok"
	case "responder":
		*s = session.Respond("id", peer)
		return "ok"
	case "send":
		e, p := s.Send([]byte(f[1]))
		return show(e, p == nil, p)
	case "call":
		e, ok := s.Call()
		return show(e, ok, nil)
	case "receive":
		switch n, p := s.Next(); {
		case p != nil:
			return p.Error()
		case n == 0:
			return "waits"
		default:
			return fmt.Sprintf("message %d", n)
		}
	case "close":
		e, ok := s.Close()
		done, p := s.Finished()
		return show(e, ok, p) + fmt.Sprintf("; done %v", done)
	case "abort":
		e, ok := s.Abort("app.Code", "no luck")
		return show(e, ok, nil)
	case "take":
		v, p := s.Take(event(t, f[1:]))
		if p != nil {
			return p.Error()
		}
		return [...]string{"dropped", "applied", "kept"}[v]
	}
	t.Fatalf("unknown command %v", f)
	return ""
}

// event reads "data 3", "final 3", "close 3", "error code" or "hello".
func event(t *testing.T, f []string) flow.SessionEvent {
	var n uint64
	if len(f) > 1 {
		_, _ = fmt.Sscan(f[1], &n)
	}
	switch f[0] {
	case "data", "final":
		return flow.SessionEvent{Kind: flow.Data, Sequence: n, Payload: []byte("x"), Final: f[0] == "final"}
	case "close":
		return flow.SessionEvent{Kind: flow.Close, Sequence: n}
	case "error":
		return flow.SessionEvent{Kind: flow.Error, Code: f[1], Message: "text"}
	case "hello":
		return flow.SessionEvent{Kind: flow.Hello}
	}
	t.Fatalf("unknown event %v", f)
	return flow.SessionEvent{}
}

func show(e flow.SessionEvent, ok bool, p *session.Problem) string {
	if p != nil {
		return p.Error()
	}
	if !ok {
		return "nothing goes out"
	}
	text := map[flow.EventKind]string{flow.Data: "data", flow.Close: "close", flow.Error: "error " + e.Code, flow.Hello: "hello"}[e.Kind]
	if e.Sequence > 0 {
		text += fmt.Sprint(" ", e.Sequence)
	}
	if e.Init != nil {
		text += " with init"
	}
	return text
}

// TestAnyOrderOfArrivalGivesTheSameMessages shuffles and doubles what a peer sends.
func TestAnyOrderOfArrivalGivesTheSameMessages(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		peer := session.Respond("id", message.Party{Name: "Alice"})
		var sent []flow.SessionEvent
		for range 1 + rng.IntN(40) {
			e, _ := peer.Send([]byte{1})
			sent = append(sent, e)
		}
		if e, ok := peer.Close(); ok && rng.IntN(2) == 0 {
			sent = append(sent, e)
		} else {
			sent[len(sent)-1].Final = true
		}
		arriving := append(append([]flow.SessionEvent{}, sent...), sent[:rng.IntN(len(sent))]...)
		rng.Shuffle(len(arriving), func(i, j int) { arriving[i], arriving[j] = arriving[j], arriving[i] })

		s := session.Initiate(1, "id", message.Party{Name: "Bob"}, flow.Init{})
		s.Call()
		kept, read := map[uint64]bool{}, uint64(0)
		for _, e := range arriving {
			v, p := s.Take(e)
			if p != nil {
				t.Fatalf("seed %d: %v", seed, p)
			}
			if v == session.Keep {
				if kept[e.Sequence] {
					t.Fatalf("seed %d: message %d is kept twice", seed, e.Sequence)
				}
				kept[e.Sequence] = true
			}
			for n, p := s.Next(); n > 0 && p == nil; n, p = s.Next() {
				if n != read+1 || !kept[n] {
					t.Fatalf("seed %d: got message %d after %d, kept %v", seed, n, read, kept[n])
				}
				read = n
			}
		}
		if done, p := s.Finished(); !done || p != nil || int(read) != len(kept) {
			t.Fatalf("seed %d: done %v, %v, %d of %d read", seed, done, p, read, len(kept))
		}
	}
}
