package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/hawser-project/hawser/internal/pki"
	"github.com/hawser-project/hawser/process"
)

// newPKI makes the certificates by which the processes of a cluster know each other.
func newPKI() *cobra.Command {
	c := &cobra.Command{
		Use: "pki", Short: "Make the certificates by which a cluster's processes know each other",
		Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newPKIInit(), newPKIIssue(), newPKIShow())
	return c
}

// newPKIInit makes the authority of a cluster.
func newPKIInit() *cobra.Command {
	var cluster, dir string
	c := &cobra.Command{
		Use: "init", Short: "Make the internal authority of a cluster", Args: cobra.NoArgs,
		Long: `Make the internal authority of a cluster: DIR/ca.pem and DIR/ca.key. It holds for
ten years, and is never replaced.

Whoever has ca.key can be any worker of the cluster. No worker needs it: keep the
directory off the cluster's machines, and bring it out for hawser pki issue.

Examples:
  hawser pki init --cluster hawser --dir ./authority`,
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := pki.Init(dir, cluster)
			if err != nil {
				return fmt.Errorf("make the authority: %w", err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "authority of cluster %s made in %s, until %s\nkeep %s off the cluster's machines\n",
				a.Cluster, dir, a.NotAfter().UTC().Format(time.DateOnly), filepath.Join(dir, pki.CAKeyFile))
			return err
		},
	}
	c.Flags().StringVar(&cluster, "cluster", "", "name of the cluster: lower-case letters, digits and hyphens")
	c.Flags().StringVar(&dir, "dir", "", "directory to put the authority in")
	_ = c.MarkFlagRequired("cluster") // the flags exist
	_ = c.MarkFlagRequired("dir")
	return c
}

// newPKIIssue makes the certificate of a worker process, or of a person.
func newPKIIssue() *cobra.Command {
	var dir, out string
	var days int
	order := pki.Order{Known: certificateRoles()}
	c := &cobra.Command{
		Use: "issue", Short: "Make the certificate of a worker process or an operator", Args: cobra.NoArgs,
		Long: `Make the certificate of one worker process: OUT/cert.pem, OUT/key.pem and the
authority's OUT/ca.pem. Give the process all three. It can do what its roles can,
and nothing else, so name those that it runs. The role operator is for people,
who look after a cluster with hawser bus.

What an earlier certificate left in OUT is replaced. A running process takes up
new files within a second of the next connection; it need not be restarted. Its
log warns when less than 30 days are left.

Hosts are for people's tools only: workers look at cluster and roles.

Examples:
  hawser pki issue --dir ./authority --role gateway --instance gateway-1 --out ./gateway-1
  hawser pki issue --dir ./authority --role flow,linkmanager --instance w-2 --host 10.0.0.7 --out ./w-2
  hawser pki issue --dir ./authority --role operator --instance jane --days 90 --out ./jane`,
		RunE: func(c *cobra.Command, _ []string) error {
			if days < 1 || days > 3650 {
				return &usageError{fmt.Errorf("--days %d: 1 to 3650 are possible", days)}
			}
			order.Validity = time.Duration(days) * 24 * time.Hour
			a, err := pki.Open(dir)
			if err != nil {
				return fmt.Errorf("open the authority in %s (hawser pki init makes one): %w", dir, err)
			}
			id, err := a.Issue(order, out)
			if err != nil {
				return fmt.Errorf("issue a certificate: %w", err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "certificate of %s made in %s, until %s\n", id, out, id.NotAfter.UTC().Format(time.DateOnly))
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&dir, "dir", "", "directory of the authority")
	f.StringSliceVar(&order.Roles, "role", nil, "ROLE[,ROLE...] of the process; hawser roles says what each does; or operator")
	f.StringVar(&order.Instance, "instance", "", "name of the process, of its own in the cluster")
	f.StringSliceVar(&order.Hosts, "host", nil, "NAME or IP address of its host; may be repeated (default localhost)")
	f.IntVar(&days, "days", int(pki.WorkerValidity.Hours()/24), "how long the certificate holds")
	f.StringVar(&out, "out", "", "directory to put the certificate in")
	for _, name := range []string{"dir", "role", "instance", "out"} {
		_ = c.MarkFlagRequired(name) // the flags exist
	}
	return c
}

// certificateRoles are what a certificate can name.
func certificateRoles() (names []string) {
	for _, r := range process.Roles() {
		names = append(names, r.Name)
	}
	return append(names, pki.Operator)
}

// newPKIShow prints what a certificate says.
func newPKIShow() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "show FILE", Short: "Print what a certificate says, and when it ends", Args: cobra.ExactArgs(1),
		Long: `Print what a certificate of hawser pki says, and when it ends. The first one of
the file is shown. Whether it is genuine is not looked at.

Examples:
  hawser pki show ./gateway-1/cert.pem
  hawser pki show --json ./authority/ca.pem`,
		RunE: func(c *cobra.Command, args []string) error {
			shown, err := pki.Show(args[0])
			if err != nil {
				return fmt.Errorf("show a certificate: %w", err)
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(shown)
			}
			_, err = fmt.Fprint(c.OutOrStdout(), shown)
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: kind, cluster, instance, roles, hosts, notBefore, notAfter, serial, fingerprint")
	return c
}
