// Package embedded is the bus driver for one process: records, state, positions and timers in one Pebble database, blobs
// in files beside it. Finished steps of all consumers are gathered into one batch with one fsync. What Done was told of
// survives kill -9 and the loss of power; an fsync that fails ends the process.
//
// Steps pass through two goroutines. The committer takes what has been submitted, checks versions, and applies one batch
// to the database without waiting for the disk; the syncer waits for the write-ahead log and then tells the submitters and
// the readers of topics. So one batch is synced while the next is gathered.
package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hawser-project/hawser/bus"
)

// Store is a bus.Driver on one Pebble database.
type Store struct {
	db     *pebble.DB
	lock   *pebble.Lock
	fs     vfs.FS
	blobs  *blobs
	topics map[string]bus.Definition
	log    *slog.Logger
	fatal  func(error)

	metrics *metrics

	// submitting is held by Submit for reading, so that nothing is handed in after closing is closed.
	submitting sync.RWMutex
	submitted  chan *bus.Step
	applied    chan group
	closing    chan struct{}
	closed     sync.Once
	done       sync.WaitGroup
	closeErr   error

	sweeping sync.RWMutex // held for reading while a backup needs the blobs to stay

	serial  atomic.Uint64 // of the last applied batch
	epoch   atomic.Uint64 // of the last ownership given
	batchAt *durable      // the last durable batch

	mu        sync.Mutex
	logs      map[string]*topicLog
	positions map[positionKey]*bus.Position // committer's; guarded for Position and trim
}

// topicLog is the end of one topic's log.
type topicLog struct {
	next    uint64 // the next offset to give; the committer's
	durable uint64 // the end that readers see; Store.mu
	trimmed uint64 // what lies below is gone; Store.mu
	grown   chan struct{}
}

type positionKey struct {
	role  bus.Role
	topic string
}

// Get implements bus.Driver.
func (s *Store) Get(_ context.Context, key bus.RowKey) ([]byte, uint64, error) {
	value, closer, err := s.db.Get(rowKey(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, s.readError(err)
	}
	defer func() { _ = closer.Close() }()
	version, rest, err := splitRow(value)
	return bytes.Clone(rest), version, err
}

// Scan implements bus.Driver.
func (s *Store) Scan(ctx context.Context, in bus.Range, yield func(bus.Row) bool) error {
	lower, upper := rangeBounds(in)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return s.readError(err)
	}
	defer func() { _ = it.Close() }()
	for valid := it.First(); valid; valid = it.Next() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		key, err := splitRowKey(it.Key())
		if err != nil {
			return err
		}
		key.Role = in.Role
		version, value, err := splitRow(it.Value())
		if err != nil {
			return err
		}
		if !yield(bus.Row{RowKey: key, Value: bytes.Clone(value), Version: version}) {
			return nil
		}
	}
	if err := it.Error(); err != nil {
		return s.readError(err)
	}
	return nil
}

// topicLog returns the log of a topic. s.mu is held.
func (s *Store) topicLog(topic string) *topicLog {
	l, found := s.logs[topic]
	if !found {
		l = &topicLog{grown: make(chan struct{})}
		s.logs[topic] = l
	}
	return l
}

// position returns what a role has finished of a topic. s.mu is held.
func (s *Store) position(role bus.Role, topic string) *bus.Position {
	key := positionKey{role, topic}
	p, found := s.positions[key]
	if !found {
		p = new(bus.Position)
		s.positions[key] = p
	}
	return p
}

// Barrier implements bus.Driver.
func (s *Store) Barrier(ctx context.Context) error {
	return s.batchAt.wait(ctx, s.serial.Load())
}

// readError says of an error whether the store was closed.
func (s *Store) readError(err error) error {
	if errors.Is(err, pebble.ErrClosed) {
		return bus.ErrClosed
	}
	if pebble.IsCorruptionError(err) {
		err = fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return &readFailure{err}
}

// readFailure is a store that does not give what it holds. It says nothing about the input that was to be handled, which
// must not be set aside for it: the kind makes it wait.
type readFailure struct{ cause error }

func (e *readFailure) Error() string   { return "read the store: " + e.cause.Error() }
func (e *readFailure) Unwrap() error   { return e.cause }
func (*readFailure) FaultKind() string { return "unavailable" }

// Close ends the committing and closes the database. What was submitted before is still committed.
func (s *Store) Close() error {
	s.closed.Do(func() {
		s.submitting.Lock()
		close(s.closing)
		s.submitting.Unlock()
		s.done.Wait()
		s.closeErr = errors.Join(s.db.Close(), s.lock.Close())
	})
	return s.closeErr
}

// durable is a number that only grows, and that one can wait for.
type durable struct {
	mu   sync.Mutex
	at   uint64
	grew chan struct{}
}

func newDurable() *durable { return &durable{grew: make(chan struct{})} }

func (d *durable) reach(at uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = at
	close(d.grew)
	d.grew = make(chan struct{})
}

func (d *durable) wait(ctx context.Context, at uint64) error {
	for {
		d.mu.Lock()
		there, grew := d.at >= at, d.grew
		d.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-grew:
		case <-ctx.Done():
			return fmt.Errorf("wait for the disk: %w", ctx.Err())
		}
	}
}

const trimEvery = 5 * time.Second
