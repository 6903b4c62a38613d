package distributed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hawser-project/hawser/bus"
)

// member is this process among the others: it says that it is alive, and keeps a view of who else is and who owns what.
// It has a connection of its own, so that neither waits for the pool.
type member struct {
	d  *Driver
	id int64 // random, and this process's alone

	mu         sync.Mutex
	number     uint16
	candidates map[bus.Role]struct{}
	view       *view
	changed    chan struct{} // closed and replaced when the view has changed
	refreshed  chan struct{} // closed and replaced when it was read, changed or not
	interrupt  context.CancelFunc
	kicked     bool
	paused     bool // for tests: is silent, as a process that hangs
}

// view is what the tables said at one moment.
type view struct {
	asked      time.Time // before they were read
	members    []memberRow
	partitions map[bus.Role][]partitionRow // by number
}

type memberRow struct {
	id               int64
	instance         bus.Instance
	roles, candidate []string
}

type partitionRow struct {
	id    int32
	owner int64 // 0: nobody
	epoch int64
}

func (v *view) member(id int64) (memberRow, bool) {
	for _, m := range v.members {
		if m.id == id {
			return m, true
		}
	}
	return memberRow{}, false
}

func (v *view) same(o *view) bool {
	return slices.EqualFunc(v.members, o.members, func(a, b memberRow) bool {
		return a.id == b.id && a.instance == b.instance && slices.Equal(a.roles, b.roles) && slices.Equal(a.candidate, b.candidate)
	}) && maps.EqualFunc(v.partitions, o.partitions, slices.Equal)
}

func newMember(d *Driver) *member {
	return &member{
		d: d, id: rand.Int64N(1<<62) + 1, candidates: make(map[bus.Role]struct{}), view: &view{},
		changed: make(chan struct{}), refreshed: make(chan struct{}), interrupt: func() {},
	}
}

// run keeps the membership until ctx ends, and then leaves. joined is closed once the process has a number and a view.
func (m *member) run(ctx context.Context, joined chan<- struct{}) {
	once := sync.OnceFunc(func() { close(joined) })
	for ctx.Err() == nil {
		err := m.attend(ctx, once)
		if ctx.Err() != nil {
			return
		}
		m.d.log.Warn("the membership's connection to the database broke", "error", err)
		pause(ctx, 10*minBackoff)
	}
}

// attend works on one connection until it breaks.
func (m *member) attend(ctx context.Context, joined func()) error {
	config, err := pgx.ParseConfig(m.d.o.Postgres.URL.RevealString())
	if err != nil {
		return errors.New("the URL of PostgreSQL does not parse")
	}
	prepareConnection(config, m.d.o.Postgres)
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(end)
	}()
	if _, err := conn.Exec(ctx, "listen "+quote(m.d.schemas.prefix)); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for {
		if err := m.beat(ctx, conn); err != nil {
			return err
		}
		joined()
		if err := m.await(ctx, conn); err != nil {
			if ctx.Err() != nil {
				m.leave(context.WithoutCancel(ctx), conn)
			}
			return err
		}
	}
}

// await waits for the next beat: when it is time, when somebody has told of a change, or when this process has one.
func (m *member) await(ctx context.Context, conn *pgx.Conn) error {
	wait, cancel := context.WithTimeout(ctx, m.d.o.Heartbeat)
	defer cancel()
	m.mu.Lock()
	m.interrupt = cancel
	kicked := m.kicked
	m.kicked = false
	m.mu.Unlock()
	if kicked {
		return nil
	}
	_, err := conn.WaitForNotification(wait)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && wait.Err() == nil:
		return fmt.Errorf("wait for changes: %w", err)
	case err != nil && conn.IsClosed():
		return errors.New("the connection is closed")
	}
	return nil
}

// kick makes the next beat come at once.
func (m *member) kick() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kicked = true
	m.interrupt()
}

// beat renews the lease and reads the view.
func (m *member) beat(ctx context.Context, conn *pgx.Conn) error {
	// It is not broken off when the process stops: who leaves needs the connection.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.d.o.Lease)
	defer cancel()
	m.mu.Lock()
	candidate := make([]string, 0, len(m.candidates))
	for role := range m.candidates {
		candidate = append(candidate, string(role))
	}
	paused := m.paused
	m.mu.Unlock()
	slices.Sort(candidate)
	if paused {
		return nil
	}
	tag, err := conn.Exec(ctx, m.d.schemas.sql(sqlBeat, ""), m.id, m.d.o.Lease, candidate)
	if err != nil {
		return fmt.Errorf("renew the lease: %w", err)
	}
	if tag.RowsAffected() == 0 {
		if err := m.join(ctx, conn, candidate); err != nil {
			return err
		}
	}
	v, err := m.look(ctx, conn)
	if err != nil {
		return err
	}
	m.publish(v)
	return nil
}

