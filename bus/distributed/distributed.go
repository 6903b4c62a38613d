// Package distributed is the bus driver for several processes: records in Apache Kafka, everything else in PostgreSQL. What
// Done was told of survives kill -9 of any process and the loss of power of a broker or of the database's machine, as far as
// PostgreSQL commits synchronously and Kafka has min.insync.replicas (Init sets it).
//
// # What is stored before what is sent
//
// Each partition of a role's keys is one row in PostgreSQL: owner, epoch, number of commits, next sequence, positions. A
// step's transaction
//
//  1. moves that row on, where epoch and number of commits are what the owner knows, and fails otherwise;
//  2. writes the rows of keyed state;
//  3. puts the records into the outbox, numbered on from the row's next sequence.
//
// After the commit, and never before, the records go to Kafka, each with its source, epoch and sequence; when Kafka has
// acknowledged them they leave the outbox. So:
//
//   - Nothing is lost. What is committed is in the outbox until Kafka has it, and a new owner sends what is left there before
//     its own. What is not committed is not in the position, and is read again.
//   - Nothing is done twice. An owner that does not know yet that there is another moves the row of an epoch that is not its
//     own, and fails as a whole (1). Records that are sent twice, by a try whose answer was lost or by the next owner, have
//     the same sequence: the reader keeps the highest of each source as of its position, in the same row as that position,
//     and drops the rest. As of its position, not of what it has read: a record that was read and not finished must count
//     as new for the next owner.
//   - Nothing is reordered. Steps commit in one goroutine per partition and their records go to the producer in the order of
//     commits. For one source and one target (partition of a topic) a batch of records is under way at a time, whole or not
//     at all, and the next is sent when it is acknowledged (produce.go says why that is needed). What is left from an
//     earlier owner goes into the same queue first.
//
// The interleavings that make this necessary:
//
//	old owner pauses; lease ends; new owner takes the row (epoch 2), sends what is left; old owner wakes and
//	 - commits: the row has epoch 2, the transaction fails, the partition is lost;
//	 - has committed just before, and sends: the record was left in the outbox, the new owner has sent it too; the second
//	   one is dropped by its sequence, whichever of the two it is, for both senders send 11 before 12;
//	 - has a commit under way while the row is taken: the row's lock puts one after the other. Either the commit is first
//	   and taking sees its records in the outbox, or the epoch is first and the commit fails.
//
//	the connection breaks during a commit: it may be committed, not committed, or still be about to. The owner looks at the
//	row with its lock. Number of commits as it was: not committed, and if it comes later it fails, for the next try has moved
//	the row. One more, with the number of the try: committed. Anything else: lost.
//
//	the database is restored to an earlier time, Kafka is not: epochs begin with the time of day, so a new one is higher
//	than any that the database has forgotten. A reader lists the end of its topic when it takes over and then reads the
//	history of epochs of the sources. What lies below that end and is not in the history was committed by a future that is
//	undone. It is void. What lies above was committed by those who live now: workers are stopped for a restore.
//
// Compacted topics are tables of PostgreSQL, and their records hints to read them again (table.go says why): what is said
// above of order holds for them by the transaction alone.
//
// Owners are found by leases in PostgreSQL and not by Kafka's consumer groups: roles without topics have keys too, the fence
// is in PostgreSQL anyhow, and there is one truth. Offsets are committed to Kafka as a hint for tools that show lags.
//
// # Map
//
//	options.go init.go migrate.go acls.go   what an operator sees
//	member.go own.go                        who is alive, who owns what
//	partition.go commit.go changes.go       an owned partition and its committer
//	outbox.go produce.go batch.go           from the commit to Kafka
//	read.go fetch.go track.go position.go   from Kafka to the position
//	table.go                                compacted topics
//	state.go blobs.go lags.go               the rest of bus.Driver
//	sql.go postgres.go kafka.go             statements and connections
//
// Locks: Driver.mu, partition.mu, outbox.mu, producer.mu, member.mu and those of cursors are leaves: nobody holds two of
// them. partition.submitting is held for reading while a step is put into the queue, which the committer empties.
package distributed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hawser-project/hawser/bus"
)

// Driver is a bus.Driver on Kafka and PostgreSQL, and a bus.Placement.
type Driver struct {
	o          Options
	log        *slog.Logger
	metrics    *metrics
	pool       *pgxpool.Pool
	schemas    *schemas
	topics     map[string]bus.Definition
	partitions int32

	kafka    *kgo.Client
	admin    *kadm.Client
	producer *producer
	fetcher  *fetcher
	member   *member
	lags     *lagCache
	heavy    chan struct{} // scans that hold a connection while the caller works

	closing context.Context // ends when Close begins
	close   context.CancelFunc
	closed  sync.Once
	tasks   sync.WaitGroup // until closing
	owning  sync.WaitGroup // calls of Own
	sending context.CancelFunc
	sent    sync.WaitGroup
	alone   chan struct{} // steps without owner that are under way

	mu    sync.Mutex
	owned map[*bus.Ownership]*partition
}

var (
	_ bus.Driver    = (*Driver)(nil)
	_ bus.Placement = (*Driver)(nil)
)

// maxAlone bounds the steps without owner that are under way.
const maxAlone = 256

