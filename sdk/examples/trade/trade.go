// Command trade is a whole Hawser application: two parties agree on a trade.
//
// Alice's OfferTrade sends an offer to Bob. Bob's AnswerOffer compares it with the limit that Bob has set for
// himself, answers, and both sides record the outcome under the same id. ListTrades shows a side's own records.
package main

import (
	"fmt"
	"time"

	"github.com/hawser-project/hawser/sdk/flow"
)

const protocol = "com.example.trade"

func init() {
	flow.Startable("com.example.trade.OfferTrade", OfferTrade)
	flow.Initiates("com.example.trade.OfferTrade", protocol, 1)
	flow.Responder("com.example.trade.AnswerOffer", protocol, []int{1}, AnswerOffer)
	flow.Startable("com.example.trade.SetLimit", SetLimit)
	flow.Startable("com.example.trade.ListTrades", ListTrades)
	flow.Messages(Proposal{}, Answer{}, Trade{}, Limit{})
}

func main() {} // the cluster calls the flows

// Offer is what the client of OfferTrade asks for. Prices are in cents, so that sums are exact.
type Offer struct {
	Instrument string `json:"instrument"`
	Quantity   int64  `json:"quantity"`
	Price      int64  `json:"price"`
	Peer       string `json:"peer"` // X.500 name
}

// Proposal is what goes over the wire.
type Proposal struct {
	TradeID    string `json:"tradeId"`
	Instrument string `json:"instrument"`
	Quantity   int64  `json:"quantity"`
	Price      int64  `json:"price"`
}

// Answer is what comes back.
type Answer struct {
	Accepted bool   `json:"accepted"`
	Reason   string `json:"reason,omitempty"`
}

// Trade is the record that both sides keep.
type Trade struct {
	Proposal
	Buyer  string    `json:"buyer"`
	Seller string    `json:"seller"`
	Status string    `json:"status"` // ACCEPTED or DECLINED
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// OfferTrade offers a trade to a peer and records what the peer makes of it.
func OfferTrade(c *flow.Ctx, offer Offer) (Trade, error) {
	p := Proposal{TradeID: c.ID(), Instrument: offer.Instrument, Quantity: offer.Quantity, Price: offer.Price}
	if err := p.check(); err != nil {
		return Trade{}, err
	}
	s, err := c.InitiateFlow(offer.Peer)
	if err != nil {
		return Trade{}, err
	}
	var a Answer
	if err := s.SendReceive(p, &a); err != nil {
		return Trade{}, err
	}
	return record(c, p, a, c.Me(), offer.Peer)
}

// AnswerOffer is the other side: it accepts what its own rule allows.
func AnswerOffer(c *flow.Ctx, s *flow.Session) error {
	var p Proposal
	if err := s.Receive(&p); err != nil {
		return err
	}
	if err := p.check(); err != nil {
		return err // a peer that sends nonsense gets an error, not an answer
	}
	limit, err := limitOf(c)
	if err != nil {
		return err
	}
	a := limit.judge(p)
	if _, err := record(c, p, a, s.Counterparty(), c.Me()); err != nil {
		return err
	}
	c.Log().Info("answered offer", "trade", p.TradeID, "accepted", a.Accepted)
	return s.Send(a)
}

// record keeps the trade. The initiator's flow id names it on both sides, so each side has one record per trade.
func record(c *flow.Ctx, p Proposal, a Answer, buyer, seller string) (Trade, error) {
	t := Trade{Proposal: p, Buyer: buyer, Seller: seller, Status: "DECLINED", Reason: a.Reason, At: c.Now()}
	if a.Accepted {
		t.Status = "ACCEPTED"
	}
	return t, c.Store().Put("trade/"+t.TradeID, t)
}

// ListTrades lists this side's records.
func ListTrades(c *flow.Ctx, _ struct{}) ([]Trade, error) {
	entries, err := c.Store().List("trade/")
	if err != nil {
		return nil, err
	}
	trades := make([]Trade, len(entries))
	for i, e := range entries {
		if err := e.Decode(&trades[i]); err != nil {
			return nil, err
		}
	}
	return trades, nil
}

// The largest values that a trade may have; their product still fits an int64.
const (
	maxQuantity = 1_000_000_000
	maxPrice    = 1_000_000_000
)

func (p Proposal) check() error {
	switch {
	case p.TradeID == "" || p.Instrument == "":
		return invalid("a trade needs an id and an instrument")
	case p.Quantity <= 0 || p.Quantity > maxQuantity:
		return invalid("quantity %d is not within 1 and %d", p.Quantity, maxQuantity)
	case p.Price <= 0 || p.Price > maxPrice:
		return invalid("price %d is not within 1 and %d", p.Price, maxPrice)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return &flow.Error{Code: "com.example.trade.Invalid", Message: fmt.Sprintf(format, args...)}
}
