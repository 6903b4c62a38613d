package bus

import (
	"context"
	"reflect"
	"strconv"
	"strings"
)

// State is one kind of keyed state. Rows under the key of a step's own input are owned: nobody else writes them. All
// other rows are shared: the commit checks that what the step read of them still holds, and runs it again if not.
type State[V any] struct {
	Name  string
	Owner Role
}

// Definition describes the kind of state.
func (s State[V]) Definition() Definition {
	return Definition{What: "state", Name: s.Name, From: []Role{s.Owner}}
}

// Entry is a row of state as a scan gives it.
type Entry[V any] struct {
	Key, Row string
	Value    V
}

// Reader reads state: a Tx within its step, or a view outside of one.
type Reader interface {
	get(key RowKey) ([]byte, bool, error)
	scan(in Range, yield func(Row) bool) error
	reader() *Client
}

// Get returns a row. Within a step it sees what the step has written.
func (s State[V]) Get(r Reader, key, row string) (v V, found bool, err error) {
	if err := s.mine(r); err != nil {
		return v, false, err
	}
	octets, found, err := r.get(RowKey{s.Owner, s.Name, key, row})
	if err != nil || !found {
		return v, false, err
	}
	return v, true, Decode(octets, &v)
}

// List returns the rows of a key whose names begin with prefix, in order of their names. It is a snapshot: rows that
// appear later do not conflict with the step.
func (s State[V]) List(r Reader, key, prefix string) ([]Entry[V], error) {
	return s.collect(r, Range{Role: s.Owner, Kind: s.Name, Key: key, RowPrefix: prefix})
}

// ListKeys returns the rows of every key that begins with prefix, in order of key and row.
func (s State[V]) ListKeys(r Reader, prefix string) ([]Entry[V], error) {
	return s.collect(r, Range{Role: s.Owner, Kind: s.Name, Key: prefix, AllKeys: true})
}

func (s State[V]) collect(r Reader, in Range) (entries []Entry[V], err error) {
	if err := s.mine(r); err != nil {
		return nil, err
	}
	var failed error
	err = r.scan(in, func(row Row) bool {
		e := Entry[V]{Key: row.Key, Row: row.Row}
		if failed = Decode(row.Value, &e.Value); failed != nil {
			return false
		}
		entries = append(entries, e)
		return true
	})
	if failed != nil {
		return nil, failed
	}
	return entries, err
}

// Put writes a row when the step commits. Fields of the stored value that this release does not know are kept.
func (s State[V]) Put(tx *Tx, key, row string, v V) {
	if err := s.mine(tx); err != nil {
		tx.fail(err)
		return
	}
	octets, err := encodeBounded(v)
	if err != nil {
		tx.fail(err)
		return
	}
	tx.put(RowKey{s.Owner, s.Name, key, row}, octets, fieldNumbers(reflect.TypeFor[V]()))
}

// Delete removes a row when the step commits. An absent row is no error.
func (s State[V]) Delete(tx *Tx, key, row string) {
	if err := s.mine(tx); err != nil {
		tx.fail(err)
		return
	}
	tx.delete(RowKey{s.Owner, s.Name, key, row})
}

func (s State[V]) mine(r Reader) error {
	return r.reader().may([]Role{s.Owner}, "use", "state", s.Name)
}

// view reads state outside of a step.
type view struct {
	ctx    context.Context
	client *Client
}

func (v *view) get(key RowKey) ([]byte, bool, error) {
	octets, version, err := v.client.bus.driver.Get(v.ctx, key)
	return octets, version != 0, err
}

func (v *view) scan(in Range, yield func(Row) bool) error {
	return v.client.bus.driver.Scan(v.ctx, in, yield)
}

func (v *view) reader() *Client { return v.client }

// fieldNumbers returns the CBOR field numbers of a struct, or nil for any other type.
func fieldNumbers(t reflect.Type) map[int64]bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	known := make(map[int64]bool, t.NumField())
	for field := range t.Fields() {
		tag, keyed := strings.CutSuffix(field.Tag.Get("cbor"), ",keyasint")
		tag, _, _ = strings.Cut(tag, ",")
		number, err := strconv.ParseInt(tag, 10, 64)
		if err != nil || (!keyed && !strings.Contains(field.Tag.Get("cbor"), "keyasint")) {
			return nil
		}
		known[number] = true
	}
	return known
}
