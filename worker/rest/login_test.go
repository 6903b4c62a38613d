package rest

import (
	"fmt"
	"testing"
	"time"
)

func TestLogOnsAreRememberedForAWhile(t *testing.T) {
	t.Parallel()
	l, now, user := newLogins(), time.Now(), userStamp{id: "1", version: 1}
	d := l.digest("bob", "right")
	l.remember(d, "bob", user, now)
	if !l.remembers(d, "bob", user, now) || l.remembers(l.digest("bob", "wrong"), "bob", user, now) || l.remembers(l.digest("bo", "bright"), "bo", user, now) {
		t.Error("a digest is not of login and password")
	}
	if l.remembers(d, "bob", userStamp{id: "1", version: 2}, now) {
		t.Error("the user changed, and the log-on is remembered")
	}
	if l.remembers(d, "bob", user, now.Add(loginTime)) {
		t.Error("a log-on is remembered for ever")
	}
	if newLogins().digest("bob", "right") == d {
		t.Error("the digest is the same in another process")
	}
	l.forget("bob")
	if l.remembers(d, "bob", user, now) || len(l.entries) != 0 || len(l.byLogin) != 0 {
		t.Error("a log-on was not forgotten")
	}
	for i := range maxLogins + 10 {
		login := fmt.Sprint("user", i)
		l.remember(l.digest(login, "p"), login, user, now)
	}
	if len(l.entries) > maxLogins || len(l.byLogin) > maxLogins {
		t.Errorf("%d log-ons are remembered", len(l.entries))
	}
}
