package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hawser-project/hawser/internal/telemetry"
	"github.com/hawser-project/hawser/process"
)

// newWorker runs some of a cluster's workers in one process, on Kafka and PostgreSQL.
func newWorker() *cobra.Command {
	var roles, config, level string
	var text bool
	cmd := &cobra.Command{
		Use: "worker", Short: "Run some of a cluster's workers, on Kafka and PostgreSQL", Args: cobra.NoArgs,
		Long: `Run some of a cluster's workers in this process, until SIGINT or SIGTERM. Any
number of processes may run the same roles: they share the work, and take over
from each other. hawser roles says what each does.

What the process needs to know is in a file (docs/operate/workers.md has it
whole). Each of its values can be in the environment, which wins: HAWSER_ and
its path in upper case, as in HAWSER_POSTGRES_URL; or, with _FILE behind it, in
the file that is named there.

The process needs a certificate of the cluster's internal authority (hawser pki
issue) that names its roles. A gateway needs nothing else: run it alone, and it
has neither Kafka nor PostgreSQL; link managers connect to it.

Examples:
  hawser worker --roles rest --config /etc/hawser/worker.yaml
  hawser worker --roles flow,linkmanager --config /etc/hawser/worker.yaml
  HAWSER_CALLS_LISTEN=10.0.0.7:7400 hawser worker --roles gateway --config gateway.yaml`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var at slog.Level
			if err := at.UnmarshalText([]byte(level)); err != nil {
				return &usageError{fmt.Errorf("--log-level: %w", err)}
			}
			c, err := process.ReadWorkerConfig(config, os.LookupEnv)
			if err != nil {
				return err
			}
			if roles != "" {
				c.Roles = strings.Split(roles, ",")
			}
			log := telemetry.NewLog(cmd.ErrOrStderr(), at, text)
			return process.RunWorkers(cmd.Context(), c, log, func(a process.Addresses) {
				_, _ = fmt.Fprint(cmd.OutOrStdout(), "ready")
				for name, address := range map[string]any{"rest": a.Rest, "gateway": a.Gateway, "ops": a.Ops} {
					if address != nil && address != any(nil) {
						_, _ = fmt.Fprintf(cmd.OutOrStdout(), " %s=%v", name, address)
					}
				}
				_, _ = fmt.Fprintln(cmd.OutOrStdout())
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&roles, "roles", "", "ROLE[,ROLE...]; empty: those of the configuration")
	f.StringVar(&config, "config", "", "YAML file; empty: everything is in the environment")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	f.BoolVar(&text, "log-text", false, "log text for people instead of JSON")
	return cmd
}
