package rest

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hawser-project/hawser/cluster/rbac"
)

// TestTheTableAndTheReferenceAgree walks the route table against Corda's document: each operation of the document is found
// by its path, and either served or known by its name; beside them there are Hawser's own and no others.
func TestTheTableAndTheReferenceAgree(t *testing.T) {
	t.Parallel()
	reference := readOpenAPI()
	r := newRouter((&Worker{}).routes(), reference)
	if len(reference.names) != 93 {
		t.Errorf("the reference has %d operations, want 93", len(reference.names))
	}
	parameter := regexp.MustCompile(`\{[^}]*\}`)
	served := 0
	for _, name := range reference.names {
		method, template, _ := strings.Cut(name, " ")
		segments, ok := splitPath("/api/v5_3" + parameter.ReplaceAllString(template, "x"))
		m, found := r.find(method, segments)
		if !ok || !found || m.route.name != name {
			t.Errorf("%s is not found by its path: %+v", name, m.route)
			continue
		}
		if m.route.operation == "" || m.route.unserved == (m.route.call != nil) {
			t.Errorf("%s: %+v", name, m.route)
		}
		if !m.route.unserved {
			served++
		}
	}
	own := 0
	for _, s := range r.all {
		switch {
		case s.extension:
			own++
		case !slices.Contains(reference.names, s.name):
			t.Errorf("%s is not in the reference", s.name)
		}
	}
	if served+own != len((&Worker{}).routes()) || own != 2 {
		t.Errorf("%d of the reference are served, and %d beside it", served, own)
	}
	for name, document := range reference.working(r) {
		var d struct {
			Paths map[string]map[string]struct{ OperationID string }
		}
		if err := json.Unmarshal(document, &d); err != nil {
			t.Fatal(err)
		}
		listed := 0
		for path, operations := range d.Paths {
			for method := range operations {
				listed++
				m, found := r.find(strings.ToUpper(method), append([]string{"api", name}, strings.Split(path[1:], "/")...))
				if !found || m.route.unserved {
					t.Errorf("%s lists %s %s, which does not work", name, method, path)
				}
			}
		}
		if listed == 0 || listed > served {
			t.Errorf("%s lists %d operations", name, listed)
		}
	}
}

// FuzzPaths says that the router and the permissions read a path in one way: what the router finds is what is permitted.
func FuzzPaths(f *testing.F) {
	for _, seed := range []string{
		"/api/v5_3/user/bob", "/api/v5_3/user/bob/", "/API/v5_3/USER/b%6Fb", "/api/v5_3//user/bob", "/api/v5_3/user/..%2fbob", "/api/v5_3/key/p2p/alias/a+b/category/TLS/scheme/x",
		"/api/hawser/v1/members/x", "/api/v5_3/user/%zz", "/", "", "/api", "/api/v5_3/user/%", "/api/v5_3/user/bob//", "/api/v5_3/user/.",
	} {
		f.Add(seed)
	}
	r := newRouter((&Worker{}).routes(), readOpenAPI())
	f.Fuzz(func(t *testing.T, path string) {
		segments, ok := splitPath(path)
		asked, err := rbac.Canonical(http.MethodGet, path, "", nil)
		if !ok {
			return
		}
		m, found := r.find(http.MethodGet, segments)
		if !found {
			return
		}
		if err != nil {
			t.Fatalf("%q is found as %s and has no canonical form: %v", path, m.route.name, err)
		}
		again, ok := splitPath(strings.TrimPrefix(asked.String(), "GET:"))
		if !ok || !slices.Equal(again, segments) {
			t.Fatalf("%q is %q to the router and %q to the permissions", path, segments, again)
		}
	})
}
