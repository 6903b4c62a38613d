package testcluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hawser-project/hawser/cmd/hawser/client"
	"github.com/hawser-project/hawser/cmd/hawser/demo"
	"github.com/hawser-project/hawser/internal/secret"
	"github.com/hawser-project/hawser/process"
	"github.com/hawser-project/hawser/test/services"
)

// Split is a cluster whose roles run in processes of their own, so many of each, on Kafka and PostgreSQL. Its REST workers and
// its gateways are behind a load balancer each.
type Split struct {
	demo.Plan
	t               testing.TB
	binary          string
	each            int
	kafka, postgres string

	mu       sync.Mutex
	workers  map[string][]*worker // by role
	balancer *child
	gone     chan struct{}
	made     bool
}

// worker is a process of one role. It keeps its ports and directory over restarts.
type worker struct {
	*child
	role             string
	name, dir        string
	calls, port, ops string // HOST:PORT; port is that of rest or gateway
}

// SplitNetwork is Network with split clusters.
func SplitNetwork(t testing.TB, each int) (n *demo.Network, clusters map[string]*Split) {
	t.Helper()
	kafka, postgres := services.Kafka(t), services.Postgres(t)
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skip("the load balancer is not installed: apt-get install haproxy")
	}
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	clusters = make(map[string]*Split)
	t.Cleanup(func() { // after the processes have ended
		for _, s := range clusters {
			if err := s.dropUsers(); err != nil {
				t.Errorf("clean up after %s: %v", s.Short, err)
			}
		}
	})
	n = network(t, func(dir string) (*demo.Network, error) {
		return demo.OpenWith(dir, func(p demo.Plan) demo.Cluster {
			s := &Split{
				Plan: p, t: t, binary: binary, each: each, kafka: kafka, postgres: postgres, workers: make(map[string][]*worker), gone: make(chan struct{}),
			}
			clusters[p.Short] = s
			return s
		})
	})
	return n, clusters
}

// Roles are the roles of a cluster, in start order.
func Roles() (names []string) {
	for _, r := range process.Roles() {
		names = append(names, r.Name)
	}
	return names
}

// Start implements demo.Cluster.
func (s *Split) Start(ctx context.Context) error {
	if !s.made {
		if err := s.make(ctx); err != nil {
			return err
		}
		s.made = true
	}
	var starting sync.WaitGroup
	errs := make(chan error, s.each*len(s.workers))
	for _, list := range s.workers {
		for _, w := range list {
			starting.Go(func() { errs <- s.start(ctx, w) })
		}
	}
	starting.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return s.startBalancer(ctx)
}

// Stop implements demo.Cluster.
func (s *Split) Stop() error {
	errs := []error{s.balancer.end(syscall.SIGTERM)}
	for _, role := range slices.Backward(Roles()) {
		var stopping sync.WaitGroup
		for _, w := range s.workers[role] {
			stopping.Go(func() {
				if err := w.end(syscall.SIGTERM); err != nil {
					s.mu.Lock()
					defer s.mu.Unlock()
					errs = append(errs, fmt.Errorf("%s: %w", w.name, err))
				}
			})
		}
		stopping.Wait()
	}
	return errors.Join(errs...)
}

// Kill implements demo.Cluster.
func (s *Split) Kill() error {
	errs := []error{s.balancer.end(syscall.SIGKILL)}
	for _, list := range s.workers {
		for _, w := range list {
			errs = append(errs, w.end(syscall.SIGKILL))
		}
	}
	return errors.Join(errs...)
}

// RestCertificate implements demo.Cluster.
func (s *Split) RestCertificate() string { return filepath.Join(s.Dir, "rest.crt") }

// Gone implements demo.Cluster.
func (s *Split) Gone() <-chan struct{} { return s.gone }

// KillOne ends one worker as a crash would.
func (s *Split) KillOne(role string, i int) error { return s.workers[role][i].end(syscall.SIGKILL) }

