package distributed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hawser-project/hawser/bus"
)

// InitOptions are decided when a cluster is made.
type InitOptions struct {
	// Partitions is over how many partitions the keys of each role are spread. It can't be changed later.
	Partitions int32
	// Replication is how many brokers keep each record; 0 means 3, or all where there are fewer.
	Replication int16
}

const (
	maxPartitions    = 1024
	metaPartitions   = "partitions"
	hour             = 60 * 60 * 1000 // in the milliseconds of Kafka's settings
	retention        = 7 * 24 * hour
	settingPolicy    = "cleanup.policy"
	settingRetention = "retention.ms"
	settingMessage   = "max.message.bytes"
)

// Init makes what a cluster needs in PostgreSQL and Kafka, or what is missing of it. What is there and differs is
// reported, and not changed.
func Init(ctx context.Context, o Options, in InitOptions) error {
	if err := o.fill(); err != nil {
		return fmt.Errorf("bus options: %w", err)
	}
	if in.Partitions < 1 || in.Partitions > maxPartitions {
		return fmt.Errorf("%d partitions: want 1 to %d", in.Partitions, maxPartitions)
	}
	if err := initPostgres(ctx, o, in); err != nil {
		return fmt.Errorf("initialise PostgreSQL: %w", err)
	}
	if err := initKafka(ctx, o, in); err != nil {
		return fmt.Errorf("initialise Kafka: %w", err)
	}
	return nil
}

func initPostgres(ctx context.Context, o Options, in InitOptions) error {
	pool, err := openPool(ctx, o.Postgres)
	if err != nil {
		return err
	}
	defer pool.Close()
	s := newSchemas(o.Postgres.Prefix).with(o.migrations)
	roles := roleNames(o.Roles)
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if err := migrate(ctx, tx, s, roles); err != nil {
			return err
		}
		had, err := storedPartitions(ctx, tx, s)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			if _, err := tx.Exec(ctx, s.sql(`insert into @common@.meta (name, value) values ($1, $2)`, ""), metaPartitions, strconv.Itoa(int(in.Partitions))); err != nil {
				return fmt.Errorf("record the number of partitions: %w", err)
			}
		case err != nil:
			return err
		case had != in.Partitions:
			return fmt.Errorf("the cluster has %d partitions, and %d are asked for: the number can't be changed", had, in.Partitions)
		}
		for _, role := range roles {
			if _, err := tx.Exec(ctx, s.sql(`insert into @role@.partition (id) select generate_series(0, $1 - 1) on conflict do nothing`, role), in.Partitions); err != nil {
				return fmt.Errorf("make the partitions of role %s: %w", role, err)
			}
		}
		return nil
	})
}

func roleNames(roles []bus.Role) (names []string) {
	for _, r := range roles {
		names = append(names, string(r))
	}
	return names
}

type rowQuerier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func storedPartitions(ctx context.Context, db rowQuerier, s *schemas) (int32, error) {
	var text string
	if err := db.QueryRow(ctx, s.sql(sqlMeta, ""), metaPartitions).Scan(&text); err != nil {
		return 0, fmt.Errorf("read the number of partitions: %w", err)
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 || n > maxPartitions {
		return 0, fmt.Errorf("the stored number of partitions is %q", text)
	}
	return int32(n), nil
}

func initKafka(ctx context.Context, o Options, in InitOptions) error {
	client, err := openKafka(o.Kafka, o.Log)
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	replication, err := chooseReplication(ctx, admin, in.Replication)
	if err != nil {
		return err
	}
	for _, d := range o.Topics {
		if err := createTopic(ctx, admin, o, d, in.Partitions, replication); err != nil {
			return err
		}
	}
	// Not every broker knows of a new topic at once.
	for until := time.Now().Add(topicPatience); ; {
		err := checkTopics(ctx, admin, o, o.Topics, in.Partitions, true)
		var missing *topicMissing
		if !errors.As(err, &missing) || time.Now().After(until) || !pause(ctx, 5*minBackoff) {
			return err
		}
	}
}

const topicPatience = 15 * time.Second

type topicMissing struct{ topic string }

func (e *topicMissing) Error() string {
	return fmt.Sprintf("topic %s is not there; %s", e.topic, adviseInit)
}

func chooseReplication(ctx context.Context, admin *kadm.Client, asked int16) (int16, error) {
	brokers, err := admin.ListBrokers(ctx)
	if err != nil {
		return 0, fmt.Errorf("list brokers: %w", err)
	}
	if asked == 0 {
		asked = int16(min(3, len(brokers)))
	}
	if int(asked) > len(brokers) {
		return 0, fmt.Errorf("a replication of %d needs as many brokers, and there are %d", asked, len(brokers))
	}
	return asked, nil
}

// wanted are the settings of a topic.
func wanted(d bus.Definition, replication int16) map[string]string {
	settings := map[string]string{
		settingMessage: strconv.Itoa(maxMessage),
		// One broker may be down; what is acknowledged is on two.
		"min.insync.replicas":            strconv.Itoa(max(1, int(replication)-1)),
		"unclean.leader.election.enable": "false",
		// The times in records are of committing; Kafka's own retention goes by them.
		"message.timestamp.type": "CreateTime",
	}
	if !d.Compacted {
		settings[settingPolicy] = "delete"
		settings[settingRetention] = strconv.Itoa(retention)
		return settings
	}
	settings[settingPolicy] = "compact"
	settings[settingRetention] = "-1"
	// A table that is that far behind still sees every record, and with it the stamp that somebody waits for.
	settings["min.compaction.lag.ms"] = strconv.Itoa(hour)
	// Records that say that a key is gone stay: the last record of a topic tells a reader that it has reached the end. The
	// number is the greatest that does not overflow when Kafka adds the time of day.
	settings["delete.retention.ms"] = strconv.FormatInt(1<<53, 10)
	settings["segment.ms"] = strconv.Itoa(24 * hour)
	return settings
}

func createTopic(ctx context.Context, admin *kadm.Client, o Options, d bus.Definition, partitions int32, replication int16) error {
	settings := make(map[string]*string)
	for name, value := range wanted(d, replication) {
		settings[name] = &value
	}
	_, err := admin.CreateTopic(ctx, partitionsOf(d, partitions), replication, settings, o.topic(d.Name))
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("make topic %s: %w", o.topic(d.Name), err)
	}
	return nil
}

