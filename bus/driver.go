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
//
// The keys of a role are spread over partitions. A partition has one owner at a time, who alone does its steps: the ones
// of the records with its keys, of the commands to them, and of their timers. Whoever was the owner before can't commit
// any more once there is another.
type Driver interface {
	// Partitions returns over how many partitions the keys of the role are spread, and with them the topics that it reads.
	// It never changes. Compacted topics have one partition.
	Partitions(role Role) int32

	// Own makes this process a candidate for the partitions of a role. For each that it gets, run is called in a goroutine
	// of its own, with a context that ends when the partition is to be given up (ctx has ended, or another process is to
	// have it) or is lost (errors.Is(context.Cause(ctx), ErrLost)). It is given up once run has returned; until then steps
	// of it still commit. Own returns when ctx has ended and all that it gave is given up, or with an error that it can't
	// go on after.
	Own(ctx context.Context, role Role, run func(ctx context.Context, o *Ownership)) error

	// Get returns a row and its version. An absent row has version 0.
	Get(ctx context.Context, key RowKey) (value []byte, version uint64, err error)

	// Scan calls yield for each row in the range, in key order, as of one moment, until yield returns false.
	// The row's octets may be kept.
	Scan(ctx context.Context, in Range, yield func(Row) bool) error

	// Submit hands in a step to be committed. It returns at once; step.Done is called exactly once, after the step is
	// durable or has been refused. Steps of one owner become durable in the order in which they were submitted.
	Submit(step *Step)

	// Barrier returns once everything that a read could have seen at the time of the call is durable.
	Barrier(ctx context.Context) error

	// Read reads the records of a topic's partition from a place on. The cursor is closed by the caller. Read, and the
	// cursor's Next, wait as long as what they need is merely not there.
	Read(ctx context.Context, from ReadFrom) (Cursor, error)

	// Current returns the stamps that a reader of a compacted topic has seen once it has seen all that is committed now.
	Current(ctx context.Context, topic string) (Commit, error)

	// Lags returns how far each reader of a topic that is not compacted is behind, by partition. It may be a second old.
	Lags(ctx context.Context, topic string) ([]Lag, error)

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

// Ownership is the right to do the steps of one partition of a role's keys.
type Ownership struct {
	Role      Role
	Partition int32
	// Epoch is higher than that of every owner before.
	Epoch uint64
	// Positions say what was finished of each topic that the role reads, at the time of taking over.
	Positions map[string]Position
}

// ReadFrom says where a cursor begins.
type ReadFrom struct {
	Topic     string
	Partition int32
	// Offset is the first record wanted. Of a compacted topic that is 0.
	Offset uint64
	// Owner is set by the consumer whose partition this is. Records that it has had already, or that were never committed,
	// then come marked as void.
	Owner *Ownership
}

// Cursor gives the records of a partition in order.
type Cursor interface {
	// Next returns one record or more, and waits for them until ctx ends. Records of compacted topics whose key has a later
	// one may be left out, and so may void ones where there is no owner. A void one without a key only has a stamp, which is
	// reached with it.
	Next(ctx context.Context) ([]Record, error)
	// Reached says whether all has been returned that was readable when the cursor was made.
	Reached() bool
	Close()
}

// Lag is how far a reader of a topic is behind in one partition.
type Lag struct {
	Reader    Role
	Partition int32
	Records   uint64        // not finished
	Age       time.Duration // of the oldest of them; 0 where there is none, or no owner has read it yet
}

// RowKey names one row of keyed state: the role whose state it is (empty: everybody's), the kind of state, the key that
// owns it, and the row below that key. A kind belongs to one role.
type RowKey struct {
	Role           Role
	Kind, Key, Row string
}

// Row is a row of keyed state with its version. A version is never used twice for one row.
type Row struct {
	RowKey
	Value   []byte
	Version uint64
}

// Range is a part of one kind of state: all rows of one key whose names begin with RowPrefix, or, where AllKeys is
// set, all rows of every key that begins with Key, from the key From on.
type Range struct {
	Role      Role
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
	Stamp     Stamp
	// Void says that the record counts for nothing: it was there before, or was never committed. It is finished already.
	Void bool
}

// Stamp says where a record was committed, and as which of that place: the partition of the role that sent it, the epoch of
// its owner, and a number that rises with each record, from one epoch to the next too. Records without a step have no
// source, and their offset plus 1 as the number.
type Stamp struct {
	Source   string `cbor:"1,keyasint,omitempty"`
	Epoch    uint64 `cbor:"2,keyasint,omitempty"`
	Sequence uint64 `cbor:"3,keyasint"`
}

// After says whether s was committed after o, of the same source.
func (s Stamp) After(o Stamp) bool {
	return s.Epoch > o.Epoch || s.Epoch == o.Epoch && s.Sequence > o.Sequence
}

// Place names a record that the owner of its partition has finished.
type Place struct {
	Topic  string
	Offset uint64
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
	// Owner does the step. Without one a step has either records of Role, each of which is there or not, or writes; and
	// finishes and checks nothing.
	Owner   *Ownership
	Role    Role
	Finish  []Place
	Checks  []Check
	Writes  []Write
	Appends []Append
	// Done gets the stamps of the records, or ErrConflict when a check did not hold, ErrLost when there is another owner, or
	// another error. It must not block.
	Done func(Commit, error)
}

// Gather takes the steps that wait in a queue, beside the first one, up to a number and about a size in octets: what a driver
// commits together.
func Gather(first *Step, queue <-chan *Step, most, octets int) []*Step {
	steps := []*Step{first}
	size := first.size()
	for len(steps) < most && size < octets {
		select {
		case step := <-queue:
			steps = append(steps, step)
			size += step.size()
		default:
			return steps
		}
	}
	return steps
}

func (s *Step) size() (n int) {
	for i := range s.Writes {
		n += len(s.Writes[i].Value) + len(s.Writes[i].Key) + len(s.Writes[i].Row)
	}
	for i := range s.Appends {
		n += len(s.Appends[i].Value) + len(s.Appends[i].Key)
	}
	return n
}

// Commit says how a step's records are stamped. A Table can wait for it.
type Commit struct {
	Stamps []Sent `cbor:"1,keyasint,omitempty"`
}

// Add takes note of a record. Of each topic the last stamp is kept.
func (c *Commit) Add(topic string, s Stamp) {
	for i := range c.Stamps {
		if c.Stamps[i].Topic == topic && c.Stamps[i].Stamp.Source == s.Source {
			if s.After(c.Stamps[i].Stamp) {
				c.Stamps[i].Stamp = s
			}
			return
		}
	}
	c.Stamps = append(c.Stamps, Sent{topic, s})
}

// Sent is the last stamp of a step's records in a topic.
type Sent struct {
	Topic string `cbor:"1,keyasint"`
	Stamp Stamp  `cbor:"2,keyasint"`
}

// Errors of drivers.
var (
	// ErrConflict is a step refused because a row that it read has changed since. The step is run again.
	ErrConflict = errors.New("bus: a row that was read has changed")
	// ErrLost is a step refused because its partition has another owner.
	ErrLost = &Error{kind: kindUnavailable, text: "bus: the partition has another owner"}
	// ErrClosed is a call after Close.
	ErrClosed = &Error{kind: kindUnavailable, text: "bus: closed"}
)
