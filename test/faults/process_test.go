package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/distributed"
	"github.com/hawser-project/hawser/test/services"
)

// workerVariable makes the test binary a worker on the stage that it describes.
const workerVariable = "HAWSER_FAULTS_WORKER"

// work handles records until it is killed, or leaves in order at the end of its input, which is also the end of the test.
func work(description string) {
	var s stage
	if err := json.Unmarshal([]byte(description), &s); err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
		time.AfterFunc(30*time.Second, func() { panic("the worker can't leave") })
	}()
	o := s.options(os.Args[1], worker)
	o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	driver, err := joinAgain(ctx, o)
	if err == nil {
		c := bus.New(driver, bus.Options{Log: o.Log}).As(worker).Consumer()
		records.Handle(c, handleSpread)
		err = errors.Join(c.Run(ctx, func() {}), driver.Close())
	}
	if err != nil && ctx.Err() == nil {
		panic(err)
	}
}

// handleSpread is handle with the shared row in some pieces: with one, its conflicts would be all that can be measured.
func handleSpread(_ context.Context, tx *bus.Tx, key string, v numbered) error {
	const pieces = 16
	h := fnv.New32a()
	_, _ = fmt.Fprint(h, key, v.N)
	return count(tx, key, v, fmt.Sprintf("%s-%d", sharedKey, h.Sum32()%pieces))
}

// joinAgain opens the bus as a supervisor would have it done: again and again.
func joinAgain(ctx context.Context, o distributed.Options) (*distributed.Driver, error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		driver, err := distributed.Open(attempt, o)
		cancel()
		if err == nil || ctx.Err() != nil {
			return driver, err
		}
		o.Log.Warn("the bus does not open", "error", err)
		<-time.After(100 * time.Millisecond)
	}
}

// process is a worker as a process of its own, with connections of its own to harm.
type process struct {
	name            string
	cmd             *exec.Cmd
	input           io.Closer
	log             string
	kafka, postgres *services.TCPProxy
	wanted          atomic.Bool // its end
	ended           chan struct{}
}

func startProcess(t *testing.T, s stage, dir, name string) *process {
	t.Helper()
	p := &process{name: name, log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	s, p.kafka, p.postgres = s.through(t)
	description, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.Command(os.Args[0], name)
	p.cmd.Env = append(os.Environ(), workerVariable+"="+string(description))
	p.cmd.Stdout, p.cmd.Stderr = log, log
	input, inputErr := p.cmd.StdinPipe()
	p.input = input
	if err := errors.Join(inputErr, p.cmd.Start()); err != nil {
		t.Fatal(err)
	}
	go func() {
		err := p.cmd.Wait()
		if !p.wanted.Load() {
			t.Errorf("%s ended by itself: %v", name, err)
		}
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			p.tell(t)
		}
	})
	return p
}

// kill ends the process with SIGKILL.
func (p *process) kill() {
	p.wanted.Store(true)
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// leave has the process end in order.
func (p *process) leave() error {
	p.wanted.Store(true)
	if err := p.input.Close(); err != nil {
		return err
	}
	select {
	case <-p.ended:
		if !p.cmd.ProcessState.Success() {
			return fmt.Errorf("%s leaves with %s", p.name, p.cmd.ProcessState)
		}
		return nil
	case <-time.After(time.Minute):
		return fmt.Errorf("%s does not leave", p.name)
	}
}

// hang stops the process in whatever it does, and lets it go on. A shell does it, so that no stopped process is left when
// the test is killed meanwhile.
func (p *process) hang(length time.Duration) error {
	pid := strconv.Itoa(p.cmd.Process.Pid)
	script := `kill -STOP "$0"; sleep "$1"; kill -CONT "$0"`
	return exec.Command("/bin/sh", "-c", script, pid, fmt.Sprintf("%.3f", length.Seconds())).Run()
}

func (p *process) tell(t *testing.T) {
	const most = 4 << 10
	log, err := os.ReadFile(p.log)
	t.Logf("log of %s (%v):\n%s", p.name, err, log[max(0, len(log)-most):])
}
