package flow_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hawser-project/hawser/sdk/flow"
	"github.com/hawser-project/hawser/sdk/flowtest"
)

const (
	alice = "O=Alice, L=London, C=GB"
	bob   = "O=Bob, L=Paris, C=FR"
)

// The flows of these tests do what a closure says; closures do not cross the border, so they are kept by name.
var (
	initiators = map[string]func(*flow.Ctx) (string, error){}
	responders = map[string]func(*flow.Ctx, *flow.Session) error{}
)

func init() {
	flow.Startable("test.Initiator", func(c *flow.Ctx, name string) (string, error) { return initiators[name](c) })
	flow.Initiates("test.Initiator", "test", 1, 2, 3)
	flow.Startable("test.Loner", func(c *flow.Ctx, _ struct{}) (string, error) {
		_, err := c.InitiateFlow(bob)
		return "", err
	})
	flow.Startable("test.Stranger", func(c *flow.Ctx, _ struct{}) (string, error) {
		s, err := c.InitiateFlow(bob)
		if err != nil {
			return "", err
		}
		return "", s.Receive(nil)
	})
	flow.Initiates("test.Stranger", "test", 9)
	flow.Responder("test.Responder", "test", []int{1, 2}, func(c *flow.Ctx, s *flow.Session) error {
		var name string
		if err := s.Receive(&name); err != nil {
			return err
		}
		return responders[name](c, s)
	})

	initiators["values"] = func(c *flow.Ctx) (string, error) {
		c.Log().Info("a log line", "key", 1, "odd")
		return strings.Join([]string{c.ID(), c.Me(), c.UUID(), fmt.Sprint(!c.Now().IsZero())}, "|"), nil
	}
	initiators["panic"] = func(*flow.Ctx) (string, error) { panic(errors.New("oh dear")) }
	initiators["store"] = useStore
	initiators["keys"] = func(c *flow.Ctx) (string, error) {
		_, err := c.Store().Get(strings.Repeat("k", 600), nil)
		return fmt.Sprint(flow.CodeOf(c.Store().Put("", 1)), flow.CodeOf(err), flow.CodeOf(c.Store().Put("k", strings.Repeat("v", 600<<10)))), nil
	}
	initiators["undone"] = func(c *flow.Ctx) (string, error) {
		if err := c.Store().Put("undone", 1); err != nil {
			return "", err
		}
		return "", errors.New("changed my mind")
	}
	initiators["done"] = func(c *flow.Ctx) (string, error) {
		found, err := c.Store().Get("undone", nil)
		return fmt.Sprint(found), err
	}
	initiators["large"] = sendMuch
	responders["large"] = receiveMuch
	initiators["version"] = ask("version")
	responders["version"] = func(_ *flow.Ctx, s *flow.Session) error { return s.Send(fmt.Sprint(s.Protocol(), s.Version())) }
	initiators["wrong type"] = ask("wrong type")
	responders["wrong type"] = func(_ *flow.Ctx, s *flow.Session) error { return s.Send(struct{ A int }{1}) }
	initiators["refused"] = ask("refused")
	responders["refused"] = func(*flow.Ctx, *flow.Session) error { return errors.New("not with you") }
	initiators["silent"] = ask("silent")
	responders["silent"] = func(*flow.Ctx, *flow.Session) error { return nil }
	initiators["late"] = ask("late")
	responders["late"] = func(_ *flow.Ctx, s *flow.Session) error { return s.Receive(nil) }
	initiators["closed"] = func(c *flow.Ctx) (string, error) {
		s, err := c.InitiateFlow(bob)
		if err != nil {
			return "", err
		}
		return fmt.Sprint(s.Close(), s.Close(), flow.CodeOf(s.Send(1)), flow.CodeOf(s.Receive(nil))), nil
	}
}

// ask sends the responder's name and gives back its answer.
func ask(name string) func(*flow.Ctx) (string, error) {
	return func(c *flow.Ctx) (string, error) {
		s, err := c.InitiateFlow(bob)
		if err != nil {
			return "", err
		}
		var answer string
		return answer, errors.Join(s.SendReceive(name, &answer), s.Close())
	}
}

