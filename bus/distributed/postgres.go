package distributed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hawser-project/hawser/bus"
)

const (
	minBackoff = 20 * time.Millisecond
	maxBackoff = 2 * time.Second
	// readPatience is how long a read is tried again before the caller is told.
	readPatience = 3 * time.Second
)

// SQLSTATEs that mean something to us.
const (
	stateLost        = "HW001" // raised by advance
	stateSerialize   = "40001"
	stateDeadlock    = "40P01"
	stateNoTable     = "42P01"
	stateNoSchema    = "3F000"
	stateReadOnly    = "25006" // a standby, after a fail-over
	stateNoRight     = "42501"
	classConnection  = "08"
	classResources   = "53"
	classOperator    = "57" // shut down, starting up, cancelled
	classSystem      = "58"
	classRollback    = "40"
	classData        = "22"
	classConstraint  = "23"
	classProgramming = "42"
	classLimits      = "54"
)

// openPool makes the pool of connections. It connects when a connection is needed.
func openPool(ctx context.Context, o Postgres) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(o.URL.RevealString())
	if err != nil {
		return nil, errors.New("the URL of PostgreSQL does not parse") // the error holds the URL
	}
	config.MaxConns = int32(o.Pool)
	config.MinConns = 1
	config.MaxConnIdleTime = 5 * time.Minute
	prepareConnection(config.ConnConfig, o)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the pool of connections to PostgreSQL: %w", err)
	}
	return pool, nil
}

func prepareConnection(c *pgx.ConnConfig, o Postgres) {
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 5 * time.Second
	}
	if o.Dial != nil {
		c.DialFunc = o.Dial
	}
	if _, set := c.RuntimeParams["application_name"]; !set {
		c.RuntimeParams["application_name"] = "hawser"
	}
	// A transaction left open by a process that hangs must not hold its locks for ever.
	c.RuntimeParams["idle_in_transaction_session_timeout"] = "60000"
	c.RuntimeParams["tcp_user_timeout"] = "15000"
}

func sqlState(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// passing says whether an error of the database may be gone when one tries again: it is not there, is overloaded, or had to
// break off. Errors that the database has not reported are those of connections.
func passing(err error) bool {
	var given *interrupted
	if errors.As(err, &given) {
		return false
	}
	state := sqlState(err)
	if state == "" {
		return !errors.Is(err, pgx.ErrNoRows)
	}
	switch state[:2] {
	case classConnection, classResources, classOperator, classSystem, classRollback:
		return true
	}
	return state == stateReadOnly
}

// refused says whether the database will not take these statements whoever tries them again.
func refused(err error) bool {
	state := sqlState(err)
	if state == "" {
		return false
	}
	switch state {
	case stateNoTable, stateNoSchema, stateNoRight:
		return false // an operator is at work, or must be
	}
	switch state[:2] {
	case classData, classConstraint, classProgramming, classLimits:
		return true
	}
	return false
}

// unavailable is a store that does not answer. It says nothing about the input that was to be handled, which must not be
// set aside for it: the kind makes it wait.
type unavailable struct {
	what  string
	cause error
}

func (e *unavailable) Error() string   { return e.what + ": " + e.cause.Error() }
func (e *unavailable) Unwrap() error   { return e.cause }
func (*unavailable) FaultKind() string { return "unavailable" }

// read runs a read, and again for a short while where the database is not there. What it returns then is unavailable.
func (d *Driver) read(ctx context.Context, what string, fn func(ctx context.Context) error) error {
	patience := time.Now().Add(readPatience)
	for wait := minBackoff; ; wait = min(2*wait, maxBackoff) {
		err := fn(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case d.closing.Err() != nil:
			return bus.ErrClosed
		case !passing(err):
			return fmt.Errorf("%s: %w", what, err)
		case time.Now().Add(wait).After(patience):
			return &unavailable{what, err}
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
}

// persist runs what must succeed, and again until it does or ctx ends.
func (d *Driver) persist(ctx context.Context, what string, fn func(ctx context.Context) error) error {
	var told time.Time
	for wait := minBackoff; ; wait = min(2*wait, maxBackoff) {
		err := fn(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !passing(err):
			return fmt.Errorf("%s: %w", what, err)
		}
		if time.Since(told) > tellEvery {
			told = time.Now()
			d.log.WarnContext(ctx, "bus waits", "what", what, "error", err)
		}
		if !pause(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

// tellEvery is how often the log says that something is still waited for.
const tellEvery = 15 * time.Second

// pause waits, and reports false when ctx has ended.
func pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
