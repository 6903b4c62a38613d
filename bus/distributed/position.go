package distributed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hawser-project/hawser/bus"
)

// progress is how far a partition's owner is in one topic, as it is stored.
type progress struct {
	pos bus.Position
	// low is the time of the record at pos.Low, where it is known.
	low time.Time
	// seen is the last stamp of each source among the records below pos.Low. A record that is not after it was there before.
	seen map[string]bus.Stamp
}

// memory is what a partition row remembers: of each topic it reads how far it is, and of each compacted topic it writes its
// last stamp, without the source.
type memory struct {
	topics map[string]*progress
	marks  map[string]bus.Stamp
}

func newMemory() memory {
	return memory{topics: make(map[string]*progress), marks: make(map[string]bus.Stamp)}
}

// of returns the progress in a topic.
func (m *memory) of(topic string) *progress {
	p, found := m.topics[topic]
	if !found {
		p = &progress{seen: make(map[string]bus.Stamp)}
		m.topics[topic] = p
	}
	return p
}

const memoryFormat = 1

// appendMemory encodes: format; number of topics, and of each its name, position (with its length), time of the record at
// Low (Unix milliseconds, 0 for none) and the stamps of its sources; number of marks, and of each topic, epoch and sequence.
func appendMemory(b []byte, m memory) ([]byte, error) {
	b = append(b, memoryFormat)
	b = binary.AppendUvarint(b, uint64(len(m.topics)))
	for _, topic := range slices.Sorted(maps.Keys(m.topics)) {
		p := m.topics[topic]
		b = appendText(b, topic)
		pos, err := p.pos.AppendBinary(nil)
		if err != nil {
			return nil, fmt.Errorf("encode the position in %s: %w", topic, err)
		}
		b = appendText(b, string(pos))
		low := uint64(0)
		if !p.low.IsZero() {
			low = uint64(max(0, p.low.UnixMilli()))
		}
		b = binary.AppendUvarint(b, low)
		b = appendStamps(b, p.seen)
	}
	return appendStamps(b, m.marks), nil
}

func appendStamps(b []byte, stamps map[string]bus.Stamp) []byte {
	b = binary.AppendUvarint(b, uint64(len(stamps)))
	for _, of := range slices.Sorted(maps.Keys(stamps)) {
		b = appendText(b, of)
		b = binary.AppendUvarint(b, stamps[of].Epoch)
		b = binary.AppendUvarint(b, stamps[of].Sequence)
	}
	return b
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// decodeMemory decodes what appendMemory wrote, and nothing else.
func decodeMemory(b []byte) (memory, error) {
	m := newMemory()
	if len(b) == 0 {
		return m, nil // a partition that nobody has owned yet
	}
	in := input{b: b}
	if format := in.octet(); format != memoryFormat {
		return m, fmt.Errorf("positions have format %d, and this release knows %d", format, memoryFormat)
	}
	for range in.count() {
		topic := in.text()
		p := m.of(topic)
		pos := in.text()
		if in.err == nil {
			if err := p.pos.UnmarshalBinary([]byte(pos)); err != nil {
				return m, fmt.Errorf("the position in %s: %w", topic, err)
			}
		}
		if low := in.number(); low != 0 {
			p.low = time.UnixMilli(int64(low))
		}
		p.seen = in.stamps(true)
	}
	m.marks = in.stamps(false)
	return m, in.end("positions")
}

// input is octets that are decoded. Its first error stays, and everything after it is zero.
type input struct {
	b   []byte
	err error
}

var errShort = errors.New("it is cut short")

func (in *input) fail() {
	in.err, in.b = errShort, nil
}

func (in *input) octet() byte {
	if len(in.b) == 0 {
		in.fail()
		return 0
	}
	o := in.b[0]
	in.b = in.b[1:]
	return o
}

func (in *input) number() uint64 {
	v, n := binary.Uvarint(in.b)
	if n <= 0 {
		in.fail()
		return 0
	}
	in.b = in.b[n:]
	return v
}

// count is a number of things that take an octet or more each.
func (in *input) count() int {
	n := in.number()
	if n > uint64(len(in.b)) {
		in.fail()
		return 0
	}
	return int(n)
}

func (in *input) octets() []byte {
	n := in.count()
	v := in.b[:n]
	in.b = in.b[n:]
	return v
}

func (in *input) text() string { return string(in.octets()) }

// stamps decodes stamps by source, or by something else.
func (in *input) stamps(bySource bool) map[string]bus.Stamp {
	stamps := make(map[string]bus.Stamp)
	for range in.count() {
		of := in.text()
		s := bus.Stamp{Epoch: in.number(), Sequence: in.number()}
		if bySource {
			s.Source = of
		}
		stamps[of] = s
	}
	return stamps
}

func (in *input) end(what string) error {
	if in.err == nil && len(in.b) > 0 {
		in.err = fmt.Errorf("%d octets are too many", len(in.b))
	}
	if in.err != nil {
		return fmt.Errorf("decode %s: %w", what, in.err)
	}
	return nil
}
