package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"github.com/hawser-project/hawser/cluster/member"
	"github.com/hawser-project/hawser/cmd/hawser/client"
	"github.com/hawser-project/hawser/internal/secret"
	"github.com/hawser-project/hawser/internal/wholefile"
)

func newMember() *cobra.Command {
	c := &cobra.Command{Use: "member", Short: "Exchange member information between clusters of a static network", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(newMemberExport(), newMemberImport())
	return c
}

// clientFlags are those of every command that speaks to a cluster.
type clientFlags struct{ rest, user, trust string }

func (f *clientFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.rest, "rest", "https://127.0.0.1:8888", "URL of the cluster's REST API")
	c.Flags().StringVar(&f.user, "user", "admin", "login name; the password is in HAWSER_PASSWORD")
	c.Flags().StringVar(&f.trust, "cacert", "", "PEM file with the certificate of the REST API; empty: the machine's authorities")
}

func (f *clientFlags) client() (*client.Client, error) {
	password := os.Getenv("HAWSER_PASSWORD")
	if password == "" {
		return nil, errors.New("HAWSER_PASSWORD is not set: it holds the password of --user")
	}
	return client.New(f.rest, f.user, secret.FromString(password), f.trust)
}

func memberPath(hash string) string { return "/api/hawser/v1/members/" + url.PathEscape(hash) }

// newMemberExport fetches the signed file of a virtual node's member information.
func newMemberExport() *cobra.Command {
	var f clientFlags
	var out string
	c := &cobra.Command{
		Use: "export SHORTHASH", Short: "Write a virtual node's member information to a file", Args: cobra.ExactArgs(1),
		Long: `Write the member information of a virtual node to a file, signed by its session key,
and print the key's fingerprint. Send the file to the other members; tell them the
fingerprint by another way, so that nobody can put a key of his own in its place.

Examples:
  hawser member export D0F5EFA8EF2E --rest https://127.0.0.1:8888 --cacert rest.pem --out alice.member`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.client()
			if err != nil {
				return err
			}
			octets, err := c.Raw(cmd.Context(), "GET", memberPath(args[0]), "", nil)
			if err != nil {
				return err
			}
			file, err := member.ParseFile(octets)
			if err != nil {
				return err
			}
			if err := wholefile.WriteString(out, 0o600, string(octets)); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s written\nmember       %s\nfingerprint  %s\n", out, file.Info().Name(), file.Fingerprint())
			return err
		},
	}
	f.add(c)
	c.Flags().StringVar(&out, "out", "", "file to write")
	_ = c.MarkFlagRequired("out") // the flag exists
	return c
}

// newMemberImport takes another cluster's member into a virtual node's list.
func newMemberImport() *cobra.Command {
	var f clientFlags
	var holder, fingerprint string
	var replace bool
	c := &cobra.Command{
		Use: "import FILE", Short: "Take a member of another cluster into a virtual node's member list", Args: cobra.ExactArgs(1),
		Long: `Take a member of another cluster into the member list of a virtual node.

Without --fingerprint nothing is changed: the command shows the fingerprint of the
file's key. Compare it with what the member told you by another way, then repeat
the command with it. A member that is trusted already changes only with --replace.

Examples:
  hawser member import bob.member --holder D0F5EFA8EF2E
  hawser member import bob.member --holder D0F5EFA8EF2E --fingerprint 35FE-43B2-...`,
		RunE: func(cmd *cobra.Command, args []string) error {
			octets, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer func() { _ = octets.Close() }()
			c, err := f.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			if fingerprint != "" {
				query.Set("fingerprint", fingerprint)
			}
			if replace {
				query.Set("replace", "true")
			}
			if _, err := c.Raw(cmd.Context(), "POST", memberPath(holder)+"?"+query.Encode(), "application/octet-stream", octets); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "imported into the member list of %s\n", holder)
			return err
		},
	}
	f.add(c)
	c.Flags().StringVar(&holder, "holder", "", "short hash of the virtual node whose list takes the member")
	c.Flags().StringVar(&fingerprint, "fingerprint", "", "fingerprint of the member's key, as the member told it")
	c.Flags().BoolVar(&replace, "replace", false, "replace what is trusted of this member already")
	_ = c.MarkFlagRequired("holder") // the flag exists
	return c
}
