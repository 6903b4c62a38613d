package main

import (
	"strings"
	"testing"

	"github.com/hawser-project/hawser/sdk/flow"
	"github.com/hawser-project/hawser/sdk/flowtest"
)

const (
	alice = "O=Alice, L=London, C=GB"
	bob   = "O=Bob, L=Paris, C=FR"
)

func parties(t *testing.T) (*flowtest.Node, *flowtest.Node) {
	t.Parallel()
	net := flowtest.New(t, alice, bob)
	return net.Node(alice), net.Node(bob)
}

func offer(quantity int64) Offer {
	return Offer{Instrument: "GB00B0", Quantity: quantity, Price: 100, Peer: bob}
}

func TestAnOfferWithinTheLimitIsRecordedOnBothSides(t *testing.T) {
	a, b := parties(t)
	got, err := flowtest.Run[Trade](a, "com.example.trade.OfferTrade", offer(10))
	if err != nil || got.Status != "ACCEPTED" || got.Seller != bob {
		t.Fatalf("got %+v, %v, want an accepted trade", got, err)
	}
	for _, n := range []*flowtest.Node{a, b} {
		list, err := flowtest.Run[[]Trade](n, "com.example.trade.ListTrades", struct{}{})
		if err != nil || len(list) != 1 || list[0].TradeID != got.TradeID || list[0].Status != "ACCEPTED" {
			t.Errorf("%s: got %+v, %v, want the one trade", n.Name(), list, err)
		}
	}
}

func TestAnOfferOverTheLimitIsDeclinedWithAReason(t *testing.T) {
	a, b := parties(t)
	before, err := flowtest.Run[Limit](b, "com.example.trade.SetLimit", Limit{MaxValue: 999})
	if err != nil || before.MaxValue != defaultLimit {
		t.Fatalf("got %+v, %v, want the default", before, err)
	}
	got, err := flowtest.Run[Trade](a, "com.example.trade.OfferTrade", offer(10))
	if err != nil || got.Status != "DECLINED" || !strings.Contains(got.Reason, "limit of 999") {
		t.Fatalf("got %+v, %v, want a declined trade", got, err)
	}
}

func TestAnOfferOfNothingFailsTheFlowAndRecordsNothing(t *testing.T) {
	a, _ := parties(t)
	_, err := flowtest.Run[Trade](a, "com.example.trade.OfferTrade", offer(0))
	if flow.CodeOf(err) != "com.example.trade.Invalid" {
		t.Fatalf("got %v, want an invalid offer", err)
	}
	list, err := flowtest.Run[[]Trade](a, "com.example.trade.ListTrades", nil)
	if err != nil || len(list) != 0 {
		t.Fatalf("got %+v, %v, want no trade", list, err)
	}
}

func TestAnOfferToAStrangerFails(t *testing.T) {
	a, _ := parties(t)
	o := offer(1)
	o.Peer = "O=Nobody, L=Nowhere, C=GB"
	_, err := flowtest.Run[Trade](a, "com.example.trade.OfferTrade", o)
	if flow.CodeOf(err) != flow.CodeUnknownPeer {
		t.Fatalf("got %v, want an unknown peer", err)
	}
}
