package distributed

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/hawser-project/hawser/bus"
)

// headerName is the record header that says where a record comes from.
const headerName = "hawser"

const headerFormat = 1

// encodeHeader encodes the source of a record: format, source, epoch, sequence.
func encodeHeader(s bus.Stamp) []byte {
	b := appendText([]byte{headerFormat}, s.Source)
	return binary.AppendUvarint(binary.AppendUvarint(b, s.Epoch), s.Sequence)
}

// decodeHeader decodes what encodeHeader wrote, and nothing else.
func decodeHeader(b []byte) (s bus.Stamp, err error) {
	in := input{b: b}
	if format := in.octet(); in.err == nil && format != headerFormat {
		return s, fmt.Errorf("the source of a record has format %d, and this release knows %d", format, headerFormat)
	}
	s = bus.Stamp{Source: in.text(), Epoch: in.number(), Sequence: in.number()}
	return s, in.end("the source of a record")
}

// batch is a record batch as Kafka stores it.
type batch struct {
	records []*outgoing
	octets  []byte
	id      int64
	first   int32
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Offsets within a batch of Kafka's format 2.
const (
	batchLengthAt = 8
	batchCRCAt    = 17
	batchBodyAt   = 21 // from here on the CRC counts
)

// newBatch encodes records. They are not compressed: most values are sealed.
func newBatch(records []*outgoing, id int64, epoch int16, first int32) *batch {
	begin := records[0].time.UnixMilli()
	last := begin
	var body, scratch []byte
	for i, r := range records {
		at := r.time.UnixMilli()
		last = max(last, at)
		scratch = appendRecord(scratch[:0], r, at-begin, i)
		body = append(binary.AppendVarint(body, int64(len(scratch))), scratch...)
	}
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, LastOffsetDelta: int32(len(records) - 1), FirstTimestamp: begin, MaxTimestamp: last,
		ProducerID: id, ProducerEpoch: epoch, FirstSequence: first, NumRecords: int32(len(records)), Records: body,
	}
	octets := b.AppendTo(make([]byte, 0, len(body)+64))
	binary.BigEndian.PutUint32(octets[batchLengthAt:], uint32(len(octets)-batchLengthAt-4))
	binary.BigEndian.PutUint32(octets[batchCRCAt:], crc32.Checksum(octets[batchBodyAt:], castagnoli))
	return &batch{records: records, octets: octets, id: id, first: first}
}

func appendRecord(b []byte, r *outgoing, after int64, n int) []byte {
	b = append(b, 0)
	b = binary.AppendVarint(b, after)
	b = binary.AppendVarint(b, int64(n))
	b = binary.AppendVarint(b, int64(len(r.key)))
	b = append(b, r.key...)
	if r.value == nil {
		b = binary.AppendVarint(b, -1)
	} else {
		b = binary.AppendVarint(b, int64(len(r.value)))
		b = append(b, r.value...)
	}
	if r.header == nil {
		return binary.AppendVarint(b, 0)
	}
	b = binary.AppendVarint(b, 1)
	b = binary.AppendVarint(b, int64(len(headerName)))
	b = append(b, headerName...)
	b = binary.AppendVarint(b, int64(len(r.header)))
	return append(b, r.header...)
}

// after returns the sequence of the batch behind this one.
func (b *batch) after() int32 { return b.first + int32(len(b.records)) }

// truncated is a time as Kafka keeps it.
func truncated(t time.Time) time.Time { return t.Truncate(time.Millisecond) }
