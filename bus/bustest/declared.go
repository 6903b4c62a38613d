package bustest

import (
	"context"
	"testing"

	"github.com/hawser-project/hawser/bus"
)

func roles(t *testing.T, h Harness) {
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(_ context.Context, tx *bus.Tx, key string, v item) error {
			in.Send(tx, key, v) // the worker may only read it
			return nil
		})
	})
	if _, err := out.Publish(t.Context(), c.asked); err == nil {
		t.Error("a role published to a topic that it does not write")
	}
	if _, _, err := add.Do(t.Context(), c.bus.As(worker), "k", "id", item{}); err == nil {
		t.Error("a role asked for a command that it may not ask for")
	}
	if _, err := ask.Do(t.Context(), c.bus.As(worker), item{}); err == nil {
		t.Error("a role made a call that it may not make")
	}
	if err := c.asked.View(t.Context(), func(r bus.Reader) error { _, _, err := sums.Get(r, "k", ""); return err }); err == nil {
		t.Error("a role read the state of another")
	}
	c.publish("k", item{N: 1})
	c.until("the step is refused", func() bool {
		list, err := c.bus.Held(t.Context(), worker, "")
		return err == nil && len(list) == 1 && list[0].Poison
	})
}

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

// unknownTopic publishes to, reads and sends to a topic that nobody has declared. None of it may hang.
func unknownTopic(t *testing.T, h Harness) {
	ghost := bus.Topic[item]{Name: "ghost", Writers: []bus.Role{worker, client}, Readers: []bus.Role{worker, client}, Compacted: true}
	c := start(t, h, func(_ *bus.Client, w *bus.Consumer) {
		in.Handle(w, func(ctx context.Context, tx *bus.Tx, key string, v item) error {
			if v.Text == "ghost" {
				ghost.Send(tx, key, v)
			}
			return sum(ctx, tx, key, v)
		})
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := ghost.Publish(ctx, c.asked, bus.Keyed[item]{Key: "k"}); err == nil || ctx.Err() != nil {
		t.Errorf("a topic that is not declared takes records: %v", err)
	}
	if cursor, err := c.driver.Read(ctx, bus.ReadFrom{Topic: ghost.Name}); err == nil || ctx.Err() != nil {
		cursor.Close()
		t.Errorf("a topic that is not declared can be read: %v", err)
	}
	if _, err := c.driver.Current(ctx, ghost.Name); err == nil || ctx.Err() != nil {
		t.Errorf("a topic that is not declared has a present state: %v", err)
	}
	if _, err := c.driver.Lags(ctx, ghost.Name); err == nil || ctx.Err() != nil {
		t.Errorf("a topic that is not declared has readers that lag: %v", err)
	}
	c.publish("k", item{N: 1, Text: "ghost"})
	c.publish("other", item{N: 1})
	c.until("the step is refused, and others are not", func() bool { return len(c.aside()) == 1 && c.sumOf("other") == 1 })
	if got := c.sumOf("k"); got != 0 {
		t.Errorf("a refused step left %d", got)
	}
}