// StartOne starts it again.
func (s *Split) StartOne(ctx context.Context, role string, i int) error {
	return s.start(ctx, s.workers[role][i])
}

// Add starts one more worker of a role.
func (s *Split) Add(ctx context.Context, role string) error {
	w, err := s.newWorker(role, len(s.workers[role]))
	if err != nil {
		return err
	}
	s.workers[role] = append(s.workers[role], w)
	return s.start(ctx, w)
}

// Worker says how the processes of a role can be reached by operators.
func (s *Split) Worker(role string, i int) (calls, ops string) {
	w := s.workers[role][i]
	return w.calls, w.ops
}

// Operator is the directory with an operator's certificate.
func (s *Split) Operator() string { return filepath.Join(s.Dir, "pki", "operator") }

// make makes what the cluster needs before its first start.
func (s *Split) make(ctx context.Context) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	if err := restCertificate(s.Dir); err != nil {
		return err
	}
	if err := s.hawser("pki", "init", "--cluster", s.name(), "--dir", filepath.Join(s.Dir, "authority")); err != nil {
		return err
	}
	if err := s.issue("operator", "operator"); err != nil {
		return err
	}
	config := filepath.Join(s.Dir, "init.yaml")
	if err := os.WriteFile(config, []byte(s.busConfig()), 0o600); err != nil {
		return err
	}
	if err := s.hawser("bus", "init", "--config", config, "--partitions", "4"); err != nil {
		return err
	}
	if err := s.makeUsers(ctx); err != nil {
		return err
	}
	for _, role := range Roles() {
		for i := range s.each {
			w, err := s.newWorker(role, i)
			if err != nil {
				return err
			}
			s.workers[role] = append(s.workers[role], w)
		}
	}
	return nil
}

// name of the cluster: no other test has the same.
func (s *Split) name() string {
	return s.Short + "-" + strings.ToLower(strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, s.Rest+s.Gateway))
}

func (s *Split) issue(role, name string) error {
	return s.hawser("pki", "issue", "--dir", filepath.Join(s.Dir, "authority"), "--role", role, "--instance", name, "--host", "127.0.0.1",
		"--out", filepath.Join(s.Dir, "pki", name))
}

func (s *Split) hawser(arguments ...string) error {
	if output, err := exec.Command(s.binary, arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("hawser %s: %w\n%s", strings.Join(arguments, " "), err, output)
	}
	return nil
}

// Hawser runs a command and returns what it prints.
func (s *Split) Hawser(arguments ...string) (string, error) {
	output, err := exec.Command(s.binary, arguments...).CombinedOutput()
	return string(output), err
}

func (s *Split) busConfig() string {
	return fmt.Sprintf("cluster: %s\nkafka:\n  brokers: [%s]\npostgres:\n  url: %q\n  connections: 5\n", s.name(), s.kafka, s.postgres)
}

// newWorker prepares a process: its certificate, its ports, its configuration.
func (s *Split) newWorker(role string, i int) (*worker, error) {
	name := fmt.Sprintf("%s-%d", role, i)
	ports, err := demo.FreePorts(3)
	if err != nil {
		return nil, err
	}
	w := &worker{child: &child{}, role: role, name: name, dir: filepath.Join(s.Dir, name), calls: ports[0], port: ports[1], ops: ports[2]}
	if err := s.issue(role, name); err != nil {
		return nil, err
	}
	var gateways []string
	if role == "linkmanager" {
		for _, g := range s.workers["gateway"] {
			gateways = append(gateways, g.calls)
		}
	}
	pki := filepath.Join(s.Dir, "pki", name)
	config := fmt.Sprintf("cluster: %s\n", s.name())
	if role != "gateway" { // which has no credentials
		if config, err = s.busConfigOf(role); err != nil {
			return nil, err
		}
	}
	config += fmt.Sprintf(`instance: %s
data: %s
calls:
  listen: %s
  advertise: %s
  certificate: %s
  key: %s
  authority: %s
  gateways: [%s]
rest:
  listen: %s
  certificate: %s
  key: %s
gateway:
  listen: %s
crypto:
  passphrase: for tests
  salt: for tests
ops:
  listen: %s
`, name, w.dir, w.calls, w.calls, filepath.Join(pki, "cert.pem"), filepath.Join(pki, "key.pem"), filepath.Join(pki, "ca.pem"),
		strings.Join(gateways, ", "), w.port, s.RestCertificate(), filepath.Join(s.Dir, "rest.key"), w.port, w.ops)
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return nil, err
	}
	return w, os.WriteFile(filepath.Join(w.dir, "worker.yaml"), []byte(config), 0o600)
}

