// Package wholefile writes files that are there whole or not at all, and stay after the loss of power.
package wholefile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// Write makes or replaces a file with the mode. Content and name are durable when it returns; after an error what was there
// before is unchanged. The directory must exist.
func Write(path string, mode os.FileMode, write func(io.Writer) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	if err := errors.Join(write(f), f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// WriteString is Write for text.
func WriteString(path string, mode os.FileMode, text string) error {
	return Write(path, mode, func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
}
