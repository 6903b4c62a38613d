package testcluster

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/distributed"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/internal/secret"
	"github.com/hawser-project/hawser/process"
	"github.com/hawser-project/hawser/test/services"
)

// A split cluster's workers have users of their own in Kafka and PostgreSQL, with the rights that hawser bus acls prints and
// no others.
const userPassword = "only-for-tests"

// busRoles are the roles that reach Kafka and PostgreSQL.
func busRoles() []bus.Role { return append(topic.Keyed(), topic.Rest) }

// makeUsers gives each role its users and rights.
func (s *Split) makeUsers(ctx context.Context) error {
	rights, err := process.Rights(s.name(), "", "")
	if err != nil {
		return err
	}
	db, err := pgx.Connect(ctx, s.postgres)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close(ctx) }()
	if _, err := db.Exec(ctx, rights); err != nil {
		return fmt.Errorf("rights in PostgreSQL: %w", err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(s.kafka))
	if err != nil {
		return err
	}
	defer client.Close()
	var users []kadm.UpsertSCRAM
	for _, role := range busRoles() {
		if _, err := db.Exec(ctx, fmt.Sprintf("alter role %s login password '%s'", pgx.Identifier{s.databaseUser(role)}.Sanitize(), userPassword)); err != nil {
			return err
		}
		users = append(users, kadm.UpsertSCRAM{User: s.kafkaUser(role), Mechanism: kadm.ScramSha256, Iterations: 4096, Password: userPassword})
	}
	if _, err := kadm.NewClient(client).AlterUserSCRAMs(ctx, nil, users); err != nil {
		return fmt.Errorf("users of Kafka: %w", err)
	}
	return distributed.ApplyKafkaACLs(ctx, distributed.Options{
		Kafka: distributed.Kafka{Brokers: []string{s.kafka}, Prefix: s.name()}, Postgres: distributed.Postgres{URL: secret.FromString(s.postgres), Prefix: s.name()},
		Topics: topic.Definitions(), Roles: busRoles(), Log: slog.New(slog.DiscardHandler),
	}, distributed.Users{})
}

func (s *Split) databaseUser(role bus.Role) string { return s.name() + "_" + string(role) }
func (s *Split) kafkaUser(role bus.Role) string    { return s.name() + "-" + string(role) }

// dropUsers removes the cluster's schemas and users from the database, so that runs do not add up.
func (s *Split) dropUsers() error {
	ctx := context.Background()
	db, err := pgx.Connect(ctx, s.postgres)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close(ctx) }()
	var statements []string
	for _, role := range busRoles() {
		user := pgx.Identifier{s.databaseUser(role)}.Sanitize()
		statements = append(statements, "drop schema if exists "+pgx.Identifier{s.name() + "_" + string(role)}.Sanitize()+" cascade")
		statements = append(statements, "drop owned by "+user, "drop role "+user)
	}
	statements = append(statements, "drop schema if exists "+pgx.Identifier{s.name()}.Sanitize()+" cascade")
	_, err = db.Exec(ctx, strings.Join(statements, "; "))
	return err
}

// busConfigOf is the part of a worker's configuration that says how it reaches Kafka, over TLS and with SASL, and PostgreSQL.
func (s *Split) busConfigOf(role string) (string, error) {
	u, err := url.Parse(s.postgres)
	if err != nil {
		return "", err
	}
	u.User = url.UserPassword(s.databaseUser(bus.Role(role)), userPassword)
	return fmt.Sprintf(`cluster: %s
kafka:
  brokers: [%s]
  tls: true
  authority: %s
  mechanism: SCRAM-SHA-256
  user: %s
  password: %s
postgres:
  url: %q
  connections: 5
`, s.name(), services.Env(s.t, "HAWSER_TEST_KAFKA_SASL"), services.Env(s.t, "HAWSER_TEST_KAFKA_CA"), s.kafkaUser(bus.Role(role)), userPassword, u), nil
}
