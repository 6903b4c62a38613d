package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hawser-project/hawser/internal/secret"
)

// Plan says what an organisation's cluster is to be.
type Plan struct {
	Short              string // the organisation's
	Dir                string
	Rest, Gateway, Ops string // HOST:PORT
	Password           secret.Secret
	Log                io.Writer
}

// Cluster is an organisation's cluster, as the network runs it.
type Cluster interface {
	// Start returns when the cluster is ready.
	Start(ctx context.Context) error
	// Stop ends it in order, and Kill as a crash would.
	Stop() error
	Kill() error
	// RestCertificate is the PEM file with what the REST API's certificate is checked with.
	RestCertificate() string
	// Gone is closed when it has ended.
	Gone() <-chan struct{}
}

// node is a cluster as a process of its own.
type node struct {
	Plan
	binary string

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process is gone
	err   error         // how it ended
}

// readyTime is how long a cluster may take to start.
const readyTime = 60 * time.Second

// Start implements Cluster.
func (n *node) Start(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	//nolint:noctx,gosec // our own binary; it outlives the call, stop and kill end it
	cmd := exec.Command(n.binary, "up", "--data", n.Dir, "--rest", n.Rest, "--gateway", n.Gateway, "--ops", n.Ops, "--log-level", "warn", "--profile")
	cmd.Env = append(os.Environ(), "HAWSER_ADMIN_PASSWORD="+n.Password.RevealString())
	cmd.Stderr = n.Log
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
		return fmt.Errorf("the cluster in %s ended while it started (%w); its log is in %s.log", n.Dir, errors.Join(n.err, errors.New("not ready")), n.Dir)
	case <-timer.C:
		err = fmt.Errorf("the cluster in %s is not ready after %s", n.Dir, readyTime)
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = cmd.Process.Kill()
	<-ended
	return err
}

// Kill ends the process with SIGKILL, and waits until it is gone.
func (n *node) Kill() error { return n.signal(syscall.SIGKILL) }

// Stop ends the process with SIGTERM, and waits until it is gone.
func (n *node) Stop() error { return n.signal(syscall.SIGTERM) }

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
		return fmt.Errorf("the cluster in %s did not stop within 20 s", n.Dir)
	}
	n.cmd = nil
	if s == syscall.SIGTERM {
		return n.err
	}
	return nil
}

// RestCertificate implements Cluster.
func (n *node) RestCertificate() string { return filepath.Join(n.Dir, "rest", "rest-tls.crt") }

// Gone implements Cluster.
func (n *node) Gone() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ended
}
