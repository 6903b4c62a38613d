package distributed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hawser-project/hawser/bus"
)

// Get implements bus.Driver.
//
// A cache has its place here: rows of keys in a partition that this process owns are written by its committer alone.
func (d *Driver) Get(ctx context.Context, key bus.RowKey) (value []byte, version uint64, err error) {
	var v int64
	err = d.read(ctx, "read a row", func(ctx context.Context) error {
		err := d.pool.QueryRow(ctx, d.schemas.sql(sqlGet, string(key.Role)), key.Kind, []byte(key.Key), []byte(key.Row)).Scan(&value, &v)
		if errors.Is(err, pgx.ErrNoRows) {
			value, v = nil, 0
			return nil
		}
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return value, uint64(v), nil
}

const (
	firstPage = 64
	laterPage = 512
	// heavyPatience is how long a scan of several pages waits for its turn before it makes a connection of its own.
	heavyPatience = time.Second
)

// Scan implements bus.Driver.
//
// A page is read in a transaction that sees one moment, so that the next page sees it too. While the caller works on a full
// page the transaction stays open; and what the caller does may be a read itself. So that connections held by callers who
// wait for connections can't use up the pool, at most half of it is held so, and who waits for that half too long gets a
// connection beside the pool. A scan that ends within its first page holds nothing.
func (d *Driver) Scan(ctx context.Context, in bus.Range, yield func(bus.Row) bool) error {
	s := &scan{d: d, in: in, next: begin(in)}
	return d.read(ctx, "scan rows", func(ctx context.Context) error {
		more, err := s.light(ctx, yield)
		if err != nil || !more {
			return s.outcome(err)
		}
		return s.outcome(s.heavy(ctx, yield))
	})
}

type scan struct {
	d       *Driver
	in      bus.Range
	next    place
	yielded bool // the caller has seen rows: the scan can't begin again
}

// place is where a page begins.
type place struct{ key, row string }

func begin(in bus.Range) place {
	if in.AllKeys {
		return place{key: max(in.Key, in.From)}
	}
	return place{key: in.Key, row: in.RowPrefix}
}

// outcome keeps a scan that has given rows from being begun again.
func (s *scan) outcome(err error) error {
	if err != nil && s.yielded && passing(err) {
		return &interrupted{unavailable{"scan rows", err}}
	}
	return err
}

// interrupted is a scan that broke off: for the caller it is unavailable, and nothing to be tried again here.
type interrupted struct{ unavailable }

// light does the scan if it ends within the first page, or in it.
func (s *scan) light(ctx context.Context, yield func(bus.Row) bool) (more bool, err error) {
	if !s.in.AllKeys { // most have few rows, and one statement is quicker than a transaction
		return s.onePage(ctx, yield)
	}
	select {
	case s.d.heavy <- struct{}{}:
		defer func() { <-s.d.heavy }()
	default:
		// Too many hold a connection. A scan of one page needs none while the caller works.
		return s.onePage(ctx, yield)
	}
	conn, err := s.d.pool.Acquire(ctx)
	if err != nil {
		return false, fmt.Errorf("get a connection: %w", err)
	}
	rows, err := s.page(ctx, conn.Conn(), firstPage, true)
	if err != nil {
		conn.Release()
		return false, err
	}
	if len(rows) < firstPage {
		// The end of the transaction is not waited for.
		go func() {
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptTime)
			defer cancel()
			_, _ = conn.Exec(end, "commit")
			conn.Release()
		}()
		s.give(rows, yield)
		return false, nil
	}
	defer conn.Release()
	return false, s.pages(ctx, conn.Conn(), rows, yield)
}

// onePage reads a page without a transaction, and reports true if there may be more: the scan is then to begin again.
func (s *scan) onePage(ctx context.Context, yield func(bus.Row) bool) (more bool, err error) {
	sql, args := s.statement(firstPage)
	found, err := s.d.pool.Query(ctx, sql, args...)
	if err != nil {
		return false, err
	}
	rows, err := s.collect(found)
	if err != nil {
		return false, err
	}
	if len(rows) == firstPage {
		return true, nil
	}
	s.give(rows, yield)
	return false, nil
}

// heavy does a scan of several pages when others do too.
func (s *scan) heavy(ctx context.Context, yield func(bus.Row) bool) error {
	timer := time.NewTimer(heavyPatience)
	defer timer.Stop()
	select {
	case s.d.heavy <- struct{}{}:
		defer func() { <-s.d.heavy }()
		conn, err := s.d.pool.Acquire(ctx)
		if err != nil {
			return fmt.Errorf("get a connection: %w", err)
		}
		defer conn.Release()
		return s.whole(ctx, conn.Conn(), yield)
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	conn, err := pgx.ConnectConfig(ctx, s.d.pool.Config().ConnConfig)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return s.whole(ctx, conn, yield)
}

func (s *scan) whole(ctx context.Context, conn *pgx.Conn, yield func(bus.Row) bool) error {
	rows, err := s.page(ctx, conn, firstPage, true)
	if err != nil {
		return err
	}
	return s.pages(ctx, conn, rows, yield)
}

// pages gives a first page and those after it.
func (s *scan) pages(ctx context.Context, conn *pgx.Conn, rows []bus.Row, yield func(bus.Row) bool) (err error) {
	for size := firstPage; ; size = laterPage {
		if !s.give(rows, yield) || len(rows) < size {
			break
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		last := rows[len(rows)-1]
		s.next = place{last.RowKey.Key, last.RowKey.Row + "\x00"}
		if rows, err = s.page(ctx, conn, laterPage, false); err != nil {
			return err
		}
	}
	_, err = conn.Exec(ctx, "commit")
	if ctx.Err() != nil {
		return nil // all is given; the connection is dropped
	}
	return err
}

// give hands rows to the caller, and reports whether they want more.
func (s *scan) give(rows []bus.Row, yield func(bus.Row) bool) bool {
	for _, r := range rows {
		s.yielded = true
		if !yield(r) {
			return false
		}
	}
	return true
}

// page reads rows from s.next on.
func (s *scan) page(ctx context.Context, conn *pgx.Conn, limit int, first bool) (list []bus.Row, err error) {
	batch := new(pgx.Batch)
	if first {
		batch.Queue("begin isolation level repeatable read read only")
	}
	sql, args := s.statement(limit)
	batch.Queue(sql, args...).Query(func(rows pgx.Rows) (err error) {
		list, err = s.collect(rows)
		return err
	})
	return list, conn.SendBatch(ctx, batch).Close()
}

func (s *scan) collect(rows pgx.Rows) ([]bus.Row, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r bus.Row, err error) {
		var key, name []byte
		var version int64
		err = row.Scan(&key, &name, &r.Value, &version)
		r.RowKey = bus.RowKey{Role: s.in.Role, Kind: s.in.Kind, Key: string(key), Row: string(name)}
		r.Version = uint64(version)
		return r, err
	})
}

// statement returns what reads a page.
func (s *scan) statement(limit int) (sql string, args []any) {
	role := string(s.in.Role)
	if s.in.AllKeys {
		args = []any{s.in.Kind, []byte(s.next.key), []byte(s.next.row)}
		if end := after(s.in.Key); end != nil {
			return s.d.schemas.sql(sqlScanAll, role), append(args, end, limit)
		}
		return s.d.schemas.sql(sqlScanAllOpen, role), append(args, limit)
	}
	args = []any{s.in.Kind, []byte(s.in.Key), []byte(s.next.row)}
	if end := after(s.in.RowPrefix); end != nil {
		return s.d.schemas.sql(sqlScanKey, role), append(args, end, limit)
	}
	return s.d.schemas.sql(sqlScanKeyOpen, role), append(args, limit)
}

// after returns the first text that does not begin with the prefix, in the order of octets; nil if there is none.
func after(prefix string) []byte {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0xff {
			b[i]++
			return b[:i+1]
		}
	}
	return nil
}