// join makes the row of this process: a new one, or, where it was lost with the rest of the lease, that with the number that
// the process has had.
func (m *member) join(ctx context.Context, conn *pgx.Conn, candidate []string) error {
	o := m.d.o
	sql := m.d.schemas.sql
	args := []any{m.id, o.Name, o.Address, roleNames(o.Run), candidate, o.Lease}
	if args[3].([]string) == nil {
		args[3] = []string{}
	}
	if _, err := conn.Exec(ctx, sql(sqlBury, "")); err != nil {
		return fmt.Errorf("clean up after dead processes: %w", err)
	}
	had := m.self().Number
	for range 1 << 16 {
		statement, with := sqlJoin, args
		if had != 0 {
			statement, with = sqlRejoin, append(slices.Clone(args), int32(had))
		}
		var number int32
		err := conn.QueryRow(ctx, sql(statement, ""), with...).Scan(&number)
		if errors.Is(err, pgx.ErrNoRows) { // somebody has the number
			had = 0
			continue
		}
		if err != nil {
			return fmt.Errorf("join the cluster: %w", err)
		}
		m.mu.Lock()
		if m.number != 0 && m.number != uint16(number) {
			m.d.log.Error("this process was silent for so long that another has its number", "was", m.number, "is", number)
		}
		m.number = uint16(number)
		m.mu.Unlock()
		return m.tell(ctx, conn)
	}
	return errors.New("join the cluster: all numbers are taken")
}

type execer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// tell makes every process look at the tables.
func (m *member) tell(ctx context.Context, db execer) error {
	rows, err := db.Query(ctx, sqlTell, m.d.schemas.prefix)
	if err == nil {
		rows.Close()
		err = rows.Err()
	}
	if err != nil {
		return fmt.Errorf("tell of a change: %w", err)
	}
	return nil
}

// look reads the tables.
func (m *member) look(ctx context.Context, conn *pgx.Conn) (*view, error) {
	v := &view{asked: time.Now(), partitions: make(map[bus.Role][]partitionRow)}
	batch := new(pgx.Batch)
	batch.Queue(m.d.schemas.sql(sqlMembers, "")).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var r memberRow
			var number int32
			if err := rows.Scan(&r.id, &number, &r.instance.Name, &r.instance.Address, &r.roles, &r.candidate); err != nil {
				return err
			}
			r.instance.Number = uint16(number)
			v.members = append(v.members, r)
		}
		return rows.Err()
	})
	for _, role := range m.d.o.Roles {
		batch.Queue(m.d.schemas.sql(sqlPartitions, string(role))).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var r partitionRow
				var owner *int64
				if err := rows.Scan(&r.id, &owner, &r.epoch); err != nil {
					return err
				}
				if owner != nil {
					r.owner = *owner
				}
				v.partitions[role] = append(v.partitions[role], r)
			}
			return rows.Err()
		})
	}
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("read members and partitions: %w", err)
	}
	return v, nil
}

func (m *member) publish(v *view) {
	m.d.checkOwned(v)
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := !v.same(m.view)
	m.view = v
	close(m.refreshed)
	m.refreshed = make(chan struct{})
	if changed {
		close(m.changed)
		m.changed = make(chan struct{})
	}
}

func (m *member) leave(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := conn.Exec(ctx, m.d.schemas.sql(sqlLeave, ""), m.id); err == nil {
		_ = m.tell(ctx, conn)
	}
}

// stand adds a role to those whose partitions this process takes, or removes it.
func (m *member) stand(role bus.Role, candidate bool) {
	m.mu.Lock()
	if candidate {
		m.candidates[role] = struct{}{}
	} else {
		delete(m.candidates, role)
	}
	m.mu.Unlock()
	m.kick()
}

func (m *member) now() (v *view, refreshed <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.view, m.refreshed
}

func (m *member) self() bus.Instance {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bus.Instance{Number: m.number, Name: m.d.o.Name, Address: m.d.o.Address}
}

// Self returns this process as others see it.
func (d *Driver) Self() bus.Instance { return d.member.self() }

// Owner implements bus.Placement.
func (d *Driver) Owner(role bus.Role, partition int32) (bus.Instance, bool) {
	v, _ := d.member.now()
	list := v.partitions[role]
	if partition < 0 || int(partition) >= len(list) {
		return bus.Instance{}, false
	}
	m, alive := v.member(list[partition].owner)
	return m.instance, alive
}

// Instances implements bus.Placement.
func (d *Driver) Instances(role bus.Role) (list []bus.Instance) {
	v, _ := d.member.now()
	for _, m := range v.members {
		if slices.Contains(m.roles, string(role)) {
			list = append(list, m.instance)
		}
	}
	return list
}

// Changed implements bus.Placement.
func (d *Driver) Changed() <-chan struct{} {
	d.member.mu.Lock()
	defer d.member.mu.Unlock()
	return d.member.changed
}
