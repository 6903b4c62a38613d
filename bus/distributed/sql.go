package distributed

import (
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"
)

// All statements. @role@ and @common@ are the schemas of a role and of all; @state@ is the one in which a row of keyed
// state is, and either of them.
const (
	sqlGet = `select value, version from @state@.state where kind = $1 and key = $2 and row = $3 and version > 0`

	// Scans of one key and of many, each with and without an upper bound: a bound that may be null would not end a scan of
	// the index.
	sqlScanKey     = `select key, row, value, version from @state@.state where kind = $1 and key = $2 and row >= $3 and row < $4 and version > 0 order by row limit $5`
	sqlScanKeyOpen = `select key, row, value, version from @state@.state where kind = $1 and key = $2 and row >= $3 and version > 0 order by row limit $4`
	sqlScanAll     = `select key, row, value, version from @state@.state where kind = $1 and (key, row) >= ($2, $3) and key < $4 and version > 0 order by key, row limit $5`
	sqlScanAllOpen = `select key, row, value, version from @state@.state where kind = $1 and (key, row) >= ($2, $3) and version > 0 order by key, row limit $4`

	sqlUpsert = `insert into @state@.state (kind, key, row, value, version)
select u.kind, u.key, u.row, u.value, v.n
from (select nextval('@state@.version') as n offset 0) v, unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[]) as u (kind, key, row, value)
on conflict (kind, key, row) do update set value = excluded.value, version = excluded.version`

	sqlRemove = `delete from @state@.state s using unnest($1::text[], $2::bytea[], $3::bytea[]) as u (kind, key, row)
where s.kind = u.kind and s.key = u.key and s.row = u.row`

	sqlHoldPlaces = `insert into @state@.state (kind, key, row, value, version)
select u.kind, u.key, u.row, null, 0 from unnest($1::text[], $2::bytea[], $3::bytea[]) as u (kind, key, row)
on conflict (kind, key, row) do nothing`

	sqlLock = `select s.kind, s.key, s.row, s.version from @state@.state s
join unnest($1::text[], $2::bytea[], $3::bytea[]) as u (kind, key, row) on s.kind = u.kind and s.key = u.key and s.row = u.row
order by s.kind, s.key, s.row for update of s`

	sqlDropPlaces = `delete from @state@.state s using unnest($1::text[], $2::bytea[], $3::bytea[]) as u (kind, key, row)
where s.kind = u.kind and s.key = u.key and s.row = u.row and s.version = 0`

	sqlAdvance = `select @role@.advance($1, $2, $3, $4, $5, $6)`
	// sqlLook waits for a commit that may still be on its way.
	sqlLook = `select epoch, commits, attempt from @role@.partition where id = $1 for update`

	sqlSend = `insert into @role@.outbox (partition, first_sequence, last_sequence, epoch, records) values ($1, $2, $3, $4, $5)`
	sqlSent = `delete from @role@.outbox where partition = $1 and last_sequence <= $2`
	sqlLeft = `select first_sequence, last_sequence, epoch, records from @role@.outbox where partition = $1 order by first_sequence`

	sqlTake = `with taken as (
	update @role@.partition p
	set owner = $2, epoch = greatest(p.epoch + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint), updated_at = clock_timestamp()
	where p.id = $1 and (p.owner is null or p.owner = $2 or not exists (select from @common@.member m where m.id = p.owner and m.expires > clock_timestamp()))
	returning p.id, p.epoch, p.commits, p.next_sequence, p.positions
), noted as (
	insert into @role@.epoch (partition, epoch, first_sequence) select id, epoch, next_sequence from taken
)
select epoch, commits, next_sequence, positions from taken`

	sqlRelease    = `update @role@.partition set owner = null where id = $1 and epoch = $2`
	sqlPartitions = `select id, owner, epoch from @role@.partition order by id`
	sqlPositions  = `select id, next_sequence, positions from @role@.partition order by id`
	sqlLineage    = `select partition, epoch, first_sequence from @role@.epoch order by partition, epoch`
	// sqlForget keeps the present epoch of a partition and everything younger than the age.
	sqlForget = `delete from @role@.epoch e where e.partition = $1 and e.begun_at < clock_timestamp() - $2::interval
and exists (select from @role@.epoch later where later.partition = e.partition and later.epoch > e.epoch and later.begun_at < clock_timestamp() - $2::interval)`

	sqlMembers = `select id, number, name, address, roles, candidate from @common@.member where expires > clock_timestamp() order by number`
	sqlJoin    = `insert into @common@.member (id, number, name, address, roles, candidate, expires)
select $1, n, $2, $3, $4, $5, clock_timestamp() + $6::interval from (select nextval('@common@.member_number')::integer as n offset 0) s
where not exists (select from @common@.member where number = n)
on conflict do nothing returning number`
	sqlRejoin = `insert into @common@.member (id, number, name, address, roles, candidate, expires)
values ($1, $7, $2, $3, $4, $5, clock_timestamp() + $6::interval) on conflict do nothing returning number`
	sqlBeat  = `update @common@.member set expires = clock_timestamp() + $2::interval, candidate = $3 where id = $1`
	sqlBury  = `delete from @common@.member where expires < clock_timestamp() - interval '10 minutes'`
	sqlLeave = `delete from @common@.member where id = $1`
	sqlTell  = `select pg_notify($1, '')`

	sqlSetEntries = `insert into @role@.entry as e (topic, key, value, version)
select u.topic, u.key, u.value, nextval('@common@.entry_version') from unnest($1::text[], $2::bytea[], $3::bytea[]) as u (topic, key, value)
on conflict (topic, key) do update set value = excluded.value, version = nextval('@common@.entry_version')`
	sqlEntries   = `select key, value, version from @role@.entry where topic = $1`
	sqlEntriesOf = `select key, value, version from @role@.entry where topic = $1 and key = any($2::bytea[])`

	sqlPublished   = `insert into @common@.published as p (topic, sequence) values ($1, $2) on conflict (topic) do update set sequence = greatest(p.sequence, excluded.sequence)`
	sqlPublishedOf = `select sequence from @common@.published where topic = $1`

	sqlBlob       = `select upload, size from @common@.blob where id = $1`
	sqlBlobs      = `select id, size, stored_at from @common@.blob order by id`
	sqlBlobBegin  = `insert into @common@.blob_upload default values returning upload`
	sqlBlobPiece  = `insert into @common@.blob_piece (upload, n, octets) values ($1, $2, $3) on conflict do nothing`
	sqlBlobRange  = `select substring(octets from $3 for $4) from @common@.blob_piece where upload = $1 and n = $2`
	sqlBlobFinish = `insert into @common@.blob as b (id, upload, size, stored_at) values ($1, $2, $3, clock_timestamp())
on conflict (id) do update set stored_at = clock_timestamp() returning upload, stored_at`
	sqlBlobDiscard  = `delete from @common@.blob_upload where upload = $1`
	sqlBlobRemove   = `with gone as (delete from @common@.blob where id = $1 returning upload) delete from @common@.blob_upload u using gone where u.upload = gone.upload`
	sqlBlobsCleanUp = `delete from @common@.blob_upload u where begun_at < clock_timestamp() - interval '1 day'
and not exists (select from @common@.blob b where b.upload = u.upload)`

	sqlMeta = `select value from @common@.meta where name = $1`
)

