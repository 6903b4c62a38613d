package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hawser-project/hawser/internal/secret"
)

// Corda's dialect of JSON (spec 1.3). The type of a field says it all: a pointer may be absent or null, a bool or number
// may be absent, everything else must be there. Scalars may be quoted, numbers and booleans stand for strings. Unknown
// and repeated keys are refused.

// jsonText is a field that is a JSON object or a string: the object as compact text, or the string's content.
type jsonText string

// instant is a time in Unix milliseconds, ISO-8601 in JSON.
type instant int64

const maxDepth = 64

// decodeBody reads a body into the struct that into points to. wrapper is the key under which the whole may also be.
func decodeBody(octets []byte, wrapper string, into reflect.Value) error {
	if !utf8.Valid(octets) {
		return errors.New("the body is not UTF-8")
	}
	octets = bytes.TrimSpace(octets)
	if len(octets) == 0 {
		octets = []byte("{}")
	}
	if err := checkJSON(octets); err != nil {
		return err
	}
	root, err := properties(octets)
	if err != nil {
		return err
	}
	if inner, ok := unwrap(root, wrapper, into.Elem().Type()); ok {
		if root, err = properties(inner); err != nil {
			return fmt.Errorf("%s: %w", wrapper, err)
		}
	}
	return assignStruct(root, into.Elem())
}

// unwrap finds the value of the wrapper: the operation's own name for it, or "request", alone in the object.
func unwrap(root []property, wrapper string, t reflect.Type) (json.RawMessage, bool) {
	if len(root) != 1 || fieldOf(t, root[0].key) >= 0 {
		return nil, false
	}
	if root[0].key == wrapper || root[0].key == "request" {
		return root[0].value, true
	}
	return nil, false
}

// checkJSON says whether the octets are one JSON value, without repeated keys and not too deep.
func checkJSON(octets []byte) error {
	d := json.NewDecoder(bytes.NewReader(octets))
	d.UseNumber()
	var open []map[string]bool // keys of the objects we are in; nil for an array
	wantKey := false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && len(open) == 0 {
			break
		}
		if err != nil {
			return fmt.Errorf("the body is not JSON: %w", err)
		}
		if key, ok := token.(string); ok && wantKey {
			if keys := open[len(open)-1]; keys[key] {
				return fmt.Errorf("Duplicate field '%s'", key)
			} else {
				keys[key] = true
			}
			wantKey = false
			continue
		}
		switch token {
		case json.Delim('{'):
			open = append(open, map[string]bool{})
		case json.Delim('['):
			open = append(open, nil)
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		}
		if len(open) > maxDepth {
			return fmt.Errorf("the body is nested deeper than %d", maxDepth)
		}
		wantKey = len(open) > 0 && open[len(open)-1] != nil
	}
	if !json.Valid(octets) { // the token reader lets several values pass
		return errors.New("the body is not one JSON value")
	}
	return nil
}

// property is one property of an object.
type property struct {
	key   string
	value json.RawMessage
}

// properties takes an object apart, in its order.
func properties(octets []byte) ([]property, error) {
	d := json.NewDecoder(bytes.NewReader(octets))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, errors.New("a JSON object is wanted")
	}
	var all []property
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		m := property{key: key.(string)} //nolint:forcetypeassert // checkJSON has seen it
		if err := d.Decode(&m.value); err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// fieldOf finds a field by its name in JSON, case counting; -1 is none.
func fieldOf(t reflect.Type, key string) int {
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name == key {
			return i
		}
	}
	return -1
}

func assignStruct(given []property, into reflect.Value) error {
	t := into.Type()
	seen := make([]bool, t.NumField())
	for _, m := range given {
		i := fieldOf(t, m.key)
		if i < 0 {
			return fmt.Errorf("unknown property %q", m.key)
		}
		seen[i] = true
		if err := assign(m.value, into.Field(i)); err != nil {
			return fmt.Errorf("%s: %w", m.key, err)
		}
	}
	for i := range t.NumField() {
		if !seen[i] && required(t.Field(i).Type) {
			return fmt.Errorf("%s is missing", t.Field(i).Tag.Get("json"))
		}
	}
	return nil
}

