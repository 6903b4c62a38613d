package rest

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hawser-project/hawser/cluster/rbac"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/internal/secret"
)

type helloInput struct {
	Addressee string `query:"addressee"`
}

// hello answers with quotes around it, as Corda's does, whose result is a string that is JSON by itself.
func (w *Worker) hello(ctx context.Context, in helloInput) (text, error) {
	quoted, err := json.Marshal(fmt.Sprintf("Hello, %s! (from %s)", in.Addressee, eventOf(ctx).loginAsSent))
	return text(quoted), err
}

type userOutput struct {
	ID              string           `json:"id"`
	Version         int64            `json:"version"`
	UpdateTimestamp instant          `json:"updateTimestamp"`
	FullName        string           `json:"fullName"`
	LoginName       string           `json:"loginName"`
	Enabled         bool             `json:"enabled"`
	SSOAuth         bool             `json:"ssoAuth"` // has no password
	PasswordExpiry  *instant         `json:"passwordExpiry"`
	ParentGroup     *string          `json:"parentGroup"`
	Properties      []propertyOutput `json:"properties"`
	Roles           []userRoleOutput `json:"roleAssociations"`
}

type propertyOutput struct {
	Key         string  `json:"key"`
	Value       string  `json:"value"`
	LastChanged instant `json:"lastChangedTimestamp"`
}

type userRoleOutput struct {
	RoleID  string  `json:"roleId"`
	Created instant `json:"createTimestamp"`
}

func userOf(u rbac.User) userOutput {
	return userOutput{
		ID: u.ID, Version: u.Version, UpdateTimestamp: instant(u.UpdatedAt), FullName: u.FullName, LoginName: u.LoginName,
		Enabled: u.Enabled, SSOAuth: !u.HasPassword, PasswordExpiry: optional(u.PasswordExpiry), ParentGroup: orNull(u.ParentGroup),
		Properties: list(u.Properties, func(p rbac.Property) propertyOutput {
			return propertyOutput{p.Key, p.Value, instant(p.UpdatedAt)}
		}),
		Roles: list(u.Roles, func(r rbac.RoleAssociation) userRoleOutput { return userRoleOutput{r.RoleID, instant(r.CreatedAt)} }),
	}
}

type createUserInput struct {
	Body struct {
		FullName        string         `json:"fullName"`
		LoginName       string         `json:"loginName"`
		Enabled         bool           `json:"enabled"`
		InitialPassword *secret.Secret `json:"initialPassword"`
		PasswordExpiry  *instant       `json:"passwordExpiry"`
		ParentGroup     *string        `json:"parentGroup"`
	} `body:"createUserType"`
}

func (w *Worker) createUser(ctx context.Context, in createUserInput) (userOutput, error) {
	asked := topic.NewUser{Actor: actor(ctx), FullName: in.Body.FullName, LoginName: in.Body.LoginName, Enabled: in.Body.Enabled}
	if p := in.Body.InitialPassword; p != nil {
		asked.Password, asked.HasPassword = *p, true
	}
	if e := in.Body.PasswordExpiry; e != nil {
		asked.Expiry = int64(*e)
	}
	if g := in.Body.ParentGroup; g != nil {
		asked.ParentGroup = *g
	}
	user, at, err := topic.CreateUser.Do(ctx, w.Bus, topic.RBACKey, commandID(ctx), asked)
	if err != nil {
		return userOutput{}, remote(err)
	}
	w.shown(ctx, at)
	return userOf(user), nil
}

type loginInput struct {
	Login string `path:"loginname"`
}

func (w *Worker) getUser(ctx context.Context, in loginInput) (userOutput, error) {
	user, err := topic.GetUser.Do(ctx, w.Bus, in.Login)
	return userOf(user), err
}

type userRoleInput struct {
	Login  string `path:"loginname"`
	RoleID string `path:"roleid"`
}

func (w *Worker) addUserRole(ctx context.Context, in userRoleInput) (userOutput, error) {
	user, at, err := topic.AddUserRole.Do(ctx, w.Bus, topic.RBACKey, commandID(ctx), topic.UserRole{Actor: actor(ctx), Login: in.Login, RoleID: in.RoleID})
	if err != nil {
		return userOutput{}, remote(err)
	}
	w.shown(ctx, at)
	return userOf(user), nil
}

func (w *Worker) removeUserRole(ctx context.Context, in userRoleInput) (userOutput, error) {
	user, at, err := topic.RemoveUserRole.Do(ctx, w.Bus, topic.RBACKey, commandID(ctx), topic.UserRole{Actor: actor(ctx), Login: in.Login, RoleID: in.RoleID})
	if err != nil {
		return userOutput{}, remote(err)
	}
	w.shown(ctx, at)
	return userOf(user), nil
}
