package bustest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
)

func blobs(t *testing.T, h Harness) {
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		add.Handle(w, func(_ context.Context, tx *bus.Tx, _ string, req item) (item, error) {
			id, err := bus.ParseBlobID(req.Text)
			if err != nil {
				return item{}, err
			}
			if req.N == 1 {
				tx.KeepBlob(id, "test")
			} else {
				tx.DropBlob(id, "test")
			}
			return item{}, nil
		})
	})
	content := make([]byte, 3<<20+17)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
	blob, err := c.asked.PutBlob(t.Context(), bytes.NewReader(content), 4<<20)
	if err != nil {
		t.Fatal(err)
	}
	if want := bus.BlobID(sha256.Sum256(content)); blob.ID != want || blob.Size != int64(len(content)) {
		t.Errorf("stored %d octets as %s, want %s", blob.Size, blob.ID, want)
	}
	r, err := c.asked.OpenBlob(t.Context(), blob.ID)
	if err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 1000)
	if _, err := r.ReadAt(part, 1<<20); err != nil || !bytes.Equal(part, content[1<<20:1<<20+1000]) {
		t.Errorf("a range reads wrong: %v", err)
	}
	_ = r.Close()
	if _, err := c.asked.PutBlob(t.Context(), io.LimitReader(zeros{}, 5<<20), 4<<20); err == nil {
		t.Error("a blob over the limit was stored")
	}
	cutOff := io.MultiReader(bytes.NewReader(content), failing{io.ErrUnexpectedEOF})
	if _, err := c.asked.PutBlob(t.Context(), cutOff, 4<<20); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a source that was cut off: got %v, want its error", err)
	}
	for n, want := range []int{1: 0, 2: 1} {
		if n == 0 {
			continue
		}
		if _, _, err := add.Do(t.Context(), c.asked, "k", fmt.Sprint(n), item{N: n, Text: blob.ID.String()}); err != nil {
			t.Fatal(err)
		}
		if removed, err := c.bus.SweepBlobs(t.Context(), time.Now().Add(2*time.Hour)); err != nil || removed != want {
			t.Errorf("swept %d, %v; want %d", removed, err, want)
		}
	}
	if _, err := c.asked.OpenBlob(t.Context(), blob.ID); err == nil {
		t.Error("a swept blob opens")
	}
}

type zeros struct{}

// failing is a source that ends with an error.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// sameBlob stores the same content from several sides at once, and again.
func sameBlob(t *testing.T, h Harness) {
	c := start(t, h, nil)
	content := make([]byte, 1<<20+1)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(content)
	put := func() {
		blob, err := c.asked.PutBlob(t.Context(), bytes.NewReader(content), 2<<20)
		if err != nil || blob.ID != bus.BlobID(sha256.Sum256(content)) || blob.Size != int64(len(content)) {
			t.Errorf("stored %d octets as %s, %v", blob.Size, blob.ID, err)
		}
	}
	var putting sync.WaitGroup
	for range 4 {
		putting.Go(put)
	}
	putting.Wait()
	put()
	empty, err := c.asked.PutBlob(t.Context(), bytes.NewReader(nil), 0)
	if err != nil || empty.Size != 0 {
		t.Errorf("an empty blob has %d octets, %v", empty.Size, err)
	}
	list, err := c.driver.Blobs(t.Context())
	if err != nil || len(list) != 2 {
		t.Errorf("%d blobs are stored, %v; want 2", len(list), err)
	}
	id := bus.BlobID(sha256.Sum256(content))
	if got, err := c.asked.ReadBlob(t.Context(), id, 2<<20); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the blob reads wrong: %d octets, %v", len(got), err)
	}
	if _, err := c.asked.ReadBlob(t.Context(), id, 1<<20); kindOf(err) != "too large" {
		t.Errorf("a blob over the reader's limit: got %v", err)
	}
	for range 2 { // an absent one is no error
		if err := c.driver.RemoveBlob(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.asked.OpenBlob(t.Context(), id); err == nil {
		t.Error("a removed blob opens")
	}
}

const (
	largeBlobSize   = 200 << 20
	largeBlobMemory = 32 << 20
)

// largeBlob streams a blob in and out and looks at the heap. Nothing else may run meanwhile.
func largeBlob(t *testing.T, h Harness) {
	c := start(t, h, nil)
	source := func() io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{3}), largeBlobSize) }
	hash := sha256.New()
	if _, err := io.Copy(hash, source()); err != nil {
		t.Fatal(err)
	}
	var blob bus.Blob
	grew := heapGrowth(func() {
		var err error
		if blob, err = c.asked.PutBlob(t.Context(), source(), largeBlobSize); err != nil {
			t.Fatal(err)
		}
	})
	if grew > largeBlobMemory {
		t.Errorf("the heap grew by %d MiB while a blob was stored, want at most %d", grew>>20, largeBlobMemory>>20)
	}
	if want := bus.BlobID(hash.Sum(nil)); blob.ID != want || blob.Size != largeBlobSize {
		t.Fatalf("stored %d octets as %s, want %d as %s", blob.Size, blob.ID, largeBlobSize, want)
	}
	got := sha256.New()
	grewToo := heapGrowth(func() {
		r, err := c.asked.OpenBlob(t.Context(), blob.ID)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		if _, err := io.CopyBuffer(got, io.NewSectionReader(r, 0, r.Size()), make([]byte, 256<<10)); err != nil {
			t.Fatal(err)
		}
	})
	if grewToo > largeBlobMemory {
		t.Errorf("the heap grew by %d MiB while a blob was read, want at most %d", grewToo>>20, largeBlobMemory>>20)
	}
	t.Logf("the heap grew by %d MiB while the blob was stored, and by %d MiB while it was read", grew>>20, grewToo>>20)
	if !bytes.Equal(got.Sum(nil), blob.ID[:]) {
		t.Error("the blob reads wrong")
	}
}

// heapGrowth returns by how much the heap in use grew at most while fn ran.
func heapGrowth(fn func()) int64 {
	inUse := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse)
	}
	runtime.GC()
	before := inUse()
	most := before
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				most = max(most, inUse())
			}
		}
	}()
	func() {
		defer func() { close(stop); <-stopped }()
		fn()
	}()
	return most - before
}
