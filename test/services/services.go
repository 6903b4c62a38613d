// Package services gives tests the real Kafka and PostgreSQL of dev/services, instances of their own that may be killed and
// paused, and connections that may be cut.
package services

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Service is a part of an instance.
type Service string

const (
	KafkaService    Service = "kafka"
	PostgresService Service = "postgres"
)

// Kafka returns the address where a test is the super user. Without the services the test is skipped.
func Kafka(t testing.TB) string { return Env(t, "HAWSER_TEST_KAFKA") }

// Postgres returns the URL of the super user's database. Without the services the test is skipped.
func Postgres(t testing.TB) string { return Env(t, "HAWSER_TEST_POSTGRES") }

// Env returns one of the variables that dev/services prints. Without the services the test is skipped.
func Env(t testing.TB, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Skipf("%s is not set; to run this test: eval \"$(dev/services up)\"", name)
	}
	return value
}

// Instance is a Kafka and a PostgreSQL that belong to one test.
type Instance struct {
	script, dir string
	version     string // of Kafka
	env         map[string]string
}

// Start runs an instance for a test that harms it, and takes it down at the test's end. It takes five seconds, and is
// skipped where Kafka would be. Naming services starts these only.
func Start(t testing.TB, only ...Service) *Instance {
	t.Helper()
	Kafka(t)
	i, err := open()
	if err != nil {
		t.Fatal(err)
	}
	stop, err := i.downAtExit()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			i.logs(t)
		}
		if _, err := i.run(context.Background(), "down"); err != nil {
			t.Errorf("services: %v", err)
		}
		if err := stop(); err != nil {
			t.Errorf("services: %v", err)
		}
	})
	if len(only) == 0 {
		only = []Service{KafkaService, PostgresService}
	}
	for _, s := range only {
		printed, err := i.run(t.Context(), "up", string(s))
		if err != nil {
			t.Fatalf("services: %v", err)
		}
		i.env = environment(printed)
	}
	return i
}

// open finds the script and makes the folder of an instance.
func open() (*Instance, error) {
	script, err := script()
	if err != nil {
		return nil, err
	}
	// The name is short for the sake of the Unix socket, and others may pass, for PostgreSQL runs as a user of its own.
	dir, err := os.MkdirTemp("", "hawser-services-")
	if err != nil {
		return nil, fmt.Errorf("folder of the services: %w", err)
	}
	return &Instance{script: script, dir: dir, version: os.Getenv("HAWSER_TEST_KAFKA_VERSION")}, nil
}

// script finds dev/services above the folder of the test.
func script() (string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		path := filepath.Join(folder, "dev", "services")
		switch info, err := os.Stat(path); {
		case err == nil && info.Mode().IsRegular():
			return path, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
		above := filepath.Dir(folder)
		if above == folder {
			return "", errors.New("no dev/services above the folder of the test")
		}
		folder = above
	}
}

// downAtExit takes the instance down even if the test is killed or runs out of time, which no cleanup survives: a process
// waits for the end of a pipe that only we hold.
func (i *Instance) downAtExit() (stop func() error, err error) {
	cmd := exec.Command("/bin/sh", "-c", `cat; exec "$0" down 2>/dev/null`, i.script)
	cmd.Env = i.environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a signal from the terminal is not for it
	held, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() error {
		return errors.Join(held.Close(), cmd.Wait())
	}, nil
}

// environment reads the lines "export NAME=value".
func environment(printed string) map[string]string {
	env := make(map[string]string)
	for s := bufio.NewScanner(strings.NewReader(printed)); s.Scan(); {
		if assignment, ok := strings.CutPrefix(s.Text(), "export "); ok {
			name, value, _ := strings.Cut(assignment, "=")
			env[name] = value
		}
	}
	return env
}

// Kafka returns the address where a test is the super user.
func (i *Instance) Kafka() string { return i.env["HAWSER_TEST_KAFKA"] }

// Postgres returns the URL of the super user's database.
func (i *Instance) Postgres() string { return i.env["HAWSER_TEST_POSTGRES"] }

// Env returns one of the variables that dev/services prints, as the process's environment would have it.
func (i *Instance) Env(name string) string { return i.env[name] }

// Kill ends a service with all its processes at one instant, with no chance to store or to say anything.
func (i *Instance) Kill(what Service) error { return i.do("kill", what) }

// StartAgain starts a killed service on the same port and data, and returns when it answers.
func (i *Instance) StartAgain(what Service) error { return i.do("start", what) }

// Pause stops a service in the middle of whatever it does. Its kernel still accepts connections.
func (i *Instance) Pause(what Service) error { return i.do("pause", what) }

// Resume lets a paused service go on, and returns when it answers.
func (i *Instance) Resume(what Service) error { return i.do("resume", what) }

func (i *Instance) do(command string, what Service) error {
	_, err := i.run(context.Background(), command, string(what))
	return err
}

// run runs the script, which bounds its own waits. It may have to fetch Kafka.
func (i *Instance) run(ctx context.Context, arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, i.script, arguments...)
	cmd.Env = i.environ()
	cmd.Stderr = &said
	printed, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("dev/services %s: %w\n%s", strings.Join(arguments, " "), err, said.Bytes())
	}
	return string(printed), nil
}

func (i *Instance) environ() []string {
	env := append(os.Environ(), "HAWSER_SERVICES_DIR="+i.dir)
	if i.version != "" {
		env = append(env, "HAWSER_KAFKA_VERSION="+i.version)
	}
	return env
}

// logs shows what the services said last.
func (i *Instance) logs(t testing.TB) {
	const most = 8 << 10
	for _, s := range []Service{KafkaService, PostgresService} {
		log, err := os.ReadFile(filepath.Join(i.dir, string(s), "log"))
		if err != nil {
			continue // this one was never started
		}
		t.Logf("log of %s:\n%s", s, log[max(0, len(log)-most):])
	}
}
