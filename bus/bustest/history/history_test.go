package history_test

import (
	"slices"
	"testing"

	"github.com/hawser-project/hawser/bus/bustest/history"
)

// good is a history without fault: record 2 of "a" has no acknowledgement and is not there, which is allowed.
func good() history.History {
	return history.History{
		Sent:    map[string]int{"a": 3, "b": 1},
		Acked:   []history.Record{{Key: "a", N: 1}, {Key: "a", N: 3}, {Key: "b", N: 1}},
		Seen:    []history.Record{{Key: "a", N: 1}},
		Effects: []history.Record{{Key: "a", N: 1}, {Key: "b", N: 1}, {Key: "a", N: 3}},
		Rows:    map[string]history.Row{"a": {Count: 2, Last: 3}, "b": {Count: 1, Last: 1}},
		Total:   3,
	}
}

func TestCheckFindsEachViolation(t *testing.T) {
	t.Parallel()
	a := func(n int) history.Record { return history.Record{Key: "a", N: n} }
	for _, test := range []struct {
		name  string
		spoil func(h *history.History)
		want  []history.Kind
	}{
		{"a history without fault", func(*history.History) {}, nil},
		{"an acknowledged record is lost", func(h *history.History) { h.Acked = append(h.Acked, a(2)) }, []history.Kind{history.Lost}},
		{"an effect is doubled", func(h *history.History) {
			h.Effects = append(h.Effects, a(3))
			h.Rows["a"] = history.Row{Count: 3, Last: 3}
			h.Total = 4
		}, []history.Kind{history.Doubled}},
		{"only the effect is doubled", func(h *history.History) { h.Effects = append(h.Effects, a(3)) },
			[]history.Kind{history.Doubled, history.Half, history.Uncounted}},
		{"a row is behind", func(h *history.History) { h.Rows["b"] = history.Row{} }, []history.Kind{history.Half}},
		{"the order is broken", func(h *history.History) {
			slices.Reverse(h.Effects)
			h.Rows["a"] = history.Row{Count: 2, Last: 1}
		}, []history.Kind{history.Disorder}},
		{"an effect that was seen is gone", func(h *history.History) { h.Seen = append(h.Seen, a(2)) }, []history.Kind{history.TakenBack}},
		{"an effect is of nothing", func(h *history.History) {
			h.Effects = append(h.Effects, a(4))
			h.Rows["a"] = history.Row{Count: 3, Last: 4}
			h.Total = 4
		}, []history.Kind{history.Invented}},
		{"a shared row has lost a change", func(h *history.History) { h.Total-- }, []history.Kind{history.Uncounted}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := good()
			test.spoil(&h)
			var got []history.Kind
			for _, v := range history.Check(h) {
				got = append(got, v.Kind)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
