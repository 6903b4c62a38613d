package embedded

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ordered makes the names in a directory durable before a marker is created that refers to one of them. Pebble up to 2.1
// creates a MANIFEST and the marker that names it and then syncs the directory once, so that a loss of power in between may
// leave the marker without the file, and a store that does not open (cockroachdb/pebble issue 5825, found again by
// test/faults).
type ordered struct{ vfs.FS }

// Create implements vfs.FS.
func (o ordered) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(o.PathBase(name), "marker.") {
		if err := syncDir(o.FS, o.PathDir(name)); err != nil {
			return nil, fmt.Errorf("before a marker is set: %w", err)
		}
	}
	return o.FS.Create(name, category)
}

// syncDir makes the names in a directory durable.
func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("open the directory %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}
