package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	rollcallclient "rollcall/clients/go"
)

// topicsCmd lists topics.
type topicsCmd struct {
	Prefix string `placeholder:"TEXT" help:"Only topics that start with this."`
	JSON   bool   `name:"json" help:"Print one JSON object per line."`
	clientFlags
}

// Help is shown below the flags' summary.
func (c *topicsCmd) Help() string {
	return `Examples:

    rollcall topics
    rollcall topics --prefix room: --json`
}

// Run prints every topic, page by page.
func (c *topicsCmd) Run(ctx context.Context, con *console) error {
	client, err := c.open(callTimeout)
	if err != nil {
		return err
	}
	limit := 1000
	params := &rollcallclient.ListTopicsParams{Limit: &limit}
	if c.Prefix != "" {
		params.Prefix = &c.Prefix
	}
	table := tabwriter.NewWriter(con.stdout, 0, 0, 2, ' ', 0)
	defer table.Flush()
	for first := true; ; first = false {
		page, err := answer[rollcallclient.TopicPage](client.ListTopics(ctx, params))
		if err != nil {
			return err
		}
		if first && len(page.Topics) > 0 && !c.JSON {
			fmt.Fprintln(table, "PEOPLE\tDEVICES\tTOPIC")
		}
		for _, topic := range page.Topics {
			if err := c.print(con, table, topic); err != nil {
				return err
			}
		}
		if page.Next == nil {
			return nil
		}
		params.After = page.Next
	}
}

func (c *topicsCmd) print(con *console, table io.Writer, topic rollcallclient.TopicCount) error {
	if c.JSON {
		return json.NewEncoder(con.stdout).Encode(topic)
	}
	_, err := fmt.Fprintf(table, "%d\t%d\t%s\n", topic.Keys, topic.Metas, topic.Topic)
	return err
}

// countCmd counts a topic.
type countCmd struct {
	Topic string `arg:"" help:"Topic, such as room:lobby."`
	JSON  bool   `name:"json" help:"Print a JSON object."`
	clientFlags
}

// Run prints the count.
func (c *countCmd) Run(ctx context.Context, con *console) error {
	client, err := c.open(callTimeout)
	if err != nil {
		return err
	}
	count, err := answer[rollcallclient.Count](client.CountPresences(ctx, c.Topic))
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(con.stdout).Encode(count)
	}
	con.printf("%s", countText(count.Keys, count.Metas))
	return nil
}

// countText says how many people there are on how many devices.
func countText(keys, metas int) string {
	people, devices := "people", "devices"
	if keys == 1 {
		people = "person"
	}
	if metas == 1 {
		devices = "device"
	}
	return fmt.Sprintf("%d %s on %d %s", keys, people, metas, devices)
}
