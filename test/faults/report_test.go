package faults

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-project/hawser/bus/bustest/history"
)

// report is what a run with faults has measured.
type report struct {
	seed, rounds int
	begun, ended time.Time
	faults       []mark

	points                                       []point // by time
	sent, acked, effects, duplicates, violations int
}

// mark is a fault that was done.
type mark struct {
	name     string
	from, to time.Time
}

// point is an effect: when its record was due to be published, and how long it took until the effect was seen.
type point struct {
	key     string
	due     time.Time
	latency time.Duration
}

// take adds what the observers know.
func (r *report) take(o *timed, h history.History, raw rawEffects, violations int) {
	for _, n := range h.Sent {
		r.sent += n
	}
	r.acked, r.effects, r.duplicates, r.violations = len(h.Acked), len(raw.list), raw.duplicates, violations
	o.mu.Lock()
	defer o.mu.Unlock()
	for record, at := range o.first {
		due := o.due[record]
		r.points = append(r.points, point{record.Key, due, at.Sub(due)})
	}
	slices.SortFunc(r.points, func(a, b point) int { return a.due.Compare(b.due) })
}

// effect is what came of one kind of fault, until the next fault.
type effect struct {
	name           string
	times          int
	harm, gap, max time.Duration
}

// byKind finds for each kind of fault the longest harm, the longest time without an effect of a key, and the highest latency.
func (r *report) byKind() []effect {
	kinds := make(map[string]*effect)
	for i, m := range r.faults {
		until := r.ended
		if i+1 < len(r.faults) {
			until = r.faults[i+1].from
		}
		e, found := kinds[m.name]
		if !found {
			e = &effect{name: m.name}
			kinds[m.name] = e
		}
		e.times++
		e.harm = max(e.harm, m.to.Sub(m.from))
		e.gap = max(e.gap, r.gap(m.from, until))
		for _, p := range r.points {
			if p.due.After(m.from) && p.due.Before(until) {
				e.max = max(e.max, p.latency)
			}
		}
	}
	var list []effect
	for _, e := range kinds {
		list = append(list, *e)
	}
	slices.SortFunc(list, func(a, b effect) int { return cmp.Compare(b.gap, a.gap) })
	return list
}

// gap is the longest time within a span for which a key had no effect.
func (r *report) gap(from, until time.Time) (longest time.Duration) {
	last := make(map[string]time.Time)
	points := slices.Clone(r.points)
	slices.SortFunc(points, func(a, b point) int { return a.seen().Compare(b.seen()) })
	for _, p := range points {
		at := p.seen()
		if before, found := last[p.key]; found && at.After(from) && before.Before(until) {
			longest = max(longest, minTime(at, until).Sub(maxTime(before, from)))
		}
		last[p.key] = at
	}
	return longest
}

func (p point) seen() time.Time { return p.due.Add(p.latency) }

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (r *report) percentile(p float64) time.Duration {
	if len(r.points) == 0 {
		return 0
	}
	list := make([]time.Duration, 0, len(r.points))
	for _, q := range r.points {
		list = append(list, q.latency)
	}
	slices.Sort(list)
	return list[min(len(list)-1, int(p*float64(len(list))))]
}

func (r *report) summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d faults in %.0f s; %d records sent, %d acknowledged, %d effects, %d duplicates dropped, %d violations; latency p50 %s, p90 %s, p99 %s\n",
		r.seed, len(r.faults), r.ended.Sub(r.begun).Seconds(), r.sent, r.acked, r.effects, r.duplicates, r.violations,
		short(r.percentile(.5)), short(r.percentile(.9)), short(r.percentile(.99)))
	for _, e := range r.byKind() {
		fmt.Fprintf(&b, "%-45s %d times, harm %s, longest gap of a key %s, highest latency %s\n", e.name, e.times, short(e.harm), short(e.gap), short(e.max))
	}
	return b.String()
}

// short is a duration with two or three digits.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// write makes bus-faults.md and bus-faults.svg in a folder.
func (r *report) write(t *testing.T, dir string) {
	t.Helper()
	title := fmt.Sprintf("%d faults, from the publishing of a record to its effect", len(r.faults))
	svg := plot(title, r.begun, r.ended, r.points, r.faults)
	err := errors.Join(os.WriteFile(filepath.Join(dir, "bus-faults.svg"), []byte(svg), 0o644),
		os.WriteFile(filepath.Join(dir, "bus-faults.md"), []byte(r.page()), 0o644))
	if err != nil {
		t.Error(err)
	}
}

// pageText is the report but for its tables.
const pageText = `# The distributed bus under faults

Worker processes handle records from Kafka with their state in PostgreSQL, while both services and the workers themselves are killed,
stopped and cut off from each other in random order. Observers outside write down what they were told; afterwards
[the checker](../../bus/bustest/history/history.go) compares that with what is left: no acknowledged record may be without its effect,
no step may have taken effect twice or by half, and the order of a key's records must hold. This page and the plot are written by the
test that does it.

![Latency over the run, with the faults](bus-faults.svg)

%s
**How to read the plot.** %d publishers send two records each every %s, whether or not the ones before were acknowledged, and a
latency counts from when a record was due: a service that is away for ten seconds shows as a slope that begins at ten seconds. The effect
is seen by a consumer of its own, so the way is: publish, Kafka, the worker's step, PostgreSQL, Kafka, the consumer. A worker's
lease is %s: that is what a partition waits for when its owner dies without a word.

| fault | times | lasted up to | longest time that a key waited for its next effect | highest latency |
|---|---|---|---|---|
%s
Records count for the fault after which they were due, until the next one begins; what a fault leaves behind, or the next one does to
records on their way, is in there too. A broker that is killed is away for as long as it takes to start: with one broker there is nobody to take over.

To repeat the faults in the same order (what they meet is up to the machine):

    eval "$(dev/services up)"
    HAWSER_FAULT_SEED=%d HAWSER_FAULT_ROUNDS=%d HAWSER_FAULT_REPORT=$PWD/docs/reports go test ./test/faults -run BrokersDatabases -v -timeout 30m

What the faults are: [harm_test.go](../../test/faults/harm_test.go). That the checker finds a dropped commit, a sequence that is not looked
at, and records sent before their step commits: [seeded_test.go](../../test/faults/seeded_test.go).
`

func (r *report) page() string {
	var totals, kinds strings.Builder
	row := func(what string, value any) { fmt.Fprintf(&totals, "| %s | %v |\n", what, value) }
	totals.WriteString("| | |\n|---|---|\n")
	row("machine", "two shared cores, one Kafka broker, one PostgreSQL, two to three workers")
	row("date", r.begun.Format(time.DateOnly))
	row("seed", r.seed)
	row("run", fmt.Sprintf("%d faults in %.0f s", len(r.faults), r.ended.Sub(r.begun).Seconds()))
	row("records sent", r.sent)
	row("of them acknowledged", r.acked)
	row("effects", r.effects)
	row("duplicates in Kafka that readers dropped", r.duplicates)
	row("latency over the whole run, p50 / p90 / p99", short(r.percentile(.5))+" / "+short(r.percentile(.9))+" / "+short(r.percentile(.99)))
	row("**violations**", fmt.Sprintf("**%d**", r.violations))
	for _, e := range r.byKind() {
		fmt.Fprintf(&kinds, "| %s | %d | %s | %s | %s |\n", e.name, e.times, short(e.harm), short(e.gap), short(e.max))
	}
	return fmt.Sprintf(pageText, totals.String(), publishedKeys, short(publishEvery), short(stageLease), kinds.String(), r.seed, r.rounds)
}