func required(t reflect.Type) bool {
	switch t.Kind() { //nolint:exhaustive // the rest must be there
	case reflect.Pointer, reflect.Bool, reflect.Int, reflect.Int64:
		return false
	}
	return true
}

// assign reads one value into a field.
func assign(raw json.RawMessage, into reflect.Value) error {
	isNull := string(raw) == "null"
	if into.Kind() == reflect.Pointer {
		if isNull {
			return nil
		}
		value := reflect.New(into.Type().Elem())
		if err := assign(raw, value.Elem()); err != nil {
			return err
		}
		into.Set(value)
		return nil
	}
	if isNull {
		if required(into.Type()) {
			return errors.New("null is not allowed")
		}
		return nil
	}
	switch field := into.Addr().Interface().(type) {
	case *jsonText:
		return assignText(raw, field)
	case *instant:
		return assignInstant(raw, field)
	case *secret.Secret:
		text, err := scalar(raw)
		*field = secret.FromString(text)
		return err
	}
	return assignKind(raw, into)
}

func assignKind(raw json.RawMessage, into reflect.Value) error {
	switch into.Kind() { //nolint:exhaustive // the kinds that bodies have
	case reflect.String:
		text, err := scalar(raw)
		into.SetString(text)
		return err
	case reflect.Bool:
		text, err := scalar(raw)
		if err != nil || !strings.EqualFold(text, "true") && !strings.EqualFold(text, "false") {
			return errors.New("true or false is wanted")
		}
		into.SetBool(strings.EqualFold(text, "true"))
		return nil
	case reflect.Int:
		text, err := scalar(raw)
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return fmt.Errorf("%.40q is not a whole number between %d and %d", text, math.MinInt32, math.MaxInt32)
		}
		into.SetInt(n)
		return nil
	case reflect.Slice:
		return assignSlice(raw, into)
	case reflect.Map:
		return assignMap(raw, into)
	case reflect.Struct:
		given, err := properties(raw)
		if err != nil {
			return err
		}
		return assignStruct(given, into)
	}
	panic("rest: a body has a field of type " + into.Type().String())
}

// scalar returns a string, number or boolean as text.
func scalar(raw json.RawMessage) (string, error) {
	switch raw[0] {
	case '{', '[':
		return "", errors.New("a string is wanted, not an object or array")
	case '"':
		var text string
		err := json.Unmarshal(raw, &text)
		return text, err
	}
	return string(raw), nil
}

func assignSlice(raw json.RawMessage, into reflect.Value) error {
	var elements []json.RawMessage
	if err := json.Unmarshal(raw, &elements); err != nil {
		return errors.New("an array is wanted")
	}
	list := reflect.MakeSlice(into.Type(), len(elements), len(elements))
	for i, e := range elements {
		if err := assign(e, list.Index(i)); err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
	}
	into.Set(list)
	return nil
}

func assignMap(raw json.RawMessage, into reflect.Value) error {
	given, err := properties(raw)
	if err != nil {
		return err
	}
	m := reflect.MakeMapWithSize(into.Type(), len(given))
	for _, entry := range given {
		value := reflect.New(into.Type().Elem()).Elem()
		if err := assign(entry.value, value); err != nil {
			return fmt.Errorf("%s: %w", entry.key, err)
		}
		m.SetMapIndex(reflect.ValueOf(entry.key), value)
	}
	into.Set(m)
	return nil
}

func assignText(raw json.RawMessage, into *jsonText) error {
	switch raw[0] {
	case '{', '[':
		var compact bytes.Buffer
		if err := json.Compact(&compact, raw); err != nil {
			return err
		}
		*into = jsonText(compact.String())
		return nil
	case '"':
		text, err := scalar(raw)
		*into = jsonText(text)
		return err
	}
	return errors.New("a JSON object or a string is wanted")
}

func assignInstant(raw json.RawMessage, into *instant) error {
	text, err := scalar(raw)
	if err != nil {
		return err
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return fmt.Errorf("%.40q is not a time such as 2025-01-31T12:00:00Z", text)
	}
	*into = instant(t.UnixMilli())
	return nil
}
