package admin

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/rbac"
	"github.com/hawser-project/hawser/cluster/topic"
)

// State of RBAC: key RBACKey; rows are the login name, or the id.
var (
	users       = bus.State[rbac.User]{Name: "rbac.users", Owner: topic.Admin}
	credentials = bus.State[rbac.Credential]{Name: "rbac.credentials", Owner: topic.Admin}
	roles       = bus.State[rbac.Role]{Name: "rbac.roles", Owner: topic.Admin}
	permissions = bus.State[rbac.Permission]{Name: "rbac.permissions", Owner: topic.Admin}
)

func (w *Worker) createUser(_ context.Context, tx *bus.Tx, _ string, req topic.NewUser) (rbac.User, error) {
	if err := rbac.CheckNewUser(req.FullName, req.LoginName, req.ParentGroup, req.HasPassword, req.Password.RevealString()); err != nil {
		return rbac.User{}, err
	}
	if req.ParentGroup != "" {
		return rbac.User{}, fault.New(fault.NotFound, "Group '%s' not found.", req.ParentGroup)
	}
	login := rbac.NormalLogin(req.LoginName)
	if _, exists, err := users.Get(tx, topic.RBACKey, login); err != nil {
		return rbac.User{}, err
	} else if exists {
		return rbac.User{}, fault.New(fault.Conflict, "User '%s' already exists.", login)
	}
	user := rbac.User{
		ID: uuid.NewString(), UpdatedAt: tx.Now().UnixMilli(), FullName: req.FullName, LoginName: login, Enabled: req.Enabled,
		PasswordExpiry: req.Expiry, HasPassword: req.HasPassword,
	}
	if req.HasPassword {
		credentials.Put(tx, topic.RBACKey, login, rbac.Credential{LoginName: login, Hash: rbac.HashPassword(req.Password), Version: 1})
	}
	users.Put(tx, topic.RBACKey, login, user)
	w.audit(tx, req.Actor, "USER_INSERT", login)
	return user, publish(tx, user)
}

func (w *Worker) addUserRole(_ context.Context, tx *bus.Tx, _ string, req topic.UserRole) (rbac.User, error) {
	user, err := userIn(tx, req.Login)
	if err != nil {
		return user, err
	}
	if _, err := roleIn(tx, req.RoleID); err != nil {
		return user, err
	}
	if slices.ContainsFunc(user.Roles, func(r rbac.RoleAssociation) bool { return r.RoleID == req.RoleID }) {
		return user, fault.New(fault.Conflict, "Role '%s' is already associated with User '%s'.", req.RoleID, user.LoginName)
	}
	now := tx.Now().UnixMilli()
	user.Roles = append(user.Roles, rbac.RoleAssociation{RoleID: req.RoleID, CreatedAt: now})
	return w.changeUser(tx, user, req.Actor, "ADD_ROLE_TO_USER", req.RoleID)
}

func (w *Worker) removeUserRole(_ context.Context, tx *bus.Tx, _ string, req topic.UserRole) (rbac.User, error) {
	user, err := userIn(tx, req.Login)
	if err != nil {
		return user, err
	}
	role, err := roleIn(tx, req.RoleID)
	if err != nil {
		return user, err
	}
	if role.Name == firstRole && user.FullName == firstFullName {
		return user, fault.New(fault.Invalid, "%s cannot be removed from %s.", firstRole, firstFullName)
	}
	kept := slices.DeleteFunc(slices.Clone(user.Roles), func(r rbac.RoleAssociation) bool { return r.RoleID == req.RoleID })
	if len(kept) == len(user.Roles) {
		return user, fault.New(fault.Invalid, "Role '%s' is not associated with User '%s'.", req.RoleID, user.LoginName)
	}
	user.Roles = kept
	return w.changeUser(tx, user, req.Actor, "DELETE_ROLE_FROM_USER", req.RoleID)
}

func (w *Worker) changeUser(tx *bus.Tx, user rbac.User, by topic.Actor, what, details string) (rbac.User, error) {
	user.Version++
	user.UpdatedAt = tx.Now().UnixMilli()
	users.Put(tx, topic.RBACKey, user.LoginName, user)
	w.audit(tx, by, what, fmt.Sprintf("%s: %s", user.LoginName, details))
	return user, publish(tx, user)
}

func (w *Worker) getUser(ctx context.Context, login string) (user rbac.User, err error) {
	err = w.Bus.View(ctx, func(r bus.Reader) (err error) {
		user, err = userIn(r, login)
		return err
	})
	return user, err
}

func userIn(r bus.Reader, login string) (rbac.User, error) {
	login = rbac.NormalLogin(login)
	user, found, err := users.Get(r, topic.RBACKey, login)
	if err == nil && !found {
		err = fault.New(fault.NotFound, "User '%s' not found.", login)
	}
	return user, err
}

// publish tells the rest workers what a user may do now.
func publish(tx *bus.Tx, user rbac.User) error {
	d := &directory{r: tx}
	principal := rbac.Principal{User: user, Permissions: rbac.Effective(user, d)}
	topic.Principals.Send(tx, user.LoginName, principal)
	return d.err
}

// publishHolders does so for every user who has the role.
func publishHolders(tx *bus.Tx, roleID string) error {
	all, err := users.List(tx, topic.RBACKey, "")
	if err != nil {
		return err
	}
	for _, e := range all {
		if slices.ContainsFunc(e.Value.Roles, func(r rbac.RoleAssociation) bool { return r.RoleID == roleID }) {
			if err := publish(tx, e.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// directory looks records up for rbac.Effective, and keeps the first error. There are no groups yet.
type directory struct {
	r   bus.Reader
	err error
}

func (d *directory) Group(string) (rbac.Group, bool) { return rbac.Group{}, false }

func (d *directory) Role(id string) (rbac.Role, bool) { return lookUp(d, roles, id) }

func (d *directory) Permission(id string) (rbac.Permission, bool) { return lookUp(d, permissions, id) }

func lookUp[V any](d *directory, state bus.State[V], id string) (V, bool) {
	v, found, err := state.Get(d.r, topic.RBACKey, id)
	if err != nil && d.err == nil {
		d.err = err
	}
	return v, found
}
