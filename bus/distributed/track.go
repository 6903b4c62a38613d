package distributed

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hawser-project/hawser/bus"
)

// tracked is a topic as the owner of a partition reads it. partition.mu guards it.
//
// seen, the stamps of sources, is stored as of Low, while the cursor is further on: a record between Low and the cursor may
// not be finished, will be read again by the next owner, and must then still count as new. So what has been read is kept
// with its stamp until Low passes it.
type tracked struct {
	*progress
	// start is what was stored at taking over: a cursor begins there, however often one is made.
	start progress
	// read are the records read from start.pos.Low on that are not void, in order, without those below the stored Low.
	read []readRecord
	next uint64 // the offset after the last one noted
	// folded is how many of read are in seen, by commits that are not certain yet.
	folded int
	// void are records and holes that nobody has to do anything for. They are finished by the next commit.
	void []span
}

type readRecord struct {
	offset uint64
	stamp  bus.Stamp // zero for one without source
	time   time.Time
}

type span struct{ from, to uint64 }

func newTracked(p *progress) *tracked {
	return &tracked{
		progress: p, next: p.pos.Low,
		start: progress{pos: p.pos.Clone(), seen: maps.Clone(p.seen)},
	}
}

// note remembers a record that was read, and reports whether what is stored should be written even if no step is done: for
// who looks at lags.
func (t *tracked) note(offset uint64, stamp bus.Stamp, at time.Time, void bool) (write bool) {
	if offset < t.next {
		return false // by an earlier cursor
	}
	if offset > t.next {
		t.void = append(t.void, span{t.next, offset}) // nothing is there
		write = true
	}
	t.next = offset + 1
	if void {
		t.void = append(t.void, span{offset, offset + 1})
		return true
	}
	t.read = append(t.read, readRecord{offset, stamp, at})
	return write || len(t.read) == 1
}

// fold moves what is void and what Low has passed into what is to be stored.
func (t *tracked) fold() {
	for _, v := range t.void {
		t.pos.FinishRange(v.from, v.to)
	}
	for t.folded < len(t.read) && t.read[t.folded].offset < t.pos.Low {
		s := t.read[t.folded].stamp
		if s.Source != "" && s.After(t.seen[s.Source]) {
			t.seen[s.Source] = s
		}
		t.folded++
	}
	t.low = time.Time{}
	if t.folded < len(t.read) && t.read[t.folded].offset == t.pos.Low {
		t.low = t.read[t.folded].time
	}
}

// recount finds again what of the records read is in what is stored.
func (t *tracked) recount() {
	t.folded = 0
	for t.folded < len(t.read) && t.read[t.folded].offset < t.pos.Low {
		t.folded++
	}
}

// settle forgets what is stored now. voids is how many void spans were folded.
func (t *tracked) settle(voids int) {
	t.read = slices.Delete(t.read, 0, t.folded)
	t.folded = 0
	t.void = slices.Delete(t.void, 0, voids)
}

// revert puts back what is stored.
func (t *tracked) revert(stored *progress) {
	t.progress = stored
	t.folded = 0
}

// lineage says which epochs a source partition has had, and which of its records were committed in each. A record of an
// epoch that the history does not know, or beyond what the epoch has sent by it, was sent by an owner whose commits a
// restored database has never seen.
type lineage struct {
	epochs map[string][]begun // by source, ascending
	next   map[string]uint64  // the sequence after the last one committed
}

type begun struct{ epoch, first uint64 }

func newLineage() *lineage {
	return &lineage{epochs: make(map[string][]begun), next: make(map[string]uint64)}
}

func sourceOf(role bus.Role, partition int32) string { return fmt.Sprintf("%s/%d", role, partition) }

// committed says whether a record of that stamp is part of the history. Of a source without history nothing can be said.
func (l *lineage) committed(s bus.Stamp) bool {
	epochs := l.epochs[s.Source]
	if len(epochs) == 0 {
		return true
	}
	i, found := slices.BinarySearchFunc(epochs, s.Epoch, func(b begun, epoch uint64) int {
		switch {
		case b.epoch < epoch:
			return -1
		case b.epoch > epoch:
			return 1
		}
		return 0
	})
	if !found {
		return false
	}
	end := l.next[s.Source]
	if i+1 < len(epochs) {
		end = epochs[i+1].first
	}
	return s.Sequence < end
}