func partitionsOf(d bus.Definition, partitions int32) int32 {
	if d.Compacted {
		return 1
	}
	return partitions
}

// checkTopics reports all that is missing or differs. Settings can be read by few: a worker checks partitions only.
func checkTopics(ctx context.Context, admin *kadm.Client, o Options, topics []bus.Definition, partitions int32, settings bool) error {
	if len(topics) == 0 {
		return nil
	}
	names := make([]string, 0, len(topics))
	for _, d := range topics {
		names = append(names, o.topic(d.Name))
	}
	var errs []error
	found, err := admin.ListTopics(ctx, names...)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	for _, d := range topics {
		t, there := found[o.topic(d.Name)]
		switch want := int(partitionsOf(d, partitions)); {
		case !there, errors.Is(t.Err, kerr.UnknownTopicOrPartition):
			errs = append(errs, &topicMissing{o.topic(d.Name)})
		case errors.Is(t.Err, kerr.TopicAuthorizationFailed):
			errs = append(errs, fmt.Errorf("topic %s: this user may not describe it", o.topic(d.Name)))
		case t.Err != nil:
			return fmt.Errorf("topic %s: %w", o.topic(d.Name), t.Err)
		case len(t.Partitions) != want:
			errs = append(errs, fmt.Errorf("topic %s has %d partitions, and should have %d", o.topic(d.Name), len(t.Partitions), want))
		}
	}
	if settings && len(errs) == 0 {
		errs = append(errs, checkSettings(ctx, admin, o, topics, names))
	}
	return errors.Join(errs...)
}

func checkSettings(ctx context.Context, admin *kadm.Client, o Options, topics []bus.Definition, names []string) error {
	configs, err := admin.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return fmt.Errorf("read the settings of topics: %w", err)
	}
	var errs []error
	for _, d := range topics {
		config, err := configs.On(o.topic(d.Name), nil)
		if err = errors.Join(err, config.Err); err != nil {
			errs = append(errs, fmt.Errorf("read the settings of topic %s: %w", o.topic(d.Name), err))
			continue
		}
		is := make(map[string]string)
		for _, c := range config.Configs {
			is[c.Key] = c.MaybeValue()
		}
		errs = append(errs, differences(d, o.topic(d.Name), is)...)
	}
	return errors.Join(errs...)
}

// differences lists the settings that would lose records or hold them up. What else an operator has changed is theirs.
func differences(d bus.Definition, topic string, is map[string]string) (errs []error) {
	want := wanted(d, 1)
	differs := func(name, relation string) {
		errs = append(errs, fmt.Errorf("topic %s has %s=%s, and should have %s%s", topic, name, is[name], relation, want[name]))
	}
	if is[settingPolicy] != want[settingPolicy] {
		differs(settingPolicy, "")
	}
	names := []string{settingMessage, settingRetention}
	if d.Compacted {
		names = []string{settingMessage, "delete.retention.ms", "min.compaction.lag.ms"}
	}
	for _, name := range names {
		if number(is[name]) < number(want[name]) {
			differs(name, "at least ")
		}
	}
	return errs
}

// number reads a setting; -1 is no limit.
func number(text string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0
	}
	if n < 0 {
		return 1<<63 - 1
	}
	return n
}

// Check says what is missing or wrong for a process with these options to work. The faults say what to do.
func Check(ctx context.Context, o Options) error {
	if err := o.fill(); err != nil {
		return fmt.Errorf("bus options: %w", err)
	}
	pool, err := openPool(ctx, o.Postgres)
	if err != nil {
		return err
	}
	defer pool.Close()
	client, err := openKafka(o.Kafka, o.Log)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = check(ctx, o, pool, client)
	return err
}

type database interface {
	querier
	rowQuerier
}

// check returns the number of partitions.
func check(ctx context.Context, o Options, db database, client *kgo.Client) (int32, error) {
	s := newSchemas(o.Postgres.Prefix).with(o.migrations)
	if err := checkSchemas(ctx, db, s, roleNames(o.Roles)); err != nil {
		return 0, err
	}
	partitions, err := storedPartitions(ctx, db, s)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, &schemaError{text: "the cluster is not initialised; " + adviseInit}
	}
	if err != nil {
		return 0, err
	}
	// Topics that none of this process's roles reads or writes may be hidden from it.
	ours := slices.DeleteFunc(slices.Clone(o.Topics), func(d bus.Definition) bool {
		return !slices.ContainsFunc(o.Run, func(r bus.Role) bool { return slices.Contains(d.From, r) || slices.Contains(d.To, r) })
	})
	return partitions, checkTopics(ctx, kadm.NewClient(client), o, ours, partitions, false)
}
