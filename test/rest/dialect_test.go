package rest_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/rbac"
)

func keyed(key string, p rbac.Principal) bus.Keyed[rbac.Principal] {
	return bus.Keyed[rbac.Principal]{Key: key, Value: p}
}

func TestUsersRolesAndPermissions(t *testing.T) {
	t.Parallel()
	ad := start(t).admin()
	const body = `{"fullName":"Bob B","loginName":"Bob","enabled":"true","initialPassword":"secret","passwordExpiry":"2099-01-31T12:00:00Z","parentGroup":null}`
	ad.post(base+"/user", body).want(201, `"loginName":"bob"`, `"enabled":true`, `"passwordExpiry":"2099-01-31T12:00:00Z"`, `"parentGroup":null`,
		`"properties":[]`, `"roleAssociations":[]`, `"version":0`, `"ssoAuth":false`)
	ad.post(base+"/user", body).want(409, `"title":"RemotePermissionManagementException"`,
		`"cause":"net.corda.libs.permissions.common.exception.EntityAlreadyExistsException"`, `"reason":"User 'bob' already exists."`)
	ad.post(base+"/user", `{"fullName":"","loginName":"b!","enabled":true,"initialPassword":"x"}`).want(400, "Invalid input data for user creation.", "Error #1", "Error #3")
	ad.get(base+"/user/nobody").want(404, `{"title":"User 'nobody' not found.","status":404,"details":{}}`)
	role := ad.post(base+"/role", `{"createRoleType":{"roleName":"r"}}`).want(201, `"permissions":[]`, `"groupVisibility":null`).field("id")
	permission := ad.post(base+"/permission", `{"request":{"permissionType":"ALLOW","permissionString":"GET:.*"}}`).want(201, `"virtualNode":null`).field("id")
	ad.put(base+"/role/"+role+"/permission/"+permission, "").want(200, permission)
	ad.put(base+"/role/"+role+"/permission/"+permission, "").want(409)
	ad.get(base+"/role/"+role).want(200, permission)
	ad.get(base+"/permission/"+permission).want(200, `"permissionString":"GET:.*"`)
	ad.get(base+"/permission?limit=10&permissiontype=ALLOW").want(200, permission)
	ad.get(base+"/permission?limit=0&permissiontype=ALLOW").want(400, "limit")
	ad.get(base+"/permission?limit=1&permissiontype=SOME").want(400, "permissiontype")
	ad.get(base+"/permission?permissiontype=ALLOW").want(400, "Unable to parse parameter 'limit'", "Missing query parameter")
	ad.put(base+"/user/BOB/role/"+role, "").want(200, `"roleId":"`+role+`"`)
	ad.put(base+"/user/bob/role/nothing", "").want(404)
	ad.delete(base+"/role/"+role+"/permission/"+permission).want(200, `"permissions":[]`)
	ad.get(base + "/role/nothing").want(404)
}

func TestBodies(t *testing.T) {
	t.Parallel()
	ad := start(t).admin()
	for body, reason := range map[string]string{
		`{`:                               "not JSON",
		`[]`:                              "object",
		`{"roleName":"a"} x`:              "not JSON",
		`{"roleName":"a"}{}`:              "JSON",
		`{"roleName":"a","roleName":"b"}`: "Duplicate field 'roleName'",
		`{"roleName":"a","more":1}`:       `unknown property`,
		`{"RoleName":"a"}`:                `unknown property`,
		`{"roleName":null}`:               "null",
		`{"roleName":{}}`:                 "string",
		`{}`:                              "roleName is missing",
		``:                                "roleName is missing",
		"{\"roleName\":\"\xff\"}":         "UTF-8",
	} {
		r := ad.post(base+"/role", body).want(400, `"title":"Unable to parse parameter 'createRoleType'"`)
		var failure struct{ Details map[string]string }
		if err := json.Unmarshal([]byte(r.body), &failure); err != nil || !strings.Contains(failure.Details["reason"], reason) {
			t.Errorf("%s: got %s, want %q", body, r.body, reason)
		}
	}
	ad.post(base+"/role", `{"roleName":12}`).want(201, `"roleName":"12"`)
	long := `{"roleName":"` + strings.Repeat("a", 3<<20) + `"}`
	ad.post(base+"/role", long).want(400, "which exceeds the maximum limit of 2097152.")
	ad.send("POST", base+"/role", "text/plain", struct{ *strings.Reader }{strings.NewReader(long)}).want(400, "exceeds the maximum limit")
}

func TestPathsAndVersions(t *testing.T) {
	t.Parallel()
	c := start(t)
	ad, nobody := c.admin(), as{c, "", ""}
	nobody.get("/").want(404, `"title":"Not Found"`)
	nobody.get("/api/v5_3/nothing").want(404)
	nobody.get("/api/v5_4/role").want(404)
	ad.get(base + "/hello").want(404)
	ad.get(base+"/virtualnode/xyz").want(400, `"title":"ShortHashException"`, "net.corda.crypto.core.ShortHashException")
	ad.get(base+"/virtualnode/0123456789AB").want(404, "VirtualNode with shortHash 0123456789AB could not be found.")
	ad.get(base+"/virtualnode/status/0123456789AB").want(404, "VirtualNodeOperationNotFoundException")
	ad.post(base+"/hello", "").want(400, "Unable to parse parameter 'addressee'", `Missing query parameter \"addressee\".`)
	ad.get(base+"/config/corda.rest").want(501, "get_config__section_", "GET /config/{section}", `"operation"`)
	ad.put(base+"/mgm/0123456789AB/mutual-tls/allowed-client-certificate-subjects/O%3DA%2C+L%3DB", "").want(501)
	nobody.get(base + "/config/corda.rest").want(401)
	ad.get("/api/v5_1/group/x").want(404)
	ad.get("/api/v5_3/group/x").want(501)
	if r := nobody.get("/api/v5_2/role/getprotocolversion").want(200, "50300"); !strings.Contains(r.header.Get("Warning"), "deprecated") {
		t.Error("no warning")
	}
	nobody.get("/api/v5_3/role/getprotocolversion").want(401) // a role of that id
	for _, v := range []string{"v5_1", "v5_2", "v5_3"} {
		r := nobody.get("/api/"+v+"/swagger.json").want(200, `"/flow/{holdingidentityshorthash}"`, `"/api/`+v+`"`)
		if strings.Contains(r.body, `"/config"`) || strings.Contains(r.body, `"/mgm/`) {
			t.Errorf("%s lists what does not work", v)
		}
	}
}

func TestTheCertificateIsOfThisInstallation(t *testing.T) {
	t.Parallel()
	c := start(t)
	info, err := os.Stat(filepath.Join(c.dir, "rest", "rest-tls.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key file: %v %v", info, err)
	}
	c.admin().post(base+"/hello?addressee=x", "").want(200)
	families, err := c.metrics.Gather()
	if err != nil || len(families) == 0 {
		t.Fatal(err)
	}
	if !strings.Contains(c.log.String(), `"what":"POST:/api/v5_3/hello"`) || !strings.Contains(c.log.String(), `"who":"admin"`) {
		t.Errorf("no audit record: %s", c.log.String())
	}
}
