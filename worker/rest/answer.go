package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/hawser-project/hawser/cluster/fault"
)

// text is a result that is written as it is, and not as a JSON string (spec 1.3).
type text string

// none is the result of operations that have none: 204.
type none struct{}

// statused is a result that chooses its own status.
type statused interface{ httpStatus() int }

// MarshalJSON writes a time as Java does: UTC, with milliseconds where there are any.
func (i instant) MarshalJSON() ([]byte, error) {
	layout := `"2006-01-02T15:04:05.000Z"`
	if i%1000 == 0 {
		layout = `"2006-01-02T15:04:05Z"`
	}
	return []byte(time.UnixMilli(int64(i)).UTC().Format(layout)), nil
}

// optional is a time that is null where there is none.
func optional(unixMilli int64) *instant {
	if unixMilli == 0 {
		return nil
	}
	i := instant(unixMilli)
	return &i
}

// orNull is a string that is null where it is empty.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// list converts each element of a list. It is never null.
func list[A, B any](from []A, convert func(A) B) []B {
	to := make([]B, 0, len(from))
	for _, a := range from {
		to = append(to, convert(a))
	}
	return to
}

// MarshalJSON embeds JSON as it is, and anything else as a string.
func (t jsonText) MarshalJSON() ([]byte, error) {
	if json.Valid([]byte(t)) {
		return []byte(t), nil
	}
	return json.Marshal(string(t))
}

// ordered is an object whose members keep their order.
type ordered []struct {
	key   string
	value any
}

// MarshalJSON writes the object.
func (o ordered) MarshalJSON() ([]byte, error) {
	out := bytes.NewBufferString("{")
	for i, m := range o {
		if i > 0 {
			out.WriteByte(',')
		}
		key, err1 := json.Marshal(m.key)
		value, err2 := json.Marshal(m.value)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		out.Write(key)
		out.WriteByte(':')
		out.Write(value)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// problem is an error with the status, title and details that a client gets.
type problem struct {
	Title   string            `json:"title"`
	Status  int               `json:"status"`
	Details map[string]string `json:"details"`

	header map[string]string
}

func (f *problem) Error() string { return f.Title }

// failure makes a problem; details are names and values in turn.
func failure(status int, title string, details ...string) *problem {
	f := &problem{Title: title, Status: status, Details: map[string]string{}}
	for i := 0; i+1 < len(details); i += 2 {
		f.Details[details[i]] = details[i+1]
	}
	return f
}

// failureOf turns any error into what a client may know of it: an internal error says nothing (STYLE.md 5).
func failureOf(err error) *problem {
	var f *problem
	if errors.As(err, &f) {
		return f
	}
	kind := fault.KindOf(err)
	f = &problem{Title: err.Error(), Status: kind.HTTPStatus(), Details: map[string]string{}}
	maps.Copy(f.Details, fault.DetailsOf(err))
	switch kind { //nolint:exhaustive // the rest goes out as it is
	case fault.Internal:
		f.Title, f.Details = "Internal server error.", map[string]string{}
	case fault.TooMany:
		f.header = map[string]string{"Retry-After": f.Details["retryAfter"]}
	case fault.Unavailable:
		f.header = map[string]string{"Retry-After": "1"}
	}
	return f
}

// remote gives an error of the RBAC operations that write the title and details that Corda's have (spec 2.2).
func remote(err error) error {
	causes := map[fault.Kind]string{fault.NotFound: "EntityNotFoundException", fault.Conflict: "EntityAlreadyExistsException"}
	cause, ok := causes[fault.KindOf(err)]
	if err == nil || !ok {
		return err
	}
	return failure(fault.KindOf(err).HTTPStatus(), "RemotePermissionManagementException",
		"cause", "net.corda.libs.permissions.common.exception."+cause, "reason", err.Error())
}

// encode writes a result.
func encode(result any) ([]byte, error) {
	switch r := result.(type) {
	case text:
		return []byte(r), nil
	case none:
		return nil, nil
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(result); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// answer writes a result with the status of the route, or the result's own.
func (e *event) answer(out http.ResponseWriter, s *route, result any) {
	body, err := encode(result)
	if err != nil {
		e.fail(out, err)
		return
	}
	e.status = s.status
	if own, ok := result.(statused); ok {
		e.status = own.httpStatus()
	}
	if _, empty := result.(none); empty {
		e.status = http.StatusNoContent
	}
	e.write(out, body)
}

// fail writes an error.
func (e *event) fail(out http.ResponseWriter, err error) {
	f := failureOf(err)
	e.status, e.err = f.Status, err
	for _, name := range slices.Sorted(maps.Keys(f.header)) {
		if f.header[name] != "" {
			out.Header().Set(name, f.header[name])
		}
	}
	body, err := encode(f)
	if err != nil { // a struct of strings: it always encodes
		body = nil
	}
	e.write(out, body)
}

func (e *event) write(out http.ResponseWriter, body []byte) {
	h := out.Header()
	h["Cache-Control"] = noCache
	for _, warning := range e.warnings {
		h.Add("Warning", warning)
	}
	if e.status != http.StatusNoContent {
		h["Content-Type"] = contentJSON
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	_ = http.NewResponseController(out).SetWriteDeadline(time.Now().Add(answerTime))
	out.WriteHeader(e.status)
	if len(body) > 0 {
		_, _ = out.Write(body)
	}
}

var (
	noCache     = []string{"no-cache"}
	contentJSON = []string{"application/json"}
)
