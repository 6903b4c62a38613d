package distributed

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hawser-project/hawser/bus"
)

// laterRelease has the migrations of this one and another that adds a column.
func laterRelease(t *testing.T) fs.FS {
	t.Helper()
	files := fstest.MapFS{"migrations/role_0002.sql": {Data: []byte(`alter table @schema@.state add column seen_by_later boolean not null default false`)}}
	for _, name := range []string{"migrations/common_0001.sql", "migrations/role_0001.sql"} {
		octets, err := migrations.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: octets}
	}
	return files
}

// TestTwoReleasesWorkSideBySide opens a process of this release and one of the next, which migrates what it finds; then
// another of this one. Steps of each are done, and each sees the other's rows.
func TestTwoReleasesWorkSideBySide(t *testing.T) {
	t.Parallel()
	c := setup(t)
	first := c.open(t, "this release")
	later := *c
	later.o.migrations = laterRelease(t)
	second := later.open(t, "the next release")
	third := c.open(t, "this release, later")
	for i, d := range []*Driver{first, second, third} {
		o := own(t, d, "a")
		o.await(t, "a partition", func() bool { return len(o.owned) > 0 })
		key := bus.RowKey{Role: "a", Kind: "k", Key: "x", Row: d.o.Name}
		mustDo(t, d, bus.Step{Owner: o.one(), Writes: []bus.Write{{RowKey: key, Value: []byte{byte(i)}}}})
		for _, reader := range []*Driver{first, second, third} {
			if value, _, err := reader.Get(t.Context(), key); err != nil || len(value) != 1 || value[0] != byte(i) {
				t.Errorf("%s reads %v, %v of %s", reader.o.Name, value, err, d.o.Name)
			}
		}
	}
	var columns int
	if err := first.pool.QueryRow(t.Context(), `select count(*) from information_schema.columns where table_schema = $1 and column_name = 'seen_by_later'`,
		c.o.Postgres.Prefix+"_a").Scan(&columns); err != nil || columns != 1 {
		t.Errorf("the next release's column is there %d times, %v", columns, err)
	}
}

// TestASchemaThatIsTooNewIsRefused records a version that says that this release can't use it.
func TestASchemaThatIsTooNewIsRefused(t *testing.T) {
	t.Parallel()
	c := setup(t)
	d := c.open(t, "one")
	exec(t, d, d.schemas.sql(`insert into @common@.schema_version (schema, version, compatible_from) values ($1, 7, 7)`, ""), d.schemas.of("a"))
	if other, err := Open(t.Context(), c.o); err == nil {
		_ = other.Close()
		t.Error("a schema of a later release was opened")
	} else if !strings.Contains(err.Error(), "use a later release") {
		t.Errorf("got %v, want what to do", err)
	}
}
