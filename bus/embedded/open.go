package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

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
	// Metrics may be nil.
	Metrics prometheus.Registerer
	// Fatal is called when the store can't go on (an fsync failed, the disk is full). It must not return.
	Fatal func(error)
	// MemTable is the size of one memtable and Cache that of the block cache, in octets; 0 means 32 MiB and 16 MiB. They
	// share one budget of Cache + 2 x MemTable: while writes come so fast that more memtables are full than being written
	// out, the cache gives way to them, up to four.
	MemTable uint64
	Cache    int64
}

// format is the version of the layout. A store of a later one is refused, one of an earlier one brought up to it.
const format = 2

// Open opens or makes a store, and holds its directory until Close.
func Open(o Options) (*Store, error) {
	o.fill()
	dir := filepath.Join(o.Dir, storeDir)
	if err := o.FS.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	lock, err := pebble.LockDirectory(dir, o.FS)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInUse, o.Dir, err)
	}
	db, err := openDatabase(dir, lock, o)
	if err != nil {
		return nil, errors.Join(openError(o.Dir, err), lock.Close())
	}
	s := &Store{
		db: db, lock: lock, fs: o.FS, topics: make(map[string]bus.Definition), log: o.Log, fatal: o.Fatal,
		submitted: make(chan *bus.Step, 4096), applied: make(chan group, 4), closing: make(chan struct{}),
		metrics: newMetrics(o.Metrics), batchAt: newDurable(), logs: make(map[string]*topicLog), positions: make(map[positionKey]*bus.Position),
	}
	for _, d := range o.Topics {
		s.topics[d.Name] = d
	}
	if s.blobs, err = openBlobs(o.FS, filepath.Join(o.Dir, blobDir)); err == nil {
		// Pebble syncs what is in its directory; that the directory itself is there is for us to sync.
		err = errors.Join(syncDir(o.FS, o.Dir), syncDir(o.FS, o.FS.PathDir(o.Dir)))
	}
	if err == nil {
		err = s.load()
	}
	if err != nil {
		return nil, errors.Join(openError(o.Dir, err), db.Close(), lock.Close())
	}
	s.done.Go(s.commitLoop)
	s.done.Go(s.syncLoop)
	s.done.Go(s.trimLoop)
	return s, nil
}

// Directories below Options.Dir.
const (
	storeDir = "store"
	blobDir  = "blobs"
)

func (o *Options) fill() {
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
}

func openDatabase(dir string, lock *pebble.Lock, o Options) (*pebble.DB, error) {
	if err := checkManifest(o.FS, dir); err != nil {
		return nil, err
	}
	cache := pebble.NewCache(o.Cache + 2*int64(o.MemTable)) // Pebble takes the memtables' memory from it
	defer cache.Unref()
	return pebble.Open(dir, &pebble.Options{
		FS: ordered{o.FS}, Lock: lock, Cache: cache, MemTableSize: o.MemTable, MemTableStopWritesThreshold: 4,
		FormatMajorVersion: pebble.FormatNewest, Logger: pebbleLog{o.Log, o.Fatal},
		MaxOpenFiles: 256,
		EventListener: &pebble.EventListener{DataCorruption: func(info pebble.DataCorruptionInfo) {
			o.Fatal(fmt.Errorf("%s: %w: %w", info.Path, errCorrupt, info.Details))
		}},
	})
}

// ErrInUse is Open of a store that a process, this one perhaps, has open.
var ErrInUse = errors.New("the store is in use by another process")

// errNewer is a store that a later release has written.
var errNewer = errors.New("the store was written by a later release: use that release, or restore a backup of this one")

// openError says of an error of opening what can be done about it.
func openError(dir string, err error) error {
	switch {
	case errors.Is(err, errNewer), errors.Is(err, errCorrupt):
	case strings.Contains(err.Error(), "unknown format major version"): // Pebble has no value for it
		err = fmt.Errorf("%w: %w", errNewer, err)
	case pebble.IsCorruptionError(err), errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return fmt.Errorf("open the store in %s: %w", dir, err)
}

// load reads the format, the serial number, the ends of topics and the positions.
func (s *Store) load() error {
	switch v, err := s.meta("format"); {
	case err != nil:
		return err
	case v == 1:
		if err := s.nameKindsByPartition(); err != nil {
			return fmt.Errorf("bring the store up to format %d: %w", format, err)
		}
	case v == 0:
		if err := s.db.Set(metaKey("format"), encodeUint(format), pebble.Sync); err != nil {
			return fmt.Errorf("write the format: %w", err)
		}
	case v != format:
		return fmt.Errorf("%w: its format is %d and the last that this release knows is %d", errNewer, v, format)
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
		role, topic, _ := bytes.Cut(key[1:], []byte{0})
		p := new(bus.Position)
		s.positions[positionKey{bus.Role(role), string(topic)}] = p
		if err := p.UnmarshalBinary(value); err != nil {
			return fmt.Errorf("%w: position: %w", errCorrupt, err)
		}
		return nil
	})
}

// nameKindsByPartition takes format 1 to 2, in which the bus names the partition in its own kinds of rows.
func (s *Store) nameKindsByPartition() error {
	batch := s.db.NewBatch()
	defer func() { _ = batch.Close() }()
	for _, kind := range []string{"_timer:", "_held:", "_expiry:"} {
		if err := s.each(appendEscaped([]byte{prefixState}, kind), func(key, value []byte) error {
			k, err := splitRowKey(key)
			if err != nil {
				return err
			}
			k.Kind += "/0"
			return errors.Join(batch.Delete(key, nil), batch.Set(rowKey(k), value, nil))
		}); err != nil {
			return err
		}
	}
	if err := batch.Set(metaKey("format"), encodeUint(format), nil); err != nil {
		return err
	}
	return batch.Commit(pebble.Sync)
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
