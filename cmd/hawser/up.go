package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/hawser-project/hawser/internal/secret"
	"github.com/hawser-project/hawser/internal/telemetry"
	"github.com/hawser-project/hawser/process"
)

// newUp runs one cluster in one process until it is told to stop (SIGINT or SIGTERM).
func newUp() *cobra.Command {
	var c process.Config
	var level string
	var text bool
	cmd := &cobra.Command{
		Use: "up", Short: "Run one cluster in one process", Args: cobra.NoArgs,
		Long: `Run one cluster, all its workers in this process, until SIGINT or SIGTERM.

Everything the cluster keeps is in the data directory: back it up as a whole.
Secrets come from the environment, never from flags:

  HAWSER_ADMIN_PASSWORD     password of the first administrator, "admin";
                            without it a random one is written to
                            DATA/secrets/admin-password
  HAWSER_MASTER_PASSPHRASE  passphrase of the key that wraps all others;
  HAWSER_MASTER_SALT        without them random ones are kept in DATA/secrets

Examples:
  hawser up --data ./alice --rest 127.0.0.1:8888 --gateway 127.0.0.1:8443 --ops 127.0.0.1:7000
  curl -k -u admin:$(cat ./alice/secrets/admin-password) -X POST 'https://127.0.0.1:8888/api/v5_3/hello?addressee=you'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var at slog.Level
			if err := at.UnmarshalText([]byte(level)); err != nil {
				return &usageError{fmt.Errorf("--log-level: %w", err)}
			}
			c.Log = telemetry.NewLog(cmd.ErrOrStderr(), at, text)
			c.AdminPassword = secret.FromString(os.Getenv("HAWSER_ADMIN_PASSWORD"))
			c.MasterPassphrase = secret.FromString(os.Getenv("HAWSER_MASTER_PASSPHRASE"))
			c.MasterSalt = os.Getenv("HAWSER_MASTER_SALT")
			c.Ready = func(a process.Addresses) {
				_, _ = fmt.Fprintf(cmd.OutOrStdout(), "ready rest=https://%s gateway=https://%s", a.Rest, a.Gateway)
				if a.Ops != nil {
					_, _ = fmt.Fprintf(cmd.OutOrStdout(), " ops=http://%s", a.Ops)
				}
				_, _ = fmt.Fprintln(cmd.OutOrStdout())
			}
			return process.Run(cmd.Context(), c)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.Data, "data", "", "directory that the cluster keeps everything in; made when missing")
	f.StringVar(&c.Rest, "rest", "127.0.0.1:8888", "HOST:PORT of the HTTPS API")
	f.StringVar(&c.Gateway, "gateway", "127.0.0.1:8443", "HOST:PORT for other clusters' gateways")
	f.StringVar(&c.Ops, "ops", "", "HOST:PORT of the operations port (/ready /live /metrics); empty: none")
	f.BoolVar(&c.Profile, "profile", false, "serve the Go runtime's profiles on the operations port, under /debug/pprof/")
	f.StringVar(&c.RestCert, "rest-cert", "", "PEM file with the API's certificate chain; empty: one is made at the first start")
	f.StringVar(&c.RestKey, "rest-key", "", "PEM file with the private key of --rest-cert")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	f.BoolVar(&text, "log-text", false, "log text for people instead of JSON")
	_ = cmd.MarkFlagRequired("data") // the flag exists
	return cmd
}
