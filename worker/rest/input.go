package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"

	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/corda/identity"
)

// handler is a handler of any type, as the router knows it.
type handler struct {
	call    func(ctx context.Context, r *request) (any, error)
	queries []string
	stream  bool // reads its body itself: an upload
}

// request is a request with what its path means.
type request struct {
	match
	http *http.Request
	body io.Reader
}

// rawBody is the body as it is.
type rawBody []byte

// form is a multipart body that the handler reads as it comes in.
type form struct{ *multipart.Reader }

// field is one field of a handler's input, found by its tag.
type field struct {
	index      int
	from, name string // "path", "query", "header", "body", "raw" or "form"
}

// handle makes a handler of a function of typed input. Fields of the input are tagged path, query, header or body; body
// says under which key the object may also be. A field of type rawBody or form needs no tag.
func handle[In, Out any](fn func(ctx context.Context, in In) (Out, error)) handler {
	fields, h := plan(reflect.TypeFor[In]())
	h.call = func(ctx context.Context, r *request) (any, error) {
		var in In
		value := reflect.ValueOf(&in).Elem()
		for _, f := range fields {
			if err := r.read(f, value.Field(f.index)); err != nil {
				return nil, err
			}
		}
		return fn(ctx, in)
	}
	return h
}

// plan reads the tags of an input.
func plan(t reflect.Type) (fields []field, h handler) {
	for i := range t.NumField() {
		f := field{index: i}
		switch t.Field(i).Type {
		case reflect.TypeFor[rawBody]():
			f.from = "raw"
		case reflect.TypeFor[form]():
			f.from, h.stream = "form", true
		default:
			for _, from := range []string{"path", "query", "header", "body"} {
				if name, ok := t.Field(i).Tag.Lookup(from); ok {
					f.from, f.name = from, name
				}
			}
		}
		if f.from == "" {
			panic(fmt.Sprintf("rest: %v has a field without a tag: %s", t, t.Field(i).Name))
		}
		if f.from == "query" {
			h.queries = append(h.queries, f.name)
		}
		fields = append(fields, f)
	}
	return fields, h
}

// read reads one field of the input.
func (r *request) read(f field, into reflect.Value) error {
	switch f.from {
	case "path":
		return parseScalar(f.name, r.value(f.name), into)
	case "query":
		return r.readQuery(f.name, into)
	case "header":
		into.SetString(r.http.Header.Get(f.name))
		return nil
	case "form":
		return r.readForm(into)
	}
	octets, err := io.ReadAll(r.body)
	if err != nil {
		return r.bodyError(err)
	}
	if f.from == "raw" {
		into.SetBytes(octets)
		return nil
	}
	name := f.name
	if name == "" {
		name = "request"
	}
	if err := decodeBody(octets, f.name, into.Addr()); err != nil {
		return unparsable(name, err.Error())
	}
	return nil
}

// unparsable is Corda's error for a parameter.
func unparsable(parameter, reason string) error {
	return failure(http.StatusBadRequest, "Unable to parse parameter '"+parameter+"'", "cause", "BadRequestException", "reason", reason)
}

// bodyError says why a body could not be read.
func (r *request) bodyError(err error) error {
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return tooLarge(tooLong.Limit+1, tooLong.Limit)
	}
	return fault.New(fault.Invalid, "the body of the request is cut short or came in too slowly: %w", withoutAddresses(err))
}

// withoutAddresses leaves of an error of the connection what went wrong. The rest of its text is the addresses of the two
// ends, and ours may be one behind a proxy that clients are not to know.
func withoutAddresses(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

func tooLarge(length, limit int64) error {
	return failure(http.StatusBadRequest, fmt.Sprintf("Content length is %d which exceeds the maximum limit of %d.", length, limit))
}

// readQuery reads a query parameter: names in any case, the first value of a scalar, all values of a list.
func (r *request) readQuery(name string, into reflect.Value) error {
	values := queryValues(r.http.URL.RawQuery, name)
	if into.Kind() == reflect.Slice {
		into.Set(reflect.ValueOf(values))
		return nil
	}
	if len(values) == 0 {
		if into.Kind() == reflect.Pointer {
			return nil
		}
		return unparsable(name, fmt.Sprintf("Missing query parameter %q.", name))
	}
	if into.Kind() == reflect.Pointer {
		value := reflect.New(into.Type().Elem())
		into.Set(value)
		into = value.Elem()
	}
	return parseScalar(name, values[0], into)
}

func queryValues(raw, name string) (values []string) {
	for pair := range strings.SplitSeq(raw, "&") {
		key, value, _ := strings.Cut(pair, "=")
		decodedKey, err1 := url.QueryUnescape(key)
		decoded, err2 := url.QueryUnescape(value)
		if err1 == nil && err2 == nil && strings.EqualFold(decodedKey, name) {
			values = append(values, decoded)
		}
	}
	return values
}

// parseScalar reads a path or query parameter.
func parseScalar(name, text string, into reflect.Value) error {
	if hash, ok := into.Addr().Interface().(*identity.ShortHash); ok {
		return parseHash(text, hash)
	}
	switch into.Kind() {
	case reflect.String:
		into.SetString(text)
	case reflect.Bool:
		into.SetBool(strings.EqualFold(text, "true"))
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return unparsable(name, fmt.Sprintf("%.40q is not a whole number", text))
		}
		into.SetInt(n)
	default:
		panic("rest: a parameter has type " + into.Type().String())
	}
	return nil
}

func parseHash(text string, into *identity.ShortHash) error {
	hash, err := identity.ParseShortHash(text)
	if err != nil {
		return failure(http.StatusBadRequest, "ShortHashException",
			"cause", "net.corda.crypto.core.ShortHashException", "reason", "Invalid holding identity short hash: "+err.Error())
	}
	*into = hash
	return nil
}

// readForm prepares reading a multipart body.
func (r *request) readForm(into reflect.Value) error {
	kind, parameters, err := mime.ParseMediaType(r.http.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" || parameters["boundary"] == "" {
		return fault.New(fault.Unsupported, "this operation takes multipart/form-data, not %.80q", r.http.Header.Get("Content-Type"))
	}
	into.Set(reflect.ValueOf(form{multipart.NewReader(r.body, parameters["boundary"])}))
	return nil
}