// schemas fills in the schemas of statements, and remembers what it has filled in.
type schemas struct {
	common     string // quoted
	prefix     string
	migrations fs.FS
	cache      map[[2]string]string
}

func newSchemas(prefix string) *schemas {
	return &schemas{common: quote(prefix), prefix: prefix, migrations: migrations}
}

// with takes other migrations than those of this release, where there are any.
func (s *schemas) with(others fs.FS) *schemas {
	if others != nil {
		s.migrations = others
	}
	return s
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// of returns the quoted schema of a role; that of no role is the common one.
func (s *schemas) of(role string) string {
	if role == "" {
		return s.common
	}
	return quote(s.prefix + "_" + role)
}

// sql returns a statement for the state and partitions of a role.
func (s *schemas) sql(statement, role string) string {
	if known, found := s.cache[[2]string{statement, role}]; found {
		return known
	}
	return strings.NewReplacer("@role@", s.of(role), "@state@", s.of(role), "@common@", s.common).Replace(statement)
}

// prepare remembers all statements on state and partitions for the roles, for those that every step uses.
func (s *schemas) prepare(roles []string) {
	cache := make(map[[2]string]string)
	for _, role := range append([]string{""}, roles...) {
		for _, statement := range []string{
			sqlGet, sqlScanKey, sqlScanKeyOpen, sqlScanAll, sqlScanAllOpen, sqlUpsert, sqlRemove, sqlHoldPlaces, sqlLock, sqlDropPlaces,
			sqlAdvance, sqlLook, sqlSend, sqlSent,
		} {
			cache[[2]string{statement, role}] = s.sql(statement, role)
		}
	}
	s.cache = cache
}
