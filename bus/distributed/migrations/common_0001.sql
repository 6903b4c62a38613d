-- What all roles share: who is alive, everybody's state, and blobs.
-- @schema@ is the schema; what applies this file records it in schema_version.

create table @schema@.meta (
	name  text primary key,
	value text not null
);

-- A process. Its number is unique among the rows, and rows of the dead are kept for a while, so that a number is not used
-- again soon. id tells a process from an earlier one with its number.
create table @schema@.member (
	id         bigint primary key,
	number     integer not null unique check (number between 1 and 65535),
	name       text not null,
	address    text not null,
	roles      text[] not null,
	candidate  text[] not null default '{}', -- roles whose partitions it takes
	expires    timestamptz not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

create sequence @schema@.member_number as integer maxvalue 65535 cycle;

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

-- Orders what different roles set in one compacted topic.
create sequence @schema@.entry_version;

-- The last record without a step of each compacted topic: who waits for the topic's present state waits for it too.
create table @schema@.published (
	topic    text primary key,
	sequence bigint not null
);

create table @schema@.blob (
	id        bytea primary key check (octet_length(id) = 32),
	upload    bigint not null unique,
	size      bigint not null check (size >= 0),
	stored_at timestamptz not null
);

create table @schema@.blob_upload (
	upload   bigint primary key generated always as identity,
	begun_at timestamptz not null default clock_timestamp()
);

create table @schema@.blob_piece (
	upload bigint not null references @schema@.blob_upload on delete cascade,
	n      integer not null check (n >= 0),
	octets bytea not null check (octet_length(octets) between 1 and 524288),
	primary key (upload, n)
);
-- Packages and images are compressed already, and are read by range.
alter table @schema@.blob_piece alter column octets set storage external;
