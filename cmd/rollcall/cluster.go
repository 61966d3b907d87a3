package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	rollcallclient "rollcall/clients/go"
)

// clusterCmd is about the nodes of a cluster.
type clusterCmd struct {
	List   clusterListCmd   `cmd:"" default:"withargs" help:"List the nodes. The word list may be left out."`
	Remove clusterRemoveCmd `cmd:"" help:"Remove a node that will not come back."`
}

// Help is shown below the commands' summary.
func (c *clusterCmd) Help() string {
	return `Examples:

    rollcall cluster
    rollcall cluster --watch --url http://10.0.0.1:7700
    rollcall cluster --json
    rollcall cluster remove 4ywkq2pgm5tz7c3a`
}

// clusterListCmd lists the nodes.
type clusterListCmd struct {
	JSON     bool          `name:"json" help:"Print a JSON object; with --watch one per line."`
	Watch    bool          `help:"Look again and again until Ctrl-C, to follow a rolling restart."`
	Interval time.Duration `default:"1s" help:"Time between two looks of --watch."`
	clientFlags
}

// Help is shown below the flags' summary.
func (c *clusterListCmd) Help() string {
	return `HEARD is how long ago a node was last heard by the one that answers, LAG how many of its changes that one has yet to merge. Sessions and
presences are those that the node itself holds.

Examples:

    rollcall cluster
    rollcall cluster --watch --url http://10.0.0.1:7700
    rollcall cluster --json`
}

// Validate checks the interval, and what all clients check.
func (c *clusterListCmd) Validate() error {
	if c.Interval < minInterval {
		return fmt.Errorf("--interval is %v; it must be at least %v", c.Interval, minInterval)
	}
	return c.clientFlags.Validate()
}

// Run lists the nodes once, or until ctx is done.
func (c *clusterListCmd) Run(ctx context.Context, con *console) error {
	client, err := c.open(callTimeout)
	if err != nil {
		return err
	}
	look := func() (rollcallclient.ClusterStatus, error) {
		return answer[rollcallclient.ClusterStatus](client.Cluster(ctx))
	}
	status, err := look()
	if err != nil {
		return err
	}
	last := c.show(con, status, "")
	if !c.Watch {
		return nil
	}
	for away := false; sleep(ctx, c.Interval); {
		status, err := look()
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			last, away = c.show(con, status, last), false
		case !isPassing(err):
			return err
		case !away: // the node may be the one that is restarted just now
			con.warnf("%v; trying on", err)
			away = true
		}
	}
	return nil
}

// show prints what is new since last, and returns what it has shown.
func (c *clusterListCmd) show(con *console, status rollcallclient.ClusterStatus, last string) string {
	switch {
	case c.JSON:
		_ = json.NewEncoder(con.stdout).Encode(status)
		return ""
	case c.Watch && con.terminal:
		con.printf("\x1b[H\x1b[J%s", clusterText(status))
		return ""
	}
	untimed := status // what differs only in when it was heard is not worth printing again
	untimed.Members = nil
	for _, member := range status.Members {
		member.HeardMs = nil
		untimed.Members = append(untimed.Members, member)
	}
	now := clusterText(untimed)
	switch last {
	case now:
	case "":
		con.printf("%s", clusterText(status))
	default:
		con.printf("\n%s", clusterText(status))
	}
	return now
}

// clusterText returns a table of the members, and sentences about what is wrong.
func clusterText(status rollcallclient.ClusterStatus) string {
	if len(status.Members) == 0 {
		return fmt.Sprintf("%s has not joined a cluster yet; its log says why.", printable(status.Node))
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tROLE\tSTATE\tADDRESS\tVERSION\tHEARD\tLAG\tSESSIONS\tPRESENCES")
	var down []string
	for _, m := range status.Members {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\n", printable(m.Id), printable(string(m.Role)), printable(string(m.State)),
			orDash(m.PublicAddr), orDash(m.Version), heard(m, status.Node), m.Lag, m.Sessions, m.Presences)
		if m.State == rollcallclient.Down {
			down = append(down, printable(m.Id))
		}
	}
	_ = table.Flush() // to memory
	if !status.Complete && len(down) > 0 {
		fmt.Fprintf(&text, "\nThe view is incomplete: lists lack whoever is only on a node that is down (%s), until it is back or forgotten.\n",
			strings.Join(down, ", "))
	} else if !status.Complete {
		fmt.Fprintf(&text, "\nThe view is incomplete: lists may lack somebody, as %s has not caught up yet.\n", printable(status.Node))
	}
	if !status.Quorum {
		text.WriteString("\nThe quorum is lost: nodes can neither join nor be removed until most voters are up. Presence goes on.\n")
	}
	return strings.TrimSuffix(text.String(), "\n")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return printable(s)
}

func heard(m rollcallclient.ClusterMember, self string) string {
	switch {
	case m.Id == self:
		return "itself"
	case m.HeardMs == nil:
		return "never"
	default:
		return age(time.Duration(*m.HeardMs) * time.Millisecond)
	}
}

// age writes a time that has passed as briefly as it can be told: 0.3s, 14s, 5m, 7h, 3d.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return fmt.Sprintf("%dd", d/day)
	}
}

// clusterRemoveCmd removes a node.
type clusterRemoveCmd struct {
	ID string `arg:"" name:"id" help:"The node's id, as rollcall cluster lists it."`
	clientFlags
}

// Help is shown below the flags' summary.
func (c *clusterRemoveCmd) Help() string {
	return `The other nodes forget at once what it held. A node that restarts, or comes back later, need not be removed. Stop one that still runs
first: it then hands its sessions to the others.

Examples:

    rollcall cluster remove 4ywkq2pgm5tz7c3a`
}

// Run removes the node.
func (c *clusterRemoveCmd) Run(ctx context.Context, con *console) error {
	client, err := c.open(callTimeout)
	if err != nil {
		return err
	}
	if _, err := answer[struct{}](client.RemoveNode(ctx, c.ID)); err != nil {
		return err
	}
	con.printf("%s is no longer a member.", c.ID)
	return nil
}
