package rest

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/rbac"
	"github.com/hawser-project/hawser/cluster/topic"
)

// ruleCache has the permissions of users, compiled.
type ruleCache struct {
	mu    sync.RWMutex
	users map[string]*compiled
}

// compiled is valid for exactly the list that it was made of.
type compiled struct {
	of    []rbac.Permission
	rules *rbac.Rules

	mu sync.RWMutex
	// allowed has what was permitted lately, by the request as it was sent, with the reason: what is asked again and again
	// (a status that a client polls) is not matched again and again.
	allowed map[string]string
}

const (
	maxAllowed    = 128
	maxAllowedKey = 256 // octets
)

func newRuleCache() *ruleCache { return &ruleCache{users: make(map[string]*compiled)} }

func (c *ruleCache) get(p rbac.Principal) *compiled {
	c.mu.RLock()
	have := c.users[p.User.LoginName]
	c.mu.RUnlock()
	if have != nil && sameList(have.of, p.Permissions) {
		return have
	}
	have = &compiled{of: p.Permissions, rules: rbac.Compile(p.Permissions), allowed: make(map[string]string)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users[p.User.LoginName] = have
	return have
}

func (c *compiled) wasAllowed(sent string) (reason string, was bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	reason, was = c.allowed[sent]
	return reason, was
}

func (c *compiled) allow(sent, reason string) {
	if len(sent) > maxAllowedKey {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.allowed) >= maxAllowed {
		clear(c.allowed)
	}
	c.allowed[sent] = reason
}

// sameList says whether two lists are one: each record that the table reads has a list of its own.
func sameList(a, b []rbac.Permission) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func (c *ruleCache) forget(login string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.users, login)
}

func forbidden() error { return failure(http.StatusForbidden, titleForbidden) }

// authorise says whether the user may do what the request asks for. A refusal counts once the table is as current as
// admin (DESIGN.md 6).
func (w *Worker) authorise(ctx context.Context, p rbac.Principal, logOn rbac.LogOn, s *route, r *http.Request, e *event) error {
	if rbac.MayChangeOwnPassword(s.method, s.template) {
		e.decision = "own password"
		return nil
	}
	if logOn == rbac.LogOnPasswordOnly {
		e.decision = "password has expired"
		w.metrics.refused.WithLabelValues(reasonExpired).Inc()
		return forbidden()
	}
	sent, rules := r.Method+" "+e.path+"?"+r.URL.RawQuery, w.rules.get(p)
	if reason, was := rules.wasAllowed(sent); was {
		e.decision = reason
		return nil
	}
	asked, err := rbac.Canonical(r.Method, e.path, r.URL.RawQuery, s.queries)
	if err != nil {
		return err
	}
	if !w.decide(ctx, p, asked, e) {
		return forbidden()
	}
	if d := rules.rules.Decide(asked); d.Allowed { // by these rules, and not by later ones
		rules.allow(sent, d.Reason)
	}
	return nil
}

// decide decides on a request, and once more on a refusal.
func (w *Worker) decide(ctx context.Context, p rbac.Principal, asked rbac.Request, e *event) bool {
	d := w.rules.get(p).rules.Decide(asked)
	if !d.Allowed {
		w.catchUp(ctx)
		if now, known := w.principals.Get(p.User.LoginName); known && !sameList(now.Permissions, p.Permissions) {
			d = w.rules.get(now).rules.Decide(asked)
		}
	}
	e.decision = d.Reason
	if !d.Allowed {
		w.metrics.refused.WithLabelValues(reasonNotPermitted).Inc()
	}
	return d.Allowed
}

// permitStart is the second permission that starting a flow needs.
func (w *Worker) permitStart(ctx context.Context, class, virtualNode string) error {
	e := eventOf(ctx)
	p, known := w.principals.Get(e.login)
	if !known || !w.decide(ctx, p, rbac.StartFlow(class, virtualNode), e) {
		return failure(http.StatusForbidden, fmt.Sprintf("User %s is not allowed to start a flow: %s.", e.loginAsSent, class))
	}
	return nil
}

// shown waits until every REST worker decides by what a command has changed; a command that takes rights away is answered
// then.
func (w *Worker) shown(ctx context.Context, at bus.Commit) {
	wait, cancel := context.WithTimeout(ctx, revocationTime)
	defer cancel()
	if _, errs := topic.PermissionsShown.Everywhere(wait, w.Bus, at); len(errs) > 0 {
		eventOf(ctx).warn(`199 - the change is durable and not yet in effect everywhere`)
	}
}

// showsPermissions answers once this worker decides by what a command has changed.
func (w *Worker) showsPermissions(ctx context.Context, at bus.Commit) (struct{}, error) {
	return struct{}{}, w.principals.Wait(ctx, at)
}
