package wholefile_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/hawser-project/hawser/internal/wholefile"
)

func TestAFileIsReplacedWholeWithItsMode(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	for _, text := range []string{"first", "second"} {
		if err := wholefile.WriteString(path, 0o640, text); err != nil {
			t.Fatal(err)
		}
		octets, err := os.ReadFile(path)
		if err != nil || string(octets) != text {
			t.Errorf("got %q, %v; want %q", octets, err, text)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode is %v, %v; want 0640", info.Mode(), err)
	}
}

func TestAfterAnErrorEverythingIsAsBefore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := wholefile.WriteString(path, 0o600, "before"); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	err := wholefile.Write(path, 0o600, func(w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want the writer's error", err)
	}
	if octets, err := os.ReadFile(path); err != nil || string(octets) != "before" {
		t.Errorf("got %q, %v; want what was there before", octets, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%d files are left, %v; want 1", len(entries), err)
	}
}
