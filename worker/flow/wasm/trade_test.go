package wasm

import (
	"strings"
	"testing"

	"github.com/hawser-project/hawser/worker/flow/wasm/frame"
)

// ops lists what an answer asks for.
func ops(a *Answer) (list []frame.Op) {
	for _, c := range a.List {
		list = append(list, c.Op)
	}
	return list
}

// The example's responder in a module, step by step: what a flow worker sees of it.
func TestTheTradeExampleAnswersAnOffer(t *testing.T) {
	t.Parallel()
	i, err := NewPool(0, 0).Get(t.Context(), load(t, tradePackage), "bob")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	s := frame.Start{Kind: frame.Responder, Class: "com.example.trade.AnswerOffer", FlowID: "f", Me: bob,
		Counterparty: alice, Protocol: "com.example.trade", Version: 1, Now: noon}
	a, err := i.Begin(t.Context(), s.Append(nil), Limits{})
	if err != nil || len(a.List) != 1 || a.List[0].Op != frame.ReceiveData || a.Mode != frame.All {
		t.Fatalf("got %+v, %v, want a receive", a, err)
	}
	offer := []byte(`{"tradeId":"f1","instrument":"X","quantity":1000001,"price":1}`)
	a, err = i.Resume(t.Context(), resume(noon, frame.Completion{ID: a.Await[0], Body: offer}), Limits{})
	if err != nil || len(a.List) != 1 || a.List[0].Op != frame.StoreGet {
		t.Fatalf("got %+v, %v, want a look at the limit", a, err)
	}
	none := (&frame.Found{}).Append(nil)
	a, err = i.Resume(t.Context(), resume(noon, frame.Completion{ID: a.Await[0], Body: none}), Limits{})
	if result(t, a, err) != "null" || len(a.List) != 3 || a.List[0].Op != frame.StorePut || a.List[1].Op != frame.SendData {
		t.Fatalf("got %v, %v, want put, send, complete", ops(a), err)
	}
	put, err := frame.DecodeEntry(a.List[0].Body)
	if err != nil || put.Key != "trade/f1" || !strings.Contains(string(put.Value), `"DECLINED"`) {
		t.Errorf("got %s %s, %v", put.Key, put.Value, err)
	}
	answer, err := frame.DecodeSend(a.List[1].Body)
	if err != nil || answer.Session != 0 || !strings.Contains(string(answer.Payload), "over the limit") {
		t.Errorf("got %s, %v", answer.Payload, err)
	}
}
