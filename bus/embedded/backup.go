package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hawser-project/hawser/bus"
)

// Copy writes the store as it is at one moment to a directory, while it is in use. Files that never change are hard links
// where that is possible. The directory has neither store nor blobs yet; what is there after an error is of no use.
func (s *Store) Copy(ctx context.Context, dir string) error {
	// A blob that a step of the copy refers to must not be swept before it is copied. Those that come meanwhile do no harm.
	s.sweeping.RLock()
	defer s.sweeping.RUnlock()
	if err := s.fs.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the backup's directory: %w", err)
	}
	if err := s.db.Checkpoint(filepath.Join(dir, storeDir), pebble.WithFlushedWAL()); err != nil {
		return fmt.Errorf("copy the store: %w", err)
	}
	if err := s.copyBlobs(ctx, filepath.Join(dir, blobDir)); err != nil {
		return err
	}
	return syncDir(s.fs, dir)
}

func (s *Store) copyBlobs(ctx context.Context, dir string) error {
	if err := s.fs.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the backup's directory of blobs: %w", err)
	}
	names, err := s.fs.List(s.blobs.dir)
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := bus.ParseBlobID(name); err != nil {
			continue // being written: no step refers to it
		}
		if err := vfs.LinkOrCopy(s.fs, s.fs.PathJoin(s.blobs.dir, name), s.fs.PathJoin(dir, name)); err != nil {
			return fmt.Errorf("copy blob %s: %w", name, err)
		}
	}
	return syncDir(s.fs, dir)
}

// Strip removes kinds of state from a copy, to the last octet: compacting their range rewrites every table that has held
// them. It is not for the process that the copy was made of, which must not end where the copy's disk fails: fatal is called
// then, and must not return.
func Strip(ctx context.Context, dir string, fatal func(error), kinds ...string) (err error) {
	db, err := pebble.Open(filepath.Join(dir, storeDir), &pebble.Options{
		FS: ordered{vfs.Default}, FormatMajorVersion: pebble.FormatNewest, Logger: pebbleLog{slog.New(slog.DiscardHandler), fatal},
	})
	if err != nil {
		return openError(dir, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, kind := range kinds {
		from := appendPart([]byte{prefixState}, kind)
		to := after(from)
		if err := db.DeleteRange(from, to, pebble.Sync); err != nil {
			return fmt.Errorf("remove %s: %w", kind, err)
		}
		if err := errors.Join(db.Flush(), db.Compact(ctx, from, to, false)); err != nil {
			return fmt.Errorf("compact after removing %s: %w", kind, err)
		}
	}
	return nil
}
