// Command guest is the module of the flow worker's own tests: flows that use sessions and the store in the ways that are
// hard on a worker.
package main

import (
	"fmt"
	"strings"

	"github.com/hawser-project/hawser/sdk/flow"
)

func init() {
	flow.Startable("increment", increment)
	flow.Startable("ask", ask)
	flow.Initiates("ask", "echo", 1, 2)
	flow.Startable("stranger", ask)
	flow.Initiates("stranger", "unheard-of", 1)
	flow.Responder("echo", "echo", []int{2}, echo)
	flow.Startable("loop", loop)
	flow.Startable("panic", func(*flow.Ctx, int) (int, error) { panic("oh dear") })
	flow.Startable("rounds", rounds)
	flow.Startable("wide", wide)
}

func main() {}

// increment adds to a counter of the virtual node.
func increment(c *flow.Ctx, by int) (int, error) {
	n := 0
	if _, err := c.Store().Get("counter", &n); err != nil {
		return 0, err
	}
	n += by
	return n, c.Store().Put("counter", n)
}

// Question says what to do with a peer.
type Question struct {
	Peer  string   `json:"peer"`
	Texts []string `json:"texts"`
	// First makes the asker receive before it sends.
	First bool `json:"first"`
	Close bool `json:"close"`
	Size  int  `json:"size"`
}

func ask(c *flow.Ctx, q Question) (string, error) {
	s, err := c.InitiateFlow(q.Peer)
	if err != nil {
		return "", err
	}
	if err := c.Store().Put("asked/"+c.ID(), q); err != nil {
		return "", err
	}
	var heard []string
	if q.First {
		var greeting string
		if err := s.Receive(&greeting); err != nil {
			return "", err
		}
		heard = append(heard, greeting)
	}
	if q.Size > 0 {
		q.Texts = append(q.Texts, strings.Repeat("x", q.Size))
	}
	for _, text := range q.Texts {
		var back string
		if err := s.SendReceive(text, &back); err != nil {
			return "", err
		}
		heard = append(heard, back)
	}
	if q.Close {
		if err := s.Close(); err != nil {
			return "", err
		}
	}
	return strings.Join(heard, " "), c.Store().Put("heard/"+c.ID(), heard)
}

// echo answers until the asker is gone.
func echo(c *flow.Ctx, s *flow.Session) error {
	for n := 0; ; n++ {
		var text string
		if err := s.Receive(&text); flow.CodeOf(err) == flow.CodeClosed || err != nil && strings.Contains(err.Error(), "session-closed") {
			return c.Store().Put("echoed/"+c.ID(), n)
		} else if err != nil {
			return err
		}
		switch text {
		case "fail":
			return &flow.Error{Code: "guest.NoLuck", Message: "no luck"}
		case "secret":
			return fmt.Errorf("the password is swordfish")
		case "panic":
			panic("oh dear")
		case "silence":
			continue
		case "bye":
			return s.Send("bye")
		}
		if len(text) > 100 {
			text = fmt.Sprint(len(text))
		}
		if err := s.Send("echo:" + text); err != nil {
			return err
		}
	}
}

func loop(_ *flow.Ctx, n int) (int, error) {
	x := 1
	for i := range n {
		x = x*31 + i
	}
	return x, nil
}

// rounds looks into the store so many times.
func rounds(c *flow.Ctx, n int) (int, error) {
	for i := range n {
		if _, err := c.Store().Get(fmt.Sprint("key/", i), nil); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// wide writes many entries and lists them.
func wide(c *flow.Ctx, n int) (int, error) {
	for i := range n {
		if err := c.Store().Put(fmt.Sprintf("wide/%06d", i), strings.Repeat("v", 100)); err != nil {
			return 0, err
		}
	}
	list, err := c.Store().List("wide/")
	return len(list), err
}
