package caddymodule

import (
	"math"

	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
)

func eventsCommand() *cobra.Command {
	return group(&cobra.Command{Use: "events", Short: "Looks after the event log and its sinks"},
		eventsLag(), eventsTail(), eventsReplay(), eventsDead())
}

func eventsLag() *cobra.Command {
	return leaf("lag", "Shows how the sinks fare: what is delivered, pending and dead", 0, 0, managed(func(i *invocation, m *cli.Manager) error {
		return m.EventLag(i.cmd.Context())
	}))
}

func eventsTail() *cobra.Command {
	cmd := leaf("tail", "Shows the newest requests, and those to come with the alerts among them, until interrupted", 0, 0, managed(func(i *invocation, m *cli.Manager) error {
		return i.follow(m.FollowEvents)
	}))
	requestFlags(cmd)
	cmd.Flags().Int("limit", 10, "how many to begin with")
	return cmd
}

func eventsReplay() *cobra.Command {
	cmd := leaf("replay --sink SINK --from TIME", "Has a sink get again what the log has of a time and later", 0, 0, managed(func(i *invocation, m *cli.Manager) error {
		return m.Replay(i.cmd.Context(), i.text("sink"), i.text("from"))
	}))
	cmd.Flags().String("sink", "", "the sink's name")
	cmd.Flags().String("from", "", "a day, a time, or how long ago: 2030-01-31, 2030-01-31T18:00:00Z, 12h, 7d")
	return cmd
}

// eventsDead lists, as its subcommand list does; requeue delivers again.
func eventsDead() *cobra.Command {
	list := func(use string) *cobra.Command {
		cmd := leaf(use, "Lists events that a sink has not taken, oldest first", 0, 0, managed(func(i *invocation, m *cli.Manager) error {
			limit, _ := i.cmd.Flags().GetInt("limit") // the flag is ours
			return m.ListDead(i.cmd.Context(), i.text("sink"), limit)
		}))
		cmd.Flags().String("sink", "", "only those of this sink")
		cmd.Flags().Int("limit", 100, "how many at most; 0: all")
		return cmd
	}
	requeue := leaf("requeue --sink SINK (--all | ID…)", "Has dead letters delivered again", 0, math.MaxInt, managed(func(i *invocation, m *cli.Manager) error {
		return m.RequeueDead(i.cmd.Context(), i.text("sink"), i.args, i.on("all"))
	}))
	requeue.Flags().String("sink", "", "the sink's name")
	requeue.Flags().Bool("all", false, "all dead letters of the sink")
	dead := list("dead")
	dead.AddCommand(list("list"), requeue)
	return dead
}
