package faults

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/bus/distributed"
	"github.com/hawser-project/hawser/internal/secret"
	"github.com/hawser-project/hawser/test/services"
)

const (
	stagePartitions = 4
	stageLease      = 2 * time.Second
	stageHeartbeat  = 400 * time.Millisecond
)

// stage is a cluster of the distributed driver: where its Kafka and PostgreSQL are, and by which way a process goes there.
// It travels to the worker processes as JSON.
type stage struct {
	Kafka, Postgres string            // an address, and a URL
	Prefix          string            // of topics and schemas
	Ways            map[string]string // proxies by the address that is meant
}

func newStage(kafka, postgres string) stage {
	return stage{Kafka: kafka, Postgres: postgres, Prefix: "f" + strings.ToLower(rand.Text()[:12])}
}

func (s stage) options(name string, run ...bus.Role) distributed.Options {
	dial := services.Dialer(s.Ways)
	return distributed.Options{
		Kafka:    distributed.Kafka{Brokers: []string{s.Kafka}, Prefix: s.Prefix, Dial: dial},
		Postgres: distributed.Postgres{URL: secret.FromString(s.Postgres), Prefix: s.Prefix, Pool: 8, Dial: dial},
		Topics:   definitions(), Roles: []bus.Role{worker, client}, Run: run,
		Name: name, Lease: stageLease, Heartbeat: stageHeartbeat, Log: slog.New(slog.DiscardHandler),
	}
}

func (s stage) make(t testing.TB) {
	t.Helper()
	if err := distributed.Init(t.Context(), s.options("init"), distributed.InitOptions{Partitions: stagePartitions}); err != nil {
		t.Fatal(err)
	}
}

// through returns the same cluster by way of proxies of its own.
func (s stage) through(t testing.TB) (by stage, kafka, postgres *services.TCPProxy) {
	t.Helper()
	config, err := pgx.ParseConfig(s.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("%s:%d", config.Host, config.Port)
	kafka, postgres = services.Proxy(t, s.Kafka), services.Proxy(t, at)
	by = s
	by.Ways = map[string]string{s.Kafka: kafka.Addr(), at: postgres.Addr()}
	return by, kafka, postgres
}

// open opens a driver that the test's end closes.
func (s stage) open(t testing.TB, name string, run ...bus.Role) *distributed.Driver {
	t.Helper()
	d, err := distributed.Open(context.WithoutCancel(t.Context()), s.options(name, run...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustClose(t, d) })
	return d
}

func (s stage) kafkaClient(t testing.TB) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(s.Kafka))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (s stage) topic(name string) string { return s.Prefix + "." + name }

// drop takes the cluster out of services that it shares with other tests.
func (s stage) drop(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.Postgres)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, schema := range []string{s.Prefix, s.Prefix + "_worker", s.Prefix + "_client"} {
		_, dropErr := conn.Exec(ctx, "drop schema if exists "+pgx.Identifier{schema}.Sanitize()+" cascade")
		err = errors.Join(err, dropErr)
	}
	_, deleteErr := kadm.NewClient(s.kafkaClient(t)).DeleteTopics(ctx, s.topic(records.Name), s.topic(effects.Name))
	if err := errors.Join(err, deleteErr); err != nil {
		t.Error(err)
	}
}
