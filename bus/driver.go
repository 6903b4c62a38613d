package bus

import (
	"context"
	"errors"
	"io"
	"time"
)

// A Driver stores records and rows, and commits steps. It knows nothing of handlers, keys in work, timers or replies:
// those are rows of reserved kinds that this package writes. Two drivers exist: bus/embedded (one Pebble database) and
// bus/distributed (Kafka and PostgreSQL).
type Driver interface {
	// Get returns a row and its version. An absent row has version 0.
	Get(ctx context.Context, key RowKey) (value []byte, version uint64, err error)

	// Scan calls yield for each row in the range, in key order, as of one moment, until yield returns false.
	// The row's octets may be kept.
	Scan(ctx context.Context, in Range, yield func(Row) bool) error

	// Submit hands in a step to be committed. It returns at once; step.Done is called exactly once, after the step is
	// durable or has been refused. Steps become durable in the order in which they were submitted.
	Submit(step *Step)

	// Barrier returns once everything that a read could have seen at the time of the call is durable.
	Barrier(ctx context.Context) error

	// Read returns up to limit durable records of a topic's partition from the given offset on. Only compacted
	// topics have holes.
	Read(ctx context.Context, topic string, partition int32, from uint64, limit int) ([]Record, error)

	// End returns the offset after the last durable record, and a channel that is closed when it grows.
	End(topic string, partition int32) (end uint64, grown <-chan struct{})

	// Position returns what a consumer has finished of a topic's partition.
	Position(consumer, topic string, partition int32) (Position, error)

	// PutBlob stores what the reader gives, up to max octets, durably, under its SHA-256.
	PutBlob(ctx context.Context, r io.Reader, max int64) (Blob, error)
	// OpenBlob opens a stored blob for reading by range.
	OpenBlob(ctx context.Context, id BlobID) (BlobReader, error)
	// Blobs lists the stored blobs, and RemoveBlob drops one; removing an absent blob is no error.
	Blobs(ctx context.Context) ([]Blob, error)
	RemoveBlob(ctx context.Context, id BlobID) error

	// Close releases the driver. Steps not yet done are refused with ErrClosed.
	Close() error
}

// RowKey names one row of keyed state: the kind of state, the key that owns it, and the row below that key.
type RowKey struct{ Kind, Key, Row string }

// Row is a row of keyed state with its version. A version is never used twice for one row.
type Row struct {
	RowKey
	Value   []byte
	Version uint64
}

// Range is a part of one kind of state: all rows of one key whose names begin with RowPrefix, or, where AllKeys is
// set, all rows of every key that begins with Key, from the key From on.
type Range struct {
	Kind, Key string
	AllKeys   bool
	From      string
	RowPrefix string
}

// Record is one record of a topic.
type Record struct {
	Topic     string
	Partition int32
	Offset    uint64
	Time      time.Time // when it was committed, by the committing process's clock
	Key       string
	Value     []byte // nil in a compacted topic: the key is gone
}

// Place names a record that a consumer has finished.
type Place struct {
	Consumer, Topic string
	Partition       int32
	Offset          uint64
}

// Check is a row version that must still hold when a step commits.
type Check struct {
	RowKey
	Version uint64
}

// Write is a change of a row. A nil value deletes it.
type Write struct {
	RowKey
	Value []byte
}

// Append is a record to be added to a topic.
type Append struct {
	Topic, Key string
	Value      []byte
}

// Step is what one input changes. It commits as a whole or not at all.
type Step struct {
	Finish  []Place
	Checks  []Check
	Writes  []Write
	Appends []Append
	// Done gets where the records went, or ErrConflict when a check did not hold, or another error. It must not block.
	Done func(Commit, error)
}

// Commit says where a step's records went. A Table can wait for it.
type Commit struct{ Offsets []Offset }

// Offset is a record's place in a topic.
type Offset struct {
	Topic     string
	Partition int32
	Offset    uint64
}

// Errors of drivers.
var (
	// ErrConflict is a step refused because a row that it read has changed since. The step is run again.
	ErrConflict = errors.New("bus: a row that was read has changed")
	// ErrClosed is a call after Close.
	ErrClosed = &Error{kind: kindUnavailable, text: "bus: closed"}
)
