package services_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/hawser-project/hawser/test/services"
)

func TestKafkaKeepsRecordsOverKill(t *testing.T) {
	t.Parallel()
	i := services.Start(t, services.KafkaService)
	client := kafkaClient(t, i.Kafka())
	topic(t, client, "kept")
	produce(t, client, "kept", "one")

	must(t, i.Kill(services.KafkaService))
	if err := ping(client, time.Second); err == nil {
		t.Error("a killed Kafka answers")
	}
	if err := i.Kill(services.KafkaService); err == nil {
		t.Error("Kafka was killed twice")
	}
	must(t, i.StartAgain(services.KafkaService))
	produce(t, client, "kept", "two")

	must(t, i.Pause(services.KafkaService))
	if err := ping(client, time.Second); err == nil {
		t.Error("a paused Kafka answers")
	}
	must(t, i.Resume(services.KafkaService))

	reader := kafkaClient(t, i.Kafka(), kgo.ConsumeTopics("kept"))
	want(t, reader, "one", "two")
}

func TestPostgresKeepsRowsOverKill(t *testing.T) {
	t.Parallel()
	i := services.Start(t, services.PostgresService)
	exec(t, i.Postgres(), "CREATE TABLE kept (n int)")
	exec(t, i.Postgres(), "INSERT INTO kept VALUES (1)")

	must(t, i.Kill(services.PostgresService))
	if err := query(i.Postgres(), time.Second, new(int)); err == nil {
		t.Error("a killed PostgreSQL answers")
	}
	must(t, i.StartAgain(services.PostgresService))
	must(t, i.Pause(services.PostgresService))
	if err := query(i.Postgres(), time.Second, new(int)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a paused PostgreSQL: got %v, want no answer", err)
	}
	must(t, i.Resume(services.PostgresService))

	var rows int
	must(t, query(i.Postgres(), 10*time.Second, &rows))
	if rows != 1 {
		t.Errorf("got %d rows, want 1", rows)
	}
}

