package flow

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/hawser-project/hawser/sdk/internal/engine"
	"github.com/hawser-project/hawser/sdk/internal/frame"
)

// Store keeps records of the virtual node, shared by all flows that run on it. What a flow puts takes effect with
// the step it is part of: together with the step's sends, or not at all. A flow sees its own puts at once.
type Store struct{ task *engine.Task }

// Entry is one record of a store.
type Entry struct {
	Key   string
	Value json.RawMessage
}

// Decode reads the entry's value into v.
func (e Entry) Decode(v any) error {
	if err := json.Unmarshal(e.Value, v); err != nil {
		return fmt.Errorf("entry %s: %w", e.Key, &Error{Code: CodeBadMessage, Message: err.Error()})
	}
	return nil
}

// Put sets the record under key.
func (s *Store) Put(key string, v any) error {
	if err := checkKey(key); err != nil {
		return err
	}
	p, err := encode(v)
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	if len(p) > frame.MaxValue {
		return &Error{Code: CodeTooLarge, Message: fmt.Sprintf("put %s: %d octets, at most %d", key, len(p), frame.MaxValue)}
	}
	e := frame.Entry{Key: key, Value: p}
	s.task.Emit(frame.StorePut, e.Append(make([]byte, 0, len(key)+len(p)+16)))
	return nil
}

// Get reads the record under key into v and says whether there is one.
func (s *Store) Get(key string, v any) (found bool, err error) {
	if err := checkKey(key); err != nil {
		return false, err
	}
	p, err := s.task.Do(frame.StoreGet, (&frame.Entry{Key: key}).Append(nil))
	if err != nil {
		return false, public(err)
	}
	f, err := frame.DecodeFound(p)
	if err != nil || !f.Found {
		return false, err
	}
	return true, Entry{Key: key, Value: f.Value}.Decode(v)
}

// List reads all records whose keys begin with prefix, in order of key.
func (s *Store) List(prefix string) ([]Entry, error) {
	if len(prefix) > frame.MaxName || !utf8.ValidString(prefix) {
		return nil, badKey(prefix)
	}
	var all []Entry
	for after := ""; ; {
		q := frame.List{Prefix: prefix, After: after, Limit: 1000}
		p, err := s.task.Do(frame.StoreList, q.Append(nil))
		if err != nil {
			return nil, public(err)
		}
		page, err := frame.DecodePage(p)
		if err != nil {
			return nil, err
		}
		for _, e := range page.Entries {
			all = append(all, Entry{Key: e.Key, Value: e.Value})
			after = e.Key
		}
		if !page.More || len(page.Entries) == 0 {
			return all, nil
		}
	}
}

func checkKey(key string) error {
	if key == "" || len(key) > frame.MaxName || !utf8.ValidString(key) {
		return badKey(key)
	}
	return nil
}

func badKey(key string) error {
	return &Error{Code: CodeBadMessage, Message: fmt.Sprintf("key of %d octets: want 1 to %d of UTF-8", len(key), frame.MaxName)}
}
