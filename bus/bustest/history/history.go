// Package history checks what observers outside of a bus have seen against what the bus promises: no acknowledged record
// is lost, no step takes effect twice or by half, the order of a key's records is kept, and nothing was shown to anybody
// that a crash could still take back. It knows nothing of drivers and of how the crash came about.
//
// The workload behind a history has one publisher per key, which numbers its records from 1 and never uses a number twice,
// and a step per record that sends one effect on, counts it in the key's row, and counts it in one row that all keys share.
package history

import "fmt"

// Record names a record, and the effect of the step that handled it: the Nth that the key's publisher tried to send.
type Record struct {
	Key string
	N   int
}

// Row is a key's row: how many steps it has counted, and the last record's number.
type Row struct{ Count, Last int }

// History is what observers have seen over all crashes, and what is left after the last of them.
type History struct {
	// Sent has for each key the highest number that its publisher tried.
	Sent map[string]int
	// Acked are the records whose publisher was told that they are safe.
	Acked []Record
	// Seen are the effects that somebody outside read before a crash.
	Seen []Record

	// Effects are the effects there are at the end, in the order of their topic.
	Effects []Record
	// Rows are the keys' rows at the end, and Total is the row that they share.
	Rows  map[string]Row
	Total int
}

// Kind is a promise that was broken.
type Kind string

// The kinds of violations.
const (
	Lost      Kind = "an acknowledged record has no effect"
	Doubled   Kind = "a step took effect twice"
	Half      Kind = "a step took effect by half"
	Disorder  Kind = "the order of a key is broken"
	TakenBack Kind = "an effect that was seen is gone"
	Invented  Kind = "an effect of a record that nobody sent"
	Uncounted Kind = "a change of a shared row is lost or doubled"
)

// Violation is a broken promise with the record or row that shows it.
type Violation struct {
	Kind Kind
	Record
	Detail string
}

func (v Violation) String() string {
	return fmt.Sprintf("%s: key %q, record %d %s", v.Kind, v.Key, v.N, v.Detail)
}

// Check returns every violation in a history.
func Check(h History) (found []Violation) {
	add := func(kind Kind, r Record, format string, args ...any) {
		found = append(found, Violation{kind, r, fmt.Sprintf(format, args...)})
	}
	times := make(map[Record]int)
	count, last := make(map[string]int), make(map[string]int)
	for _, r := range h.Effects {
		times[r]++
		count[r.Key]++
		switch {
		case r.N < 1 || r.N > h.Sent[r.Key]:
			add(Invented, r, "of %d sent", h.Sent[r.Key])
		case times[r] > 1:
			add(Doubled, r, "is there %d times", times[r])
		case r.N < last[r.Key]:
			add(Disorder, r, "follows %d", last[r.Key])
		}
		last[r.Key] = r.N
	}
	for _, r := range h.Acked {
		if times[r] == 0 {
			add(Lost, r, "")
		}
	}
	for _, r := range h.Seen {
		if times[r] == 0 {
			add(TakenBack, r, "")
		}
	}
	for key := range h.Sent {
		if row := h.Rows[key]; row.Count != count[key] || row.Last != last[key] {
			add(Half, Record{key, last[key]}, "is the last of %d effects; the key's row says %d of %d", count[key], row.Last, row.Count)
		}
	}
	if h.Total != len(h.Effects) {
		add(Uncounted, Record{}, "the shared row says %d steps, there are %d effects", h.Total, len(h.Effects))
	}
	return found
}
