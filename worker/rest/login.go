package rest

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"hash"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/rbac"
	"github.com/hawser-project/hawser/cluster/topic"
	"github.com/hawser-project/hawser/internal/secret"
)

// Corda's texts (spec 1.6).
const (
	titleNoCredentials = "User credentials are empty or cannot be resolved"
	titleWrong         = "Error during user authentication"
	titleForbidden     = "User not authorized."
	challenge          = `Basic realm="Corda REST Worker"`
	warnExpiry         = "199 - PasswordExpiryStatus is CLOSE_TO_EXPIRY"
	// expiryWarning is the default of corda.rbac.password.passwordExpiryWarningWindow.
	expiryWarning = 30 * 24 * time.Hour
)

func unauthenticated(title string) *problem {
	f := failure(http.StatusUnauthorized, title)
	f.header = map[string]string{"WWW-Authenticate": challenge}
	return f
}

// authenticate says who asks. A disabled user gets the answer of a wrong password.
func (w *Worker) authenticate(ctx context.Context, r *http.Request, e *event) (rbac.Principal, rbac.LogOn, error) {
	given, password, ok := r.BasicAuth()
	if !ok || given == "" || password == "" {
		w.metrics.refused.WithLabelValues(reasonNoCredentials).Inc()
		return rbac.Principal{}, 0, unauthenticated(titleNoCredentials)
	}
	e.loginAsSent, e.login = given, rbac.NormalLogin(given)
	principal, err := w.identify(ctx, e, password)
	if err != nil {
		reason := reasonWrong
		if fault.KindOf(err) == fault.TooMany {
			reason = reasonTooMany
		}
		w.metrics.refused.WithLabelValues(reason).Inc()
		return principal, 0, err
	}
	now := time.Now().UnixMilli()
	logOn := principal.User.MayLogOn(now)
	switch expiry := principal.User.PasswordExpiry; {
	case logOn == rbac.LogOnRefused:
		w.metrics.refused.WithLabelValues(reasonDisabled).Inc()
		return principal, 0, unauthenticated(titleWrong)
	case logOn == rbac.LogOnFull && expiry != 0 && expiry-now < expiryWarning.Milliseconds():
		e.warn(warnExpiry)
	}
	return principal, logOn, nil
}

// identify finds the user whose password it is.
func (w *Worker) identify(ctx context.Context, e *event, password string) (rbac.Principal, error) {
	principal, known := w.principals.Get(e.login)
	digest := w.logins.digest(e.login, password)
	if known && w.logins.remembers(digest, e.login, stampOf(principal.User), time.Now()) {
		return principal, nil
	}
	result, err := topic.CheckPassword.Do(ctx, w.Bus, topic.Login{Name: e.login, Password: secret.FromString(password), Source: e.source})
	if err != nil {
		return principal, err
	}
	if !result.Right {
		return principal, unauthenticated(titleWrong)
	}
	if !known || principal.User.MayLogOn(time.Now().UnixMilli()) != rbac.LogOnFull {
		w.catchUp(ctx)
		if principal, known = w.principals.Get(e.login); !known {
			return principal, unauthenticated(titleWrong)
		}
	}
	// principal was read before or at the same state as the check saw: a change in between has another stamp.
	w.logins.remember(digest, e.login, stampOf(principal.User), time.Now())
	return principal, nil
}

// catchUp waits a little until the table shows what admin has said up to now.
func (w *Worker) catchUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, tableTime)
	defer cancel()
	_ = w.principals.WaitCurrent(ctx) // late: what is refused now is permitted at the next try
}

// sourceOf is where a request came from, for the limits.
func sourceOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

const (
	maxLogins = 10_000
	loginTime = 10 * time.Minute
)

// logins remembers successful password checks, under a digest with a key of this process: neither the passwords nor
// anything that a guess could be tried on is in memory for long (DESIGN.md 6).
type logins struct {
	macs sync.Pool // of hash.Hash: HMAC-SHA256 under the key of this process

	mu      sync.Mutex
	entries map[loginDigest]*loginEntry
	byLogin map[string]map[loginDigest]bool
}

type loginDigest [sha256.Size]byte

// userStamp tells states of a user apart.
type userStamp struct {
	id               string
	version, updated int64
}

func stampOf(u rbac.User) userStamp { return userStamp{u.ID, u.Version, u.UpdatedAt} }

type loginEntry struct {
	login   string
	user    userStamp
	expires time.Time
}

func newLogins() *logins {
	l := &logins{entries: make(map[loginDigest]*loginEntry), byLogin: make(map[string]map[loginDigest]bool)}
	var key [sha256.Size]byte
	_, _ = rand.Read(key[:]) // never fails: it crashes the process instead
	l.macs.New = func() any { return hmac.New(sha256.New, key[:]) }
	return l
}

func (l *logins) digest(login, password string) (d loginDigest) {
	mac := l.macs.Get().(hash.Hash) //nolint:forcetypeassert // New makes no other
	defer l.macs.Put(mac)
	mac.Write([]byte(login))
	mac.Write([]byte{0})
	mac.Write([]byte(password))
	mac.Sum(d[:0])
	mac.Reset()
	return d
}

// remembers says whether the password was right, and the user has not changed since.
func (l *logins) remembers(d loginDigest, login string, user userStamp, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[d]
	return e != nil && e.login == login && e.user == user && now.Before(e.expires)
}

func (l *logins) remember(d loginDigest, login string, user userStamp, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.entries) >= maxLogins {
		l.makeRoom(now)
	}
	l.entries[d] = &loginEntry{login, user, now.Add(loginTime)}
	if l.byLogin[login] == nil {
		l.byLogin[login] = make(map[loginDigest]bool)
	}
	l.byLogin[login][d] = true
}

// makeRoom drops what has expired, and where nothing has, any tenth: who is dropped has the password checked again.
func (l *logins) makeRoom(now time.Time) {
	for d, e := range l.entries {
		if !now.Before(e.expires) {
			l.drop(d, e)
		}
	}
	for d, e := range l.entries {
		if len(l.entries) <= maxLogins-maxLogins/10 {
			return
		}
		l.drop(d, e)
	}
}

func (l *logins) drop(d loginDigest, e *loginEntry) {
	delete(l.entries, d)
	delete(l.byLogin[e.login], d)
	if len(l.byLogin[e.login]) == 0 {
		delete(l.byLogin, e.login)
	}
}

// forget drops what is remembered of a user.
func (l *logins) forget(login string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for d := range l.byLogin[login] {
		delete(l.entries, d)
	}
	delete(l.byLogin, login)
}
