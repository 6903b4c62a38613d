package flow_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/fault"
	"github.com/hawser-project/hawser/cluster/flow"
	"github.com/hawser-project/hawser/cluster/topic"
	worker "github.com/hawser-project/hawser/worker/flow"
)

func hash(octets []byte) bus.BlobID { return sha256.Sum256(octets) }

type offer struct {
	Instrument string `json:"instrument"`
	Quantity   int64  `json:"quantity"`
	Price      int64  `json:"price"`
	Peer       string `json:"peer"`
}

type trade struct {
	TradeID string `json:"tradeId"`
	Status  string `json:"status"`
}

type question struct {
	Peer  string   `json:"peer"`
	Texts []string `json:"texts"`
	First bool     `json:"first"`
	Close bool     `json:"close"`
	Size  int      `json:"size"`
}

func decode[T any](t testing.TB, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func TestATradeBetweenTwoVirtualNodes(t *testing.T) {
	t.Parallel()
	c := start(t)
	got := decode[trade](t, c.result(alice, "r-1", "com.example.trade.OfferTrade", offer{"X", 10, 100, bobName}))
	if got.Status != "ACCEPTED" {
		t.Errorf("got %+v, want an accepted trade", got)
	}
	c.result(bob, "list", "com.example.trade.ListTrades", nil)
	list := decode[[]trade](t, c.result(bob, "list-2", "com.example.trade.ListTrades", nil))
	if len(list) != 1 || list[0] != got {
		t.Errorf("Bob has %+v, want the one trade %+v", list, got)
	}
	if n := len(c.link.messages()); n != 2 {
		t.Errorf("%d messages went over the link, want a question and an answer", n)
	}
	responders := 0
	for _, st := range c.flows(bob, flow.Completed) {
		if st.Class == "com.example.trade.AnswerOffer" {
			responders++
			if _, err := c.status(bob, st.ClientRequestID); err != nil {
				t.Errorf("the responder is not found by its session: %v", err)
			}
		}
	}
	if responders != 1 {
		t.Errorf("%d responders ran, want 1", responders)
	}
}

func TestASecondStartIsRefusedWithTheStatus(t *testing.T) {
	t.Parallel()
	c := start(t)
	first := c.mustBegin(alice, "r-1", "increment", 1)
	if first.State != flow.StartRequested || first.FlowID == "" {
		t.Errorf("got %+v, want START_REQUESTED and an id", first)
	}
	c.end(alice, "r-1")
	_, err := c.begin(alice, "r-1", "increment", 1)
	details := fault.DetailsOf(err)
	if fault.KindOf(err) != fault.Conflict || err.Error() != "A flow has already been started for the requested holdingId and clientRequestId." {
		t.Errorf("got %v, want a conflict", err)
	}
	if details["flowId"] != first.FlowID || details["flowStatus"] != "COMPLETED" || details["flowResult"] != "1" || details["timestamp"] == "" {
		t.Errorf("got details %v", details)
	}
	if got := c.result(alice, "r-2", "increment", 0); got != "1" {
		t.Errorf("the counter is %s, want 1", got)
	}
}

func TestStartsThatAreRefused(t *testing.T) {
	t.Parallel()
	c := start(t)
	_, err := c.begin(alice, "r-1", "com.example.trade.AnswerOffer", nil)
	details := fault.DetailsOf(err)
	if fault.KindOf(err) != fault.Invalid || details["CPI-name"] != "app" || details["virtual-node"] != alice.Name.String() || details["group-id"] != groupID ||
		!strings.Contains(details["startableFlows"], "com.example.trade.OfferTrade") || strings.Contains(details["startableFlows"], "AnswerOffer") {
		t.Errorf("a responder's class: got %v, details %v", err, details)
	}
	if _, err := c.begin(party("O=Carol, L=Rome, C=IT"), "r-1", "increment", 1); fault.KindOf(err) != fault.NotFound {
		t.Errorf("an unknown virtual node: got %v", err)
	}
	if _, err := c.begin(alice, "r 1", "increment", 1); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a bad id: got %v", err)
	}
	if _, err := c.begin(alice, "r-1", "increment", strings.Repeat("x", flow.MaxArguments)); fault.KindOf(err) != fault.TooLarge {
		t.Errorf("a large body: got %v", err)
	}
	if _, err := c.status(alice, "r-1"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("the status of no flow: got %v", err)
	}
}

func TestModulesAreCheckedWithoutACluster(t *testing.T) {
	t.Parallel()
	checker, err := worker.NewModuleChecker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = checker.Close(context.Background()) }()
	manifest, err := checker.Check("m", shared.octets[0])
	if err != nil || string(manifest) != string(shared.modules[0].Manifest) {
		t.Errorf("got %s, %v, want %s", manifest, err, shared.modules[0].Manifest)
	}
	if _, err := checker.Check("m", []byte("no module")); fault.KindOf(err) != fault.Invalid {
		t.Errorf("octets that are no module: got %v", err)
	}
}

func TestTheWorkerChecksModulesAndListsClasses(t *testing.T) {
	t.Parallel()
	c := start(t)
	manifest, err := topic.CheckModule.Do(t.Context(), c.bus.As(topic.Admin), topic.ModuleCheck{Name: "m", WASM: shared.octets[0]})
	if err != nil || string(manifest) != string(shared.modules[0].Manifest) {
		t.Errorf("got %s, %v", manifest, err)
	}
	classes, err := topic.FlowClasses.Do(t.Context(), c.rest, aliceHash)
	if err != nil || !slices.Contains(classes, "increment") || slices.Contains(classes, "echo") {
		t.Errorf("got classes %v, %v", classes, err)
	}
	if _, err := topic.FlowClasses.Do(t.Context(), c.rest, "000000000000"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("classes of no virtual node: got %v", err)
	}
}