func useStore(c *flow.Ctx) (string, error) {
	for i := range 2500 {
		if err := c.Store().Put(fmt.Sprintf("n/%04d", i), i); err != nil {
			return "", err
		}
	}
	var seven int
	found, err := c.Store().Get("n/0007", &seven)
	if err != nil || !found || seven != 7 {
		return "", fmt.Errorf("got %d, %v, %w", seven, found, err)
	}
	if found, err := c.Store().Get("m", nil); found || err != nil {
		return "", fmt.Errorf("found what is not there: %w", err)
	}
	all, err := c.Store().List("n/")
	if err != nil {
		return "", err
	}
	return fmt.Sprint(len(all), all[0].Key, string(all[2499].Value)), nil
}

func sendMuch(c *flow.Ctx) (string, error) {
	s, err := c.InitiateFlow(bob)
	if err != nil {
		return "", err
	}
	if err := s.Send("large"); err != nil {
		return "", err
	}
	for range 8 { // together more than one frame holds
		if err := s.Send(strings.Repeat("x", 1<<20)); err != nil {
			return "", err
		}
	}
	var n int
	err = s.Receive(&n)
	return fmt.Sprint(n, flow.CodeOf(s.Send(strings.Repeat("x", 4<<20)))), err
}

func receiveMuch(_ *flow.Ctx, s *flow.Session) error {
	total := 0
	for range 8 {
		var text string
		if err := s.Receive(&text); err != nil {
			return err
		}
		total += len(text)
	}
	return s.Send(total)
}

func run(t *testing.T, name string) (string, error) {
	t.Helper()
	return flowtest.Run[string](flowtest.New(t, alice, bob).Node(alice), "test.Initiator", name)
}

func TestAFlowGetsWhatItAsksFor(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"values":  `^00000000-0000-8000-8000-000000000001\|O=Alice, L=London, C=GB\|[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\|true$`,
		"store":   `^2500 ?n/0000 ?2499$`,
		"keys":    `^bad-message ?bad-message ?too-large$`,
		"large":   `^8388608 ?too-large$`,
		"closed":  `^<nil> <nil> ?session-closed ?session-closed$`,
		"version": `^test 2$|^test2$`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := run(t, name)
			if err != nil || !regexp.MustCompile(want).MatchString(got) {
				t.Errorf("got %q, %v, want %s", got, err, want)
			}
		})
	}
}

func TestErrorsHaveACode(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]flow.Code{
		"panic":      "panic",
		"undone":     "error",
		"refused":    flow.CodeSession,
		"silent":     flow.CodeClosed,
		"wrong type": flow.CodeBadMessage,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := run(t, name); flow.CodeOf(err) != want {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

func TestAnInitiatorWithoutACommonProtocolGetsAnError(t *testing.T) {
	t.Parallel()
	for _, class := range []string{"test.Loner", "test.Stranger"} {
		_, err := flowtest.Run[string](flowtest.New(t, alice, bob).Node(alice), class, nil)
		if flow.CodeOf(err) != flow.CodeNoProtocol {
			t.Errorf("%s: got %v, want no protocol", class, err)
		}
	}
}

func TestAFlowThatFailsKeepsNothingOfItsLastStep(t *testing.T) {
	t.Parallel()
	node := flowtest.New(t, alice).Node(alice)
	if _, err := flowtest.Run[string](node, "test.Initiator", "undone"); err == nil {
		t.Error("the flow did not fail")
	}
	if got, err := flowtest.Run[string](node, "test.Initiator", "done"); got != "false" || err != nil {
		t.Errorf("got %s, %v, want nothing found", got, err)
	}
}

func TestAPeerThatDoesNotAnswerIsATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := run(t, "late")
		if flow.CodeOf(err) != flow.CodeTimeout || time.Since(began) < flowtest.Patience {
			t.Errorf("got %v after %v, want a timeout", err, time.Since(began))
		}
	})
}

func TestWrongArgumentsFailTheFlow(t *testing.T) {
	t.Parallel()
	_, err := flowtest.Run[string](flowtest.New(t, alice).Node(alice), "com.example.Greet", 17)
	if flow.CodeOf(err) != flow.CodeBadMessage {
		t.Errorf("got %v, want a bad message", err)
	}
}
