package rbac

import (
	"strings"
	"testing"

	"github.com/hawser-project/hawser/cluster/fault"
)

func perm(t PermissionType, pattern string) Permission {
	return Permission{ID: string(t) + " " + pattern, Type: t, Pattern: pattern}
}

func allow(p string) Permission { return perm(Allow, p) }
func deny(p string) Permission  { return perm(Deny, p) }

func request(t *testing.T, line string, known ...string) Request {
	t.Helper()
	method, target, _ := strings.Cut(line, " ")
	path, query, _ := strings.Cut(target, "?")
	r, err := Canonical(method, path, query, known)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return r
}

const v = "/api/v[_a-zA-Z0-9]{1,30}"

func TestDecide(t *testing.T) {
	t.Parallel()
	h := "[a-fA-F0-9]{12}"
	for _, c := range []struct {
		name  string
		perms []Permission
		req   string
		want  bool
	}{
		{"nothing granted is a refusal", nil, "GET /api/v5_3/cpi", false},
		{"an allow in full match permits", []Permission{allow("GET:" + v + "/cpi")}, "GET /api/v5_3/cpi", true},
		{"a match of a part is no match", []Permission{allow("GET:/api/v5_3/cp")}, "GET /api/v5_3/cpi", false},
		{"another method is another request", []Permission{allow("GET:" + v + "/cpi")}, "POST /api/v5_3/cpi", false},
		{"case does not matter", []Permission{allow("get:/API/V5_3/permissionSummary")}, "GET /api/v5_3/permissionsummary", true},
		{"a trailing slash does not matter", []Permission{allow("GET:" + v + "/flow/" + h)}, "GET /api/v5_3/flow/0123456789AB/", true},
		{"an allow without query covers one with", []Permission{allow("GET:" + v + "/key/p2p")}, "GET /api/v5_3/key/p2p?category=TLS", true},
		{"an allow that asks for a query needs it", []Permission{allow("GET:" + v + `/permission\?.*`)}, "GET /api/v5_3/permission", false},
		{"an allow that asks for a query gets it", []Permission{allow("GET:" + v + `/permission\?.*`)}, "GET /api/v5_3/permission?limit=1", true},
		{"the optional query of shipped roles", []Permission{allow("GET:" + v + `/key/p2p((\?)(.*?))?`)}, "GET /api/v5_3/key/p2p?alias=a&category=TLS", true},
		{"an unknown parameter does not make a query", []Permission{allow("GET:" + v + `/permission\?.*`)}, "GET /api/v5_3/permission?x=1", false},
		{"an allow counts in the requested version only", []Permission{allow("GET:/api/v5_2/cpi")}, "GET /api/v5_3/cpi", false},
		{"HEAD needs what GET needs", []Permission{allow(".*"), deny("GET:" + v + "/cpi")}, "HEAD /api/v5_3/cpi", false},
		{"the user pattern of shipped roles", []Permission{allow("GET:" + v + "/user/[-._a-zA-Z0-9]{3,200}[%40]{0,3}[-._a-zA-Z0-9]{0,50}")}, "GET /api/v5_3/user/bob@corp.example", true},
		{"a hand-written at sign", []Permission{allow("GET:" + v + "/user/bob@corp.example")}, "GET /api/v5_3/user/bob%40corp.example", true},
		{"an encoded slash stays in its segment", []Permission{allow("GET:" + v + "/user/[^/]*")}, "GET /api/v5_3/user/a%2Fproperty", true},
		{"an encoded slash opens nothing", []Permission{allow("GET:" + v + "/user/a/property")}, "GET /api/v5_3/user/a%2Fproperty", false},
		{"deny wins at any level", []Permission{allow(".*"), deny("DELETE:" + v + "/user/bob")}, "DELETE /api/v5_3/user/bob", false},
		{"alternatives stay inside the anchors", []Permission{allow("GET:/a|GET:/b")}, "GET /b/c", false},

		// spec/rest-rbac-config.md 3.7 no. 2
		{"a deny is not evaded by a query", []Permission{allow(".*"), deny("DELETE:/api/v5_3/user/bob")}, "DELETE /api/v5_3/user/bob?a=b", false},
		{"a deny is not evaded by a known parameter", []Permission{allow(".*"), deny("DELETE:/api/v5_3/user/bob")}, "DELETE /api/v5_3/user/bob?limit=1", false},
		{"a deny is not evaded by another version", []Permission{allow(".*"), deny("DELETE:/api/v5_3/user/bob")}, "DELETE /api/v5_1/user/bob", false},
		{"a deny is not evaded by percent-encoding", []Permission{allow(".*"), deny("DELETE:/api/v5_3/user/bob")}, "DELETE /api/v5_3/user/%62ob", false},
		{"a deny is not evaded by encoding the route", []Permission{allow(".*"), deny("DELETE:/api/v5_3/user/bob")}, "DELETE /%61pi/v5_3/us%65r/bob", false},
		{"a deny is not evaded by upper case", []Permission{allow(".*"), deny("DELETE:/api/v5_3/user/bob")}, "DELETE /API/V5_3/USER/BOB", false},
		{"a deny is not evaded by a trailing slash", []Permission{allow(".*"), deny("DELETE:/api/v5_3/user/bob")}, "DELETE /api/v5_3/user/bob/", false},
		{"a deny in plain words is not evaded by plus", []Permission{allow(".*"), deny("GET:/api/v5_3/x/a b")}, "GET /api/v5_3/x/a+b", false},
		{"a deny with a plain at sign", []Permission{allow(".*"), deny("GET:/api/v5_3/user/bob@x")}, "GET /api/v5_3/user/bob%40x", false},
		{"a deny on a query is not evaded by order", []Permission{allow(".*"), deny(`GET:/api/v5_3/k\?alias=a&category=TLS`)}, "GET /api/v5_3/k?category=TLS&alias=a", false},
		{"a deny on a query is not evaded by the case of a name", []Permission{allow(".*"), deny(`GET:/api/v5_3/k\?alias=a`)}, "GET /api/v5_3/k?ALIAS=a", false},
		{"a deny on a query is not evaded by padding", []Permission{allow(".*"), deny(`GET:/api/v5_3/k\?alias=a`)}, "GET /api/v5_3/k?alias=a&zzz=1", false},
		{"a deny on a query leaves others alone", []Permission{allow(".*"), deny(`GET:/api/v5_3/k\?alias=a`)}, "GET /api/v5_3/k?alias=b", true},

		// 3.7 no. 1: the end of the request string opens nothing
		{"a selfpassword suffix opens nothing", []Permission{allow("GET:/x")}, "POST /api/v5_3/user?x=/selfpassword", false},

		// 3.7 no. 10
		{"an allow that does not compile never allows", []Permission{allow("(?=x).*")}, "GET /api/v5_3/cpi", false},
		{"a deny that does not compile denies all", []Permission{allow(".*"), deny("(?=x).*")}, "GET /api/v5_3/cpi", false},
		{"an unknown type widens nothing", []Permission{perm("MAYBE", ".*")}, "GET /api/v5_3/cpi", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := Decide(c.perms, request(t, c.req, "limit", "alias", "category"))
			if got.Allowed != c.want {
				t.Fatalf("%s: got %+v, want allowed=%v", c.req, got, c.want)
			}
		})
	}
}

