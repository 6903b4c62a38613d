// Command probe is a module of flows that behave in all the ways a host must stand. It is built by the host's tests.
package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hawser-project/hawser/sdk/flow"
)

func init() {
	flow.Startable("echo", func(_ *flow.Ctx, in string) (string, error) { return in, nil })
	flow.Startable("spin", func(*flow.Ctx, int) (int, error) { return spin(1 << 62), nil })
	flow.Startable("loop", func(_ *flow.Ctx, n int) (int, error) { return spin(n), nil })
	flow.Startable("fibonacci", func(_ *flow.Ctx, n int) (int, error) { return fibonacci(n), nil })
	flow.Startable("allocate", func(_ *flow.Ctx, n int) (int, error) { return allocate(n), nil })
	flow.Startable("panic", func(*flow.Ctx, int) (int, error) { panic("oh dear") })
	flow.Startable("stray panic", strayPanic)
	flow.Startable("deadlock", func(*flow.Ctx, int) (int, error) { return <-make(chan int), nil })
	flow.Startable("sleep", func(*flow.Ctx, int) (int, error) { time.Sleep(time.Hour); return 0, nil }) //nolint:forbidigo // a guest that misbehaves
	flow.Startable("exit", func(_ *flow.Ctx, code int) (int, error) { os.Exit(code); return 0, nil })
	flow.Startable("fail", func(*flow.Ctx, int) (int, error) {
		return 0, fmt.Errorf("wrapped: %w", &flow.Error{Code: "probe.Code", Message: "no luck"})
	})
	flow.Startable("log", chatter)
	flow.Startable("entropy", entropy)
	flow.Startable("remember", remember)
	flow.Startable("mix", mix)
	flow.Startable("steps", steps)
	flow.Initiates("mix", "probe", 1, 2)
	flow.Responder("answer", "probe", []int{2, 3}, answer)
	flow.Messages(message{})
}

func main() {}

func spin(n int) int {
	x := 1
	for i := range n {
		x = x*31 + i
	}
	return x
}

func fibonacci(n int) int {
	if n < 2 {
		return n
	}
	return fibonacci(n-1) + fibonacci(n-2)
}

func allocate(n int) int {
	var keep [][]byte
	for range n {
		keep = append(keep, make([]byte, 1<<20))
	}
	return len(keep)
}

func strayPanic(*flow.Ctx, int) (int, error) {
	done := make(chan int)
	go func() { panic(errors.New("stray")) }()
	return <-done, nil
}

func chatter(c *flow.Ctx, n int) (int, error) {
	c.Log().Warn("hello", "n", n, "me", c.Me())
	fmt.Println("on standard output")
	for range n {
		fmt.Fprintln(os.Stderr, strings.Repeat("x", 1000))
	}
	return n, nil
}

type noise struct {
	Crypto  string    `json:"crypto"`
	Rand    uint64    `json:"rand"`
	UUID    string    `json:"uuid"`
	Now     time.Time `json:"now"`
	Wall    int64     `json:"wall"`
	Moved   bool      `json:"moved"`
	Environ int       `json:"environ"`
}

func entropy(c *flow.Ctx, _ int) (noise, error) {
	var p [16]byte
	_, err := rand.Read(p[:])
	t := time.Now()
	return noise{hex.EncodeToString(p[:]), c.Rand().Uint64(), c.UUID(), c.Now(), t.UnixNano(), time.Since(t) > 0, len(os.Environ())}, err
}

var global []int

// remember shows whether anything of another flow is left.
func remember(*flow.Ctx, int) (int, error) {
	global = append(global, make([]int, 1000)...)
	return len(global), nil
}

type message struct {
	N    int               `json:"n"`
	Text string            `json:"text"`
	Map  map[string]int    `json:"map"`
	Raw  json.RawMessage   `json:"raw"`
	Tags map[string]string `json:"tags"`
}

// mix does a bit of everything that could differ between two runs, over so many steps.
func mix(c *flow.Ctx, n int) (int, error) {
	s, err := c.InitiateFlow("O=Bob, L=Paris, C=FR")
	if err != nil {
		return 0, err
	}
	seen, total := map[string]int{}, 0
	results := make(chan string)
	for i := range n {
		for k := range 5 {
			go func() { results <- fmt.Sprint(i, k) }()
		}
		m := message{N: i, Map: map[string]int{}, Tags: map[string]string{}}
		for range 5 {
			seen[<-results]++
		}
		for k, v := range seen { // in Go's random order
			m.Text += k
			m.Map[k] = v
			if len(m.Map) > 20 {
				break
			}
		}
		m.Tags["garbage"] = strings.Repeat(c.UUID(), 200)
		var back message
		if err := s.SendReceive(m, &back); err != nil {
			return 0, err
		}
		if err := c.Store().Put(fmt.Sprintf("n/%d", i), back); err != nil {
			return 0, err
		}
		total += back.N
	}
	return total, s.Close()
}

// steps waits so many times and does nothing else.
func steps(c *flow.Ctx, n int) (int, error) {
	for i := range n {
		if _, err := c.Store().Get(fmt.Sprint("key/", i), nil); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func answer(_ *flow.Ctx, s *flow.Session) error {
	var m message
	if err := s.Receive(&m); err != nil {
		return err
	}
	m.N += s.Version()
	return s.Send(m)
}
