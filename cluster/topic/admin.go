package topic

import (
	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/cert"
	"github.com/hawser-project/hawser/cluster/cpi"
	"github.com/hawser-project/hawser/cluster/rbac"
	"github.com/hawser-project/hawser/cluster/vnode"
	"github.com/hawser-project/hawser/internal/secret"
)

// Commands that admin answers. Users, roles and permissions are under one key (RBACKey), so that what is said of them
// together stays true; packages under their full checksum; virtual nodes under their short hash; certificates under their
// scope.
var (
	CreateUser       = bus.Command[NewUser, rbac.User]{Name: "admin.create-user", Askers: roles(Rest), Answers: Admin, Secret: true}
	AddUserRole      = bus.Command[UserRole, rbac.User]{Name: "admin.add-user-role", Askers: roles(Rest), Answers: Admin}
	RemoveUserRole   = bus.Command[UserRole, rbac.User]{Name: "admin.remove-user-role", Askers: roles(Rest), Answers: Admin}
	CreateRole       = bus.Command[NewRole, rbac.Role]{Name: "admin.create-role", Askers: roles(Rest), Answers: Admin}
	CreatePermission = bus.Command[NewPermission, rbac.Permission]{Name: "admin.create-permission", Askers: roles(Rest), Answers: Admin}
	AttachPermission = bus.Command[RolePermission, rbac.Role]{Name: "admin.attach-permission", Askers: roles(Rest), Answers: Admin}
	DetachPermission = bus.Command[RolePermission, rbac.Role]{Name: "admin.detach-permission", Askers: roles(Rest), Answers: Admin}

	// UploadPackage takes up a package whose octets are a blob already; checking goes on after the answer. Key: the upload's id.
	UploadPackage = bus.Command[Upload, UploadStatus]{Name: "admin.upload-package", Askers: roles(Rest), Answers: Admin}
	// CreateVirtualNode makes a virtual node. Key: its short hash.
	CreateVirtualNode = bus.Command[NewVirtualNode, vnode.Operation]{Name: "admin.create-virtual-node", Askers: roles(Rest), Answers: Admin}
	// ImportCertificate stores a chain under an alias. Key: CertificateKey.
	ImportCertificate = bus.Command[NewCertificate, cert.Chain]{Name: "admin.import-certificate", Askers: roles(Rest), Answers: Admin}
)

// Calls that admin answers.
var (
	// CheckPassword says whether a password is right. It is slow on purpose, and limited per name and source: so one process
	// has all checks of a name.
	CheckPassword = bus.Call[Login, LoginResult]{Name: "admin.check-password", Askers: roles(Rest), Answers: roles(Admin),
		Key: func(l Login) string { return "login/" + rbac.NormalLogin(l.Name) }}

	GetUser         = bus.Call[string, rbac.User]{Name: "admin.get-user", Askers: roles(Rest), Answers: roles(Admin)}
	GetRole         = bus.Call[string, rbac.Role]{Name: "admin.get-role", Askers: roles(Rest), Answers: roles(Admin)}
	ListRoles       = bus.Call[struct{}, []rbac.Role]{Name: "admin.list-roles", Askers: roles(Rest), Answers: roles(Admin)}
	GetPermission   = bus.Call[string, rbac.Permission]{Name: "admin.get-permission", Askers: roles(Rest), Answers: roles(Admin)}
	ListPermissions = bus.Call[PermissionFilter, []rbac.Permission]{Name: "admin.list-permissions", Askers: roles(Rest), Answers: roles(Admin)}

	GetUpload        = bus.Call[string, UploadStatus]{Name: "admin.get-upload", Askers: roles(Rest), Answers: roles(Admin)}
	ListPackages     = bus.Call[struct{}, []cpi.Info]{Name: "admin.list-packages", Askers: roles(Rest), Answers: roles(Admin)}
	GetVirtualNode   = bus.Call[string, vnode.VirtualNode]{Name: "admin.get-virtual-node", Askers: roles(Rest), Answers: roles(Admin)}
	ListVirtualNodes = bus.Call[struct{}, []vnode.VirtualNode]{Name: "admin.list-virtual-nodes", Askers: roles(Rest), Answers: roles(Admin)}
	// GetOperation finds what became of a request that changes a virtual node.
	GetOperation = bus.Call[string, vnode.Operation]{Name: "admin.get-operation", Askers: roles(Rest), Answers: roles(Admin)}
	// Certificates lists the chains of a scope and usage, or finds the one with an alias.
	Certificates = bus.Call[CertificateFilter, []cert.Chain]{Name: "admin.certificates", Askers: roles(Rest, Membership), Answers: roles(Admin)}
)

// PermissionsShown answers once the REST worker that is asked decides by what a command has changed.
var PermissionsShown = bus.Call[bus.Commit, struct{}]{Name: "rest.permissions-shown", Askers: roles(Rest), Answers: roles(Rest)}

// RBACKey is the key of all commands about users, roles and permissions.
const RBACKey = "rbac"

// CertificateKey is the key of commands about the certificates of a scope.
func CertificateKey(scope cert.Scope) string { return "certificates/" + string(scope) }

// Actor is who asks for a change, for the audit. Each request that changes something carries it.
type Actor struct {
	Login string `cbor:"1,keyasint"`
}

