package distributed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/internal/secret"
)

// Options say where Kafka and PostgreSQL are, what the cluster is made of, and what of it runs in this process.
type Options struct {
	Kafka    Kafka
	Postgres Postgres
	// Topics are the declared topics; definitions of anything else are passed over.
	Topics []bus.Definition
	// Roles are all roles of the cluster that have state, and Run those of this process.
	Roles, Run []bus.Role
	// Name is this process's for people, and Address, HOST:PORT, where it takes calls.
	Name, Address string
	// Lease is how long a process that says nothing keeps what it owns, and Heartbeat how often it says something;
	// 0 means 5 s and 1 s.
	Lease, Heartbeat time.Duration
	Log              *slog.Logger
	Metrics          prometheus.Registerer

	migrations fs.FS // of another release, for tests; nil: of this one
}

// Kafka says how to reach the brokers.
type Kafka struct {
	Brokers []string // HOST:PORT
	// Prefix and a dot come before the names of topics and groups; empty means "hawser".
	Prefix string
	// TLS, where it is set, is used for every connection.
	TLS  *tls.Config
	SASL SASL
	// Dial makes connections; nil is the usual way. With TLS it is to return a TLS connection.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// SASL is how the process proves to the brokers who it is; the zero value is: not.
type SASL struct {
	Mechanism string // PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
	User      string
	Password  secret.Secret
}

// Postgres says how to reach the database.
type Postgres struct {
	// URL is a connection string, postgres://..., or keywords and values.
	URL secret.Secret
	// Prefix begins the names of schemas; empty means "hawser".
	Prefix string
	// Pool is how many connections the process uses at most, besides one for its membership and, for a short time,
	// those of scans that overlap; 0 means 20.
	Pool int
	// Dial makes connections; nil is the usual way.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// name is what roles, topics and prefixes may be called: it must be good for Kafka and need no thought in SQL. The length
// of a role is bounded by PostgreSQL's 63 octets of a name.
var name = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,99}$`)

const maxSchemaName = 63

func (o *Options) fill() error {
	if o.Kafka.Prefix == "" {
		o.Kafka.Prefix = "hawser"
	}
	if o.Postgres.Prefix == "" {
		o.Postgres.Prefix = "hawser"
	}
	if o.Postgres.Pool == 0 {
		o.Postgres.Pool = 20
	}
	if o.Lease == 0 {
		o.Lease = 5 * time.Second
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Topics = slices.DeleteFunc(slices.Clone(o.Topics), func(d bus.Definition) bool { return d.What != "topic" })
	return o.validate()
}

// validate reports all faults together.
func (o *Options) validate() error {
	var errs []error
	complain := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(o.Kafka.Brokers) == 0 {
		complain("no Kafka broker is named")
	}
	if o.Postgres.URL.IsZero() {
		complain("the URL of PostgreSQL is missing")
	}
	if o.Postgres.Pool < 4 {
		complain("a pool of %d connections to PostgreSQL is too small: 4 or more", o.Postgres.Pool)
	}
	if 2*o.Heartbeat > o.Lease {
		complain("a lease of %s is less than two heartbeats of %s", o.Lease, o.Heartbeat)
	}
	names := []string{o.Kafka.Prefix, o.Postgres.Prefix}
	for _, d := range o.Topics {
		names = append(names, d.Name)
	}
	for _, r := range o.Roles {
		names = append(names, string(r))
		if len(o.Postgres.Prefix)+1+len(r) > maxSchemaName {
			complain("the name of the schema of role %s is over %d octets", r, maxSchemaName)
		}
	}
	for _, n := range names {
		if !name.MatchString(n) {
			complain("%q is no name for a role, a topic or a prefix", n)
		}
	}
	for _, r := range o.Run {
		if !slices.Contains(o.Roles, r) {
			complain("role %s is to run but is not among the roles of the cluster", r)
		}
	}
	return errors.Join(errs...)
}

// topic returns the name that a topic has in Kafka.
func (o *Options) topic(name string) string { return o.Kafka.Prefix + "." + name }

// group returns the name of a role's consumer group, which exists for tools that show lags.
func (o *Options) group(role bus.Role) string { return o.Kafka.Prefix + "." + string(role) }
