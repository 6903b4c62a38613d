package distributed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hawser-project/hawser/bus"
)

// Own implements bus.Driver.
func (d *Driver) Own(ctx context.Context, role bus.Role, run func(ctx context.Context, o *bus.Ownership)) error {
	if !slices.Contains(d.o.Roles, role) {
		return fmt.Errorf("role %s has no partitions in this cluster", role)
	}
	if !d.enter() {
		return bus.ErrClosed
	}
	defer d.owning.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.closing, cancel)()
	o := &owning{d: d, role: role, run: run, held: make(map[int32]*partition)}
	d.member.stand(role, true)
	err := o.loop(ctx)
	d.member.stand(role, false)
	o.giveUpAll()
	return err
}

// owning is this process as a candidate for the partitions of a role.
type owning struct {
	d    *Driver
	role bus.Role
	run  func(ctx context.Context, o *bus.Ownership)

	mu   sync.Mutex
	held map[int32]*partition // until their rows are released
	work sync.WaitGroup
}

// loop takes and gives up partitions after each look at the tables.
func (o *owning) loop(ctx context.Context) error {
	for {
		v, refreshed := o.d.member.now()
		err := o.balance(ctx, v)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !passing(err):
			return fmt.Errorf("take partitions of role %s: %w", o.role, err)
		case err != nil:
			o.d.log.WarnContext(ctx, "partitions can't be taken now", "role", o.role, "error", err)
		}
		select {
		case <-refreshed:
		case <-ctx.Done():
			return nil
		}
	}
}

// checkOwned finds partitions that somebody else has taken while this process had nothing to commit to them.
func (d *Driver) checkOwned(v *view) {
	for _, p := range d.all() {
		list := v.partitions[p.owner.Role]
		if v.asked.After(p.taken) && int(p.id) < len(list) && list[p.id].epoch != int64(p.owner.Epoch) {
			d.lost(p, bus.ErrLost)
		}
	}
}

func (o *owning) snapshot() map[int32]*partition {
	o.mu.Lock()
	defer o.mu.Unlock()
	held := make(map[int32]*partition, len(o.held))
	for id, p := range o.held {
		held[id] = p
	}
	return held
}

// balance brings what this process holds to its share.
func (o *owning) balance(ctx context.Context, v *view) error {
	held := o.snapshot()
	share := shareOf(v, o.role, o.d.member.id)
	var kept []int32
	for id, p := range held {
		if p.run.Err() == nil {
			kept = append(kept, id)
		}
	}
	slices.Sort(kept)
	for len(kept) > share {
		id := kept[len(kept)-1]
		kept = kept[:len(kept)-1]
		held[id].stop(errMoved)
	}
	missing := share - len(kept)
	if missing <= 0 {
		return nil
	}
	for _, id := range free(v, o.role, o.d.member.id, int(o.d.member.self().Number)) {
		if missing == 0 || ctx.Err() != nil {
			break
		}
		if _, mine := held[id]; mine {
			continue
		}
		taken, err := o.take(ctx, id)
		if err != nil {
			return err
		}
		if taken {
			missing--
		}
	}
	return nil
}

var errMoved = errors.New("the partition is to be another process's")

// shareOf returns how many partitions of a role a process is to have. The shares differ by one at most; the greater ones are
// of those that own most now, so that as few partitions as possible move.
func shareOf(v *view, role bus.Role, id int64) int {
	owned := make(map[int64]int)
	for _, p := range v.partitions[role] {
		owned[p.owner]++
	}
	var candidates []memberRow
	for _, m := range v.members {
		if slices.Contains(m.candidate, string(role)) {
			candidates = append(candidates, m)
		}
	}
	slices.SortStableFunc(candidates, func(a, b memberRow) int {
		if owned[a.id] != owned[b.id] {
			return owned[b.id] - owned[a.id]
		}
		return int(a.instance.Number) - int(b.instance.Number)
	})
	for i, m := range candidates {
		if m.id == id {
			share := len(v.partitions[role]) / len(candidates)
			if i < len(v.partitions[role])%len(candidates) {
				share++
			}
			return share
		}
	}
	return 0 // not yet seen as a candidate
}

// free lists the partitions without a living owner, from a different one on for each process, so that several that come at
// once seldom want the same.
func free(v *view, role bus.Role, id int64, number int) (list []int32) {
	for _, p := range v.partitions[role] {
		// What this process owns and does not hold, it could not release.
		if _, alive := v.member(p.owner); !alive || p.owner == id {
			list = append(list, p.id)
		}
	}
	if n := len(list); n > 0 {
		at := number % n
		list = append(slices.Clone(list[at:]), list[:at]...)
	}
	return list
}

// takenRow is the row of a partition as it was taken.
type takenRow struct {
	epoch, commits, next int64
	positions            []byte
	taken                time.Time
}