// TestKafkaAsksWhoAndWhether checks that TLS, SASL and ACLs of the services are real: tests of ours rely on their refusals.
func TestKafkaAsksWhoAndWhether(t *testing.T) {
	t.Parallel()
	addr := services.Env(t, "HAWSER_TEST_KAFKA_SASL")
	name := fmt.Sprintf("asked-%d", time.Now().UnixNano())
	super := kafkaClient(t, services.Kafka(t))
	admin := kadm.NewClient(super)
	topic(t, super, name)
	t.Cleanup(func() { admin.DeleteTopics(context.Background(), name) })

	user, password := services.Env(t, "HAWSER_TEST_KAFKA_PLAIN_USER"), services.Env(t, "HAWSER_TEST_KAFKA_PLAIN_PASSWORD")
	mechanisms := map[string]func(user, password string) sasl.Mechanism{
		"PLAIN":         func(u, p string) sasl.Mechanism { return plain.Auth{User: u, Pass: p}.AsMechanism() },
		"SCRAM-SHA-256": func(u, p string) sasl.Mechanism { return scram.Auth{User: u, Pass: p}.AsSha256Mechanism() },
		"SCRAM-SHA-512": func(u, p string) sasl.Mechanism { return scram.Auth{User: u, Pass: p}.AsSha512Mechanism() },
	}
	for mechanism, auth := range mechanisms {
		t.Run(mechanism, func(t *testing.T) {
			user, password := user, password
			if mechanism != "PLAIN" {
				user, password = name+mechanism, "secret"
				kind := map[string]kadm.ScramMechanism{"SCRAM-SHA-256": kadm.ScramSha256, "SCRAM-SHA-512": kadm.ScramSha512}[mechanism]
				done, err := admin.AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{{User: user, Mechanism: kind, Iterations: 4096, Password: password}})
				must(t, errors.Join(err, done.Error()))
				t.Cleanup(func() {
					admin.AlterUserSCRAMs(context.Background(), []kadm.DeleteSCRAM{{User: user, Mechanism: kind}}, nil)
				})
			}
			secure := func(password string) *kgo.Client {
				return kafkaClient(t, addr, kgo.DialTLSConfig(&tls.Config{RootCAs: authority(t), MinVersion: tls.VersionTLS12}),
					kgo.SASL(auth(user, password)), kgo.RecordRetries(3))
			}
			wrong := secure("wrong")
			if err := ping(wrong, 5*time.Second); !errors.Is(err, kerr.SaslAuthenticationFailed) {
				t.Errorf("a wrong password: got %v, want %v", err, kerr.SaslAuthenticationFailed)
			}
			right := secure(password)
			must(t, ping(right, 10*time.Second))
			record := &kgo.Record{Topic: name, Value: []byte("x")}
			if err := right.ProduceSync(t.Context(), record).FirstErr(); !errors.Is(err, kerr.TopicAuthorizationFailed) {
				t.Errorf("without an ACL: got %v, want %v", err, kerr.TopicAuthorizationFailed)
			}
			allow := kadm.NewACLs().Topics(name).Allow("User:"+user).AllowHosts().Operations(kadm.OpWrite, kadm.OpDescribe).ResourcePatternType(kadm.ACLPatternLiteral)
			made, err := admin.CreateACLs(t.Context(), allow)
			must(t, err)
			for _, m := range made {
				must(t, m.Err)
			}
			t.Cleanup(func() { admin.DeleteACLs(context.Background(), allow) })
			must(t, kafkaClient(t, addr, kgo.DialTLSConfig(&tls.Config{RootCAs: authority(t), MinVersion: tls.VersionTLS12}),
				kgo.SASL(auth(user, password))).ProduceSync(t.Context(), record).FirstErr())
		})
	}
	unknown := kafkaClient(t, addr, kgo.DialTLSConfig(&tls.Config{MinVersion: tls.VersionTLS12}), kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()))
	var authorityError x509.UnknownAuthorityError
	if err := ping(unknown, 5*time.Second); !errors.As(err, &authorityError) {
		t.Errorf("without the CA: got %v, want %T", err, authorityError)
	}
}

func TestPostgresSpeaksTLS(t *testing.T) {
	t.Parallel()
	config, err := pgx.ParseConfig(services.Postgres(t))
	must(t, err)
	config.TLSConfig = &tls.Config{RootCAs: authority(t), ServerName: config.Host, MinVersion: tls.VersionTLS12}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	must(t, err)
	defer conn.Close(t.Context())
	var encrypted bool
	must(t, conn.QueryRow(t.Context(), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&encrypted))
	if !encrypted {
		t.Error("the connection is not encrypted")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func authority(t *testing.T) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(services.Env(t, "HAWSER_TEST_KAFKA_CA"))
	must(t, err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate of a CA")
	}
	return pool
}

func kafkaClient(t *testing.T, addr string, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(addr))...)
	must(t, err)
	t.Cleanup(client.Close)
	return client
}

func topic(t *testing.T, client *kgo.Client, name string) {
	t.Helper()
	made, err := kadm.NewClient(client).CreateTopic(t.Context(), 1, 1, nil, name)
	must(t, errors.Join(err, made.Err))
}

// ping asks for metadata, which a restarting broker answers with nothing to see for a while.
func ping(client *kgo.Client, within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	_, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, client)
	return err
}

func produce(t *testing.T, client *kgo.Client, topic, value string) {
	t.Helper()
	must(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr())
}

func want(t *testing.T, reader *kgo.Client, values ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(values) > 0 {
		fetches := reader.PollFetches(ctx)
		must(t, fetches.Err())
		for _, r := range fetches.Records() {
			if len(values) == 0 || string(r.Value) != values[0] {
				t.Fatalf("got record %q, want %q", r.Value, values)
			}
			values = values[1:]
		}
	}
}

func exec(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), sql)
	must(t, err)
}

func query(url string, within time.Duration, rows *int) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return conn.QueryRow(ctx, "SELECT count(*) FROM kept").Scan(rows)
}
