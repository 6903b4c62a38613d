package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hawser-project/hawser/process"
)

// newBackup makes a consistent copy of a cluster's data directory, running or not.
func newBackup() *cobra.Command {
	var data, out string
	var withoutSecrets bool
	c := &cobra.Command{
		Use: "backup", Short: "Make a backup of a cluster, while it runs or not", Args: cobra.NoArgs,
		Long: `Make a backup of a cluster's data directory, as it is at one moment, while the
cluster runs or not. It is a new directory on the cluster's machine: copy it to
another one. Link sessions are never in it: peers make new ones.

The backup holds secrets and wrapped keys; whoever has it has the cluster.
--without-secrets leaves out the files that the first start made in
DATA/secrets and DATA/rest, for a cluster that gets its passphrase from the
environment.

Examples:
  hawser backup --data ./alice --out ./alice-backup
  hawser restore --from ./alice-backup --data ./alice-new`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := process.Backup(c.Context(), data, out, !withoutSecrets); err != nil {
				return fmt.Errorf("backup of %s: %w", data, err)
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), "backup made:", out)
			return err
		},
	}
	c.Flags().StringVar(&data, "data", "", "data directory of the cluster")
	c.Flags().StringVar(&out, "out", "", "directory to make; it must not be there yet")
	c.Flags().BoolVar(&withoutSecrets, "without-secrets", false, "leave out DATA/secrets and DATA/rest")
	_ = c.MarkFlagRequired("data") // the flags exist
	_ = c.MarkFlagRequired("out")
	return c
}

// newRestore makes a data directory of a backup.
func newRestore() *cobra.Command {
	var data, from string
	c := &cobra.Command{
		Use: "restore", Short: "Make a data directory of a backup", Args: cobra.NoArgs,
		Long: `Make a data directory of a backup, after every file was found to fit its
checksum. Never let two clusters run on copies of one directory: their peers
would talk to either.

Example:
  hawser restore --from ./alice-backup --data ./alice-new
  hawser up --data ./alice-new`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := process.Restore(c.Context(), from, data); err != nil {
				return fmt.Errorf("restore of %s: %w", from, err)
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), "restored:", data)
			return err
		},
	}
	c.Flags().StringVar(&from, "from", "", "directory that hawser backup made")
	c.Flags().StringVar(&data, "data", "", "directory to make; empty or not there yet")
	_ = c.MarkFlagRequired("data") // the flags exist
	_ = c.MarkFlagRequired("from")
	return c
}
