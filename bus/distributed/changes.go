package distributed

import (
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/hawser-project/hawser/bus"
)

// changes are the writes of a batch of steps; of several to one row the last counts.
type changes struct{ rows map[bus.RowKey][]byte }

func newChanges() *changes { return &changes{make(map[bus.RowKey][]byte)} }

func (c *changes) add(writes []bus.Write) {
	for i := range writes {
		c.rows[writes[i].RowKey] = writes[i].Value
	}
}

// queue adds one statement per schema for the rows that are set, and one for those deleted. All transactions take rows in
// the same order, so that they seldom wait for each other in a circle.
func (c *changes) queue(batch *pgx.Batch, s *schemas) {
	keys := slices.SortedFunc(maps.Keys(c.rows), bus.RowKey.Compare)
	set := make([]bus.RowKey, 0, len(keys))
	var removed []bus.RowKey
	for _, key := range keys {
		if c.rows[key] == nil {
			removed = append(removed, key)
		} else {
			set = append(set, key)
		}
	}
	for _, role := range rolesOf(set) {
		kinds, names, rows := columns(set, role)
		values := make([][]byte, 0, len(kinds))
		for _, key := range set {
			if key.Role == role {
				values = append(values, c.rows[key])
			}
		}
		batch.Queue(s.sql(sqlUpsert, string(role)), kinds, names, rows, values)
	}
	for _, role := range rolesOf(removed) {
		kinds, names, rows := columns(removed, role)
		batch.Queue(s.sql(sqlRemove, string(role)), kinds, names, rows)
	}
}

// dropPlaces removes the placeholders that nothing was written to.
func (c *changes) dropPlaces(batch *pgx.Batch, s *schemas, places []bus.RowKey) {
	unused := slices.DeleteFunc(slices.Clone(places), func(key bus.RowKey) bool { _, written := c.rows[key]; return written })
	for _, role := range rolesOf(unused) {
		kinds, keys, rows := columns(unused, role)
		batch.Queue(s.sql(sqlDropPlaces, string(role)), kinds, keys, rows)
	}
}

// rolesOf lists the schemas of rows.
func rolesOf(keys []bus.RowKey) (roles []bus.Role) {
	for _, key := range keys {
		if !slices.Contains(roles, key.Role) {
			roles = append(roles, key.Role)
		}
	}
	slices.Sort(roles)
	return roles
}

// columns returns the rows of one schema as columns, in order.
func columns(keys []bus.RowKey, role bus.Role) (kinds []string, names, rows [][]byte) {
	own := make([]bus.RowKey, 0, len(keys))
	for _, key := range keys {
		if key.Role == role {
			own = append(own, key)
		}
	}
	slices.SortFunc(own, bus.RowKey.Compare)
	for _, key := range own {
		kinds = append(kinds, key.Kind)
		names = append(names, []byte(key.Key))
		rows = append(rows, []byte(key.Row))
	}
	return kinds, names, rows
}