// NewUser asks for a user.
type NewUser struct {
	Actor       Actor         `cbor:"1,keyasint"`
	FullName    string        `cbor:"2,keyasint"`
	LoginName   string        `cbor:"3,keyasint"`
	Enabled     bool          `cbor:"4,keyasint,omitempty"`
	Password    secret.Secret `cbor:"5,keyasint,omitempty"`
	HasPassword bool          `cbor:"6,keyasint,omitempty"`
	Expiry      int64         `cbor:"7,keyasint,omitempty"` // Unix milliseconds
	ParentGroup string        `cbor:"8,keyasint,omitempty"`
}

// UserRole names a user and a role.
type UserRole struct {
	Actor  Actor  `cbor:"1,keyasint"`
	Login  string `cbor:"2,keyasint"`
	RoleID string `cbor:"3,keyasint"`
}

// NewRole asks for a role.
type NewRole struct {
	Actor           Actor  `cbor:"1,keyasint"`
	Name            string `cbor:"2,keyasint"`
	GroupVisibility string `cbor:"3,keyasint,omitempty"`
}

// NewPermission asks for a permission.
type NewPermission struct {
	Actor      Actor           `cbor:"1,keyasint"`
	Permission rbac.Permission `cbor:"2,keyasint"` // without id, version and times
}

// RolePermission names a role and a permission.
type RolePermission struct {
	Actor        Actor  `cbor:"1,keyasint"`
	RoleID       string `cbor:"2,keyasint"`
	PermissionID string `cbor:"3,keyasint"`
}

// PermissionFilter narrows a list of permissions as spec/rest-rbac-config.md 2.4 says: an omitted scope means "has none".
type PermissionFilter struct {
	Limit           int                 `cbor:"1,keyasint"`
	Type            rbac.PermissionType `cbor:"2,keyasint"`
	GroupVisibility string              `cbor:"3,keyasint,omitempty"`
	VirtualNode     string              `cbor:"4,keyasint,omitempty"`
	Prefix          string              `cbor:"5,keyasint,omitempty"`
}

// Login is a password to be checked.
type Login struct {
	Name     string        `cbor:"1,keyasint"`
	Password secret.Secret `cbor:"2,keyasint"`
	// Source is where the request came from, for the limits: an IP address.
	Source string `cbor:"3,keyasint,omitempty"`
}

// LoginResult is the answer to a password.
type LoginResult struct {
	Right bool `cbor:"1,keyasint"`
	// Version is the credential's: a remembered log-on holds as long as the user's has not changed.
	Version int64 `cbor:"2,keyasint,omitempty"`
}

// Upload is a package that was stored as a blob.
type Upload struct {
	Actor    Actor      `cbor:"1,keyasint"`
	Blob     bus.BlobID `cbor:"2,keyasint"`
	Size     int64      `cbor:"3,keyasint"`
	FileName string     `cbor:"4,keyasint,omitempty"`
}

// UploadStatus is how far the checking of a package has come.
type UploadStatus struct {
	ID     string `cbor:"1,keyasint"`
	Status string `cbor:"2,keyasint"` // Corda's progress texts; "OK" at the end
	// Checksum is the short one, once the status is OK.
	Checksum string `cbor:"3,keyasint,omitempty"`
	// Error is what was wrong with the package, as fault.Codec writes it.
	Error     []byte `cbor:"4,keyasint,omitempty"`
	UpdatedAt int64  `cbor:"5,keyasint"`
}

// NewVirtualNode asks for a virtual node.
type NewVirtualNode struct {
	Actor    Actor  `cbor:"1,keyasint"`
	Name     string `cbor:"2,keyasint"` // canonical X.500 name
	Checksum string `cbor:"3,keyasint"` // of the package, 12 upper-case hexadecimal digits
	GroupID  string `cbor:"4,keyasint"` // of the package's policy, as the asker saw it
}

// NewCertificate is a chain to be kept.
type NewCertificate struct {
	Actor Actor      `cbor:"1,keyasint"`
	Scope cert.Scope `cbor:"2,keyasint,omitempty"`
	Usage cert.Usage `cbor:"3,keyasint"`
	Alias string     `cbor:"4,keyasint"`
	PEM   []byte     `cbor:"5,keyasint"`
}

// CertificateFilter narrows a list of certificate chains; an empty alias matches all.
type CertificateFilter struct {
	Scope cert.Scope `cbor:"1,keyasint,omitempty"`
	Usage cert.Usage `cbor:"2,keyasint"`
	Alias string     `cbor:"3,keyasint,omitempty"`
}

func adminDefinitions() []bus.Definition {
	return []bus.Definition{
		CreateUser.Definition(), AddUserRole.Definition(), RemoveUserRole.Definition(), CreateRole.Definition(),
		CreatePermission.Definition(), AttachPermission.Definition(), DetachPermission.Definition(),
		UploadPackage.Definition(), CreateVirtualNode.Definition(), ImportCertificate.Definition(),
		CheckPassword.Definition(), GetUser.Definition(), GetRole.Definition(), ListRoles.Definition(),
		GetPermission.Definition(), ListPermissions.Definition(), GetUpload.Definition(), ListPackages.Definition(),
		GetVirtualNode.Definition(), ListVirtualNodes.Definition(), GetOperation.Definition(), Certificates.Definition(), PermissionsShown.Definition(),
	}
}
