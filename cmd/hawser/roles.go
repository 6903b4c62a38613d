package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/hawser-project/hawser/process"
)

// newRoles prints the workers of a cluster, in start order.
func newRoles() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "roles", Short: "Print the workers of a cluster, in start order", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(process.Roles())
			}
			table := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprintln(table, "ROLE\tJOB\tALONE IN")
			for _, r := range process.Roles() {
				_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", r.Name, r.Job, r.Alone)
			}
			return table.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
