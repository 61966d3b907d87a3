package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/r3labs/sse/v2"

	rollcallclient "rollcall/clients/go"
)

// watchCmd prints what happens in topics.
type watchCmd struct {
	Topics []string `arg:"" name:"topic" help:"Topics, such as room:lobby; at most 100."`
	JSON   bool     `name:"json" help:"Print each event as a JSON object on a line of its own, with its name, id, topic and data."`
	clientFlags
}

// Help is shown below the flags' summary.
func (c *watchCmd) Help() string {
	return `Prints who is there, then each change as a line:

    Alice has come          + Alice
    she has a second device + Alice (2 devices)
    one changed its meta    ~ Alice {"status":"away"}
    one has gone            - Alice (1 device)
    she has left            - Alice

When the stream breaks, it is opened again and goes on where it ended. With several topics each line begins with its own.

Examples:

    rollcall watch room:lobby
    rollcall watch room:lobby room:attic --json`
}

// Run prints events until ctx is done.
func (c *watchCmd) Run(ctx context.Context, con *console) error {
	request, err := c.request()
	if err != nil {
		return err
	}
	w := &watcher{watchCmd: c, con: con, rosters: map[string]*roster{}}
	return follow(ctx, request.URL.String(), w.event, con.warnf)
}

func (c *watchCmd) request() (*http.Request, error) {
	if len(c.Topics) == 1 {
		return rollcallclient.NewStreamTopicRequest(c.URL, c.Topics[0], nil)
	}
	return rollcallclient.NewStreamTopicsRequest(c.URL, &rollcallclient.StreamTopicsParams{Topic: c.Topics})
}

// watcher prints the events of one watchCmd.
type watcher struct {
	*watchCmd
	con     *console
	rosters map[string]*roster // by topic
}

// eventLine is an event as --json prints it.
type eventLine struct {
	Event string          `json:"event"`
	ID    string          `json:"id"`
	Topic string          `json:"topic"`
	Data  json.RawMessage `json:"data"`
}

// event prints one event.
func (w *watcher) event(event *sse.Event) error {
	line := eventLine{Event: string(event.Event), ID: string(event.ID), Topic: w.Topics[0], Data: event.Data}
	if len(w.Topics) > 1 {
		var wrapped struct {
			Topic   string          `json:"topic"`
			Payload json.RawMessage `json:"payload"`
		}
		if err := json.Unmarshal(event.Data, &wrapped); err != nil {
			return fmt.Errorf("event %s is not valid: %w", line.ID, err)
		}
		line.Topic, line.Data = wrapped.Topic, wrapped.Payload
	}
	if w.JSON {
		return json.NewEncoder(w.con.stdout).Encode(line)
	}
	changes, err := w.apply(line)
	if err != nil {
		return fmt.Errorf("event %s is not valid: %w", line.ID, err)
	}
	for _, change := range changes {
		if len(w.Topics) > 1 {
			change = line.Topic + ": " + change
		}
		w.con.printf("%s", change)
	}
	return nil
}

// apply returns the lines for an event. One of an unknown name has none.
func (w *watcher) apply(line eventLine) ([]string, error) {
	r := w.rosters[line.Topic]
	if r == nil {
		r = &roster{}
		w.rosters[line.Topic] = r
	}
	switch line.Event {
	case "presence_state":
		var state rollcallclient.PresenceState
		if err := json.Unmarshal(line.Data, &state); err != nil {
			return nil, err
		}
		return r.applyState(state), nil
	case "presence_diff":
		var diff rollcallclient.PresenceDiff
		if err := json.Unmarshal(line.Data, &diff); err != nil {
			return nil, err
		}
		return r.applyDiff(diff), nil
	default:
		return nil, nil
	}
}
