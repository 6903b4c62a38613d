package rbac

import (
	"net/url"
	"slices"
	"strings"

	"github.com/hawser-project/hawser/cluster/fault"
)

// Bounds of what is looked at. HTTP servers have their own, larger ones.
const (
	maxPath       = 8 << 10
	maxQuery      = 16 << 10
	maxParameters = 256
)

// apiVersions are the versions of the REST API that a DENY is tried in, so that it cannot be evaded by asking in
// another one (spec/rest-rbac-config.md 1.1, 3.7).
var apiVersions = [...]string{"v1", "v5_1", "v5_2", "v5_3", "v5_4"}

// Request is one request in the form that permissions are matched against. It is made by Canonical or StartFlow.
type Request struct {
	method string
	// The same path and query in up to three spellings: see spellings.
	paths, queries [3]string

	flowClass, virtualNode string
}

// spellings of one octet sequence. Corda matches what the client sent; here a request has one meaning, so it must not
// matter how it was spelled. Shipped roles expect '@' as %40, hand-written patterns may have it plain: both are tried.
// The decoded spelling is ambiguous ("%2F" becomes '/'), so only a DENY is tried on it.
const (
	strict  = iota // all but unreserved characters (RFC 3986) percent-encoded
	relaxed        // as strict, but what a path segment may have plain is plain
	decoded
)

// Canonical brings a request into the form for matching: path decoded once and encoded again, without trailing slash;
// query reduced to the parameters the route knows, with the names as the route spells them, sorted by name (the order
// of a name's values is kept: the first one counts). A path that a router might read in two ways is refused.
func Canonical(method, escapedPath, rawQuery string, knownParams []string) (Request, error) {
	r := Request{method: strings.ToUpper(method)}
	if r.method == "HEAD" { // answered by the route of GET, so it must need the same permission
		r.method = "GET"
	}
	if r.method == "" || strings.IndexFunc(r.method, notUpper) >= 0 {
		return Request{}, fault.New(fault.Invalid, "method %q is not an HTTP method", method)
	}
	if err := r.setPath(escapedPath); err != nil {
		return Request{}, err
	}
	return r, r.setQuery(rawQuery, knownParams)
}

func notUpper(c rune) bool { return c < 'A' || c > 'Z' }

func (r *Request) setPath(escaped string) error {
	if len(escaped) > maxPath {
		return fault.New(fault.Invalid, "the path is longer than %d octets", maxPath)
	}
	trimmed := strings.TrimSuffix(escaped, "/")
	if !strings.HasPrefix(escaped, "/") {
		return fault.New(fault.Invalid, "path %q does not begin with a slash", escaped)
	}
	var parts [3]strings.Builder
	for _, segment := range strings.Split(trimmed, "/")[1:] {
		value, err := url.QueryUnescape(segment) // '+' is a space in Corda's paths (spec 1.4)
		if err != nil {
			return fault.New(fault.Invalid, "path %q has a bad percent-escape", escaped)
		}
		if value == "" || value == "." || value == ".." {
			return fault.New(fault.Invalid, "path %q has an empty or relative segment", escaped)
		}
		for i, s := range [3]string{escape(value, ""), escape(value, plainInPath), value} {
			parts[i].WriteByte('/')
			parts[i].WriteString(s)
		}
	}
	for i := range parts {
		r.paths[i] = parts[i].String()
	}
	return nil
}

// Characters that may stand plain beside the unreserved ones: RFC 3986 pchar without '+', which means a space.
const (
	plainInPath  = "!$&'()*,;=:@"
	plainInQuery = "!$'()*,;:@/?"
)

func (r *Request) setQuery(raw string, known []string) error {
	if len(raw) > maxQuery {
		return fault.New(fault.Invalid, "the query is longer than %d octets", maxQuery)
	}
	type param struct{ name, value string }
	var params []param
	for pair := range strings.SplitSeq(raw, "&") {
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err1 := url.QueryUnescape(rawName)
		value, err2 := url.QueryUnescape(rawValue)
		if err1 != nil || err2 != nil {
			return fault.New(fault.Invalid, "query parameter %q has a bad percent-escape", pair)
		}
		i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, name) })
		if i < 0 {
			continue
		}
		if params = append(params, param{known[i], value}); len(params) > maxParameters {
			return fault.New(fault.Invalid, "the query has more than %d parameters", maxParameters)
		}
	}
	slices.SortStableFunc(params, func(a, b param) int { return strings.Compare(a.name, b.name) })
	var parts [3]strings.Builder
	for n, p := range params {
		for i, s := range [3]string{
			escape(p.name, "") + "=" + escape(p.value, ""),
			escape(p.name, "") + "=" + escape(p.value, plainInQuery),
			p.name + "=" + p.value,
		} {
			if n > 0 {
				parts[i].WriteByte('&')
			}
			parts[i].WriteString(s)
		}
	}
	for i := range parts {
		r.queries[i] = parts[i].String()
	}
	return nil
}

const upperHex = "0123456789ABCDEF"

// escape percent-encodes all octets but the unreserved ones and those in plain.
func escape(s, plain string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9',
			strings.IndexByte("-._~", c) >= 0, strings.IndexByte(plain, c) >= 0:
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', upperHex[c>>4], upperHex[c&15]})
		}
	}
	return b.String()
}

// StartFlow is the request to start a flow of the class on a virtual node (its short hash). It is decided beside the
// request that carries it, and both must be permitted.
func StartFlow(class, virtualNode string) Request {
	return Request{flowClass: class, virtualNode: virtualNode}
}

// String is the request as an ALLOW with query sees it, for logs and errors.
func (r Request) String() string {
	if r.flowClass != "" {
		return "StartFlow:" + r.flowClass + " on " + r.virtualNode
	}
	return withQuery(r.method+":"+r.paths[strict], r.queries[strict])
}

func withQuery(s, query string) string {
	if query == "" {
		return s
	}
	return s + "?" + query
}

// subjects calls yield with every string that a permission of the type is tried on, without repeats where that is
// cheap to see, until yield says true.
func (r Request) subjects(t PermissionType, yield func(string) bool) bool {
	if r.flowClass != "" {
		return yield("StartFlow:" + r.flowClass)
	}
	spellings := decoded
	if t == Deny {
		spellings = decoded + 1
	}
	for i := range spellings {
		if i > 0 && r.paths[i] == r.paths[i-1] && r.queries[i] == r.queries[i-1] {
			continue
		}
		for _, path := range inVersions(r.paths[i], t) {
			s := r.method + ":" + path
			if yield(s) || r.queries[i] != "" && yield(withQuery(s, r.queries[i])) {
				return true
			}
		}
	}
	return false
}

// inVersions returns the path, and for a DENY also the path in every other version of the API.
func inVersions(path string, t PermissionType) []string {
	paths := []string{path}
	if t != Deny || len(path) < len("/api/") || !strings.EqualFold(path[:len("/api/")], "/api/") {
		return paths
	}
	_, rest, found := strings.Cut(path[len("/api/"):], "/")
	if !found {
		return paths
	}
	for _, v := range apiVersions {
		paths = append(paths, "/api/"+v+"/"+rest)
	}
	return paths
}
