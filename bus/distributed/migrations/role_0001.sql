-- What one role has: its keyed state, and the partitions of its keys.
-- @schema@ is the schema; what applies this file records it in schema_version.

create table @schema@.state (
	kind    text collate "C" not null,
	key     bytea not null,
	row     bytea not null,
	value   bytea,
	version bigint not null check (version >= 0),
	primary key (kind, key, row),
	-- A row without value and version holds a place while a step checks that nobody has made the row. It is never committed.
	check ((value is null) = (version = 0))
);

create sequence @schema@.version;

-- One row for everything that must move together: who owns a partition, what it has finished and what it has sent.
-- It is updated by every commit: the free half of each page keeps that off the index.
create table @schema@.partition (
	id            integer primary key check (id >= 0),
	owner         bigint, -- member.id
	epoch         bigint not null default 0,
	commits       bigint not null default 0,
	attempt       bigint not null default 0, -- a random number of the last commit, to recognise it
	next_sequence bigint not null default 1 check (next_sequence > 0),
	positions     bytea not null default '',
	updated_at    timestamptz not null default clock_timestamp()
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
alter table @schema@.partition alter column positions set storage main;

-- From which sequence on each epoch has sent: a record whose epoch is not here, or whose sequence is not the epoch's, was
-- never committed.
create table @schema@.epoch (
	partition      integer not null references @schema@.partition,
	epoch          bigint not null,
	first_sequence bigint not null,
	begun_at       timestamptz not null default clock_timestamp(),
	primary key (partition, epoch)
);

-- What the compacted topics that the role writes have for each key; without a value: the key is gone. The row stays, for
-- another role may have set the key earlier.
create table @schema@.entry (
	topic   text collate "C" not null,
	key     bytea not null,
	value   bytea,
	version bigint not null,
	primary key (topic, key)
);

-- Records that are committed and that Kafka may not have: a row per commit.
create table @schema@.outbox (
	partition      integer not null,
	first_sequence bigint not null,
	last_sequence  bigint not null check (last_sequence >= first_sequence),
	epoch          bigint not null,
	records        bytea not null,
	primary key (partition, first_sequence)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
alter table @schema@.outbox alter column records set storage external;

-- advance moves a partition on by one commit, or makes the transaction fail where the caller is not its owner any more,
-- or where the database is not as the caller left it.
create function @schema@.advance(the_partition integer, the_epoch bigint, known bigint, this_attempt bigint, next bigint, new_positions bytea)
returns void language plpgsql as $$
begin
	update @schema@.partition
	set commits = known + 1, attempt = this_attempt, next_sequence = next, positions = new_positions, updated_at = clock_timestamp()
	where id = the_partition and epoch = the_epoch and commits = known;
	if not found then
		raise exception 'partition % has another owner', the_partition using errcode = 'HW001';
	end if;
end $$;
