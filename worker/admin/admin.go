// Package admin is the worker that owns administration: users, roles and permissions, packages, virtual nodes and
// certificates. Every change is a step; every reading is answered from its state. Password hashes never leave it.
//
// A file per noun: user.go, role.go (and permissions), password.go, upload.go (packages), vnode.go, certificate.go.
package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/rbac"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/internal/secret"
	"github.com/hawser-project/hawser/internal/wholefile"
)

// Config is what the worker needs.
type Config struct {
	Bus *bus.Client
	Log *slog.Logger
	// FirstPassword is the password of the first administrator, who is made once. Empty: a random one is written to
	// PasswordFile with mode 0600.
	FirstPassword secret.Secret
	PasswordFile  string
}

// FirstLogin is the login name of the first administrator.
const FirstLogin = "admin"

// Names that Corda gives the first administrator and its role; the role can't be taken from it (spec/rest-rbac-config.md 2.2).
const (
	firstFullName = "Default Admin"
	firstRole     = "Default System Admin"
)

// Worker is the admin worker.
type Worker struct {
	Config
	guard *guard
}

// New wires the worker. It does no I/O.
func New(c Config) *Worker { return &Worker{Config: c, guard: newGuard()} }

// Run answers until ctx ends.
func (w *Worker) Run(ctx context.Context, ready func()) error {
	consumer := w.Bus.Consumer()
	bootstrap.Handle(consumer, w.bootstrap)
	topic.CreateUser.Handle(consumer, w.createUser)
	topic.AddUserRole.Handle(consumer, w.addUserRole)
	topic.RemoveUserRole.Handle(consumer, w.removeUserRole)
	topic.CreateRole.Handle(consumer, w.createRole)
	topic.CreatePermission.Handle(consumer, w.createPermission)
	topic.AttachPermission.Handle(consumer, w.attachPermission)
	topic.DetachPermission.Handle(consumer, w.detachPermission)
	topic.UploadPackage.Handle(consumer, w.upload)
	topic.CreateVirtualNode.Handle(consumer, w.createVirtualNode)
	topic.ImportCertificate.Handle(consumer, w.importCertificate)
	consumer.HandleTimers(w.checkUpload)
	for _, stop := range []func(){
		topic.CheckPassword.Answer(w.Bus, w.checkPassword),
		topic.GetUser.Answer(w.Bus, w.getUser),
		topic.GetRole.Answer(w.Bus, w.getRole),
		topic.ListRoles.Answer(w.Bus, w.listRoles),
		topic.GetPermission.Answer(w.Bus, w.getPermission),
		topic.ListPermissions.Answer(w.Bus, w.listPermissions),
		topic.GetUpload.Answer(w.Bus, w.getUpload),
		topic.ListPackages.Answer(w.Bus, w.listPackages),
		topic.GetVirtualNode.Answer(w.Bus, w.getVirtualNode),
		topic.ListVirtualNodes.Answer(w.Bus, w.listVirtualNodes),
		topic.GetOperation.Answer(w.Bus, w.getOperation),
		topic.Certificates.Answer(w.Bus, w.certificates),
	} {
		defer stop()
	}
	return consumer.RunAfter(ctx, func(ctx context.Context) error {
		if _, _, err := bootstrap.Do(ctx, w.Bus, topic.RBACKey, "first", struct{}{}); err != nil {
			return fmt.Errorf("make the first administrator: %w", err)
		}
		return nil
	}, ready)
}

// bootstrap makes the first administrator.
var bootstrap = bus.Command[struct{}, bool]{Name: "admin.bootstrap", Askers: []bus.Role{topic.Admin}, Answers: topic.Admin, Secret: true}

// bootstrap makes the first administrator where there is no user at all. A random password is in its file before the user
// exists, so that it can't be lost.
func (w *Worker) bootstrap(ctx context.Context, tx *bus.Tx, _ string, _ struct{}) (bool, error) {
	existing, err := users.List(tx, topic.RBACKey, "")
	if err != nil || len(existing) > 0 {
		return false, err
	}
	password := w.FirstPassword
	if password.IsZero() {
		password = secret.FromString(rand.Text())
		if err := w.writePassword(password); err != nil {
			return false, err
		}
		w.Log.InfoContext(ctx, "the first administrator's password is in a file", "login", FirstLogin, "file", w.PasswordFile)
	}
	now := tx.Now().UnixMilli()
	all := rbac.Permission{ID: uuid.NewString(), UpdatedAt: now, Type: rbac.Allow, Pattern: ".*"}
	role := rbac.Role{ID: uuid.NewString(), UpdatedAt: now, Name: firstRole, Permissions: []rbac.PermissionAssociation{{PermissionID: all.ID, CreatedAt: now}}}
	user := rbac.User{
		ID: uuid.NewString(), UpdatedAt: now, FullName: firstFullName, LoginName: FirstLogin, Enabled: true, HasPassword: true,
		Roles: []rbac.RoleAssociation{{RoleID: role.ID, CreatedAt: now}},
	}
	permissions.Put(tx, topic.RBACKey, all.ID, all)
	roles.Put(tx, topic.RBACKey, role.ID, role)
	users.Put(tx, topic.RBACKey, user.LoginName, user)
	credentials.Put(tx, topic.RBACKey, user.LoginName, rbac.Credential{LoginName: user.LoginName, Hash: rbac.HashPassword(password), Version: 1})
	w.audit(tx, topic.Actor{Login: "set-up"}, "USER_INSERT", "first administrator")
	return true, publish(tx, user)
}

func (w *Worker) writePassword(password secret.Secret) error {
	if w.PasswordFile == "" {
		return errors.New("no password is given for the first administrator, and no file to write a random one to")
	}
	if err := os.MkdirAll(filepath.Dir(w.PasswordFile), 0o700); err != nil {
		return err
	}
	return wholefile.WriteString(w.PasswordFile, 0o600, password.RevealString()+"\n")
}

// audits keeps what was changed, by whom: key RBACKey, row time and id.
var audits = bus.State[rbac.Change]{Name: "admin.audit", Owner: topic.Admin}

func (w *Worker) audit(tx *bus.Tx, by topic.Actor, what, details string) {
	change := rbac.Change{ID: uuid.NewString(), At: tx.Now().UnixMilli(), Actor: by.Login, Type: what, Details: details}
	row := tx.Now().UTC().Format(time.RFC3339Nano) + "/" + change.ID
	audits.Put(tx, tx.Input().Key, row, change)
}
