package distributed

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hawser-project/hawser/bus"
)

// blobPiece is how much of a blob is one row, and with it how much is in memory.
const blobPiece = 512 << 10

// PutBlob implements bus.Driver. Pieces are committed one by one under a number; the blob is there once its row is, which
// names the number. What is never finished is dropped after a day.
func (d *Driver) PutBlob(ctx context.Context, r io.Reader, limit int64) (bus.Blob, error) {
	var upload int64
	err := d.read(ctx, "begin a blob", func(ctx context.Context) error {
		return d.pool.QueryRow(ctx, d.schemas.sql(sqlBlobBegin, "")).Scan(&upload)
	})
	if err != nil {
		return bus.Blob{}, err
	}
	blob, err := d.upload(ctx, upload, r, limit)
	kept := upload
	if err == nil {
		kept, err = d.finishBlob(ctx, upload, &blob)
	}
	if err != nil || kept != upload { // it failed, or the content was there
		d.discard(context.WithoutCancel(ctx), upload)
	}
	if err != nil {
		return bus.Blob{}, err
	}
	return blob, nil
}

func (d *Driver) upload(ctx context.Context, upload int64, r io.Reader, limit int64) (blob bus.Blob, err error) {
	hash := sha256.New()
	piece := make([]byte, blobPiece)
	for number := int32(0); ; number++ {
		if err := ctx.Err(); err != nil {
			return blob, err
		}
		n, err := fill(r, piece)
		if blob.Size += int64(n); blob.Size > limit {
			return blob, &tooLarge{"the content", limit}
		}
		hash.Write(piece[:n])
		if n > 0 {
			if err := d.putPiece(ctx, upload, number, piece[:n]); err != nil {
				return blob, err
			}
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

// putPiece writes a piece. A second try may find what the first one has written.
func (d *Driver) putPiece(ctx context.Context, upload int64, number int32, octets []byte) error {
	return d.read(ctx, "write a blob", func(ctx context.Context) error {
		_, err := d.pool.Exec(ctx, d.schemas.sql(sqlBlobPiece, ""), upload, number, octets)
		return err
	})
}

// finishBlob makes the blob of its pieces, and returns the number of those that are kept.
func (d *Driver) finishBlob(ctx context.Context, upload int64, blob *bus.Blob) (kept int64, err error) {
	err = d.read(ctx, "finish a blob", func(ctx context.Context) error {
		return d.pool.QueryRow(ctx, d.schemas.sql(sqlBlobFinish, ""), blob.ID[:], upload, blob.Size).Scan(&kept, &blob.Stored)
	})
	return kept, err
}

func (d *Driver) discard(ctx context.Context, upload int64) {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	if _, err := d.pool.Exec(ctx, d.schemas.sql(sqlBlobDiscard, ""), upload); err != nil {
		d.log.DebugContext(ctx, "an unfinished blob stays for a day", "error", err)
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

// OpenBlob implements bus.Driver.
func (d *Driver) OpenBlob(ctx context.Context, id bus.BlobID) (bus.BlobReader, error) {
	b := &blobReader{d: d, id: id}
	err := d.read(ctx, "open a blob", func(ctx context.Context) error {
		return d.pool.QueryRow(ctx, d.schemas.sql(sqlBlob, ""), id[:]).Scan(&b.upload, &b.size)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, &noBlob{id}
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

type noBlob struct{ id bus.BlobID }

func (e *noBlob) Error() string     { return fmt.Sprintf("there is no blob %s", e.id) }
func (e *noBlob) FaultKind() string { return "not found" }

// blobReader reads parts of pieces.
type blobReader struct {
	d      *Driver
	id     bus.BlobID
	upload int64
	size   int64
}

func (b *blobReader) Size() int64  { return b.size }
func (b *blobReader) Close() error { return nil }

// ReadAt implements io.ReaderAt.
func (b *blobReader) ReadAt(into []byte, at int64) (n int, err error) {
	if at < 0 {
		return 0, fmt.Errorf("read a blob at %d", at)
	}
	for n < len(into) && at < b.size {
		offset := at % blobPiece
		want := min(int64(len(into)-n), blobPiece-offset, b.size-at)
		octets, err := b.part(int32(at/blobPiece), offset, want)
		if err != nil {
			return n, err
		}
		copy(into[n:], octets)
		n += len(octets)
		at += int64(len(octets))
	}
	if n < len(into) {
		return n, io.EOF
	}
	return n, nil
}

func (b *blobReader) part(number int32, offset, length int64) (octets []byte, err error) {
	// io.ReaderAt has no context. Close of the driver ends it.
	err = b.d.read(b.d.closing, "read a blob", func(ctx context.Context) error {
		return b.d.pool.QueryRow(ctx, b.d.schemas.sql(sqlBlobRange, ""), b.upload, number, int32(offset)+1, int32(length)).Scan(&octets)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, &noBlob{b.id} // removed meanwhile
	}
	if err == nil && int64(len(octets)) != length {
		return nil, fmt.Errorf("blob %s is damaged: piece %d is short", b.id, number)
	}
	return octets, err
}

// Blobs implements bus.Driver.
func (d *Driver) Blobs(ctx context.Context) (list []bus.Blob, err error) {
	err = d.read(ctx, "list blobs", func(ctx context.Context) error {
		list = nil
		rows, err := d.pool.Query(ctx, d.schemas.sql(sqlBlobs, ""))
		if err != nil {
			return err
		}
		var id []byte
		var size int64
		var stored time.Time
		_, err = pgx.ForEachRow(rows, []any{&id, &size, &stored}, func() error {
			if len(id) != len(bus.BlobID{}) {
				return fmt.Errorf("the id of a blob has %d octets", len(id))
			}
			list = append(list, bus.Blob{ID: bus.BlobID(id), Size: size, Stored: stored})
			return nil
		})
		return err
	})
	return list, err
}

// RemoveBlob implements bus.Driver.
func (d *Driver) RemoveBlob(ctx context.Context, id bus.BlobID) error {
	return d.read(ctx, "remove a blob", func(ctx context.Context) error {
		_, err := d.pool.Exec(ctx, d.schemas.sql(sqlBlobRemove, ""), id[:])
		return err
	})
}
