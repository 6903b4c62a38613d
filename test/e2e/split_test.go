package e2e

import (
	"context"
	"crypto/rand"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-project/hawser/cmd/hawser/client"
	"github.com/hawser-project/hawser/cmd/hawser/demo"
	"github.com/hawser-project/hawser/test/testcluster"
)

// TestTradesSurviveTheLossOfAnyWorker runs the scenario of TestTradesSurviveKills on clusters whose roles are two processes
// each, on Kafka and PostgreSQL: while trades are under way, one process of each role is killed in turn and started again,
// in either cluster, and one is added.
func TestTradesSurviveTheLossOfAnyWorker(t *testing.T) {
	n, clusters := testcluster.SplitNetwork(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	business := trading(ctx, t, n.Alice)
	for k, role := range testcluster.Roles() {
		before := business.done()
		waitUntil(ctx, func() bool { return business.done() >= before+10 })
		s := clusters[n.Orgs()[k%2].Short]
		begun := time.Now()
		if err := s.KillOne(role, 0); err != nil {
			t.Fatal(err)
		}
		before = business.done()
		waitUntil(ctx, func() bool { return business.done() >= before+10 }) // the others do its work
		took := time.Since(begun).Round(time.Millisecond)
		if role == "flow" {
			if err := s.Add(ctx, role); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.StartOne(ctx, role, 0); err != nil {
			t.Fatal(err)
		}
		t.Logf("a %s of %s was killed: 10 trades later after %v", role, s.Short, took)
	}
	results := business.stop()
	t.Logf("%d trades", len(results))
	for _, org := range n.Orgs() {
		checkBook(ctx, t, org, results)
	}
	t.Run("REST goes on behind its load balancer when one worker dies", func(t *testing.T) { restDies(ctx, t, n.Alice, clusters["alice"]) })
	t.Run("a gateway has no credentials", func(t *testing.T) { gatewayHasNothing(t, clusters["alice"]) })
	t.Run("an operator asks any worker", func(t *testing.T) { operatorAsks(t, clusters["bob"]) })
	t.Run("a role taken away is refused by every REST worker", func(t *testing.T) { everyRestRefuses(ctx, t, n.Alice, clusters["alice"]) })
}

// traders make one trade after the other, several at a time, until they are told to stop.
type traders struct {
	stopped atomic.Bool
	working sync.WaitGroup
	mu      sync.Mutex
	results []demo.Trade
}

func trading(ctx context.Context, t *testing.T, org *demo.Org) *traders {
	const atOnce = 8
	b := &traders{}
	for range atOnce {
		b.working.Go(func() {
			for i := 0; !b.stopped.Load() && ctx.Err() == nil; i++ {
				tr := trade{"split-" + rand.Text(), acceptedPrice, "ACCEPTED"}
				if i%3 == 0 {
					tr.price, tr.want = declinedPrice, "DECLINED"
				}
				result := run(ctx, t, org, tr)
				if result.Status != tr.want {
					t.Errorf("%s: got %q, want %s", tr.id, result.Status, tr.want)
				}
				b.mu.Lock()
				b.results = append(b.results, result)
				b.mu.Unlock()
			}
		})
	}
	return b
}

func (b *traders) done() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.results)
}

func (b *traders) stop() []demo.Trade {
	b.stopped.Store(true)
	b.working.Wait()
	return b.results
}

// restDies kills one of two REST workers under requests: a moment later none fails any more.
func restDies(ctx context.Context, t *testing.T, org *demo.Org, s *testcluster.Split) {
	get := func() error { return org.Client().JSON(ctx, "GET", "/api/v5_3/virtualnode", nil, nil) }
	if err := get(); err != nil {
		t.Fatal(err)
	}
	if err := s.KillOne("rest", 1); err != nil {
		t.Fatal(err)
	}
	waitUntil(ctx, func() bool { return get() == nil })
	failed := 0
	for range 50 {
		if get() != nil {
			failed++
		}
	}
	if failed > 0 {
		t.Errorf("%d of 50 requests failed although one REST worker is there", failed)
	}
	if err := s.StartOne(ctx, "rest", 1); err != nil {
		t.Fatal(err)
	}
}

// gatewayHasNothing looks at what a gateway's process was given: no address of the bus, no password.
func gatewayHasNothing(t *testing.T, s *testcluster.Split) {
	config, err := s.Config("gateway", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"postgres", "kafka", "brokers"} {
		if strings.Contains(config, word) {
			t.Errorf("the gateway's configuration has %q in it", word)
		}
	}
}

// operatorAsks lists what is set aside, through a worker that has none of the keys.
func operatorAsks(t *testing.T, s *testcluster.Split) {
	calls, _ := s.Worker("rest", 0)
	as := []string{"--worker", calls, "--certificate", filepath.Join(s.Operator(), "cert.pem"), "--key", filepath.Join(s.Operator(), "key.pem"), "--authority", filepath.Join(s.Operator(), "ca.pem")}
	for _, command := range [][]string{{"bus", "poison", "list"}, {"bus", "held"}} {
		out, err := s.Hawser(append(command, as...)...)
		if err != nil || strings.TrimSpace(out) != "none" {
			t.Errorf("%v: got %q, %v; want none", command, out, err)
		}
	}
	if out, err := s.Hawser(append([]string{"bus", "poison", "replay", "flow", "no-such-key"}, as...)...); err == nil || !strings.Contains(out, "nothing is set aside") {
		t.Errorf("a replay of nothing: got %q, %v", out, err)
	}
}

// everyRestRefuses takes a role away through one REST worker, and asks each at once.
func everyRestRefuses(ctx context.Context, t *testing.T, org *demo.Org, s *testcluster.Split) {
	const api = "/api/v5_3"
	admin := org.Client()
	var permission, role struct{ ID string }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(admin.JSON(ctx, "POST", api+"/permission", map[string]any{"permissionType": "ALLOW", "permissionString": "GET:/api/v5_3/cpi"}, &permission))
	must(admin.JSON(ctx, "POST", api+"/role", map[string]any{"roleName": "Reader"}, &role))
	must(admin.JSON(ctx, "PUT", api+"/role/"+role.ID+"/permission/"+permission.ID, nil, nil))
	must(admin.JSON(ctx, "POST", api+"/user", map[string]any{"fullName": "Reader", "loginName": "reader", "enabled": true, "initialPassword": "reading-it-all"}, nil))
	must(admin.JSON(ctx, "PUT", api+"/user/reader/role/"+role.ID, nil, nil))
	for round, want := range []int{http.StatusOK, http.StatusForbidden} {
		if round == 1 {
			must(admin.JSON(ctx, "DELETE", api+"/user/reader/role/"+role.ID, nil, nil))
		}
		for i := range 2 {
			c, err := s.RestClient(i, "reader", "reading-it-all")
			must(err)
			err = c.JSON(ctx, "GET", api+"/cpi", nil, nil)
			if got := max(client.StatusOf(err), http.StatusOK*boolTo(err == nil)); got != want {
				t.Errorf("REST worker %d answers %d (%v), want %d", i, got, err, want)
			}
		}
	}
}

func boolTo(b bool) int {
	if b {
		return 1
	}
	return 0
}
