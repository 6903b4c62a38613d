package rbac

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/internal/secret"
)

func TestAPasswordIsRightOrWrong(t *testing.T) {
	t.Parallel()
	stored := HashPassword(secret.FromString("correct horse"))
	if right, stale, err := CheckPassword(secret.FromString("correct horse"), stored); !right || stale || err != nil {
		t.Errorf("right password: %v %v %v", right, stale, err)
	}
	if right, _, err := CheckPassword(secret.FromString("correct hors"), stored); right || err != nil {
		t.Errorf("wrong password: %v %v", right, err)
	}
	if right, _, err := CheckPassword(secret.FromString(""), Decoy()); right || err != nil {
		t.Errorf("nobody's password: %v %v", right, err)
	}
	if HashPassword(secret.FromString("a")).Equal(HashPassword(secret.FromString("a"))) {
		t.Error("two hashes of one password are equal: there is no salt")
	}
}

func TestACordaHashIsTakenOverAndMarkedStale(t *testing.T) {
	t.Parallel()
	salt := strings.Repeat("aB3", 33) + "x"
	sum, err := pbkdf2.Key(sha256.New, "pw-of-corda", []byte(salt), 65536, 32)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := ImportCordaHash(salt, base64.StdEncoding.EncodeToString(sum))
	if err != nil {
		t.Fatal(err)
	}
	if right, stale, err := CheckPassword(secret.FromString("pw-of-corda"), stored); !right || !stale || err != nil {
		t.Errorf("got %v %v %v, want right and stale", right, stale, err)
	}
	if _, err := ImportCordaHash(salt, "x"); err == nil {
		t.Error("a damaged hash is taken")
	}
}

func FuzzParseStored(f *testing.F) {
	f.Add(HashPassword(secret.FromString("x")).RevealString())
	f.Add("$pbkdf2-sha256$i=65536$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=4294967296,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseStored(s)
		if err == nil && (h.memory > maxArgonMemory || h.passes > maxArgonTime || h.iterations > maxIterations) {
			t.Fatalf("unbounded parameters: %+v", h)
		}
	})
}

func TestAllFaultsOfANewUserAreReportedTogether(t *testing.T) {
	t.Parallel()
	err := CheckNewUser("", "a b", "no-uuid", true, "1234")
	if fault.KindOf(err) != fault.Invalid || len(fault.DetailsOf(err)) != 4 || fault.DetailsOf(err)["Error #1"] == "" {
		t.Errorf("got %v %v, want four details", err, fault.DetailsOf(err))
	}
	if err := CheckNewUser("Bob O'Neil #2", "bob@x", "6c1f0d4e-0000-4000-8000-000000000000", true, "12345"); err != nil {
		t.Error(err)
	}
	if err := CheckNewUser("Bob", "bob", "", false, ""); err != nil {
		t.Error(err)
	}
	for _, bad := range []error{CheckNewPassword(" ", 0, false), CheckNewPassword("abcdef", 5, false), CheckNewPassword("abcde", 0, true),
		CheckRoleName(" "), CheckProperty("", "x"), CheckProperty("x", strings.Repeat("y", 256))} {
		if fault.KindOf(bad) != fault.Invalid {
			t.Errorf("got %v, want invalid", bad)
		}
	}
}

func TestADisabledUserMayDoNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		u    User
		want LogOn
	}{
		{User{Enabled: false, HasPassword: true}, LogOnRefused},
		{User{Enabled: true}, LogOnRefused},
		{User{Enabled: true, HasPassword: true, PasswordExpiry: 10}, LogOnPasswordOnly},
		{User{Enabled: true, HasPassword: true, PasswordExpiry: 11}, LogOnFull},
		{User{Enabled: true, HasPassword: true}, LogOnFull},
	} {
		if got := c.u.MayLogOn(10); got != c.want {
			t.Errorf("%+v: got %v, want %v", c.u, got, c.want)
		}
	}
}

type directory struct {
	groups map[string]Group
	roles  map[string]Role
	perms  map[string]Permission
}

func (d directory) Group(id string) (Group, bool)           { g, ok := d.groups[id]; return g, ok }
func (d directory) Role(id string) (Role, bool)             { r, ok := d.roles[id]; return r, ok }
func (d directory) Permission(id string) (Permission, bool) { p, ok := d.perms[id]; return p, ok }

func TestPermissionsComeFromOwnRolesAndAllGroupsAbove(t *testing.T) {
	t.Parallel()
	d := directory{
		groups: map[string]Group{
			"team": {ID: "team", ParentGroup: "firm", Roles: []RoleAssociation{{RoleID: "r2"}}},
			"firm": {ID: "firm", ParentGroup: "team", Roles: []RoleAssociation{{RoleID: "r3"}}}, // a cycle must end
		},
		roles: map[string]Role{
			"r1": {Permissions: []PermissionAssociation{{PermissionID: "p1"}, {PermissionID: "gone"}}},
			"r2": {Permissions: []PermissionAssociation{{PermissionID: "p2"}, {PermissionID: "p1"}}},
			"r3": {Permissions: []PermissionAssociation{{PermissionID: "p3"}}},
		},
		perms: map[string]Permission{"p1": {ID: "p1"}, "p2": {ID: "p2"}, "p3": {ID: "p3"}},
	}
	got := Effective(User{ParentGroup: "team", Roles: []RoleAssociation{{RoleID: "r1"}, {RoleID: "gone"}}}, d)
	if fmt.Sprint(got) != fmt.Sprint([]Permission{{ID: "p1"}, {ID: "p2"}, {ID: "p3"}}) {
		t.Errorf("got %v", got)
	}
}

func TestRecordsSurviveARoundTrip(t *testing.T) {
	t.Parallel()
	u := User{ID: "1", Version: 2, FullName: "Bob", LoginName: "bob", Enabled: true, Properties: []Property{{"a", "b", 3}},
		Roles: []RoleAssociation{{"r", 4}}, HasPassword: true}
	b, err := cbor.Marshal(u)
	if err != nil {
		t.Fatal(err)
	}
	var back User
	if err := cbor.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, u) {
		t.Errorf("got %+v, %v, want %+v", back, err, u)
	}
}

func ExampleDecide() {
	perms := []Permission{
		{ID: "1", Type: Allow, Pattern: ".*"},
		{ID: "2", Type: Deny, Pattern: "DELETE:/api/v5_3/user/bob"},
	}
	// Spelling, version and query make no difference to a DENY.
	req, _ := Canonical("DELETE", "/api/v5_1/user/%62ob/", "x=y", nil)
	fmt.Println(Decide(perms, req).Allowed)
	// Output: false
}
