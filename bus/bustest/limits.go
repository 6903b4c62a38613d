package bustest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

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

// byteAdder keeps so many octets as the command says, and returns its body.
func byteAdder(_ *bus.Client, w *bus.Consumer) {
	rawAdd.Handle(w, func(_ context.Context, tx *bus.Tx, key string, body []byte) ([]byte, error) {
		rawSums.Put(tx, key, "", body)
		return body, nil
	})
	in.Handle(w, func(_ context.Context, tx *bus.Tx, key string, v item) error {
		rawSums.Put(tx, key, "", bytes.Repeat([]byte{9}, v.N))
		return nil
	})
}

// size returns how large a row of raw octets is.
func (c *cluster) size(key, row string) (n int) {
	c.t.Helper()
	err := c.bus.As(worker).View(c.t.Context(), func(r bus.Reader) error {
		octets, _, err := rawSums.Get(r, key, row)
		n = len(octets)
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

func rowLimits(t *testing.T, h Harness) {
	c := start(t, h, byteAdder)
	if got, _, err := rawAdd.Do(t.Context(), c.asked, "k", "1", make([]byte, bus.MaxValue)); err != nil || len(got) != bus.MaxValue {
		t.Errorf("a command of the largest size got %d octets, %v", len(got), err)
	}
	if n := c.size("k", ""); n != bus.MaxValue {
		t.Errorf("its row has %d octets, want %d", n, bus.MaxValue)
	}
	if _, _, err := rawAdd.Do(t.Context(), c.asked, "k", "2", make([]byte, bus.MaxValue+1)); kindOf(err) != "too large" {
		t.Errorf("a command that is larger got %v, want that it is too large", err)
	}
	c.publish("row", item{N: bus.MaxValue + 1}, item{N: 7})
	c.until("a row that is larger is poison", func() bool { return len(c.aside()) == 2 })
	if n := c.size("row", ""); n != 0 {
		t.Errorf("a row of %d octets was written", n)
	}
	key := bus.RowKey{Role: worker, Kind: rawSums.Name, Key: "driver"}
	for _, size := range []int{bus.MaxValue, 0} {
		if _, err := submit(c.driver, bus.Step{Writes: []bus.Write{{RowKey: key, Value: make([]byte, size)}}}); err != nil {
			t.Errorf("a row of %d octets: %v", size, err)
		}
		value, version, err := c.driver.Get(t.Context(), key)
		if err != nil || version == 0 || len(value) != size {
			t.Errorf("a row of %d octets is read as %d octets, version %d, %v", size, len(value), version, err)
		}
	}
}

// largePoison sets aside a record of the largest size: what is stored of it is larger.
func largePoison(t *testing.T, h Harness) {
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		rawIn.Handle(w, func(context.Context, *bus.Tx, string, []byte) error { return errors.New("cannot be handled") })
	})
	if _, err := rawIn.Publish(t.Context(), c.asked, bus.Keyed[[]byte]{Key: "k", Value: make([]byte, bus.MaxValue)}); err != nil {
		t.Fatal(err)
	}
	c.until("it is set aside", func() bool { return len(c.aside()) == 1 })
	list, err := c.bus.Held(t.Context(), worker, "k")
	if err != nil || len(list) != 1 || len(list[0].Value) != bus.MaxValue {
		t.Errorf("%d inputs are set aside, %v; want one of %d octets", len(list), err, bus.MaxValue)
	}
}

// largeStep writes and sends many values of the largest size at once.
func largeStep(t *testing.T, h Harness) {
	const each = 12
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(_ context.Context, tx *bus.Tx, key string, v item) error {
			for n := range each {
				value := make([]byte, bus.MaxValue)
				_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(value)
				rawSums.Put(tx, key, keyName(n), value)
				rawOut.Send(tx, fmt.Sprint(key, n), value)
			}
			return nil
		})
	})
	c.publish("k", item{})
	c.until("every record", func() bool { return len(c.outputs()) == each })
	for _, r := range c.outputs() {
		if len(r.Value) != bus.MaxValue {
			t.Errorf("record %s has %d octets, want %d", r.Key, len(r.Value), bus.MaxValue)
		}
	}
	for n := range each {
		if got := c.size("k", keyName(n)); got != bus.MaxValue {
			t.Errorf("row %d has %d octets, want %d", n, got, bus.MaxValue)
		}
	}
}
