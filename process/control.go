package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/embedded"
)

// control answers the commands of whoever runs the process, on a Unix socket in a directory that only the process's user can
// enter: to copy the store, which this process holds, and what operators ask of the bus.
type control struct {
	data  string
	store *embedded.Store
	bus   *bus.Bus
	log   *slog.Logger
}

// A socket's path is bounded by the operating system (108 octets on Linux, 104 on macOS).
const maxSocketPath = 100

// copyRequest asks for a copy of the store.
type copyRequest struct {
	Dir string `json:"dir"` // absolute
}

func socketPath(data string) string { return filepath.Join(data, "control", "socket") }

// Run implements run.Service.
func (c *control) Run(ctx context.Context, ready func()) error {
	path := socketPath(c.data)
	if len(path) > maxSocketPath {
		c.log.WarnContext(ctx, "no control socket: the data directory's path is too long; backups need the process stopped", "path", path)
		ready()
		<-ctx.Done()
		return nil
	}
	listener, err := listenPrivately(ctx, path)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /copy", c.copy)
	mux.HandleFunc("POST /operate", c.operate)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	ready()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	err = server.Shutdown(stopping) // a copy under way ends with ctx
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// listenPrivately makes the directory first, so that there is no moment at which somebody else could connect. The store's
// lock is held: a socket that is there already is a dead process's.
func listenPrivately(ctx context.Context, path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory that is entered
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	return listener, os.Chmod(path, 0o600)
}

func (c *control) copy(w http.ResponseWriter, r *http.Request) {
	var request copyRequest
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&request)
	if err == nil && !filepath.IsAbs(request.Dir) {
		err = errors.New("the directory is to be an absolute path")
	}
	if err == nil {
		err = c.store.Copy(r.Context(), request.Dir)
	}
	if err != nil {
		c.log.WarnContext(r.Context(), "copy of the store", "dir", request.Dir, "error", err)
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	c.log.InfoContext(r.Context(), "store copied for a backup", "dir", request.Dir)
}

// operateRequest is what an operator asks of the bus. Keys are any octets.
type operateRequest struct {
	Name string   `json:"name"`
	Role bus.Role `json:"role"`
	Key  []byte   `json:"key"`
	Row  []byte   `json:"row"`
}

func (c *control) operate(w http.ResponseWriter, r *http.Request) {
	var request operateRequest
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<20)).Decode(&request)
	var answer []byte
	if err == nil {
		answer, err = c.bus.Operate(r.Context(), bus.Request{Name: request.Name, Role: request.Role, Key: string(request.Key), ID: string(request.Row)})
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	c.log.InfoContext(r.Context(), "operator", "asked", request.Name, "role", request.Role)
	if _, err := w.Write(answer); err != nil {
		c.log.WarnContext(r.Context(), "answer an operator", "error", err)
	}
}

// errNoProcess is that no process runs on a data directory.
var errNoProcess = errors.New("no process runs on the data directory")

// askControl asks the process that runs on a data directory.
func askControl(ctx context.Context, data, path string, request any) ([]byte, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socketPath(data))
	}, DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://control"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(r)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EINVAL) {
		return nil, errNoProcess // no socket, a dead process's, or a path that is too long for one
	}
	if err != nil {
		return nil, fmt.Errorf("ask the process that runs on %s: %w", data, err)
	}
	defer func() { _ = answer.Body.Close() }()
	octets, err := io.ReadAll(io.LimitReader(answer.Body, maxControlAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask the process that runs on %s: %w", data, err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, errors.New(string(bytes.TrimSpace(octets)))
	}
	return octets, nil
}

const maxControlAnswer = 64 << 20

// askForCopy asks the process that runs on a data directory for a copy of its store. asked is false where there is none.
func askForCopy(ctx context.Context, data, dir string) (asked bool, err error) {
	_, err = askControl(ctx, data, "/copy", copyRequest{dir})
	return !errors.Is(err, errNoProcess), err
}
