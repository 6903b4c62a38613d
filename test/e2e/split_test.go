package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
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
	roles := testcluster.Roles()
	count := 6 * len(roles)
	trades, results := make([]trade, count), make([]demo.Trade, count)
	var ended atomic.Int32
	var running sync.WaitGroup
	slots := make(chan struct{}, 12) // so that there is work to the end
	for i := range trades {
		trades[i] = trade{fmt.Sprintf("split-%d-%s", i, rand.Text()[:8]), acceptedPrice, "ACCEPTED"}
		if i%3 == 0 {
			trades[i].price, trades[i].want = declinedPrice, "DECLINED"
		}
		running.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] = run(ctx, t, n.Alice, trades[i])
			ended.Add(1)
		})
	}
	for k, role := range roles {
		waitUntil(ctx, func() bool { return int(ended.Load()) >= k*count/(len(roles)+1) })
		s := clusters[n.Orgs()[k%2].Short]
		begun := time.Now()
		if err := s.KillOne(role, 0); err != nil {
			t.Fatal(err)
		}
		if k == len(roles)/2 {
			if err := s.Add(ctx, "flow"); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.StartOne(ctx, role, 0); err != nil {
			t.Fatal(err)
		}
		t.Logf("killed a %s of %s and had it back after %v, with %d of %d trades done", role, s.Short, time.Since(begun).Round(time.Millisecond), ended.Load(), count)
	}
	running.Wait()
	for i, tr := range trades {
		if results[i].Status != tr.want {
			t.Errorf("%s: got %q, want %s", tr.id, results[i].Status, tr.want)
		}
	}
	for _, org := range n.Orgs() {
		checkBook(ctx, t, org, results)
	}
	t.Run("REST goes on behind its load balancer when one worker dies", func(t *testing.T) { restDies(ctx, t, n.Alice, clusters["alice"]) })
	t.Run("a gateway has no credentials", func(t *testing.T) { gatewayHasNothing(t, clusters["alice"]) })
	t.Run("an operator asks any worker", func(t *testing.T) { operatorAsks(t, clusters["bob"]) })
	t.Run("a role taken away is refused by every REST worker", func(t *testing.T) { everyRestRefuses(ctx, t, n.Alice, clusters["alice"]) })
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
