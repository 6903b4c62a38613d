package distributed

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations/*.sql
var migrations embed.FS

// compatibleFrom is the oldest version of the schema whose programs can use what the migrations of this release leave
// behind. It is recorded, so that an older program knows whether it may go on beside a newer one.
const compatibleFrom = 1

const sqlVersions = `create table if not exists @common@.schema_version (
	schema          text not null,
	version         integer not null,
	compatible_from integer not null,
	applied_at      timestamptz not null default clock_timestamp(),
	primary key (schema, version)
)`

type migration struct {
	version int
	sql     string
}

// loadMigrations returns the migrations of a kind of schema, "common" or "role", in order: they are numbered from 1.
func (s *schemas) loadMigrations(kind string) ([]migration, error) {
	files, err := fs.Glob(s.migrations, "migrations/"+kind+"_*.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	slices.Sort(files)
	list := make([]migration, 0, len(files))
	for i, file := range files {
		number := strings.TrimSuffix(strings.TrimPrefix(path.Base(file), kind+"_"), ".sql")
		version, err := strconv.Atoi(number)
		if err != nil || version != i+1 {
			return nil, fmt.Errorf("migration %s: migrations are numbered from 1 without gaps", file)
		}
		octets, err := fs.ReadFile(s.migrations, file)
		if err != nil {
			return nil, fmt.Errorf("read migration %s: %w", file, err)
		}
		list = append(list, migration{version, string(octets)})
	}
	return list, nil
}

// schemaError is a schema that this program can't work with.
type schemaError struct {
	text  string
	older bool // and migrations of this program would bring it up to date
}

func (e *schemaError) Error() string { return e.text }

const adviseInit = "run: hawser bus init"

// checkSchema compares the version of a schema with what this program knows.
func checkSchema(schema string, found, compatible, known int) error {
	switch {
	case found == 0:
		return &schemaError{text: fmt.Sprintf("schema %s of PostgreSQL is not there; %s", schema, adviseInit)}
	case found < known:
		return &schemaError{fmt.Sprintf("schema %s of PostgreSQL has version %d, and this program needs %d; %s", schema, found, known, adviseInit), true}
	case compatible > known:
		return &schemaError{text: fmt.Sprintf("schema %s of PostgreSQL has version %d, which programs that know version %d can't use; use a later release, or restore a backup", schema, found, known)}
	}
	return nil
}

type versions map[string]struct{ found, compatible int }

// readVersions returns the versions of all schemas; none where the cluster is not initialised.
func readVersions(ctx context.Context, db querier, s *schemas) (versions, error) {
	list := make(versions)
	rows, err := db.Query(ctx, s.sql(`select v.schema, v.version, v.compatible_from from @common@.schema_version v
where v.version = (select max(version) from @common@.schema_version w where w.schema = v.schema)`, ""))
	if err == nil {
		var schema string
		var found, compatible int
		_, err = pgx.ForEachRow(rows, []any{&schema, &found, &compatible}, func() error {
			list[schema] = struct{ found, compatible int }{found, compatible}
			return nil
		})
	}
	if state := sqlState(err); state == stateNoTable || state == stateNoSchema {
		return list, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the versions of schemas: %w", err)
	}
	return list, nil
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// bringUp migrates what an earlier release has left, where the user may. The release before goes on working on it: migrations
// only add.
func (d *Driver) bringUp(ctx context.Context, found error) error {
	var older *schemaError
	if !errors.As(found, &older) || !older.older {
		return found
	}
	err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error { return migrate(ctx, tx, d.schemas, roleNames(d.o.Roles)) })
	if err != nil {
		return errors.Join(found, fmt.Errorf("this user can't migrate it: %w", err))
	}
	d.log.InfoContext(ctx, "schema migrated", "from", older.text)
	return nil
}

// migrate brings the common schema and those of the roles to the version that this program knows.
func migrate(ctx context.Context, tx pgx.Tx, s *schemas, roles []string) error {
	// One at a time: who comes second finds it done.
	if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended($1, 0))`, "hawser schema "+s.prefix); err != nil {
		return fmt.Errorf("wait for others that migrate: %w", err)
	}
	for _, statement := range []string{"create schema if not exists @common@", sqlVersions} {
		if _, err := tx.Exec(ctx, s.sql(statement, "")); err != nil {
			return fmt.Errorf("make the common schema: %w", err)
		}
	}
	found, err := readVersions(ctx, tx, s)
	if err != nil {
		return err
	}
	if err := migrateSchema(ctx, tx, s, "common", "", found); err != nil {
		return err
	}
	for _, role := range roles {
		if err := migrateSchema(ctx, tx, s, "role", role, found); err != nil {
			return err
		}
	}
	return nil
}

func migrateSchema(ctx context.Context, tx pgx.Tx, s *schemas, kind, role string, found versions) error {
	list, err := s.loadMigrations(kind)
	if err != nil {
		return err
	}
	schema := s.of(role)
	at := found[schema]
	if at.found > len(list) {
		return checkSchema(schema, at.found, at.compatible, len(list))
	}
	if _, err := tx.Exec(ctx, "create schema if not exists "+schema); err != nil {
		return fmt.Errorf("make schema %s: %w", schema, err)
	}
	for _, m := range list[at.found:] {
		if _, err := tx.Exec(ctx, strings.ReplaceAll(m.sql, "@schema@", schema)); err != nil {
			return fmt.Errorf("migration %d of schema %s: %w", m.version, schema, err)
		}
		insert := s.sql(`insert into @common@.schema_version (schema, version, compatible_from) values ($1, $2, $3)`, "")
		if _, err := tx.Exec(ctx, insert, schema, m.version, compatibleFrom); err != nil {
			return fmt.Errorf("record migration %d of schema %s: %w", m.version, schema, err)
		}
	}
	return nil
}

// checkSchemas checks the common schema and those of the roles, and reports all faults together.
func checkSchemas(ctx context.Context, db querier, s *schemas, roles []string) error {
	found, err := readVersions(ctx, db, s)
	if err != nil {
		return err
	}
	common, err := s.loadMigrations("common")
	if err != nil {
		return err
	}
	ofRole, err := s.loadMigrations("role")
	if err != nil {
		return err
	}
	at := found[s.common]
	errs := []error{checkSchema(s.common, at.found, at.compatible, len(common))}
	if at.found == 0 {
		return errs[0] // the others are not there either, and one line says it
	}
	for _, role := range roles {
		at := found[s.of(role)]
		errs = append(errs, checkSchema(s.of(role), at.found, at.compatible, len(ofRole)))
	}
	return errors.Join(errs...)
}
