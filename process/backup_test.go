package process_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-project/hawser/process"
)

// run starts a cluster on a data directory and returns how to stop it, once it is ready.
func run(t *testing.T, data string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- process.Run(ctx, process.Config{
			Data: data, Rest: "127.0.0.1:0", Gateway: "127.0.0.1:0", Ready: func(process.Addresses) { close(ready) },
		})
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("the cluster on %s did not start: %v", data, err)
	case <-time.After(time.Minute):
		t.Fatal("the cluster does not get ready")
	}
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the cluster ended with %v", err)
		}
	}
}

// shortTemp makes a directory whose path is short enough for a socket below it, whatever the test's name.
func shortTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hw") //nolint:usetesting // whose path has the test's name in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestABackupIsTakenOfARunningAndOfAStoppedCluster(t *testing.T) {
	t.Parallel()
	dir := shortTemp(t)
	data := filepath.Join(dir, "data")
	stop := run(t, data)
	for name, secrets := range map[string]bool{"running": true, "bare": false} {
		if err := process.Backup(t.Context(), data, filepath.Join(dir, name), secrets); err != nil {
			t.Fatalf("backup while the cluster runs: %v", err)
		}
	}
	if err := process.Backup(t.Context(), data, filepath.Join(dir, "running"), true); err == nil {
		t.Error("a backup was overwritten")
	}
	stop()
	if err := process.Backup(t.Context(), data, filepath.Join(dir, "stopped"), true); err != nil {
		t.Fatalf("backup while the cluster stands still: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "bare", "secrets")); err == nil {
		t.Error("the backup without secrets has some")
	}
	for _, name := range []string{"running", "stopped"} {
		restored := filepath.Join(dir, name+"-restored")
		if err := process.Restore(t.Context(), filepath.Join(dir, name), restored); err != nil {
			t.Fatalf("restore: %v", err)
		}
		run(t, restored)()
	}
	if err := process.Restore(t.Context(), filepath.Join(dir, "running"), data); err == nil {
		t.Error("a backup was restored over a data directory")
	}
}

func TestADamagedBackupIsNotRestored(t *testing.T) {
	t.Parallel()
	dir := shortTemp(t)
	data, backup, restored := filepath.Join(dir, "data"), filepath.Join(dir, "backup"), filepath.Join(dir, "restored")
	run(t, data)()
	if err := process.Backup(t.Context(), data, backup, true); err != nil {
		t.Fatal(err)
	}
	salt := filepath.Join(backup, "secrets", "master-salt")
	if err := os.WriteFile(salt, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := process.Restore(t.Context(), backup, restored)
	if err == nil || !strings.Contains(err.Error(), "does not fit its checksum") {
		t.Errorf("got %v, want a word about the checksum", err)
	}
	if found, _ := filepath.Glob(restored + "*"); len(found) > 0 {
		t.Errorf("a restore that failed left %q", found)
	}
}