func TestStartingAFlowIsLimitedToThePermissionsVirtualNode(t *testing.T) {
	t.Parallel()
	scoped := Permission{Type: Allow, Pattern: "StartFlow:[._$a-zA-Z0-9]{1,250}", VirtualNode: "AAAAAAAAAAAA"}
	forbidden := Permission{Type: Deny, Pattern: "StartFlow:com.Secret", VirtualNode: "BBBBBBBBBBBB"}
	for _, c := range []struct {
		perms []Permission
		vnode string
		class string
		want  bool
	}{
		{[]Permission{scoped}, "aaaaaaaaaaaa", "com.Pay", true},
		{[]Permission{scoped}, "BBBBBBBBBBBB", "com.Pay", false},
		{[]Permission{allow("StartFlow:.*")}, "BBBBBBBBBBBB", "com.Pay", true},
		{[]Permission{allow(".*"), forbidden}, "BBBBBBBBBBBB", "com.Secret", false},
		{[]Permission{allow(".*"), forbidden}, "AAAAAAAAAAAA", "com.Secret", true},
		{[]Permission{allow("POST:.*")}, "AAAAAAAAAAAA", "com.Pay", false},
	} {
		if got := Decide(c.perms, StartFlow(c.class, c.vnode)); got.Allowed != c.want {
			t.Errorf("%s on %s: got %+v, want %v", c.class, c.vnode, got, c.want)
		}
	}
}

