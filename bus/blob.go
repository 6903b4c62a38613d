package bus

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"time"
)

// BlobID names a blob: the SHA-256 of its octets.
type BlobID [32]byte

func (id BlobID) String() string { return hex.EncodeToString(id[:]) }

// ParseBlobID reads what String wrote.
func ParseBlobID(s string) (id BlobID, err error) {
	octets, err := hex.DecodeString(s)
	if err != nil || len(octets) != len(id) {
		return id, fmt.Errorf("bus: %q is not the id of a blob: want 64 hexadecimal digits", s)
	}
	return BlobID(octets), nil
}

// Blob describes a stored blob.
type Blob struct {
	ID     BlobID
	Size   int64
	Stored time.Time
}

// BlobReader reads a blob by range.
type BlobReader interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

const (
	blobKind = "_blob"
	// blobGrace is how long a blob may be without a reference: a step that refers to it may still be on its way.
	blobGrace = time.Hour
)

// PutBlob stores up to max octets durably, before the step that refers to them. The same content is stored once.
func (c *Client) PutBlob(ctx context.Context, r io.Reader, max int64) (Blob, error) {
	return c.bus.driver.PutBlob(ctx, r, max)
}

// OpenBlob opens a blob for reading by range.
func (c *Client) OpenBlob(ctx context.Context, id BlobID) (BlobReader, error) {
	return c.bus.driver.OpenBlob(ctx, id)
}

// ReadBlob returns a whole blob of up to max octets.
func (c *Client) ReadBlob(ctx context.Context, id BlobID, max int64) ([]byte, error) {
	r, err := c.OpenBlob(ctx, id)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	if r.Size() > max {
		return nil, failure(kindTooLarge, "blob %s has %d octets, the limit is %d", id, r.Size(), max)
	}
	octets := make([]byte, r.Size())
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, r.Size()), octets); err != nil {
		return nil, fmt.Errorf("read blob %s: %w", id, err)
	}
	return octets, nil
}

// KeepBlob makes the step refer to a blob under a name of the step's own. A blob lives as long as a name refers to it.
func (tx *Tx) KeepBlob(id BlobID, name string) {
	tx.put(RowKey{"", blobKind, id.String(), string(tx.client.role) + "/" + name}, []byte{1}, nil)
}

// DropBlob takes a reference back.
func (tx *Tx) DropBlob(id BlobID, name string) {
	tx.delete(RowKey{"", blobKind, id.String(), string(tx.client.role) + "/" + name})
}

// SweepBlobs removes blobs that nothing has referred to for an hour, and returns how many.
func (b *Bus) SweepBlobs(ctx context.Context, now time.Time) (removed int, err error) {
	blobs, err := b.driver.Blobs(ctx)
	if err != nil {
		return 0, err
	}
	for _, blob := range blobs {
		if now.Sub(blob.Stored) < blobGrace {
			continue
		}
		used := false
		if err := b.driver.Scan(ctx, Range{Kind: blobKind, Key: blob.ID.String()}, func(Row) bool {
			used = true
			return false
		}); err != nil {
			return removed, err
		}
		if used {
			continue
		}
		if err := b.driver.RemoveBlob(ctx, blob.ID); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, nil
}
