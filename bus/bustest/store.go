package bustest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus"
)

func limits(t *testing.T, h Harness) {
	raw := bus.Topic[[]byte]{Name: in.Name, Writers: in.Writers, Readers: in.Readers}
	c := start(t, h, nil)
	for size, ok := range map[int]bool{0: true, bus.MaxValue: true, bus.MaxValue + 1: false} {
		value := bytes.Repeat([]byte{7}, size)
		_, err := raw.Publish(t.Context(), c.asked, bus.Keyed[[]byte]{Key: "k", Value: value})
		if (err == nil) != ok {
			t.Errorf("%d octets: %v", size, err)
		}
	}
	records, err := ReadAll(t.Context(), c.driver, in.Definition())
	if err != nil || len(records) != 2 {
		t.Errorf("got %d records, %v; want 2", len(records), err)
	}
}

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

// laterItem is item as a later release may have it.
type laterItem struct {
	N     int    `cbor:"1,keyasint"`
	Extra string `cbor:"9,keyasint"`
}

func unknownFields(t *testing.T, h Harness) {
	laterSums := bus.State[laterItem]{Name: sums.Name, Owner: worker}
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, sum)
		add.Handle(w, func(_ context.Context, tx *bus.Tx, key string, req item) (item, error) {
			laterSums.Put(tx, key, "", laterItem{N: req.N, Extra: "kept"})
			return req, nil
		})
	})
	if _, _, err := add.Do(t.Context(), c.asked, "k", "id", item{N: 1}); err != nil {
		t.Fatal(err)
	}
	c.publish("k", item{N: 1})
	c.until("the rewrite", func() bool { return c.sumOf("k") == 2 })
	var got laterItem
	if err := c.bus.As(worker).View(t.Context(), func(r bus.Reader) (err error) {
		got, _, err = laterSums.Get(r, "k", "")
		return err
	}); err != nil || got.Extra != "kept" {
		t.Errorf("got %+v, %v", got, err)
	}
}
