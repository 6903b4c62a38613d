package embedded

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hawser-project/hawser/bus"
)

// blobPiece is how much of a blob is in memory while it is written.
const blobPiece = 512 << 10

// blobs keeps each blob in a file named by its SHA-256. A file has its name only once it is whole and synced.
type blobs struct {
	fs  vfs.FS
	dir string
}

func openBlobs(fs vfs.FS, dir string) (*blobs, error) {
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of blobs: %w", err)
	}
	b := &blobs{fs, dir}
	names, err := fs.List(dir)
	if err != nil {
		return nil, fmt.Errorf("list blobs: %w", err)
	}
	for _, name := range names {
		if _, err := bus.ParseBlobID(name); err != nil { // left behind by a crash while it was written
			if err := fs.Remove(fs.PathJoin(dir, name)); err != nil {
				return nil, fmt.Errorf("remove an unfinished blob: %w", err)
			}
		}
	}
	return b, nil
}

func (b *blobs) path(id bus.BlobID) string { return b.fs.PathJoin(b.dir, id.String()) }

// PutBlob implements bus.Driver.
func (s *Store) PutBlob(ctx context.Context, r io.Reader, limit int64) (bus.Blob, error) {
	b := s.blobs
	temporary := b.fs.PathJoin(b.dir, "new-"+rand.Text())
	f, err := b.fs.Create(temporary, vfs.WriteCategoryUnspecified)
	if err != nil {
		return bus.Blob{}, fmt.Errorf("make a blob: %w", err)
	}
	blob, err := write(ctx, f, r, limit)
	if err == nil {
		s.mustSync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return bus.Blob{}, errors.Join(err, b.fs.Remove(temporary))
	}
	if err := b.fs.Rename(temporary, b.path(blob.ID)); err != nil {
		return bus.Blob{}, fmt.Errorf("name a blob: %w", err)
	}
	d, err := b.fs.OpenDir(b.dir)
	if err != nil {
		return bus.Blob{}, fmt.Errorf("open the directory of blobs: %w", err)
	}
	s.mustSync(d)
	return blob, d.Close()
}

// mustSync ends the process where a file can't be synced: what is on the disk is not known from then on, and a second try
// that succeeds would say nothing.
func (s *Store) mustSync(f vfs.File) {
	if err := f.Sync(); err != nil {
		s.fatal(fmt.Errorf("sync a blob: %w", err))
	}
}

func write(ctx context.Context, w io.Writer, r io.Reader, limit int64) (blob bus.Blob, err error) {
	hash := sha256.New()
	piece := make([]byte, blobPiece)
	for {
		if err := ctx.Err(); err != nil {
			return blob, err
		}
		n, err := fill(r, piece)
		if blob.Size += int64(n); blob.Size > limit {
			return blob, &tooLarge{limit}
		}
		hash.Write(piece[:n])
		if _, err := w.Write(piece[:n]); err != nil {
			return blob, fmt.Errorf("write a blob: %w", err)
		}
		if errors.Is(err, io.EOF) {
			blob.ID = bus.BlobID(hash.Sum(nil))
			return blob, nil
		}
		if err != nil {
			return blob, fmt.Errorf("read what should become a blob: %w", err)
		}
	}
}

// fill reads until the buffer is full or the reader ends. Other than io.ReadFull it returns the reader's own error, so that
// a source that was cut off (io.ErrUnexpectedEOF) is not taken for one that has ended (io.EOF).
func fill(r io.Reader, buffer []byte) (n int, err error) {
	for n < len(buffer) && err == nil {
		var more int
		more, err = r.Read(buffer[n:])
		n += more
	}
	return n, err
}

type tooLarge struct{ limit int64 }

func (e *tooLarge) Error() string {
	return fmt.Sprintf("the content is over the limit of %d octets", e.limit)
}
func (e *tooLarge) FaultKind() string { return "too large" }

// OpenBlob implements bus.Driver.
func (s *Store) OpenBlob(_ context.Context, id bus.BlobID) (bus.BlobReader, error) {
	f, err := s.blobs.fs.Open(s.blobs.path(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil, &noBlob{id}
	}
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", id, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &blobFile{f, info.Size()}, nil
}

type noBlob struct{ id bus.BlobID }

func (e *noBlob) Error() string     { return fmt.Sprintf("there is no blob %s", e.id) }
func (e *noBlob) FaultKind() string { return "not found" }

type blobFile struct {
	vfs.File
	size int64
}

func (f *blobFile) Size() int64 { return f.size }

// Blobs implements bus.Driver.
func (s *Store) Blobs(context.Context) (list []bus.Blob, err error) {
	names, err := s.blobs.fs.List(s.blobs.dir)
	if err != nil {
		return nil, fmt.Errorf("list blobs: %w", err)
	}
	for _, name := range names {
		id, err := bus.ParseBlobID(name)
		if err != nil {
			continue
		}
		info, err := s.blobs.fs.Stat(s.blobs.path(id))
		if err != nil {
			return nil, fmt.Errorf("blob %s: %w", id, err)
		}
		list = append(list, bus.Blob{ID: id, Size: info.Size(), Stored: info.ModTime()})
	}
	return list, nil
}

// RemoveBlob implements bus.Driver.
func (s *Store) RemoveBlob(_ context.Context, id bus.BlobID) error {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	err := s.blobs.fs.Remove(s.blobs.path(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
