package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/fxamacker/cbor/v2"
	"github.com/spf13/cobra"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/process"
)

// whom says of which cluster a person asks: one on a data directory, or one of worker processes.
type whom struct{ data, worker, certificate, key, authority string }

func (w *whom) flags(c *cobra.Command) {
	f := c.PersistentFlags()
	f.StringVar(&w.data, "data", "", "data directory of a cluster that hawser up runs")
	f.StringVar(&w.worker, "worker", "", "HOST:PORT at which any worker process of the cluster takes calls")
	f.StringVar(&w.certificate, "certificate", "", "PEM file: certificate with the role operator, of hawser pki issue")
	f.StringVar(&w.key, "key", "", "PEM file: private key of --certificate")
	f.StringVar(&w.authority, "authority", "", "PEM file: certificate of the cluster's internal authority")
}

func (w *whom) operator() (*process.Operator, error) {
	switch {
	case w.data != "" && w.worker == "":
		return process.OperatorOfData(w.data), nil
	case w.worker != "" && w.data == "" && w.certificate != "" && w.key != "" && w.authority != "":
		return process.OperatorOfWorker(w.worker, w.certificate, w.key, w.authority)
	}
	return nil, &usageError{errors.New("say which cluster: --data, or --worker with --certificate, --key and --authority")}
}

// newPoison shows and settles what no handler can handle.
func newPoison() *cobra.Command {
	c := &cobra.Command{
		Use: "poison", Short: "Inputs that could not be handled: list, show, replay, drop",
		Long: `An input that does not decode, makes its handler panic twice, or is refused
by it, is poison: it and what follows with the same key are set aside, durably,
until somebody replays or drops them. Other keys go on.

Examples:
  hawser bus poison list --data ./alice
  hawser bus poison show flow 8f3a... --data ./alice
  hawser bus poison replay flow 8f3a... --data ./alice
  hawser bus poison drop flow 8f3a... 1 --data ./alice`,
	}
	var w whom
	var asJSON bool
	w.flags(c)
	list := &cobra.Command{Use: "list [ROLE...]", Short: "List them", RunE: func(c *cobra.Command, args []string) error {
		return listHeld(c, &w, args, asJSON, func(h bus.Held) bool { return h.Poison })
	}}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.AddCommand(list,
		&cobra.Command{Use: "show ROLE KEY", Short: "Show those of a key, with what is in them", Args: cobra.ExactArgs(2), RunE: func(c *cobra.Command, args []string) error {
			return showHeld(c, &w, args[0], args[1])
		}},
		&cobra.Command{Use: "replay ROLE KEY", Short: "Hand those of a key in again, in order", Args: cobra.ExactArgs(2), RunE: func(c *cobra.Command, args []string) error {
			return settleHeld(c, &w, "replayed", args[1], func(ctx context.Context, o *process.Operator, key string) error {
				return o.Replay(ctx, bus.Role(args[0]), key)
			})
		}},
		&cobra.Command{Use: "drop ROLE KEY NUMBER", Short: "Remove one of a key for good, and hand in what waits behind it", Args: cobra.ExactArgs(3), RunE: func(c *cobra.Command, args []string) error {
			var number uint64
			if _, err := fmt.Sscan(args[2], &number); err != nil {
				return &usageError{fmt.Errorf("NUMBER is what list and show print: %w", err)}
			}
			return settleHeld(c, &w, "dropped", args[1], func(ctx context.Context, o *process.Operator, key string) error {
				return o.Drop(ctx, bus.Role(args[0]), key, bus.HeldRow(number))
			})
		}})
	return c
}