func (s *Split) start(ctx context.Context, w *worker) error {
	log := &prefixed{to: s.Log, prefix: w.name}
	cmd := exec.Command(s.binary, "worker", "--roles", w.role, "--config", filepath.Join(w.dir, "worker.yaml"), "--log-level", "warn")
	cmd.Env = append(os.Environ(), "HAWSER_ADMIN_PASSWORD="+s.Password.RevealString())
	if err := w.run(ctx, cmd, log, "ready"); err != nil {
		return fmt.Errorf("%s of %s: %w", w.name, s.Short, err)
	}
	return nil
}

// startBalancer puts a load balancer before the REST workers, which looks into HTTP, and before the gateways, which does not.
func (s *Split) startBalancer(ctx context.Context) error {
	pem := filepath.Join(s.Dir, "rest-both.pem")
	var both []byte
	for _, name := range []string{"rest.crt", "rest.key"} {
		octets, err := os.ReadFile(filepath.Join(s.Dir, name))
		if err != nil {
			return err
		}
		both = append(both, octets...)
	}
	if err := os.WriteFile(pem, both, 0o600); err != nil {
		return err
	}
	var config strings.Builder
	fmt.Fprintf(&config, `global
  maxconn 2000
defaults
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  option redispatch
  retries 2
frontend rest
  mode http
  bind %s ssl crt %s
  default_backend rests
backend rests
  mode http
  retry-on conn-failure empty-response
`, s.Rest, pem)
	for i, w := range s.workers["rest"] {
		fmt.Fprintf(&config, "  server rest%d %s ssl verify none check inter 500ms fall 1 rise 1\n", i, w.port)
	}
	fmt.Fprintf(&config, "frontend gateway\n  mode tcp\n  bind %s\n  default_backend gateways\nbackend gateways\n  mode tcp\n", s.Gateway)
	for i, w := range s.workers["gateway"] {
		fmt.Fprintf(&config, "  server gateway%d %s check inter 500ms fall 1 rise 1\n", i, w.port)
	}
	path := filepath.Join(s.Dir, "haproxy.cfg")
	if err := os.WriteFile(path, []byte(config.String()), 0o600); err != nil {
		return err
	}
	s.balancer = &child{plain: true}
	if err := s.balancer.run(ctx, exec.Command("haproxy", "-f", path, "-db"), &prefixed{to: s.Log, prefix: "haproxy"}, ""); err != nil {
		return err
	}
	return awaitPorts(ctx, s.Rest, s.Gateway)
}

// awaitPorts returns when somebody listens on each.
func awaitPorts(ctx context.Context, addresses ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, a := range addresses {
		for {
			c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", a)
			if err == nil {
				_ = c.Close()
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("nobody listens on %s: %w", a, err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// Config is the configuration of a process.
func (s *Split) Config(role string, i int) (string, error) {
	octets, err := os.ReadFile(filepath.Join(s.workers[role][i].dir, "worker.yaml"))
	return string(octets), err
}

// RestClient asks one REST worker, past the load balancer.
func (s *Split) RestClient(i int, user, password string) (*client.Client, error) {
	return client.New("https://"+s.workers["rest"][i].port, user, secret.FromString(password), s.RestCertificate())
}