func TestAPathThatCanBeReadInTwoWaysIsRefused(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", "x", "//x", "/a//b", "/a/../b", "/a/./b", "/a/%2e%2e/b", "/%zz", "/a/%2E", "/" + strings.Repeat("a", maxPath)} {
		if _, err := Canonical("GET", path, "", nil); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%.20q: got %v, want invalid", path, err)
		}
	}
	for _, c := range [][2]string{{"G T", ""}, {"", ""}, {"GET", "%zz"}, {"GET", strings.Repeat("a=1&", 300)}} {
		if _, err := Canonical(c[0], "/x", c[1], []string{"a"}); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%.20q: got %v, want invalid", c, err)
		}
	}
	if r, err := Canonical("GET", "/", "", nil); err != nil || r.String() != "GET:" {
		t.Errorf("root: %q, %v", r, err)
	}
}

func TestOnlyTheExactRouteChangesTheOwnPassword(t *testing.T) {
	t.Parallel()
	if !MayChangeOwnPassword("POST", "/user/selfpassword") || MayChangeOwnPassword("PUT", "/user/selfpassword") ||
		MayChangeOwnPassword("POST", "/user/{login}/selfpassword") {
		t.Fatal("the exemption is not exactly POST /user/selfpassword")
	}
}

func TestPatternsThatCannotBeMatchedAreRefusedAtCreation(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"", " ", "(", "a)|(b", "(?=x)", `(a)\1`, "a++", "[a-z&&[^b]]", "[a[b]]", `\Qabc`, strings.Repeat("a", 1025), "(a{1000}){1000}"} {
		err := allow(p).Check()
		if fault.KindOf(err) != fault.Invalid {
			t.Errorf("%.20q: got %v, want invalid", p, err)
		}
	}
	for _, p := range []string{".*", `[\[\]&]`, "[]a]", "[^]]x", `\Qa.b\E`, `\[a[b]`, "a&&b"} {
		if err := allow(p).Check(); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
	if err := (Permission{Type: "allow", Pattern: ".*"}).Check(); fault.KindOf(err) != fault.Invalid {
		t.Errorf("type in lower case: %v", err)
	}
	if err := (Permission{Type: Allow, Pattern: ".*", VirtualNode: "x"}).Check(); fault.KindOf(err) != fault.Invalid {
		t.Errorf("bad virtual node: %v", err)
	}
	if got := Compile([]Permission{allow("("), deny("["), allow(".")}).Unusable(); len(got) != 2 {
		t.Errorf("unusable: %v", got)
	}
}

func FuzzCanonicalIsStable(f *testing.F) {
	f.Add("GET", "/api/v5_3/user/bob%40x/", "a=1&B=%20+")
	f.Add("GET", "/a%2Fb/%C3%BC", "b=&a")
	f.Fuzz(func(t *testing.T, method, path, query string) {
		known := []string{"a", "b"}
		r, err := Canonical(method, path, query, known)
		if err != nil {
			return
		}
		if r.paths[strict] == "" {
			return
		}
		again, err := Canonical(r.method, r.paths[strict], r.queries[strict], known)
		if err != nil || again != r {
			if len(r.paths[strict]) > maxPath || len(r.queries[strict]) > maxQuery {
				return // escaping may lengthen it
			}
			t.Fatalf("canonical of canonical: got %+v, %v, want %+v", again, err, r)
		}
		if Decide([]Permission{allow(".*"), deny("(?s).*")}, r).Allowed {
			t.Fatal("a DENY of everything let something through")
		}
	})
}

func FuzzCompile(f *testing.F) {
	f.Add(`GET:/api/v[_a-zA-Z0-9]{1,30}/user((\?)(.*?))?`)
	f.Add(`[a&&[b]]\Q`)
	f.Fuzz(func(t *testing.T, pattern string) {
		re, err := compile(pattern)
		if err == nil && re == nil {
			t.Fatal("neither pattern nor error")
		}
	})
}
