package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hawser-project/hawser/sdk/internal/frame"
)

func machine(run func(*Task) ([]byte, error)) *Machine {
	r := &Registry{}
	r.Add(&Flow{Class: "test", Run: run})
	return NewMachine(r, nil)
}

var begin = (&frame.Start{Kind: frame.Client, Class: "test", Now: 5}).Append(nil)

func commands(t *testing.T, p []byte) *frame.Commands {
	t.Helper()
	c, err := frame.DecodeCommands(p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func failure(t *testing.T, p []byte) string {
	t.Helper()
	c := commands(t, p)
	if c.Mode != frame.Ended || len(c.List) == 0 || c.List[len(c.List)-1].Op != frame.Fail {
		t.Fatalf("got %+v, want a failure", c)
	}
	f, err := frame.DecodeFailure(c.List[len(c.List)-1].Body)
	if err != nil {
		t.Fatal(err)
	}
	return f.Type + ": " + f.Message
}

func TestAFlowWaitsUntilAllItsAnswersAreThere(t *testing.T) {
	t.Parallel()
	m := machine(func(task *Task) ([]byte, error) {
		a, b := task.Emit(frame.StoreGet, nil), task.Emit(frame.StoreGet, nil)
		task.Await(frame.All, a, b)
		p, err := task.Do(frame.StoreGet, nil)
		return fmt.Appendf(p, " %d", task.Now()), err
	})
	if c := commands(t, m.Begin(begin)); len(c.List) != 2 || c.Mode != frame.All || len(c.Await) != 2 {
		t.Fatalf("got %+v, want two commands awaited", c)
	}
	one := frame.Resume{Now: 7, Completions: []frame.Completion{{ID: 2}}}
	if c := commands(t, m.Resume(one.Append(nil))); len(c.List) != 0 || len(c.Await) != 2 {
		t.Fatalf("got %+v, want the same wait again", c)
	}
	one.Now, one.Completions[0].ID = 6, 1 // time does not go back
	if c := commands(t, m.Resume(one.Append(nil))); len(c.List) != 1 || c.Await[0] != 3 {
		t.Fatalf("got %+v, want the third command", c)
	}
	one.Completions[0] = frame.Completion{ID: 3, Body: []byte("body")}
	c := commands(t, m.Resume(one.Append(nil)))
	if c.Mode != frame.Ended || string(c.List[0].Body) != "body 7" {
		t.Errorf("got %+v, want the result", c)
	}
}

func TestHowAFlowFails(t *testing.T) {
	t.Parallel()
	for want, run := range map[string]func(*Task) ([]byte, error){
		"error: plain":                      func(*Task) ([]byte, error) { return nil, errors.New("plain") },
		"code: wrapped: coded":              func(*Task) ([]byte, error) { return nil, fmt.Errorf("wrapped: %w", &Failure{"code", "coded"}) },
		"panic: 17":                         func(*Task) ([]byte, error) { panic(17) },
		"too-large: result has 4194304":     func(*Task) ([]byte, error) { return make([]byte, 4<<20), nil },
		"error: \uFFFDx":                    func(*Task) ([]byte, error) { return nil, errors.New("\xffx") },
		"panic: a flow's context was used":  func(t *Task) ([]byte, error) { t.waiting = true; return t.Do(frame.StoreGet, nil) },
		"panic: runtime error: index out o": func(t *Task) ([]byte, error) { return []byte{t.Start.Args[t.lastID]}, nil },
	} {
		if got := failure(t, machine(run).Begin(begin)); !strings.HasPrefix(got, want) {
			t.Errorf("got %.80s, want %s", got, want)
		}
	}
	long := machine(func(*Task) ([]byte, error) { return nil, errors.New(strings.Repeat("ä", frame.MaxText)) })
	if got := failure(t, long.Begin(begin)); len(got) > frame.MaxText+20 {
		t.Errorf("got a message of %d octets", len(got))
	}
}

func TestAMachineTakesNothingOutOfTurn(t *testing.T) {
	t.Parallel()
	m := machine(func(task *Task) ([]byte, error) { return task.Do(frame.StoreGet, nil) })
	if got := failure(t, m.Resume(nil)); got != "abi: no flow waits" {
		t.Errorf("got %s", got)
	}
	m.Begin(begin)
	if got := failure(t, m.Begin(begin)); got != "abi: a flow has begun already" {
		t.Errorf("got %s", got)
	}
	m.Stop()
	if got := failure(t, m.Resume(nil)); got != "abi: no flow waits" {
		t.Errorf("got %s", got)
	}
	if got := failure(t, machine(nil).Begin([]byte("nonsense"))); !strings.HasPrefix(got, "abi: start: malformed") {
		t.Errorf("got %s", got)
	}
}

func TestARegistryDescribesItself(t *testing.T) {
	t.Parallel()
	r := &Registry{}
	r.Initiate("b", &Protocol{"p", []int{1}})
	r.Add(&Flow{Class: "b"})
	r.Add(&Flow{Class: "a", Responds: &Protocol{"p", []int{1, 2}}})
	want := `{"abi":1,"flows":[{"class":"a","kind":"responder","responds":{"name":"p","versions":[1,2]}},` +
		`{"class":"b","kind":"client","initiates":{"name":"p","versions":[1]}}]}`
	if got := string(r.Manifest()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	r.Warm()
}

func TestADeclarationThatCannotBePanics(t *testing.T) {
	t.Parallel()
	for want, declare := range map[string]func(*Registry){
		`flow class ""`:  func(r *Registry) { r.Add(&Flow{}) },
		"declared twice": func(r *Registry) { r.Add(&Flow{Class: "a"}); r.Add(&Flow{Class: "a"}) },
		"protocol is declared twice": func(r *Registry) {
			r.Initiate("a", &Protocol{"p", []int{1}})
			r.Initiate("a", &Protocol{"p", []int{1}})
		},
		"has no version":      func(r *Registry) { r.Initiate("a", &Protocol{"p", nil}) },
		"not positive":        func(r *Registry) { r.Add(&Flow{Class: "a", Responds: &Protocol{"p", []int{0}}}) },
		`protocol ""`:         func(r *Registry) { r.Initiate("a", &Protocol{"", []int{1}}) },
		"but is not declared": func(r *Registry) { r.Initiate("a", &Protocol{"p", []int{1}}); r.Manifest() },
		"has two responders": func(r *Registry) {
			r.Add(&Flow{Class: "a", Responds: &Protocol{"p", []int{1}}})
			r.Add(&Flow{Class: "b", Responds: &Protocol{"p", []int{1}}})
			r.Manifest()
		},
	} {
		func() {
			defer func() {
				if v := recover(); v == nil || !strings.Contains(fmt.Sprint(v), want) {
					t.Errorf("got %v, want %s", v, want)
				}
			}()
			declare(&Registry{})
		}()
	}
}
