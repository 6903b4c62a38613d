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
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hawser-project/hawser/bus"
)

// Options say where a store is and how much memory it may use.
type Options struct {
	Dir string
	// FS is the file system; nil is the machine's.
	FS vfs.FS
	// Topics are the declared topics: which are compacted, and who must have finished a record before it is dropped.
	Topics []bus.Definition
	Log    *slog.Logger
	// Fatal is called when the store can't go on (an fsync failed, the disk is full). It must not return.
	Fatal func(error)
	// MemTable and Cache are in octets; 0 means 32 MiB and 16 MiB.
	MemTable uint64
	Cache    int64
}

// format is the version of the layout. A store of a later one is refused.
const format = 1

// Store is a bus.Driver on one Pebble database.
type Store struct {
	db     *pebble.DB
	blobs  *blobs
	topics map[string]bus.Definition
	log    *slog.Logger
	fatal  func(error)

	// submitting is held by Submit for reading, so that nothing is handed in after closing is closed.
	submitting sync.RWMutex
	submitted  chan *bus.Step
	applied    chan group
	closing    chan struct{}
	closed     sync.Once
	done       sync.WaitGroup
	closeErr   error

	serial  atomic.Uint64 // of the last applied batch
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

type positionKey struct{ consumer, topic string }

// Open opens or makes a store, and holds its directory until Close.
func Open(o Options) (*Store, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Fatal == nil {
		o.Fatal = func(err error) { panic("bus/embedded: " + err.Error()) }
	}
	if o.MemTable == 0 {
		o.MemTable = 32 << 20
	}
	if o.Cache == 0 {
		o.Cache = 16 << 20
	}
	if err := o.FS.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	cache := pebble.NewCache(o.Cache)
	defer cache.Unref()
	db, err := pebble.Open(filepath.Join(o.Dir, "store"), &pebble.Options{
		FS: o.FS, Cache: cache, MemTableSize: o.MemTable, MemTableStopWritesThreshold: 4,
		FormatMajorVersion: pebble.FormatNewest, Logger: pebbleLog{o.Log, o.Fatal},
		MaxOpenFiles: 256,
	})
	if err != nil {
		return nil, fmt.Errorf("open the store in %s (is another process using it?): %w", o.Dir, err)
	}
	s := &Store{
		db: db, topics: make(map[string]bus.Definition), log: o.Log, fatal: o.Fatal,
		submitted: make(chan *bus.Step, 4096), applied: make(chan group, 4), closing: make(chan struct{}),
		batchAt: newDurable(), logs: make(map[string]*topicLog), positions: make(map[positionKey]*bus.Position),
	}
	for _, d := range o.Topics {
		s.topics[d.Name] = d
	}
	if s.blobs, err = openBlobs(o.FS, filepath.Join(o.Dir, "blobs")); err == nil {
		// Pebble syncs what is in its directory; that the directory itself is there is for us to sync.
		err = errors.Join(syncDir(o.FS, o.Dir), syncDir(o.FS, o.FS.PathDir(o.Dir)))
	}
	if err == nil {
		err = s.load()
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s.done.Go(s.commitLoop)
	s.done.Go(s.syncLoop)
	s.done.Go(s.trimLoop)
	return s, nil
}

// load reads the format, the serial number, the ends of topics and the positions.
func (s *Store) load() error {
	switch v, err := s.meta("format"); {
	case err != nil:
		return err
	case v == 0:
		if err := s.db.Set(metaKey("format"), encodeUint(format), pebble.Sync); err != nil {
			return fmt.Errorf("write the format: %w", err)
		}
	case v != format:
		return fmt.Errorf("the store has format %d and this release knows %d: use the release that wrote it", v, format)
	}
	serial, err := s.meta("serial")
	if err != nil {
		return err
	}
	s.serial.Store(serial)
	s.batchAt.reach(serial)
	if err := s.each([]byte{prefixEnd}, func(key, value []byte) error {
		end, err := decodeUint(value)
		s.logs[string(key[1:])] = &topicLog{next: end, durable: end, grown: make(chan struct{})}
		return err
	}); err != nil {
		return err
	}
	return s.each([]byte{prefixPosition}, func(key, value []byte) error {
		consumer, topic, _ := bytes.Cut(key[1:], []byte{0})
		p := new(bus.Position)
		s.positions[positionKey{string(consumer), string(topic)}] = p
		return p.UnmarshalBinary(value)
	})
}

func (s *Store) meta(name string) (uint64, error) {
	value, closer, err := s.db.Get(metaKey(name))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	defer func() { _ = closer.Close() }()
	return decodeUint(value)
}

// each calls fn for every key with the prefix.
func (s *Store) each(prefix []byte, fn func(key, value []byte) error) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	defer func() { _ = it.Close() }()
	for valid := it.First(); valid; valid = it.Next() {
		if err := fn(bytes.Clone(it.Key()), it.Value()); err != nil {
			return fmt.Errorf("key %x: %w", it.Key(), err)
		}
	}
	return it.Error()
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
		version, value, err := splitRow(it.Value())
		if err != nil {
			return err
		}
		if !yield(bus.Row{RowKey: key, Value: bytes.Clone(value), Version: version}) {
			return nil
		}
	}
	return it.Error()
}

// Read implements bus.Driver. The embedded driver has one partition per topic.
func (s *Store) Read(_ context.Context, topic string, _ int32, from uint64, limit int) ([]bus.Record, error) {
	end, _ := s.End(topic, 0)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: recordKey(topic, from), UpperBound: recordKey(topic, end)})
	if err != nil {
		return nil, s.readError(err)
	}
	defer func() { _ = it.Close() }()
	var records []bus.Record
	for valid := it.First(); valid && len(records) < limit; valid = it.Next() {
		r, err := decodeRecord(it.Value())
		if err != nil {
			return nil, fmt.Errorf("record %x: %w", it.Key(), err)
		}
		r.Topic, r.Offset = topic, offsetOf(it.Key())
		records = append(records, r)
	}
	return records, it.Error()
}

// End implements bus.Driver.
func (s *Store) End(topic string, _ int32) (uint64, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.topicLog(topic)
	return l.durable, l.grown
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

// Position implements bus.Driver.
func (s *Store) Position(consumer, topic string, _ int32) (bus.Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.position(consumer, topic).Clone(), nil
}

// position returns the position of a consumer. s.mu is held.
func (s *Store) position(consumer, topic string) *bus.Position {
	key := positionKey{consumer, topic}
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
	return fmt.Errorf("read the store: %w", err)
}

// Close ends the committing and closes the database. What was submitted before is still committed.
func (s *Store) Close() error {
	s.closed.Do(func() {
		s.submitting.Lock()
		close(s.closing)
		s.submitting.Unlock()
		s.done.Wait()
		s.closeErr = s.db.Close()
	})
	return s.closeErr
}

// pebbleLog hands Pebble's messages on. Pebble calls Fatalf when the write-ahead log can't be written or synced.
type pebbleLog struct {
	log   *slog.Logger
	fatal func(error)
}

func (l pebbleLog) Infof(format string, args ...any) {
	l.log.Debug("store", "detail", fmt.Sprintf(format, args...))
}

func (l pebbleLog) Errorf(format string, args ...any) {
	l.log.Error("store", "detail", fmt.Sprintf(format, args...))
}

func (l pebbleLog) Fatalf(format string, args ...any) {
	l.fatal(fmt.Errorf("the store can't go on: "+format, args...))
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
