package admin

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/rbac"
	"github.com/hawser-project/hawser/cluster/topic"
)

func (w *Worker) createRole(_ context.Context, tx *bus.Tx, _ string, req topic.NewRole) (rbac.Role, error) {
	if err := rbac.CheckRoleName(req.Name); err != nil {
		return rbac.Role{}, err
	}
	if req.GroupVisibility != "" {
		return rbac.Role{}, fault.New(fault.NotFound, "Group '%s' not found.", req.GroupVisibility)
	}
	role := rbac.Role{ID: uuid.NewString(), UpdatedAt: tx.Now().UnixMilli(), Name: req.Name}
	roles.Put(tx, topic.RBACKey, role.ID, role)
	w.audit(tx, req.Actor, "ROLE_INSERT", role.Name+" "+role.ID)
	return role, nil
}

func (w *Worker) createPermission(_ context.Context, tx *bus.Tx, _ string, req topic.NewPermission) (rbac.Permission, error) {
	p := req.Permission
	if err := p.Check(); err != nil {
		return p, err
	}
	if p.GroupVisibility != "" {
		return p, fault.New(fault.NotFound, "Group '%s' not found.", p.GroupVisibility)
	}
	p.ID, p.Version, p.UpdatedAt = uuid.NewString(), 0, tx.Now().UnixMilli()
	permissions.Put(tx, topic.RBACKey, p.ID, p)
	w.audit(tx, req.Actor, "PERMISSION_INSERT", string(p.Type)+" "+p.Pattern+" "+p.ID)
	return p, nil
}

func (w *Worker) attachPermission(_ context.Context, tx *bus.Tx, _ string, req topic.RolePermission) (rbac.Role, error) {
	role, err := rolePermission(tx, req)
	if err != nil {
		return role, err
	}
	if slices.ContainsFunc(role.Permissions, func(p rbac.PermissionAssociation) bool { return p.PermissionID == req.PermissionID }) {
		return role, fault.New(fault.Conflict, "Permission '%s' is already associated with Role '%s'.", req.PermissionID, role.ID)
	}
	role.Permissions = append(role.Permissions, rbac.PermissionAssociation{PermissionID: req.PermissionID, CreatedAt: tx.Now().UnixMilli()})
	return w.changeRole(tx, role, req.Actor, "ADD_PERMISSION_TO_ROLE", req.PermissionID)
}

func (w *Worker) detachPermission(_ context.Context, tx *bus.Tx, _ string, req topic.RolePermission) (rbac.Role, error) {
	role, err := rolePermission(tx, req)
	if err != nil {
		return role, err
	}
	if role.Name == firstRole && role.GroupVisibility == "" {
		return role, fault.New(fault.Invalid, "%s cannot be changed", firstRole)
	}
	kept := slices.DeleteFunc(slices.Clone(role.Permissions), func(p rbac.PermissionAssociation) bool { return p.PermissionID == req.PermissionID })
	if len(kept) == len(role.Permissions) {
		return role, fault.New(fault.Invalid, "Permission '%s' is not associated with Role '%s'.", req.PermissionID, role.ID)
	}
	role.Permissions = kept
	return w.changeRole(tx, role, req.Actor, "DELETE_PERMISSION_FROM_ROLE", req.PermissionID)
}

// rolePermission finds the role of a request, and says whether its permission exists.
func rolePermission(tx *bus.Tx, req topic.RolePermission) (rbac.Role, error) {
	role, err := roleIn(tx, req.RoleID)
	if err != nil {
		return role, err
	}
	_, err = permissionIn(tx, req.PermissionID)
	return role, err
}

func (w *Worker) changeRole(tx *bus.Tx, role rbac.Role, by topic.Actor, what, details string) (rbac.Role, error) {
	role.Version++
	role.UpdatedAt = tx.Now().UnixMilli()
	roles.Put(tx, topic.RBACKey, role.ID, role)
	w.audit(tx, by, what, role.ID+": "+details)
	return role, publishHolders(tx, role.ID)
}

func (w *Worker) getRole(ctx context.Context, id string) (role rbac.Role, err error) {
	err = w.Bus.View(ctx, func(r bus.Reader) (err error) {
		role, err = roleIn(r, id)
		return err
	})
	return role, err
}

func (w *Worker) listRoles(ctx context.Context, _ struct{}) ([]rbac.Role, error) {
	return listAll(ctx, w, roles, topic.RBACKey)
}

func (w *Worker) getPermission(ctx context.Context, id string) (p rbac.Permission, err error) {
	err = w.Bus.View(ctx, func(r bus.Reader) (err error) {
		p, err = permissionIn(r, id)
		return err
	})
	return p, err
}

// listPermissions filters by equality; an omitted scope means "has none" (spec/rest-rbac-config.md 2.4).
func (w *Worker) listPermissions(ctx context.Context, f topic.PermissionFilter) ([]rbac.Permission, error) {
	if f.Limit < 1 || f.Limit > 1000 {
		return nil, fault.New(fault.Invalid, "limit %d is not within 1 and 1000", f.Limit)
	}
	all, err := listAll(ctx, w, permissions, topic.RBACKey)
	if err != nil {
		return nil, err
	}
	found := slices.DeleteFunc(all, func(p rbac.Permission) bool {
		return p.Type != f.Type || p.GroupVisibility != f.GroupVisibility || p.VirtualNode != f.VirtualNode || !strings.HasPrefix(p.Pattern, f.Prefix)
	})
	return found[:min(len(found), f.Limit)], nil
}

func roleIn(r bus.Reader, id string) (rbac.Role, error) { return mustFind(r, roles, "Role", id) }

func permissionIn(r bus.Reader, id string) (rbac.Permission, error) {
	return mustFind(r, permissions, "Permission", id)
}

func mustFind[V any](r bus.Reader, state bus.State[V], what, id string) (V, error) {
	v, found, err := state.Get(r, topic.RBACKey, id)
	if err == nil && !found {
		err = fault.New(fault.NotFound, "%s '%s' not found.", what, id)
	}
	return v, err
}

// listAll returns the values of all rows of a key.
func listAll[V any](ctx context.Context, w *Worker, state bus.State[V], key string) (values []V, err error) {
	err = w.Bus.View(ctx, func(r bus.Reader) error {
		entries, err := state.List(r, key, "")
		values = make([]V, 0, len(entries))
		for _, e := range entries {
			values = append(values, e.Value)
		}
		return err
	})
	return values, err
}
