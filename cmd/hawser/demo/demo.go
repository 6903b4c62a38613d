// Package demo shows the main job: two organisations, each with a cluster of its own, that do business with each other.
// It starts the clusters as processes, sets them up through their REST APIs as any client would, and runs the sample
// application between them.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Trade is a trade as the sample's flows report it (sdk/examples/trade).
type Trade struct {
	TradeID    string `json:"tradeId"`
	Instrument string `json:"instrument"`
	Quantity   int64  `json:"quantity"`
	Price      int64  `json:"price"` // in cents
	Status     string `json:"status"`
	Reason     string `json:"reason"`
}

// Flow classes of the sample.
const (
	SetLimit   = "com.example.trade.SetLimit"
	OfferTrade = "com.example.trade.OfferTrade"
	ListTrades = "com.example.trade.ListTrades"
)

// Options say how the demo runs.
type Options struct {
	Dir    string // everything it keeps; a second run carries on from there
	Binary string // the hawser command
	Once   bool   // end after the result
	Out    io.Writer
}

// Run runs the demo. It returns an error unless the flows completed with the right answers.
func Run(ctx context.Context, o Options) (err error) {
	begin := time.Now()
	step := func(what string, do func() error) error {
		start := time.Now()
		err := do()
		mark := "ok"
		if err != nil {
			mark = "FAILED"
		}
		_, _ = fmt.Fprintf(o.Out, "  %-62s %8.0f ms  %s\n", what, float64(time.Since(start).Microseconds())/1000, mark)
		return err
	}
	_, _ = fmt.Fprintf(o.Out, "Two organisations, one network. Everything is kept in %s\n\n", o.Dir)
	n, err := Open(o.Dir, o.Binary)
	if err != nil {
		return err
	}
	var module []byte
	if err := step("get the sample application's module", func() (err error) {
		module, _, err = Module(ctx)
		return err
	}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Stop()) }()
	if err := n.Start(ctx, step); err != nil {
		return err
	}
	if err := n.SetUp(ctx, module, step); err != nil {
		return err
	}
	if err := business(ctx, n, o.Out, step); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(o.Out, "\nDone in %.1f s.\n", time.Since(begin).Seconds())
	if o.Once {
		return nil
	}
	printNext(o.Out, n)
	select {
	case <-ctx.Done():
		_, _ = fmt.Fprintln(o.Out, "\nStopping both clusters in order.")
		return nil
	case <-n.Alice.cluster.Gone():
		return errors.New("the cluster of alice ended; its log is in alice.log")
	case <-n.Bob.cluster.Gone():
		return errors.New("the cluster of bob ended; its log is in bob.log")
	}
}

// limit is the largest trade that Bob takes, in cents.
const limit = 5_000_000

// business runs the flows, and checks both sides' books.
func business(ctx context.Context, n *Network, out io.Writer, step Step) error {
	run := time.Now().UTC().Format("20060102-150405.000")
	var before struct{ MaxValue int64 }
	if err := step("bob sets his limit to 50,000.00", func() error {
		return n.Bob.Run(ctx, "limit-"+run, SetLimit, map[string]any{"maxValue": limit}, &before)
	}); err != nil {
		return err
	}
	var small, large Trade
	if err := step("alice offers 100 x 120.00 to bob", func() error {
		return n.Alice.Run(ctx, "small-"+run, OfferTrade, Offer("ACME", 100, 12_000), &small)
	}); err != nil {
		return err
	}
	if err := step("alice offers 1,000 x 120.00 to bob", func() error {
		return n.Alice.Run(ctx, "large-"+run, OfferTrade, Offer("ACME", 1_000, 12_000), &large)
	}); err != nil {
		return err
	}
	if small.Status != "ACCEPTED" || large.Status != "DECLINED" {
		return fmt.Errorf("wrong answers: %+v and %+v", small, large)
	}
	_, _ = fmt.Fprintf(out, "\n  Bob accepted the first and declined the second: %s.\n", large.Reason)
	for _, o := range n.Orgs() {
		var book []Trade
		if err := o.Run(ctx, "book-"+run, ListTrades, struct{}{}, &book); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "\n  The book of %s:\n", o.Short)
		for _, t := range book {
			_, _ = fmt.Fprintf(out, "    %s  %-8s %6d x %10.2f  %s\n", t.TradeID, t.Instrument, t.Quantity, float64(t.Price)/100, t.Status)
		}
		if !inBook(book, small) || !inBook(book, large) {
			return fmt.Errorf("the book of %s does not have both trades once", o.Short)
		}
	}
	return nil
}

// Offer is the argument of OfferTrade, to Bob.
func Offer(instrument string, quantity, price int64) map[string]any {
	return map[string]any{"instrument": instrument, "quantity": quantity, "price": price, "peer": bobName}
}

// inBook says whether the trade is in the book once, with the same outcome.
func inBook(book []Trade, t Trade) bool {
	count := 0
	for _, b := range book {
		if b.TradeID == t.TradeID {
			count++
			if b.Status != t.Status || b.Quantity != t.Quantity || b.Price != t.Price {
				return false
			}
		}
	}
	return count == 1
}

func printNext(out io.Writer, n *Network) {
	_, _ = fmt.Fprintf(out, "\nBoth clusters run until Ctrl-C. The administrators are \"admin\" with the password %s\n", n.Password())
	for _, o := range n.Orgs() {
		_, _ = fmt.Fprintf(out, "\n  %s  %s  virtual node %s\n      REST %s%s   operations %s/ready\n", o.Short, o.Name, o.Hash, o.Rest, api, o.Ops)
	}
	_, _ = fmt.Fprintf(out, `
Try next:

  curl -k -u admin:%[1]s %[2]s/api/v5_3/virtualnode
  curl -k -u admin:%[1]s %[2]s/api/v5_3/flow/%[3]s \
       -d '{"clientRequestId":"my-1","flowClassName":"%[4]s","requestBody":{"instrument":"ACME","quantity":5,"price":10000,"peer":"%[5]s"}}'
  curl -k -u admin:%[1]s %[2]s/api/v5_3/flow/%[3]s/my-1/result
`, n.Password(), n.Alice.Rest, n.Alice.Hash, OfferTrade, bobName)
}
