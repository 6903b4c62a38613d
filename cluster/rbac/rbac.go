// Package rbac says who may do what over REST: users, groups, roles and permissions, their rules and their records.
// It decides, as a pure function, whether a request is permitted (Decide), after bringing the request into the one form
// that permissions are matched against (Canonical). It neither stores records nor authenticates anyone.
//
// It is Corda's RBAC (spec/rest-rbac-config.md 3) without the bypasses of 3.7; DESIGN.md 6 has the rules in short.
package rbac

import "github.com/hawser-project/hawser/internal/secret"

// Times in records are Unix milliseconds, 0 = none. Ids are UUID strings.

// User is one person or program that logs in. Its password hash is kept apart (Credential) and never leaves the admin
// worker: user records travel to every rest worker.
type User struct {
	ID             string            `cbor:"1,keyasint"`
	Version        int64             `cbor:"2,keyasint,omitempty"`
	UpdatedAt      int64             `cbor:"3,keyasint,omitempty"`
	FullName       string            `cbor:"4,keyasint"`
	LoginName      string            `cbor:"5,keyasint"` // lower case, the key of the record
	Enabled        bool              `cbor:"6,keyasint,omitempty"`
	PasswordExpiry int64             `cbor:"7,keyasint,omitempty"`
	ParentGroup    string            `cbor:"8,keyasint,omitempty"`
	Properties     []Property        `cbor:"9,keyasint,omitempty"`
	Roles          []RoleAssociation `cbor:"10,keyasint,omitempty"`
	HasPassword    bool              `cbor:"11,keyasint,omitempty"` // REST shows the opposite as ssoAuth
}

// Credential is what a password is checked against. It never leaves the admin worker (DESIGN.md 6).
type Credential struct {
	LoginName string        `cbor:"1,keyasint"`
	Hash      secret.Secret `cbor:"2,keyasint"`
	// Version rises with every change, so that a remembered log-on can be told to be stale (spec 3.5).
	Version int64 `cbor:"3,keyasint,omitempty"`
}

// Property is a note on a user or group. It decides nothing.
type Property struct {
	Key       string `cbor:"1,keyasint"`
	Value     string `cbor:"2,keyasint"`
	UpdatedAt int64  `cbor:"3,keyasint,omitempty"`
}

// RoleAssociation gives a role to a user or group.
type RoleAssociation struct {
	RoleID    string `cbor:"1,keyasint"`
	CreatedAt int64  `cbor:"2,keyasint,omitempty"`
}

// Group gives its roles to its users and to its subgroups' users.
type Group struct {
	ID          string            `cbor:"1,keyasint"`
	Version     int64             `cbor:"2,keyasint,omitempty"`
	UpdatedAt   int64             `cbor:"3,keyasint,omitempty"`
	Name        string            `cbor:"4,keyasint"`
	ParentGroup string            `cbor:"5,keyasint,omitempty"`
	Properties  []Property        `cbor:"6,keyasint,omitempty"`
	Roles       []RoleAssociation `cbor:"7,keyasint,omitempty"`
}

// Role is a named set of permissions.
type Role struct {
	ID              string                  `cbor:"1,keyasint"`
	Version         int64                   `cbor:"2,keyasint,omitempty"`
	UpdatedAt       int64                   `cbor:"3,keyasint,omitempty"`
	Name            string                  `cbor:"4,keyasint"`
	GroupVisibility string                  `cbor:"5,keyasint,omitempty"`
	Permissions     []PermissionAssociation `cbor:"6,keyasint,omitempty"`
}

// PermissionAssociation puts a permission into a role.
type PermissionAssociation struct {
	PermissionID string `cbor:"1,keyasint"`
	CreatedAt    int64  `cbor:"2,keyasint,omitempty"`
}

// PermissionType says what a matching permission does.
type PermissionType string

// The two types. Any matching DENY wins over every ALLOW.
const (
	Allow PermissionType = "ALLOW"
	Deny  PermissionType = "DENY"
)

// Permission permits or forbids what its pattern matches.
type Permission struct {
	ID              string         `cbor:"1,keyasint"`
	Version         int64          `cbor:"2,keyasint,omitempty"`
	UpdatedAt       int64          `cbor:"3,keyasint,omitempty"`
	GroupVisibility string         `cbor:"4,keyasint,omitempty"`
	VirtualNode     string         `cbor:"5,keyasint,omitempty"` // limits StartFlow permissions; else only shown
	Type            PermissionType `cbor:"6,keyasint"`
	Pattern         string         `cbor:"7,keyasint"` // Corda's permissionString
}

// Change is one audit record: who changed what (spec 3.6).
type Change struct {
	ID      string `cbor:"1,keyasint"`
	At      int64  `cbor:"2,keyasint"`
	Actor   string `cbor:"3,keyasint"`
	Type    string `cbor:"4,keyasint"` // such as USER_INSERT
	Details string `cbor:"5,keyasint,omitempty"`
}

// Directory looks up the records that a user's permissions come from.
type Directory interface {
	Group(id string) (Group, bool)
	Role(id string) (Role, bool)
	Permission(id string) (Permission, bool)
}

// maxGroupDepth bounds the walk to the root, in case records of different ages show a cycle.
const maxGroupDepth = 64

// Effective returns a user's permissions: those of its own roles and of the roles of all groups above it (spec 3.3).
// Each is there once. A record that is missing (tables lag each other) gives nothing.
func Effective(u User, dir Directory) []Permission {
	var found []Permission
	seen := map[string]bool{}
	add := func(roles []RoleAssociation) {
		for _, ra := range roles {
			role, _ := dir.Role(ra.RoleID)
			for _, pa := range role.Permissions {
				if p, ok := dir.Permission(pa.PermissionID); ok && !seen[p.ID] {
					seen[p.ID] = true
					found = append(found, p)
				}
			}
		}
	}
	add(u.Roles)
	id := u.ParentGroup
	for range maxGroupDepth {
		g, ok := dir.Group(id)
		if !ok {
			break
		}
		add(g.Roles)
		id = g.ParentGroup
	}
	return found
}
