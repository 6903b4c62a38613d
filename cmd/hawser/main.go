// Command hawser runs a cluster of an application network, and the tools for building packages and exchanging member
// information. With no arguments it starts nothing and prints its help.
//
//	hawser up        one cluster in one process
//	hawser worker    some of a cluster's workers, on Kafka and PostgreSQL
//	hawser bus       set up Kafka and PostgreSQL; look after what is set aside
//	hawser pki       make the certificates by which processes know each other
//	hawser demo      two clusters that do business with each other
//	hawser package   build and inspect application packages
//	hawser member    exchange member information between clusters
//	hawser backup    copy a cluster, while it runs or not; hawser restore
//	hawser roles     the workers of a cluster
//	hawser version
//
// Exit codes: 0 done; 1 the command failed, with one line on stderr that says what and why; 2 the command's words are off.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(exitCode(newRoot().ExecuteContext(ctx)))
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "hawser",
		Short:         "Application networks: organisations that do business through shared workflows",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(newUp(), newWorker(), newBus(), newPKI(), newDemo(), newPackage(), newMember(), newBackup(), newRestore(), newRoles(), newVersion())
	return root
}

// usageError is a command line that can't be understood.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func exitCode(err error) int {
	if err == nil || errors.Is(err, context.Canceled) {
		return 0
	}
	fmt.Fprintln(os.Stderr, "hawser:", err)
	var usage *usageError
	if errors.As(err, &usage) {
		return 2
	}
	return 1
}
