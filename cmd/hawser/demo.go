package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/hawser-project/hawser/cmd/hawser/demo"
)

// newDemo shows the main job: two clusters, one network, business between them.
func newDemo() *cobra.Command {
	o := demo.Options{}
	c := &cobra.Command{
		Use: "demo", Short: "Run two clusters that do business with each other", Args: cobra.NoArgs,
		Long: `Run two organisations' clusters as two processes on this machine, set them up through
their REST APIs, and run the sample application between them: Alice offers trades, Bob
accepts what his own limit allows, both record the outcome.

It stays until Ctrl-C, with the URLs, credentials and curl lines to try next. With
--once it ends after the result, with exit code 0 only if the answers were right.

Examples:
  hawser demo
  hawser demo --once
  hawser demo --data ./demo      a second run carries on from there`,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			o.Out = c.OutOrStdout()
			if o.Binary, err = os.Executable(); err != nil {
				return err
			}
			if o.Dir == "" {
				if o.Dir, err = os.MkdirTemp("", "hawser-demo-"); err != nil {
					return err
				}
				defer func() {
					if err == nil {
						err = os.RemoveAll(o.Dir)
					}
				}()
			}
			return demo.Run(c.Context(), o)
		},
	}
	c.Flags().StringVar(&o.Dir, "data", "", "directory to keep everything in; empty: a temporary one, removed after a good end")
	c.Flags().BoolVar(&o.Once, "once", false, "end after the result")
	return c
}
