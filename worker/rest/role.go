package rest

import (
	"context"
	"net/http"

	"github.com/hawser-project/hawser/cluster/rbac"
	"github.com/hawser-project/hawser/cluster/topic"
)

type roleOutput struct {
	ID              string                 `json:"id"`
	Version         int64                  `json:"version"`
	UpdateTimestamp instant                `json:"updateTimestamp"`
	RoleName        string                 `json:"roleName"`
	GroupVisibility *string                `json:"groupVisibility"`
	Permissions     []rolePermissionOutput `json:"permissions"`
}

type rolePermissionOutput struct {
	ID      string  `json:"id"`
	Created instant `json:"createdTimestamp"`
}

func roleOf(r rbac.Role) roleOutput {
	return roleOutput{
		ID: r.ID, Version: r.Version, UpdateTimestamp: instant(r.UpdatedAt), RoleName: r.Name, GroupVisibility: orNull(r.GroupVisibility),
		Permissions: list(r.Permissions, func(p rbac.PermissionAssociation) rolePermissionOutput {
			return rolePermissionOutput{p.PermissionID, instant(p.CreatedAt)}
		}),
	}
}

type nothing struct{}

func (w *Worker) listRoles(ctx context.Context, _ nothing) ([]roleOutput, error) {
	roles, err := topic.ListRoles.Do(ctx, w.Bus, struct{}{})
	return list(roles, roleOf), err
}

type createRoleInput struct {
	Body struct {
		RoleName        string  `json:"roleName"`
		GroupVisibility *string `json:"groupVisibility"`
	} `body:"createRoleType"`
}

func (w *Worker) createRole(ctx context.Context, in createRoleInput) (roleOutput, error) {
	role, _, err := topic.CreateRole.Do(ctx, w.Bus, topic.RBACKey, commandID(ctx), topic.NewRole{
		Actor: actor(ctx), Name: in.Body.RoleName, GroupVisibility: orEmpty(in.Body.GroupVisibility),
	})
	return roleOf(role), remote(err)
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

type idInput struct {
	ID string `path:"id"`
}

func (w *Worker) getRole(ctx context.Context, in idInput) (roleOutput, error) {
	role, err := topic.GetRole.Do(ctx, w.Bus, in.ID)
	return roleOf(role), err
}

type rolePermissionInput struct {
	RoleID       string `path:"roleid"`
	PermissionID string `path:"permissionid"`
}

func (w *Worker) attachPermission(ctx context.Context, in rolePermissionInput) (roleOutput, error) {
	role, at, err := topic.AttachPermission.Do(ctx, w.Bus, topic.RBACKey, commandID(ctx), topic.RolePermission{
		Actor: actor(ctx), RoleID: in.RoleID, PermissionID: in.PermissionID,
	})
	if err != nil {
		return roleOutput{}, remote(err)
	}
	w.shown(ctx, at)
	return roleOf(role), nil
}

func (w *Worker) detachPermission(ctx context.Context, in rolePermissionInput) (roleOutput, error) {
	role, at, err := topic.DetachPermission.Do(ctx, w.Bus, topic.RBACKey, commandID(ctx), topic.RolePermission{
		Actor: actor(ctx), RoleID: in.RoleID, PermissionID: in.PermissionID,
	})
	if err != nil {
		return roleOutput{}, remote(err)
	}
	w.shown(ctx, at)
	return roleOf(role), nil
}

type permissionOutput struct {
	ID               string  `json:"id"`
	Version          int64   `json:"version"`
	UpdateTimestamp  instant `json:"updateTimestamp"`
	GroupVisibility  *string `json:"groupVisibility"`
	VirtualNode      *string `json:"virtualNode"`
	PermissionType   string  `json:"permissionType"`
	PermissionString string  `json:"permissionString"`
}

func permissionOf(p rbac.Permission) permissionOutput {
	return permissionOutput{
		ID: p.ID, Version: p.Version, UpdateTimestamp: instant(p.UpdatedAt), GroupVisibility: orNull(p.GroupVisibility),
		VirtualNode: orNull(p.VirtualNode), PermissionType: string(p.Type), PermissionString: p.Pattern,
	}
}

type createPermissionInput struct {
	Body struct {
		PermissionType   string  `json:"permissionType"`
		PermissionString string  `json:"permissionString"`
		GroupVisibility  *string `json:"groupVisibility"`
		VirtualNode      *string `json:"virtualNode"`
	} `body:"createPermissionType"`
}

func (w *Worker) createPermission(ctx context.Context, in createPermissionInput) (permissionOutput, error) {
	p, _, err := topic.CreatePermission.Do(ctx, w.Bus, topic.RBACKey, commandID(ctx), topic.NewPermission{
		Actor: actor(ctx), Permission: rbac.Permission{
			Type: rbac.PermissionType(in.Body.PermissionType), Pattern: in.Body.PermissionString,
			GroupVisibility: orEmpty(in.Body.GroupVisibility), VirtualNode: orEmpty(in.Body.VirtualNode),
		},
	})
	return permissionOf(p), remote(err)
}

func (w *Worker) getPermission(ctx context.Context, in idInput) (permissionOutput, error) {
	p, err := topic.GetPermission.Do(ctx, w.Bus, in.ID)
	return permissionOf(p), err
}

type listPermissionsInput struct {
	Limit           int     `query:"limit"`
	Type            string  `query:"permissiontype"`
	GroupVisibility *string `query:"groupvisibility"`
	VirtualNode     *string `query:"virtualnode"`
	Prefix          *string `query:"permissionstringprefix"`
}

func (w *Worker) listPermissions(ctx context.Context, in listPermissionsInput) ([]permissionOutput, error) {
	kind := rbac.PermissionType(in.Type)
	if kind != rbac.Allow && kind != rbac.Deny {
		return nil, failure(http.StatusBadRequest, "Unable to parse parameter 'permissiontype'", "cause", "BadRequestException", "reason", "permissiontype is ALLOW or DENY")
	}
	found, err := topic.ListPermissions.Do(ctx, w.Bus, topic.PermissionFilter{
		Limit: in.Limit, Type: kind, GroupVisibility: orEmpty(in.GroupVisibility), VirtualNode: orEmpty(in.VirtualNode), Prefix: orEmpty(in.Prefix),
	})
	return list(found, permissionOf), err
}
