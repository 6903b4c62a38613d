package rest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/hawser-project/hawser/cluster/rbac"
	"github.com/hawser-project/hawser/cluster/topic"
)

func TestLogOn(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.admin().post(base+"/hello?addressee=Bob", "").want(200)
	if r := (as{c, "ADMIN", adminPassword}).post(base+"/hello?Addressee=Bob", ""); r.body != `"Hello, Bob! (from ADMIN)"` || r.header.Get("Date") == "" {
		t.Errorf("got %s", r.body)
	}
	for _, wrong := range []as{{c, "admin", "wrong"}, {c, "nobody", adminPassword}} {
		r := wrong.get(base+"/role").want(401, `{"title":"Error during user authentication","status":401,"details":{}}`)
		if r.header.Get("WWW-Authenticate") != `Basic realm="Corda REST Worker"` {
			t.Errorf("challenge: %q", r.header.Get("WWW-Authenticate"))
		}
	}
	(as{c, "", ""}).get(base+"/role").want(401, "User credentials are empty or cannot be resolved")
	(as{c, "admin", ""}).get(base+"/role").want(401, "User credentials are empty or cannot be resolved")
	for range 6 { // the fourth wrong one must wait, and so must the next
		(as{c, "admin", "wrong"}).get(base + "/role")
	}
	if r := (as{c, "admin", "wrong"}).get(base + "/role").want(429); r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	c.admin().get(base + "/role").want(200) // remembered: not delayed by others' tries
	if strings.Contains(c.log.String(), adminPassword) {
		t.Error("the log has a password in it")
	}
}

func TestUsersWhoMayNotLogOn(t *testing.T) {
	t.Parallel()
	c := start(t)
	ad := c.admin()
	make := func(login, more string) as {
		ad.post(base+"/user", `{"fullName":"Some One","loginName":"`+login+`","initialPassword":"a password"`+more+`}`).want(201)
		return as{c, login, "a password"}
	}
	make("disabled", `,"enabled":false`).get(base+"/role").want(401, "Error during user authentication")
	expired := make("expired", `,"enabled":true,"passwordExpiry":"2020-01-01T00:00:00Z"`)
	expired.get(base+"/role").want(403, "User not authorized.")
	expired.get(base + "/user/expired?x=/selfpassword").want(403)
	ad.post(base+"/user", `{"fullName":"Some One","loginName":"nopassword","enabled":true}`).want(201, `"ssoAuth":true`)
	(as{c, "nopassword", "x"}).get(base + "/role").want(401)
}

func TestAChangeDropsTheRememberedLogOn(t *testing.T) {
	t.Parallel()
	c := start(t)
	u, _ := c.user("someone", "ALLOW GET:/api/v5_3/role")
	u.get(base + "/role").want(200)
	// admin says that the user is disabled now: the log-on was remembered, and must not count any more.
	user, err := topic.GetUser.Do(t.Context(), c.bus.As(topic.Rest), "someone")
	if err != nil {
		t.Fatal(err)
	}
	user.Enabled = false
	user.Version++
	if _, err := topic.Principals.Publish(t.Context(), c.bus.As(topic.Admin), keyed("someone", rbac.Principal{User: user})); err != nil {
		t.Fatal(err)
	}
	// The first answer may still be of the time before: the table follows.
	for range 100 {
		if u.get(base+"/role").status == http.StatusUnauthorized {
			u.get(base + "/role").want(401)
			return
		}
	}
	t.Error("a disabled user still gets in")
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	c := start(t)
	u, role := c.user("someone", "ALLOW GET:/api/v5_3/role", "ALLOW GET:/api/v[_a-zA-Z0-9]{1,30}/key/p2p(\\?.*)?", "ALLOW POST:/api/v5_3/flow/.*")
	u.get(base+"/role").want(200, `"roleName":"role of someone"`)
	u.get(base + "/ROLE/").want(200)
	u.get(base + "/key/p2p?category=TLS&more=1").want(200)
	u.get("/api/v5_1/key/p2p").want(200)
	u.get("/api/v5_1/role").want(403, `{"title":"User not authorized.","status":403,"details":{}}`)
	u.post(base+"/role", `{"roleName":"mine"}`).want(403)
	if r := c.admin().get(base + "/role").want(200); strings.Contains(r.body, `"mine"`) {
		t.Error("a refused call changed something")
	}
	u.get(base + "/virtualnode/0123456789AB").want(403) // not 404: a refusal does not say what exists
	u.post(base+"/flow/0123456789AB", `{"clientRequestId":"r","flowClassName":"demo.Ping","requestBody":{}}`).
		want(403, "User someone is not allowed to start a flow: demo.Ping.")
	r := c.admin().delete(base + "/user/someone/role/" + role).want(200)
	if r.header.Get("Warning") != "" {
		t.Errorf("warned: %s", r.header.Get("Warning"))
	}
	u.get(base + "/role").want(403) // at once
	c.admin().delete(base+"/user/someone/role/"+role).want(400, "is not associated")
}

// TestTheReferencesBypassesAreClosed goes through spec/rest-rbac-config.md 3.7.
func TestTheReferencesBypassesAreClosed(t *testing.T) {
	t.Parallel()
	c := start(t)
	plain, _ := c.user("plain")
	for _, suffix := range []string{"?x=/selfpassword", "?/selfpassword", "/selfpassword", "/x/../selfpassword"} {
		plain.post(base+"/user"+suffix, `{"fullName":"x","loginName":"evil","enabled":true}`)
		plain.get(base + "/user/admin" + suffix)
	}
	c.admin().get(base+"/user/evil").want(404, "User 'evil' not found.")
	plain.post(base+"/user?x=/selfpassword", `{"fullName":"x","loginName":"evil","enabled":true}`).want(403)
	plain.put(base+"/user/plain/role/0?x=/selfpassword", "").want(403)

	denied, _ := c.user("denied", "ALLOW .*", "DENY GET:/api/v5_3/user/admin")
	denied.get(base + "/user/plain").want(200)
	for _, path := range []string{
		base + "/user/admin", base + "/user/admin?a=b", "/api/v5_1/user/admin", "/api/v5_2/user/admin/", base + "/user/%61dmin",
		base + "/USER/admin", base + "/user/ADMIN", "/API/V5_3/user/admin", base + "/user/admin?",
	} {
		denied.get(path).want(403)
	}
	for _, path := range []string{"//api/v5_3/user/admin", base + "//user/admin", base + "/./user/admin", base + "/role/../user/admin", base + "/role/%2e%2e/user/admin"} {
		if r := denied.get(path); r.status == 200 {
			t.Errorf("%s gets through: %s", path, r.body)
		}
	}
	if r := denied.send("HEAD", base+"/user/admin", "", nil); r.status == 200 {
		t.Error("HEAD gets through")
	}
	c.admin().post(base+"/permission", `{"permissionType":"ALLOW","permissionString":"(a"}`).want(400, "RE2")
	r := c.admin().send("GET", base+"/role", "", nil)
	if r.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("any origin is let in")
	}
}
