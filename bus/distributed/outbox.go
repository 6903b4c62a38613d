package distributed

import (
	"context"
	"encoding/binary"
	"fmt"
	"sort"
	"sync"
	"time"
)

// Bounds of what is committed and not acknowledged by Kafka, of one partition. Beyond them its committer waits.
const (
	maxOutboxRecords = 50_000
	maxOutboxBytes   = 64 << 20
)

// outRecord is a record on its way to Kafka.
type outRecord struct {
	topic     string // without prefix
	partition int32
	key       string
	value     []byte // nil: the key is gone
	time      time.Time
	sequence  uint64
}

func (r *outRecord) size() int { return len(r.key) + len(r.value) + 64 }

const outboxFormat = 1

// encodeOutbox encodes the records of one commit: format; time (Unix milliseconds); number of topics and their names; number
// of records, and of each the number of its topic, its partition, its key, and its value's length plus 1, 0 for none. Their
// sequences follow each other.
func encodeOutbox(records []outRecord) []byte {
	size := 64
	for i := range records {
		size += records[i].size()
	}
	b := append(make([]byte, 0, size), outboxFormat)
	b = binary.AppendUvarint(b, uint64(max(0, records[0].time.UnixMilli())))
	numbers := make(map[string]uint64)
	var names []string
	for i := range records {
		if _, found := numbers[records[i].topic]; !found {
			numbers[records[i].topic] = uint64(len(names))
			names = append(names, records[i].topic)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, n := range names {
		b = appendText(b, n)
	}
	b = binary.AppendUvarint(b, uint64(len(records)))
	for i := range records {
		r := &records[i]
		b = binary.AppendUvarint(b, numbers[r.topic])
		b = binary.AppendUvarint(b, uint64(uint32(r.partition)))
		b = appendText(b, r.key)
		if r.value == nil {
			b = append(b, 0)
			continue
		}
		b = binary.AppendUvarint(b, uint64(len(r.value))+1)
		b = append(b, r.value...)
	}
	return b
}

// decodeOutbox decodes what encodeOutbox wrote, and nothing else.
func decodeOutbox(b []byte, first uint64) ([]outRecord, error) {
	in := input{b: b}
	if format := in.octet(); in.err == nil && format != outboxFormat {
		return nil, fmt.Errorf("records to be sent have format %d, and this release knows %d", format, outboxFormat)
	}
	at := time.UnixMilli(int64(in.number()))
	var names []string
	for range in.count() {
		names = append(names, in.text())
	}
	var records []outRecord
	for range in.count() {
		topic := in.number()
		r := outRecord{partition: int32(in.number()), key: in.text(), time: at, sequence: first + uint64(len(records))}
		if length := in.number(); length > uint64(len(in.b))+1 {
			in.fail()
		} else if length > 0 {
			r.value = append([]byte{}, in.b[:length-1]...)
			in.b = in.b[length-1:]
		}
		if in.err != nil {
			break
		}
		if topic >= uint64(len(names)) || r.partition < 0 {
			return nil, fmt.Errorf("decode records to be sent: topic %d or partition %d is not there", topic, r.partition)
		}
		r.topic = names[topic]
		records = append(records, r)
	}
	return records, in.end("records to be sent")
}

// outbox counts what a partition has committed and Kafka has not acknowledged.
type outbox struct {
	mu      sync.Mutex
	commits []sentCommit // in order; the first is not fully acknowledged
	records int
	bytes   int
	acked   uint64        // all records up to this sequence are acknowledged
	changed chan struct{} // closed and replaced when records are acknowledged
}

type sentCommit struct {
	last  uint64
	left  int // records of it that are not acknowledged
	since time.Time
}

func newOutbox() *outbox { return &outbox{changed: make(chan struct{})} }

// add takes note of the records of one commit.
func (o *outbox) add(records []outRecord) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range records {
		o.bytes += records[i].size()
	}
	o.records += len(records)
	o.commits = append(o.commits, sentCommit{last: records[len(records)-1].sequence, left: len(records), since: time.Now()})
}

// ack takes note that Kafka has a record.
func (o *outbox) ack(r *outRecord) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.records--
	o.bytes -= r.size()
	i := sort.Search(len(o.commits), func(i int) bool { return r.sequence <= o.commits[i].last })
	o.commits[i].left--
	for len(o.commits) > 0 && o.commits[0].left == 0 {
		o.acked = o.commits[0].last
		o.commits[0] = sentCommit{}
		o.commits = o.commits[1:]
	}
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *outbox) acknowledged() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.acked
}

// depth returns the number of records, and since when the oldest waits.
func (o *outbox) depth() (records int, age time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.commits) > 0 {
		age = time.Since(o.commits[0].since)
	}
	return o.records, age
}

// await waits until there are at most so many records and octets, or ctx ends.
func (o *outbox) await(ctx context.Context, records, bytes int) bool {
	for {
		o.mu.Lock()
		there, changed := o.records <= records && o.bytes <= bytes, o.changed
		o.mu.Unlock()
		if there {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
