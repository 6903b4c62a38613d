package flow_test

import (
	"fmt"
	"testing"

	"github.com/hawser-project/hawser/sdk/flow"
	"github.com/hawser-project/hawser/sdk/flowtest"
)

type Greeting struct {
	To   string
	Text string
}

// Greet sends a greeting and gives back the answer.
func Greet(c *flow.Ctx, g Greeting) (string, error) {
	s, err := c.InitiateFlow(g.To)
	if err != nil {
		return "", err
	}
	var answer string
	if err := s.SendReceive(g.Text, &answer); err != nil {
		return "", err
	}
	return answer, c.Store().Put("greeted/"+g.To, answer)
}

// AnswerGreeting runs on the node that is greeted.
func AnswerGreeting(_ *flow.Ctx, s *flow.Session) error {
	var text string
	if err := s.Receive(&text); err != nil {
		return err
	}
	return s.Send(fmt.Sprintf("%s to you, %s", text, s.Counterparty()))
}

func init() {
	flow.Startable("com.example.Greet", Greet)
	flow.Initiates("com.example.Greet", "com.example.greeting", 1)
	flow.Responder("com.example.AnswerGreeting", "com.example.greeting", []int{1}, AnswerGreeting)
}

func Example() {
	tb := &bench{} // in a test, this is its *testing.T
	defer tb.end()
	net := flowtest.New(tb, "O=Alice, L=London, C=GB", "O=Bob, L=Paris, C=FR")
	alice := net.Node("O=Alice, L=London, C=GB")

	answer, err := flowtest.Run[string](alice, "com.example.Greet", Greeting{To: "O=Bob, L=Paris, C=FR", Text: "Good day"})
	fmt.Println(answer, err)
	// Output: Good day to you, O=Alice, L=London, C=GB <nil>
}

// bench stands in for a test in the example.
type bench struct {
	testing.TB
	cleanups []func()
}

func (b *bench) Helper()          {}
func (b *bench) Log(...any)       {}
func (b *bench) Cleanup(f func()) { b.cleanups = append(b.cleanups, f) }
func (b *bench) end() {
	for _, f := range b.cleanups {
		f()
	}
}
