package embedded

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/hawser-project/hawser/bus"
)

// Keys of the database. Names are escaped so that keys sort by their parts: 0x00 becomes 0x00 0xff, and a part ends with
// 0x00 0x01. Numbers are big-endian.
//
//	'c' role 0x00 topic             position
//	'e' topic                       offset after the last record
//	'm' name                        format, serial number of the last batch
//	'n' topic, key                  offset of a compacted topic's record of the key
//	'r' topic, offset               record
//	's' kind, key, row              version (8 octets) and value
const (
	prefixPosition = 'c'
	prefixEnd      = 'e'
	prefixMeta     = 'm'
	prefixNewest   = 'n'
	prefixRecord   = 'r'
	prefixState    = 's'
)

var errCorrupt = errors.New("the store is damaged: restore a backup")

func appendPart(b []byte, part string) []byte { return append(appendEscaped(b, part), 0, 1) }

func appendEscaped(b []byte, part string) []byte {
	for i := range len(part) {
		b = append(b, part[i])
		if part[i] == 0 {
			b = append(b, 0xff)
		}
	}
	return b
}

// splitPart takes a part off the front of a key.
func splitPart(b []byte) (part string, rest []byte, err error) {
	var out []byte
	for {
		i := bytes.IndexByte(b, 0)
		if i < 0 || i+1 >= len(b) {
			return "", nil, fmt.Errorf("key without end: %w", errCorrupt)
		}
		out = append(out, b[:i]...)
		mark := b[i+1]
		b = b[i+2:]
		if mark == 1 {
			return string(out), b, nil
		}
		out = append(out, 0)
	}
}

func rowKey(k bus.RowKey) []byte {
	b := make([]byte, 0, len(k.Kind)+len(k.Key)+len(k.Row)+8)
	b = appendPart(append(b, prefixState), k.Kind)
	return append(appendPart(b, k.Key), k.Row...)
}

func splitRowKey(b []byte) (k bus.RowKey, err error) {
	if k.Kind, b, err = splitPart(b[1:]); err != nil {
		return k, err
	}
	if k.Key, b, err = splitPart(b); err != nil {
		return k, err
	}
	k.Row = string(b)
	return k, nil
}

// rangeBounds returns the first key of a range and the first one after it.
func rangeBounds(in bus.Range) (lower, upper []byte) {
	kind := appendPart([]byte{prefixState}, in.Kind)
	if !in.AllKeys {
		lower = append(appendPart(kind, in.Key), in.RowPrefix...)
		return lower, after(lower)
	}
	lower = appendEscaped(bytes.Clone(kind), in.Key)
	upper = after(lower)
	if from := appendEscaped(kind, in.From); bytes.Compare(from, lower) > 0 {
		lower = from
	}
	return lower, upper
}

// after returns the first key that does not begin with the prefix.
func after(prefix []byte) []byte {
	b := bytes.Clone(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0xff {
			b[i]++
			return b[:i+1]
		}
	}
	return nil
}

func recordKey(topic string, offset uint64) []byte {
	return binary.BigEndian.AppendUint64(appendPart([]byte{prefixRecord}, topic), offset)
}

func offsetOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }

func newestKey(topic, key string) []byte {
	return append(appendPart([]byte{prefixNewest}, topic), key...)
}

func endKey(topic string) []byte { return append([]byte{prefixEnd}, topic...) }
func metaKey(name string) []byte { return append([]byte{prefixMeta}, name...) }

func positionRow(k positionKey) []byte {
	b := append([]byte{prefixPosition}, k.role...)
	return append(append(b, 0), k.topic...)
}

func encodeUint(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func decodeUint(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("a number of %d octets: %w", len(b), errCorrupt)
	}
	return binary.BigEndian.Uint64(b), nil
}

func joinRow(version uint64, value []byte) []byte {
	b := make([]byte, 0, 8+len(value))
	return append(binary.BigEndian.AppendUint64(b, version), value...)
}

func splitRow(b []byte) (version uint64, value []byte, err error) {
	if len(b) < 8 {
		return 0, nil, fmt.Errorf("a row of %d octets: %w", len(b), errCorrupt)
	}
	return binary.BigEndian.Uint64(b), b[8:], nil
}

// encodeRecord writes a record: time in microseconds, whether it removes its key, length of the key, key, value.
func encodeRecord(now time.Time, a bus.Append) []byte {
	b := make([]byte, 0, 8+1+binary.MaxVarintLen64+len(a.Key)+len(a.Value))
	b = binary.BigEndian.AppendUint64(b, uint64(now.UnixMicro()))
	if a.Value == nil {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(a.Key)))
	return append(append(b, a.Key...), a.Value...)
}

func decodeRecord(b []byte) (r bus.Record, err error) {
	if len(b) < 10 {
		return r, fmt.Errorf("%d octets: %w", len(b), errCorrupt)
	}
	r.Time = time.UnixMicro(int64(binary.BigEndian.Uint64(b)))
	removed := b[8] == 1
	length, n := binary.Uvarint(b[9:])
	if n <= 0 || length > uint64(len(b)-9-n) {
		return r, fmt.Errorf("key of %d octets: %w", length, errCorrupt)
	}
	b = b[9+n:]
	r.Key = string(b[:length])
	if !removed {
		r.Value = append([]byte{}, b[length:]...)
	}
	return r, nil
}
