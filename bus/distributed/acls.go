package distributed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/hawser-project/hawser/bus"
)

// Users say what the users of roles are called. "{role}" stands for the role; empty means "<prefix>_{role}" in PostgreSQL
// and "<prefix>-{role}" in Kafka.
type Users struct{ Postgres, Kafka string }

func (u *Users) fill(o *Options) {
	if u.Postgres == "" {
		u.Postgres = o.Postgres.Prefix + "_{role}"
	}
	if u.Kafka == "" {
		u.Kafka = o.Kafka.Prefix + "-{role}"
	}
}

func userOf(template string, role bus.Role) string {
	return strings.ReplaceAll(template, "{role}", string(role))
}

// GrantsSQL returns what gives each role's user its rights in the database, and no others. Who may log in as whom, and by
// what, is for the operator to say (GRANT hawser_flow TO alice).
func GrantsSQL(o Options, u Users) (string, error) {
	if err := o.fill(); err != nil {
		return "", fmt.Errorf("bus options: %w", err)
	}
	u.fill(&o)
	s := newSchemas(o.Postgres.Prefix)
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+";\n", args...) }
	for _, role := range o.Roles {
		user := quote(userOf(u.Postgres, role))
		own := s.of(string(role))
		fmt.Fprintf(&b, "-- role %s\n", role)
		// A role that is there is fine: CREATE ROLE knows no IF NOT EXISTS.
		line("DO $$ BEGIN CREATE ROLE %s NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$", user)
		line("GRANT USAGE ON SCHEMA %s, %s TO %s", s.common, own, user)
		line("GRANT SELECT, INSERT, UPDATE, DELETE ON %s.state, %s.outbox TO %s", own, own, user)
		line("GRANT SELECT, INSERT, UPDATE ON %s.entry TO %s", own, user)
		line("GRANT SELECT, UPDATE ON %s.partition TO %s", own, user)
		line("GRANT SELECT, INSERT, DELETE ON %s.epoch TO %s", own, user)
		line("GRANT USAGE ON SEQUENCE %s.version TO %s", own, user)
		line("GRANT EXECUTE ON FUNCTION %s.advance TO %s", own, user)
		line("GRANT SELECT ON %s.meta, %s.schema_version TO %s", s.common, s.common, user)
		tables := []string{"member", "state", "published", "blob", "blob_upload", "blob_piece"}
		for i, t := range tables {
			tables[i] = s.common + "." + t
		}
		line("GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %s", strings.Join(tables, ", "), user)
		line("GRANT USAGE ON SEQUENCE %s.version, %s.member_number, %s.entry_version TO %s", s.common, s.common, s.common, user)
		for _, other := range o.Roles {
			if other == role {
				continue
			}
			// Who owns what, and what was committed: numbers, no contents. And the tables that the role reads.
			schema := s.of(string(other))
			line("GRANT USAGE ON SCHEMA %s TO %s", schema, user)
			line("GRANT SELECT ON %s.partition, %s.epoch TO %s", schema, schema, user)
			if o.readsTableOf(role, other) {
				line("GRANT SELECT ON %s.entry TO %s", schema, user)
			}
		}
		b.WriteString("\n")
	}
	return b.String(), nil
}

// kafkaRight is one line of access to Kafka.
type kafkaRight struct {
	user           string
	resource       string // topic, group or cluster
	name           string
	operations     []kadm.ACLOperation
	operationsText []string
}

// kafkaRights lists what each role may do. Whoever keeps a table of topics has it right here too.
func kafkaRights(o *Options, u Users) (rights []kafkaRight) {
	for _, role := range o.Roles {
		user := userOf(u.Kafka, role)
		add := func(resource, name string, operations ...kadm.ACLOperation) {
			r := kafkaRight{user: user, resource: resource, name: name, operations: operations}
			for _, op := range operations {
				r.operationsText = append(r.operationsText, operationNames[op])
			}
			rights = append(rights, r)
		}
		for _, t := range o.Topics {
			operations := []kadm.ACLOperation{kmsg.ACLOperationDescribe}
			reads, writes := slices.Contains(t.To, role), slices.Contains(t.From, role)
			if reads {
				operations = append(operations, kmsg.ACLOperationRead)
			}
			if writes {
				operations = append(operations, kmsg.ACLOperationWrite)
			}
			if reads || writes {
				add("topic", o.topic(t.Name), operations...)
			}
		}
		add("group", o.group(role), kmsg.ACLOperationRead, kmsg.ACLOperationDescribe)
		add("cluster", "kafka-cluster", kmsg.ACLOperationIdempotentWrite)
	}
	return rights
}

var operationNames = map[kadm.ACLOperation]string{
	kmsg.ACLOperationDescribe: "Describe", kmsg.ACLOperationRead: "Read", kmsg.ACLOperationWrite: "Write",
	kmsg.ACLOperationIdempotentWrite: "IdempotentWrite",
}

// GrantsKafka returns the same rights as lines for a shell, with Kafka's own tool.
func GrantsKafka(o Options, u Users) (string, error) {
	if err := o.fill(); err != nil {
		return "", fmt.Errorf("bus options: %w", err)
	}
	u.fill(&o)
	var b strings.Builder
	for _, r := range kafkaRights(&o, u) {
		fmt.Fprintf(&b, `kafka-acls.sh --bootstrap-server "$BROKERS" --command-config "$ADMIN" --add --allow-principal 'User:%s'`, r.user)
		for _, op := range r.operationsText {
			fmt.Fprintf(&b, " --operation %s", op)
		}
		if r.resource == "cluster" {
			b.WriteString(" --cluster\n")
			continue
		}
		fmt.Fprintf(&b, " --%s '%s'\n", r.resource, r.name)
	}
	return b.String(), nil
}

// ApplyKafkaACLs gives the rights to the users, by the credentials of an administrator in the options.
func ApplyKafkaACLs(ctx context.Context, o Options, u Users) error {
	if err := o.fill(); err != nil {
		return fmt.Errorf("bus options: %w", err)
	}
	u.fill(&o)
	client, err := openKafka(o.Kafka, o.Log)
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	for _, r := range kafkaRights(&o, u) {
		acl := kadm.NewACLs().Allow("User:" + r.user).AllowHosts("*").ResourcePatternType(kadm.ACLPatternLiteral).Operations(r.operations...)
		switch r.resource {
		case "topic":
			acl = acl.Topics(r.name)
		case "group":
			acl = acl.Groups(r.name)
		default:
			acl = acl.Clusters()
		}
		results, err := admin.CreateACLs(ctx, acl)
		for _, result := range results {
			err = errors.Join(err, result.Err)
		}
		if err != nil {
			return fmt.Errorf("give %s rights on %s %s: %w", r.user, r.resource, r.name, err)
		}
	}
	return nil
}

// readsTableOf says whether a role reads a compacted topic that another writes.
func (o *Options) readsTableOf(reader, writer bus.Role) bool {
	return slices.ContainsFunc(o.Topics, func(t bus.Definition) bool {
		return t.Compacted && slices.Contains(t.To, reader) && slices.Contains(t.From, writer)
	})
}