// Open joins this process to a cluster that Init has made. It fails when Kafka or PostgreSQL can't be reached.
func Open(ctx context.Context, o Options) (*Driver, error) {
	if err := o.fill(); err != nil {
		return nil, fmt.Errorf("bus options: %w", err)
	}
	d := &Driver{
		o: o, log: o.Log, metrics: newMetrics(o.Metrics), schemas: newSchemas(o.Postgres.Prefix).with(o.migrations),
		topics: make(map[string]bus.Definition), owned: make(map[*bus.Ownership]*partition),
		heavy: make(chan struct{}, max(1, o.Postgres.Pool/2)), alone: make(chan struct{}, maxAlone), lags: newLagCache(),
	}
	d.schemas.prepare(roleNames(o.Roles))
	for _, t := range o.Topics {
		d.topics[t.Name] = t
	}
	d.closing, d.close = context.WithCancel(context.WithoutCancel(ctx))
	err := d.connect(ctx)
	if err == nil {
		err = d.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the bus: %w", err), d.Close())
	}
	return d, nil
}

func (d *Driver) connect(ctx context.Context) (err error) {
	if d.pool, err = openPool(d.closing, d.o.Postgres); err != nil {
		return err
	}
	if d.kafka, err = openKafka(d.o.Kafka, d.log); err != nil {
		return err
	}
	d.admin = kadm.NewClient(d.kafka)
	if d.partitions, err = check(ctx, d.o, d.pool, d.kafka); err != nil {
		if err = d.bringUp(ctx, err); err == nil {
			d.partitions, err = check(ctx, d.o, d.pool, d.kafka)
		}
	}
	return err
}

// start begins what runs until Close, and waits until this process is a member.
func (d *Driver) start(ctx context.Context) error {
	d.producer = newProducer(d.kafka, d.o.topic, d.log, d.metrics)
	d.fetcher = newFetcher(d)
	d.member = newMember(d)
	// The producer goes on while partitions are given up.
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d.sending = cancel
	d.sent.Go(func() { d.producer.run(sending) })
	joined := make(chan struct{})
	// So does the membership: partitions are released before the process leaves.
	d.sent.Go(func() { d.member.run(sending, joined) })
	d.tasks.Go(d.keepHouse)
	select {
	case <-joined:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("join the cluster: %w", ctx.Err())
	}
}

// Close implements bus.Driver. It waits for Own to return: what it gave is given up first.
func (d *Driver) Close() error {
	d.closed.Do(func() {
		d.close()
		d.mu.Lock()   // nobody enters any more
		d.mu.Unlock() //nolint:staticcheck // it is for those who were inside
		d.owning.Wait()
		d.tasks.Wait()
		if d.fetcher != nil {
			d.fetcher.close()
		}
		if d.sending != nil {
			d.sending()
		}
		d.sent.Wait()
		if d.kafka != nil {
			d.kafka.Close()
		}
		if d.pool != nil {
			d.pool.Close()
		}
	})
	return nil
}

// Partitions implements bus.Driver.
func (d *Driver) Partitions(bus.Role) int32 { return d.partitions }

// Barrier implements bus.Driver. Reads see nothing that is not committed.
func (d *Driver) Barrier(context.Context) error {
	if d.closing.Err() != nil {
		return bus.ErrClosed
	}
	return nil
}

func (d *Driver) compacted(topic string) bool { return d.topics[topic].Compacted }

// readBy lists the topics that a role reads and whose positions it keeps.
func (d *Driver) readBy(role bus.Role) (topics []string) {
	for _, t := range d.o.Topics {
		if !t.Compacted && slices.Contains(t.To, role) {
			topics = append(topics, t.Name)
		}
	}
	return topics
}

// enter counts a call of Own in, unless the driver is being closed.
func (d *Driver) enter() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closing.Err() != nil {
		return false
	}
	d.owning.Add(1)
	return true
}

func (d *Driver) add(p *partition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.owned[p.owner] = p
}

func (d *Driver) remove(p *partition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.owned, p.owner)
}

func (d *Driver) find(o *bus.Ownership) (*partition, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, found := d.owned[o]
	return p, found
}

func (d *Driver) all() (list []*partition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.owned {
		list = append(list, p)
	}
	return list
}

// lost ends an ownership that is not ours any more.
func (d *Driver) lost(p *partition, why error) {
	if p.alive.Err() != nil {
		return
	}
	if errors.Is(why, bus.ErrLost) {
		d.metrics.lost.WithLabelValues(p.role).Inc()
		d.log.Warn("partition lost: it has another owner, or its state is not as this process left it", "role", p.role, "partition", p.id, "epoch", p.owner.Epoch)
	}
	p.lose(why)
}

const houseEvery = 5 * time.Second

// keepHouse does what nobody waits for.
func (d *Driver) keepHouse() {
	for n := 0; pause(d.closing, houseEvery); n++ {
		d.hintOffsets()
		if n%720 == 0 { // an hour
			if _, err := d.pool.Exec(d.closing, d.schemas.sql(sqlBlobsCleanUp, "")); err != nil && d.closing.Err() == nil {
				d.log.Warn("unfinished blobs can't be dropped now", "error", err)
			}
		}
		d.gauge()
	}
}

func (d *Driver) gauge() {
	records, age := make(map[string]int), make(map[string]time.Duration)
	for _, role := range d.o.Run {
		records[string(role)] = 0
	}
	for _, p := range d.all() {
		n, oldest := p.outbox.depth()
		records[p.role] += n
		age[p.role] = max(age[p.role], oldest)
	}
	for role, n := range records {
		d.metrics.outbox.WithLabelValues(role).Set(float64(n))
		d.metrics.outboxAge.WithLabelValues(role).Set(age[role].Seconds())
	}
}