// take makes a partition this process's, unless somebody else was faster.
func (o *owning) take(ctx context.Context, id int32) (bool, error) {
	var row takenRow
	err := o.d.pool.QueryRow(ctx, o.d.schemas.sql(sqlTake, string(o.role)), id, o.d.member.id).
		Scan(&row.epoch, &row.commits, &row.next, &row.positions)
	row.taken = time.Now() // a view that is asked for later shows this epoch or a later one
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("take partition %d: %w", id, err)
	}
	m, err := decodeMemory(row.positions)
	if err != nil {
		return false, fmt.Errorf("partition %d of role %s: %w", id, o.role, err)
	}
	p := newPartition(o.d, o.role, id, row, m)
	o.mu.Lock()
	o.held[id] = p
	o.mu.Unlock()
	o.d.add(p)
	o.d.metrics.moves.WithLabelValues(string(o.role)).Inc()
	o.d.log.InfoContext(ctx, "partition taken", "role", o.role, "partition", id, "epoch", row.epoch)
	o.work.Go(func() { o.hold(ctx, p) })
	return true, nil
}

// hold does the work of a partition until it is given up.
func (o *owning) hold(ctx context.Context, p *partition) {
	defer context.AfterFunc(ctx, func() { p.stop(context.Cause(ctx)) })()
	if err := o.d.sendLeft(p); err == nil {
		go p.commitLoop()
		stop := p.endInTime()
		o.run(p.run, p.owner)
		stop()
		close(p.drain)
		o.await(p)
	} else {
		if p.alive.Err() == nil && p.run.Err() == nil {
			o.d.log.Error("a partition can't be taken up", "role", o.role, "partition", p.id, "error", err)
		}
		p.refuse()
	}
	o.d.remove(p)
	o.release(p)
	p.kill(bus.ErrLost)
	o.mu.Lock()
	delete(o.held, p.id)
	o.mu.Unlock()
	o.d.member.kick()
}

// endInTime has what is still being committed given up when a partition that is to be given up takes too long: handlers that
// wait for a database that is away must not keep the process from ending.
func (p *partition) endInTime() (stop func() bool) {
	return context.AfterFunc(p.run, func() {
		timer := time.NewTimer(giveUpTime)
		defer timer.Stop()
		select {
		case <-timer.C:
			p.kill(bus.ErrClosed)
		case <-p.drain:
		case <-p.done:
		}
	})
}

// await waits for the last commits; not for ever, for a process must be able to end without the database.
func (o *owning) await(p *partition) {
	timer := time.NewTimer(giveUpTime)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.kill(bus.ErrClosed)
		<-p.done
	}
}

// release makes the partition free for others. If that fails, they have it when this process's lease has ended, or see
// that it does not claim it.
func (o *owning) release(p *partition) {
	if errors.Is(context.Cause(p.alive), bus.ErrLost) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.alive), time.Second)
	defer cancel()
	err := o.d.persist(ctx, "release a partition", func(ctx context.Context) error {
		_, err := o.d.pool.Exec(ctx, o.d.schemas.sql(sqlRelease, p.role), p.id, int64(p.owner.Epoch))
		if err == nil {
			err = o.d.member.tell(ctx, o.d.pool)
		}
		return err
	})
	if err != nil {
		o.d.log.Warn("a partition could not be released", "role", o.role, "partition", p.id, "error", err)
	}
}

func (o *owning) giveUpAll() {
	for _, p := range o.snapshot() {
		p.stop(context.Canceled)
	}
	o.work.Wait()
}

// sendLeft gives the producer what earlier owners have committed and Kafka may not have, before anything that this one
// commits: the producer keeps the order.
func (d *Driver) sendLeft(p *partition) error {
	type left struct {
		first, last, epoch int64
		records            []byte
	}
	var rows []left
	err := d.persist(p.run, "read what is to be sent", func(ctx context.Context) error {
		found, err := d.pool.Query(ctx, d.schemas.sql(sqlLeft, p.role), p.id)
		if err != nil {
			return err
		}
		rows, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (l left, err error) {
			return l, row.Scan(&l.first, &l.last, &l.epoch, &l.records)
		})
		return err
	})
	if err != nil {
		return err
	}
	for _, l := range rows {
		records, err := decodeOutbox(l.records, uint64(l.first))
		if err != nil {
			return err
		}
		if int64(len(records)) != l.last-l.first+1 {
			return fmt.Errorf("the row of records from %d to %d has %d", l.first, l.last, len(records))
		}
		p.send(records, uint64(l.epoch))
	}
	return d.persist(p.run, "forget old epochs", func(ctx context.Context) error { return d.forgetEpochs(ctx, p) })
}

// epochAge is twice the retention of topics.
const epochAge = 2 * retention * time.Millisecond

// forgetEpochs drops epochs of which Kafka has no record any more.
func (d *Driver) forgetEpochs(ctx context.Context, p *partition) error {
	_, err := d.pool.Exec(ctx, d.schemas.sql(sqlForget, p.role), p.id, epochAge)
	return err
}
