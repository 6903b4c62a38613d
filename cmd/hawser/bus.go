package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/hawser-project/hawser/process"
)

// newBus sets up Kafka and PostgreSQL, and looks after what is on the bus.
func newBus() *cobra.Command {
	c := &cobra.Command{
		Use: "bus", Short: "Set up Kafka and PostgreSQL; look after what is set aside",
		Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newBusInit(), newBusACLs(), newPoison(), newHeld())
	return c
}

// newBusInit makes topics and schemas.
func newBusInit() *cobra.Command {
	var config string
	in := process.InitOptions{Partitions: 8}
	c := &cobra.Command{
		Use: "init", Short: "Make a cluster's topics and schemas, or what is missing of them", Args: cobra.NoArgs,
		Long: `Make what a cluster needs in Kafka and PostgreSQL, or what is missing of it. What
is there and is not as it should be is reported, and not changed. It may be run
again, and after each new release, before the first worker of that release; the
workers of the release before go on working.

The user needs the rights to create topics and schemas. Workers need less:
hawser bus acls prints what.

Examples:
  hawser bus init --config admin.yaml
  hawser bus init --config admin.yaml --partitions 32 --replication 3`,
		RunE: func(c *cobra.Command, _ []string) error {
			read, err := process.ReadWorkerConfig(config, os.LookupEnv)
			if err != nil {
				return err
			}
			if err := process.InitBus(c.Context(), read, in); err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), "the bus is ready")
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&config, "config", "", "YAML file with kafka and postgres, as for hawser worker; empty: they are in the environment")
	f.Int32Var(&in.Partitions, "partitions", in.Partitions, "over how many partitions the keys of each role are spread; can't be changed later")
	f.Int16Var(&in.Replication, "replication", 0, "brokers that keep each record; 0: 3, or all where there are fewer")
	return c
}

// newBusACLs prints what each worker may do in Kafka and PostgreSQL.
func newBusACLs() *cobra.Command {
	var cluster, kafkaUser, postgresUser string
	c := &cobra.Command{
		Use: "acls", Short: "Print the rights that each worker needs in Kafka and PostgreSQL", Args: cobra.NoArgs,
		Long: `Print, from the table of topics, the rights that the user of each worker needs,
and no others: SQL for PostgreSQL, and kafka-acls.sh lines for Kafka as comments
of it. A gateway needs none.

Examples:
  hawser bus acls --cluster hawser > rights.sql
  psql -f rights.sql`,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := process.Rights(cluster, postgresUser, kafkaUser)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(c.OutOrStdout(), text)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&cluster, "cluster", "hawser", "name of the cluster")
	f.StringVar(&postgresUser, "postgres-user", "", `name of a worker's role in PostgreSQL, with {role} in it; empty: CLUSTER_{role}`)
	f.StringVar(&kafkaUser, "kafka-user", "", `name of a worker's user in Kafka, with {role} in it; empty: CLUSTER-{role}`)
	return c
}
