package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hawser-project/hawser/internal/secret"
)

// node is a cluster as a process of its own.
type node struct {
	binary, dir        string
	rest, gateway, ops string // HOST:PORT
	password           secret.Secret
	log                io.Writer

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process is gone
	err   error         // how it ended
}

// readyTime is how long a cluster may take to start.
const readyTime = 60 * time.Second

// start runs the process and returns when it says that it is ready.
func (n *node) start(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	//nolint:noctx,gosec // our own binary; it outlives the call, stop and kill end it
	cmd := exec.Command(n.binary, "up", "--data", n.dir, "--rest", n.rest, "--gateway", n.gateway, "--ops", n.ops, "--log-level", "warn", "--profile")
	cmd.Env = append(os.Environ(), "HAWSER_ADMIN_PASSWORD="+n.password.RevealString())
	cmd.Stderr = n.log
	cmd.SysProcAttr = childAttributes()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended, ready := make(chan struct{}), make(chan struct{})
	n.cmd, n.ended = cmd, ended
	go func() {
		lines := bufio.NewScanner(stdout)
		once := sync.OnceFunc(func() { close(ready) })
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "ready ") {
				once()
			}
		}
		n.err = cmd.Wait()
		close(ended)
	}()
	timer := time.NewTimer(readyTime)
	defer timer.Stop()
	select {
	case <-ready:
		return nil
	case <-ended:
		return fmt.Errorf("the cluster in %s ended while it started (%w); its log is in %s.log", n.dir, errors.Join(n.err, errors.New("not ready")), n.dir)
	case <-timer.C:
		err = fmt.Errorf("the cluster in %s is not ready after %s", n.dir, readyTime)
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = cmd.Process.Kill()
	<-ended
	return err
}

// kill ends the process as a crash would (SIGKILL), and waits until it is gone.
func (n *node) kill() error { return n.signal(syscall.SIGKILL) }

// stop ends the process in order (SIGTERM), and waits until it is gone.
func (n *node) stop() error { return n.signal(syscall.SIGTERM) }

func (n *node) signal(s syscall.Signal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return nil
	}
	if err := n.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(20 * time.Second)
	defer timer.Stop()
	select {
	case <-n.ended:
	case <-timer.C:
		_ = n.cmd.Process.Kill()
		<-n.ended
		return fmt.Errorf("the cluster in %s did not stop within 20 s", n.dir)
	}
	n.cmd = nil
	if s == syscall.SIGTERM {
		return n.err
	}
	return nil
}

// gone is closed when the process has ended.
func (n *node) gone() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ended
}
