package rest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// version is a version of the API.
type version int

// The versions that are served. Later ones have the operations of earlier ones (spec 1.1).
const (
	v5_1 version = iota + 1
	v5_2
	v5_3
)

var versionNames = map[string]version{"v5_1": v5_1, "v5_2": v5_2, "v5_3": v5_3}

// route is one operation.
type route struct {
	name   string // METHOD and path template, below /api/<version>, or below /api for an extension
	since  version
	status int // of success where the handler says nothing else
	handler

	// From name:
	method    string
	template  string
	segments  []string // a parameter has braces
	extension bool     // not below a version: Hawser's own
	operation string   // operationId of the reference
	queries   []string // names of query parameters as permissions know them
	unserved  bool     // in the reference's document, and not here yet
}

// router finds routes. It is made once and not changed.
type router struct {
	all []*route
	// by method and number of segments; within a list, routes with more static segments at the front come first
	byShape map[shape][]*route
	nouns   map[string]bool // first segments, for getprotocolversion
}

type shape struct {
	method   string
	segments int
}

// extensionPrefix is what Hawser's own operations begin with.
const extensionPrefix = "/hawser/"

// newRouter takes the routes of the table, and adds those of the reference that are missing from it.
func newRouter(served []route, reference *openAPI) *router {
	r := &router{byShape: make(map[shape][]*route), nouns: make(map[string]bool)}
	for _, s := range served {
		s.parseName()
		s.queries = s.handler.queries
		for _, q := range reference.queries[s.name] {
			if !slices.Contains(s.queries, q) {
				s.queries = append(s.queries, q)
			}
		}
		r.add(&s)
	}
	for _, name := range reference.names {
		if !slices.ContainsFunc(r.all, func(s *route) bool { return s.name == name }) {
			s := &route{name: name, since: sinceOf(name), unserved: true, queries: reference.queries[name]}
			s.parseName()
			r.add(s)
		}
	}
	for _, s := range r.all {
		s.operation = reference.operations[s.name]
	}
	for _, list := range r.byShape {
		slices.SortStableFunc(list, func(a, b *route) int { return strings.Compare(a.order(), b.order()) })
	}
	return r
}

func (s *route) parseName() {
	s.method, s.template, _ = strings.Cut(s.name, " ")
	s.segments = strings.Split(s.template[1:], "/")
	s.extension = strings.HasPrefix(s.template, extensionPrefix)
	if s.status == 0 {
		s.status = http.StatusOK
	}
}

func (r *router) add(s *route) {
	r.all = append(r.all, s)
	key := shape{s.method, len(s.segments)}
	r.byShape[key] = append(r.byShape[key], s)
	if !s.extension {
		r.nouns[s.segments[0]] = true
	}
}

// order puts static segments before parameters.
func (s *route) order() string {
	var b strings.Builder
	for _, segment := range s.segments {
		if isParameter(segment) {
			b.WriteByte('1')
		} else {
			b.WriteByte('0')
		}
	}
	return b.String()
}

func isParameter(segment string) bool { return segment[0] == '{' }

// match is what a path means.
type match struct {
	route  *route
	values []string // of the parameters, in their order
}

// path splits an escaped path as rbac.Canonical does: one slash at the end does not count, '+' is a space, and there are
// no empty or relative segments.
func splitPath(escaped string) (segments []string, ok bool) {
	trimmed := strings.TrimSuffix(escaped, "/")
	if !strings.HasPrefix(trimmed, "/") {
		return nil, false
	}
	segments = strings.Split(trimmed[1:], "/")
	for i, s := range segments {
		if strings.ContainsAny(s, "%+") {
			decoded, err := url.QueryUnescape(s)
			if err != nil {
				return nil, false
			}
			segments[i] = decoded
			s = decoded
		}
		if s == "" || s == "." || s == ".." {
			return nil, false
		}
	}
	return segments, true
}

// find returns the route of a request, or false.
func (r *router) find(method string, segments []string) (match, bool) {
	if len(segments) < 2 || !strings.EqualFold(segments[0], "api") {
		return match{}, false
	}
	asked, versioned := versionNames[strings.ToLower(segments[1])]
	rest := segments[1:]
	if versioned {
		rest = segments[2:]
	}
	for _, s := range r.byShape[shape{method, len(rest)}] {
		if s.extension == versioned || versioned && s.since > asked {
			continue
		}
		if values, ok := s.values(rest); ok {
			return match{s, values}, true
		}
	}
	return match{}, false
}

func (s *route) values(path []string) (values []string, ok bool) {
	for i, segment := range s.segments {
		if isParameter(segment) {
			values = append(values, path[i])
		} else if !strings.EqualFold(segment, path[i]) {
			return nil, false
		}
	}
	return values, true
}

// value returns the value of a path parameter.
func (m match) value(parameter string) string {
	n := 0
	for _, segment := range m.route.segments {
		if !isParameter(segment) {
			continue
		}
		if segment[1:len(segment)-1] == parameter {
			return m.values[n]
		}
		n++
	}
	return ""
}
