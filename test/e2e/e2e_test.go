// Package e2e tests whole clusters from the outside: as processes, through their REST APIs, with kill -9.
package e2e

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-project/hawser/cmd/hawser/client"
	"github.com/hawser-project/hawser/cmd/hawser/demo"
	"github.com/hawser-project/hawser/internal/secret"
	"github.com/hawser-project/hawser/test/testcluster"
)

func TestMain(m *testing.M) { testcluster.Main(m) }

// Prices that Bob's default limit of 10,000.00 lets pass or not.
const (
	acceptedPrice = 10_000
	declinedPrice = 90_000_000
)

// trade is one offer with the answer that it must get.
type trade struct {
	id    string
	price int64
	want  string
}

// TestTradesSurviveKills runs 200 trades at once while each cluster is killed several times, and looks at the outcome from
// the outside: every flow completed with the right answer, and each side's book has each trade once.
func TestTradesSurviveKills(t *testing.T) {
	n := testcluster.Network(t)
	const count, kills = 200, 4
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	trades := make([]trade, count)
	for i := range trades {
		trades[i] = trade{fmt.Sprintf("trade-%d-%s", i, rand.Text()[:8]), acceptedPrice, "ACCEPTED"}
		if i%3 == 0 {
			trades[i].price, trades[i].want = declinedPrice, "DECLINED"
		}
	}
	var ended atomic.Int32
	results := make([]demo.Trade, count)
	var running sync.WaitGroup
	for i, tr := range trades {
		running.Go(func() {
			results[i] = run(ctx, t, n.Alice, tr)
			ended.Add(1)
		})
	}
	for k := range 2 * kills {
		org := n.Orgs()[k%2]
		waitUntil(ctx, func() bool { return int(ended.Load()) >= k*count/(2*kills+2) })
		if err := org.Kill(); err != nil {
			t.Fatalf("kill %s: %v", org.Short, err)
		}
		if err := org.Start(ctx); err != nil {
			t.Fatalf("restart %s: %v", org.Short, err)
		}
		t.Logf("killed and restarted %s with %d of %d trades done", org.Short, ended.Load(), count)
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
}

// run carries one trade through to its end, whatever happens to the clusters meanwhile. The same id is the same flow.
func run(ctx context.Context, t *testing.T, org *demo.Org, tr trade) (result demo.Trade) {
	for ctx.Err() == nil {
		err := org.StartFlow(ctx, tr.id, demo.OfferTrade, demo.Offer("ACME", 1, tr.price))
		if err == nil {
			break
		}
		if status := client.StatusOf(err); status != 0 && status < 500 {
			t.Errorf("start %s: %v", tr.id, err)
			return result
		}
		pause(ctx, 100*time.Millisecond)
	}
	var last error
	for ctx.Err() == nil {
		f, err := org.Flow(ctx, tr.id)
		switch {
		case err != nil:
			if client.StatusOf(err) == 404 {
				t.Errorf("%s was accepted and is gone: %v", tr.id, err)
				return result
			}
			last = err
		case f.FlowStatus == "COMPLETED":
			if err := json.Unmarshal([]byte(f.FlowResult), &result); err != nil {
				t.Errorf("%s: result %q: %v", tr.id, f.FlowResult, err)
			}
			return result
		case f.Ended():
			t.Errorf("%s is %s: %+v", tr.id, f.FlowStatus, f.FlowError)
			return result
		}
		pause(ctx, 100*time.Millisecond)
	}
	t.Errorf("%s did not end in time; last error: %v", tr.id, last)
	return result
}

func checkBook(ctx context.Context, t *testing.T, org *demo.Org, results []demo.Trade) {
	t.Helper()
	var book []demo.Trade
	if err := org.Run(ctx, "book-"+rand.Text(), demo.ListTrades, struct{}{}, &book); err != nil {
		t.Fatalf("book of %s: %v", org.Short, err)
	}
	count := make(map[string]int)
	status := make(map[string]string)
	for _, b := range book {
		count[b.TradeID]++
		status[b.TradeID] = b.Status
	}
	for _, r := range results {
		if count[r.TradeID] != 1 || status[r.TradeID] != r.Status {
			t.Errorf("the book of %s has trade %s %d times, as %q; want once, as %q", org.Short, r.TradeID, count[r.TradeID], status[r.TradeID], r.Status)
		}
	}
	if len(book) != len(results) {
		t.Errorf("the book of %s has %d records, want %d", org.Short, len(book), len(results))
	}
}

func waitUntil(ctx context.Context, condition func() bool) {
	for !condition() && ctx.Err() == nil {
		pause(ctx, 10*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// TestStopIsInOrder checks that SIGTERM ends a cluster within 10 s and loses nothing.
func TestStopIsInOrder(t *testing.T) {
	n := testcluster.Network(t)
	id := "before-stop"
	if err := n.Alice.StartFlow(t.Context(), id, demo.OfferTrade, demo.Offer("ACME", 1, acceptedPrice)); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := n.Alice.Stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the stop took %v", took)
	}
	if err := n.Alice.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := run(t.Context(), t, n.Alice, trade{id: id, price: acceptedPrice}); got.Status != "ACCEPTED" {
		t.Errorf("got %q after the restart, want ACCEPTED", got.Status)
	}
}

// TestRefusals sends what a client may get wrong, and checks the answer and that nothing was changed.
func TestRefusals(t *testing.T) {
	n := testcluster.Network(t)
	ctx, api := t.Context(), "/api/v5_3"
	flows := func() int {
		var list struct{ FlowStatusResponses []demo.Flow }
		if err := n.Alice.Client().JSON(ctx, "GET", api+"/flow/"+n.Alice.Hash, nil, &list); err != nil {
			t.Fatal(err)
		}
		return len(list.FlowStatusResponses)
	}
	start := func(hash, id, class string) error {
		return n.Alice.Client().JSON(ctx, "POST", api+"/flow/"+hash, map[string]any{"clientRequestId": id, "flowClassName": class, "requestBody": map[string]any{}}, nil)
	}
	stranger := *n.Alice.Client()
	stranger.Password = secret.FromString("wrong")

	before := flows()
	for _, test := range []struct {
		what string
		err  error
		want int
		part string
	}{
		{"unknown flow class", start(n.Alice.Hash, "r-1", "com.example.Nothing"), 400, "com.example.Nothing"},
		{"unknown virtual node", start("0123456789AB", "r-2", demo.ListTrades), 404, "0123456789AB"},
		{"bad clientRequestId", start(n.Alice.Hash, "a b", demo.ListTrades), 400, "clientRequestId"},
		{"wrong password", stranger.JSON(ctx, "GET", api+"/virtualnode", nil, nil), 401, "Error during user authentication"},
		{"operation that is not built", n.Alice.Client().JSON(ctx, "GET", api+"/config/corda.flow", nil, nil), 501, "config"},
		{"no such path", n.Alice.Client().JSON(ctx, "GET", api+"/nothing", nil, nil), 404, "Not Found"},
	} {
		if got := client.StatusOf(test.err); got != test.want || !strings.Contains(test.err.Error(), test.part) {
			t.Errorf("%s: got %v, want %d with %q", test.what, test.err, test.want, test.part)
		}
	}
	if after := flows(); after != before {
		t.Errorf("%d flows were made by refused requests", after-before)
	}

	if err := start(n.Alice.Hash, "once", demo.ListTrades); err != nil {
		t.Fatal(err)
	}
	if _, err := waitFlow(ctx, n.Alice, "once"); err != nil {
		t.Fatal(err)
	}
	again := start(n.Alice.Hash, "once", demo.ListTrades)
	var refusal *client.Error
	if !errors.As(again, &refusal) || refusal.Status != 409 || refusal.Details["flowStatus"] != "COMPLETED" || refusal.Details["flowId"] == "" {
		t.Errorf("the same clientRequestId: got %v, want 409 with the flow's status", again)
	}
	if after := flows(); after != before+1 {
		t.Errorf("one clientRequestId made %d flows", after-before)
	}
}

func waitFlow(ctx context.Context, o *demo.Org, id string) (f demo.Flow, err error) {
	waitUntil(ctx, func() bool {
		f, err = o.Flow(ctx, id)
		return err != nil || f.Ended()
	})
	return f, err
}

// TestAGatewayTakesGatewayMessagesOnly posts to a gateway what is none, as anybody on the internet may.
func TestAGatewayTakesGatewayMessagesOnly(t *testing.T) {
	n := testcluster.Network(t)
	stranger := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, ServerName: "127.0.0.1.cluster.corda.net",
	}}}
	for _, test := range []struct {
		what, method, path, contentType, body string
		want                                  int
	}{
		{"not a message", "POST", "/", "application/json", "hello", 400},
		{"another path", "POST", "/other", "application/json", "", 404},
		{"another method", "GET", "/", "application/json", "", 501},
		{"another content type", "POST", "/", "text/plain", "hello", 415},
	} {
		req, err := http.NewRequestWithContext(t.Context(), test.method, n.Bob.Gateway+test.path, strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", test.contentType)
		resp, err := stranger.Do(req)
		if err != nil {
			t.Errorf("%s: %v", test.what, err)
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode != test.want {
			t.Errorf("%s: got %d, want %d", test.what, resp.StatusCode, test.want)
		}
	}
	var trade demo.Trade
	if err := n.Alice.Run(t.Context(), "after", demo.OfferTrade, demo.Offer("ACME", 1, acceptedPrice), &trade); err != nil || trade.Status != "ACCEPTED" {
		t.Errorf("after that the gateway does not work: %+v, %v", trade, err)
	}
}
