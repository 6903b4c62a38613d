package testcluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is a process that a test runs.
type child struct {
	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
	err   error
	plain bool // ends by the signal itself, as the load balancer does
}

const readyTime = 90 * time.Second

// run starts the process and returns when it prints a line with the prefix, or at once where that is empty.
func (c *child) run(ctx context.Context, cmd *exec.Cmd, log io.Writer, prefix string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	c.cmd, c.ended = cmd, ended
	go func() {
		once := sync.OnceFunc(func() { close(ready) })
		if prefix == "" {
			once()
		}
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if prefix != "" && strings.HasPrefix(lines.Text(), prefix) {
				once()
			}
		}
		c.err = cmd.Wait()
		close(ended)
	}()
	select {
	case <-ready:
		return nil
	case <-ended:
		return fmt.Errorf("ended while it started: %w", errors.Join(c.err, errors.New("not ready")))
	case <-time.After(readyTime):
		err = fmt.Errorf("not ready after %s", readyTime)
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = cmd.Process.Kill()
	<-ended
	return err
}

// end ends the process with a signal, and waits until it is gone.
func (c *child) end(s syscall.Signal) error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return nil
	}
	if err := c.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-c.ended:
	case <-time.After(20 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.ended
		return errors.New("did not stop within 20 s")
	}
	c.cmd = nil
	if s == syscall.SIGTERM {
		var exit *exec.ExitError
		if errors.As(c.err, &exit) {
			status, ok := exit.Sys().(syscall.WaitStatus)
			if ok && status.Signaled() && status.Signal() == syscall.SIGTERM && c.plain {
				return nil
			}
		}
		return c.err
	}
	return nil
}

// prefixed writes whole lines with a prefix, of many processes to one log.
type prefixed struct {
	to     io.Writer
	prefix string
	left   []byte
}

var logging sync.Mutex

func (p *prefixed) Write(b []byte) (int, error) {
	p.left = append(p.left, b...)
	for {
		i := slices.Index(p.left, '\n')
		if i < 0 {
			return len(b), nil
		}
		logging.Lock()
		_, err := fmt.Fprintf(p.to, "%s %s\n", p.prefix, p.left[:i])
		logging.Unlock()
		if err != nil {
			return 0, err
		}
		p.left = p.left[i+1:]
	}
}
