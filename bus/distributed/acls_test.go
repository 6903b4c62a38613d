package distributed

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/internal/secret"
)

// TestARolesCredentialsDoItsWorkAndNothingElse runs a process per role with users that have what acls.go gives them.
func TestARolesCredentialsDoItsWorkAndNothingElse(t *testing.T) {
	t.Parallel()
	sasl, ca := os.Getenv("HAWSER_TEST_KAFKA_SASL"), os.Getenv("HAWSER_TEST_KAFKA_CA")
	if sasl == "" || ca == "" {
		t.Skip(`HAWSER_TEST_KAFKA_SASL and HAWSER_TEST_KAFKA_CA are not set: eval "$(dev/services up)"`)
	}
	c := setup(t)
	admin := c.open(t, "admin")
	sql, err := GrantsSQL(c.o, Users{})
	if err != nil {
		t.Fatal(err)
	}
	exec(t, admin, sql)
	if err := ApplyKafkaACLs(t.Context(), c.o, Users{}); err != nil {
		t.Fatal(err)
	}
	if lines, err := GrantsKafka(c.o, Users{}); err != nil || !strings.Contains(lines, "--allow-principal 'User:"+c.o.Kafka.Prefix+"-a' --operation Describe --operation Write --topic '"+c.o.topic("out")+"'\n") {
		t.Errorf("got %s, %v", lines, err)
	}
	a, b := c.as(t, admin, "a", sasl, ca), c.as(t, admin, "b", sasl, ca)
	t.Cleanup(func() { c.dropUsers(t) })

	da, db := a.open(t, "a"), b.open(t, "b")
	oa, ob := own(t, da, "a"), own(t, db, "b")
	oa.awaitCount(t, 4)
	ob.awaitCount(t, 4)
	to := bus.PartitionOf("x", 4)
	row := bus.RowKey{Role: "a", Kind: "k", Key: "x"}
	mustDo(t, da, bus.Step{
		Owner: oa.of(to), Writes: []bus.Write{{RowKey: row, Value: []byte("v")}, {RowKey: bus.RowKey{Kind: "shared"}, Value: []byte("v")}},
		Checks:  []bus.Check{{RowKey: row}, {RowKey: bus.RowKey{Kind: "shared"}}},
		Appends: []bus.Append{{Topic: "out", Key: "x", Value: []byte("v")}, {Topic: "table", Key: "x", Value: []byte("v")}},
	})
	readSome(t, read(t, db, bus.ReadFrom{Topic: "out", Partition: to, Owner: ob.of(to)}), 1)
	readSome(t, read(t, db, bus.ReadFrom{Topic: "table"}), 1)
	mustDo(t, db, bus.Step{Owner: ob.of(to), Finish: []bus.Place{{Topic: "out"}}})
	if _, err := db.Lags(t.Context(), "out"); err != nil {
		t.Error(err)
	}
	if _, err := da.Current(t.Context(), "table"); err != nil {
		t.Error(err)
	}
	blob, err := da.PutBlob(t.Context(), strings.NewReader("x"), 10)
	if err != nil {
		t.Error(err)
	}
	if err := db.RemoveBlob(t.Context(), blob.ID); err != nil {
		t.Error(err)
	}
	da.hintOffsets()

	for what, sql := range map[string]string{
		"read another role's state":   "select value from @role@.state",
		"write another role's state":  "delete from @role@.state",
		"take another's partition":    "update @role@.partition set owner = 1",
		"write another's history":     "delete from @role@.epoch",
		"read another's records":      "select records from @role@.outbox",
		"put records into its outbox": "insert into @role@.outbox values (0, 1, 1, 1, '')",
		"make a table":                "create table @common@.mine (id int)",
		"change the number":           "update @common@.meta set value = '1'",
	} {
		if _, err := db.pool.Exec(t.Context(), db.schemas.sql(sql, "a")); sqlState(err) != stateNoRight {
			t.Errorf("%s: got %v", what, err)
		}
	}
	c.triesKafka(t, b, admin)
}

// as makes users of a role, and returns the cluster as they see it.
func (c *cluster) as(t *testing.T, admin *Driver, role bus.Role, sasl, ca string) *cluster {
	t.Helper()
	const password = "only-for-this-test"
	user := c.o.Postgres.Prefix + "_login_" + string(role)
	exec(t, admin, "create role "+quote(user)+" login password '"+password+"' in role "+quote(userOf(c.o.Postgres.Prefix+"_{role}", role)))
	kafkaUser := userOf(c.o.Kafka.Prefix+"-{role}", role)
	if _, err := admin.admin.AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{{User: kafkaUser, Mechanism: kadm.ScramSha512, Iterations: 4096, Password: password}}); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(c.o.Postgres.URL.RevealString())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	other := *c
	other.o.Postgres.URL = secret.FromString(u.String())
	other.o.Kafka.Brokers = []string{sasl}
	other.o.Kafka.TLS = &tls.Config{RootCAs: roots}
	other.o.Kafka.SASL = SASL{Mechanism: "SCRAM-SHA-512", User: kafkaUser, Password: secret.FromString(password)}
	other.o.Run = []bus.Role{role}
	return &other
}

func (c *cluster) dropUsers(t *testing.T) {
	t.Helper()
	pool, err := openPool(context.Background(), c.o.Postgres)
	if err != nil {
		t.Error(err)
		return
	}
	defer pool.Close()
	for _, role := range []bus.Role{"a", "b"} {
		for _, user := range []string{c.o.Postgres.Prefix + "_login_" + string(role), c.o.Postgres.Prefix + "_" + string(role)} {
			ctx, cancel := timeoutContext()
			_, err := pool.Exec(ctx, "drop owned by "+quote(user)+"; drop role "+quote(user))
			cancel()
			if err != nil {
				t.Error(err)
			}
		}
	}
}

// triesKafka has role b do in Kafka what it may not: write to out, read in, and manage topics.
func (c *cluster) triesKafka(t *testing.T, b *cluster, admin *Driver) {
	t.Helper()
	opts, err := clientOptions(b.o.Kafka, c.o.Log)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{c.o.topic("in"): {0: kgo.NewOffset().AtStart()}}))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	err = client.ProduceSync(t.Context(), &kgo.Record{Topic: c.o.topic("out"), Value: []byte("forged")}).FirstErr()
	if !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("write to out: got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := client.PollFetches(ctx).Err(); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("read in: got %v", err)
	}
	_, _ = kadm.NewClient(client).DeleteTopics(t.Context(), c.o.topic("out"))
	found, err := admin.admin.ListTopics(t.Context(), c.o.topic("out"))
	if err != nil || found[c.o.topic("out")].Err != nil {
		t.Errorf("a topic could be deleted: %v, %v", found, err)
	}
	group := admin.o.group("a")
	if _, err := kadm.NewClient(client).CommitOffsets(t.Context(), group, nil); err == nil {
		if _, err := kadm.NewClient(client).FetchOffsets(t.Context(), group); err == nil {
			t.Error("another role's offsets could be read")
		}
	}
}
