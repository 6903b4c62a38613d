package flow

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hawser-project/hawser/worker/flow/wasm/frame"
)

// maxPage bounds a page of entries, in octets. One entry always fits.
const maxPage = 1 << 20

// listing is what the last StoreList has read, so that its further pages need not read it again.
type listing struct {
	prefix string
	keys   []string // in order
}

// put sets an entry of the virtual node's store. Nobody sees it before the step takes effect.
func (s *step) put(body []byte) error {
	e, err := frame.DecodeEntry(body)
	if err != nil {
		return err
	}
	if e.Key == "" {
		return fmt.Errorf("%w: a put without a key", errBroken)
	}
	s.puts[e.Key] = append([]byte{}, e.Value...)
	s.listed = nil
	s.size += len(e.Value)
	return nil
}

// get answers with an entry. That it still is what was read is checked when the step commits.
func (s *step) get(c frame.Command) error {
	e, err := frame.DecodeEntry(c.Body)
	if err != nil {
		return err
	}
	value, found, err := s.read(e.Key)
	if err != nil {
		return s.storeError(err)
	}
	s.answer(c.ID, (&frame.Found{Found: found, Value: value}).Append(nil))
	return nil
}

func (s *step) read(key string) ([]byte, bool, error) {
	if value, own := s.puts[key]; own {
		return value, true, nil
	}
	return store.Get(s.tx, s.run.Holder, key)
}

// list answers with a page of entries.
func (s *step) list(c frame.Command) error {
	q, err := frame.DecodeList(c.Body)
	if err != nil {
		return err
	}
	if err := s.readList(q.Prefix); err != nil {
		return s.storeError(err)
	}
	page, size := frame.Page{}, 0
	first, found := slices.BinarySearch(s.listed.keys, q.After)
	if found {
		first++
	}
	for _, key := range s.listed.keys[first:] {
		// Each entry is read by itself too, so that the commit checks it like one that was asked for alone.
		value, found, err := s.read(key)
		if err != nil {
			return s.storeError(err)
		}
		if !found {
			continue
		}
		if size += len(key) + len(value); len(page.Entries) > 0 && (uint64(len(page.Entries)) >= min(q.Limit, frame.MaxItems) || size > maxPage) {
			page.More = true
			break
		}
		page.Entries = append(page.Entries, frame.Entry{Key: key, Value: value})
	}
	s.answer(c.ID, page.Append(nil))
	return nil
}

// readList finds the keys with a prefix, the flow's own puts among them.
func (s *step) readList(prefix string) error {
	if s.listed != nil && s.listed.prefix == prefix {
		return nil
	}
	rows, err := store.List(s.tx, s.run.Holder, prefix)
	if err != nil {
		return err
	}
	keys := make(map[string]bool, len(rows))
	for _, row := range rows {
		keys[row.Row] = true
	}
	for key := range s.puts {
		if strings.HasPrefix(key, prefix) {
			keys[key] = true
		}
	}
	s.listed = &listing{prefix, slices.Sorted(maps.Keys(keys))}
	return nil
}

// storeError keeps an error of the store apart from the flow's own: the step is run again.
func (s *step) storeError(err error) error {
	s.unread = err
	return err
}
