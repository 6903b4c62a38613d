package bus

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// Position is what a consumer has finished of a partition: everything below Low, and single records above it. A slow
// record therefore holds back nothing but itself (DESIGN.md 2).
type Position struct {
	Low   uint64              // the first record that is not finished
	Above map[uint64]struct{} // finished records above Low
}

// Done reports whether the record at the offset is finished.
func (p *Position) Done(offset uint64) bool {
	if offset < p.Low {
		return true
	}
	_, done := p.Above[offset]
	return done
}

// Finish marks one record as finished.
func (p *Position) Finish(offset uint64) {
	if p.Done(offset) {
		return
	}
	if p.Above == nil {
		p.Above = make(map[uint64]struct{})
	}
	p.Above[offset] = struct{}{}
	for p.Done(p.Low) {
		delete(p.Above, p.Low)
		p.Low++
	}
}

// FinishRange marks the records from one offset up to another, exclusive, as finished.
func (p *Position) FinishRange(from, to uint64) {
	if from <= p.Low && to > p.Low { // the usual case, and cheap however many there are
		for o := range p.Above {
			if o < to {
				delete(p.Above, o)
			}
		}
		p.Low = to
		for p.Done(p.Low) {
			delete(p.Above, p.Low)
			p.Low++
		}
		return
	}
	for o := max(from, p.Low); o < to; o++ {
		p.Finish(o)
	}
}

// Clone returns a copy that shares nothing with p.
func (p *Position) Clone() Position { return Position{Low: p.Low, Above: maps.Clone(p.Above)} }

// AppendBinary encodes the position: Low, then runs of finished records as (gap, length), all as uvarints.
func (p *Position) AppendBinary(b []byte) ([]byte, error) {
	b = binary.AppendUvarint(b, p.Low)
	above := slices.Sorted(maps.Keys(p.Above))
	last := p.Low
	for i := 0; i < len(above); {
		run := 1
		for i+run < len(above) && above[i+run] == above[i]+uint64(run) {
			run++
		}
		b = binary.AppendUvarint(b, above[i]-last)
		b = binary.AppendUvarint(b, uint64(run))
		last = above[i] + uint64(run)
		i += run
	}
	return b, nil
}

// maxAbove bounds what a decoded position may hold: ten times the window.
const maxAbove = 10 * maxWindowRecords

// UnmarshalBinary decodes what AppendBinary wrote.
func (p *Position) UnmarshalBinary(b []byte) error {
	var n int
	take := func() uint64 {
		v, k := binary.Uvarint(b)
		if k <= 0 {
			n = -1
			return 0
		}
		b = b[k:]
		return v
	}
	*p = Position{Low: take(), Above: make(map[uint64]struct{})}
	next := p.Low
	for len(b) > 0 && n == 0 {
		gap, run := take(), take()
		if run > maxAbove || len(p.Above)+int(run) > maxAbove || next+gap < next {
			return fmt.Errorf("bus: position holds more than %d finished records", maxAbove)
		}
		next += gap
		for range run {
			p.Above[next] = struct{}{}
			next++
		}
	}
	if n != 0 {
		return fmt.Errorf("bus: position is cut short")
	}
	return nil
}