// newHeld shows what waits for something to appear.
func newHeld() *cobra.Command {
	var w whom
	var asJSON bool
	c := &cobra.Command{
		Use: "held [ROLE...]", Short: "Inputs that wait for a table entry, and for which",
		Long: `A handler may hold an input until something appears or changes: a virtual node
that is not active, a member that is not known, a package that is not there. It
is handed in again by itself when that changes.

Example:
  hawser bus held --data ./alice`,
		RunE: func(c *cobra.Command, args []string) error {
			return listHeld(c, &w, args, asJSON, func(h bus.Held) bool { return !h.Poison })
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	w.flags(c)
	return c
}

// heldItem is a line of the lists, as programs get it.
type heldItem struct {
	Role   string    `json:"role"`
	Key    string    `json:"key"`
	Number uint64    `json:"number"`
	Source string    `json:"source"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
	Until  []string  `json:"until,omitempty"` // TOPIC/KEY of the entries that it waits for
}

func listHeld(c *cobra.Command, w *whom, roles []string, asJSON bool, wanted func(bus.Held) bool) error {
	o, err := w.operator()
	if err != nil {
		return err
	}
	if len(roles) == 0 {
		for _, r := range process.Roles() {
			if r.Keyed {
				roles = append(roles, r.Name)
			}
		}
	}
	items := []heldItem{}
	for _, role := range roles {
		list, err := o.Held(c.Context(), bus.Role(role), "")
		if err != nil {
			return fmt.Errorf("role %s: %w", role, err)
		}
		for _, h := range list {
			if wanted(h) {
				items = append(items, itemOf(role, h))
			}
		}
	}
	if asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(items)
	}
	return printHeld(c.OutOrStdout(), items)
}

func itemOf(role string, h bus.Held) heldItem {
	item := heldItem{Role: role, Key: shownKey(h.Key), Number: bus.HeldNumber(h.Row), Source: h.Source, Since: h.Since, Reason: h.Reason}
	for _, u := range h.Until {
		item.Until = append(item.Until, u.Topic+"/"+shownKey(u.Key))
	}
	return item
}

func printHeld(to io.Writer, items []heldItem) error {
	if len(items) == 0 {
		_, err := fmt.Fprintln(to, "none")
		return err
	}
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "ROLE\tKEY\tNUMBER\tSOURCE\tSINCE\tREASON\tUNTIL")
	for _, i := range items {
		reason, _, _ := strings.Cut(i.Reason, "\n")
		_, _ = fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", i.Role, i.Key, i.Number, i.Source, i.Since.Format(time.RFC3339), reason, strings.Join(i.Until, " "))
	}
	return table.Flush()
}

func showHeld(c *cobra.Command, w *whom, role, shown string) error {
	o, err := w.operator()
	if err != nil {
		return err
	}
	key, err := readShownKey(shown)
	if err != nil {
		return err
	}
	list, err := o.Held(c.Context(), bus.Role(role), key)
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	if len(list) == 0 {
		return fmt.Errorf("nothing is set aside under the key %s of role %s", shown, role)
	}
	for _, h := range list {
		_, _ = fmt.Fprintf(out, "%d  %s  since %s\n   %s\n", bus.HeldNumber(h.Row), h.Source, h.Since.Format(time.RFC3339), strings.ReplaceAll(h.Reason, "\n", "\n   "))
		if h.Timer != "" {
			_, _ = fmt.Fprintf(out, "   timer %s\n", h.Timer)
		}
		if len(h.Value) > 0 {
			_, _ = fmt.Fprintf(out, "   %d octets: %s\n", len(h.Value), diagnosis(h.Value))
		}
	}
	return nil
}

// diagnosis shows a record in CBOR's diagnostic notation, or in hexadecimal where it is not CBOR.
func diagnosis(octets []byte) string {
	const most = 4096
	text, err := cbor.Diagnose(octets)
	if err != nil {
		text = "not CBOR: " + hex.EncodeToString(octets)
	}
	if len(text) > most {
		text = text[:most] + " ..."
	}
	return text
}

func settleHeld(c *cobra.Command, w *whom, what, shown string, do func(ctx context.Context, o *process.Operator, key string) error) error {
	o, err := w.operator()
	if err != nil {
		return err
	}
	key, err := readShownKey(shown)
	if err != nil {
		return err
	}
	if err := do(c.Context(), o, key); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.OutOrStdout(), what)
	return err
}

// Keys are any octets. One that is no plain text is shown, and given, in hexadecimal after this prefix.
const hexKey = "hex:"

func shownKey(key string) string {
	plain := key != "" && !strings.HasPrefix(key, hexKey)
	for _, r := range key {
		plain = plain && r != unicode.ReplacementChar && unicode.IsGraphic(r) && r != ' '
	}
	if plain {
		return key
	}
	return hexKey + hex.EncodeToString([]byte(key))
}

func readShownKey(shown string) (string, error) {
	digits, isHex := strings.CutPrefix(shown, hexKey)
	if !isHex {
		return shown, nil
	}
	octets, err := hex.DecodeString(digits)
	if err != nil {
		return "", &usageError{fmt.Errorf("KEY: %w", err)}
	}
	return string(octets), nil
}
