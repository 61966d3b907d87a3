package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"gopkg.in/cenkalti/backoff.v1"

	rollcallclient "rollcall/clients/go"
)

// trackCmd is present until it is stopped.
type trackCmd struct {
	Topic       string        `arg:"" help:"Topic, such as room:lobby."`
	Key         string        `arg:"" help:"Who is there, such as a user's id."`
	Meta        string        `default:"{}" help:"JSON object to say about this device."`
	Session     string        `placeholder:"ID" help:"Session to use, 16 to 64 of A-Za-z0-9_-, in place of one of its own. A secret: better in the environment than in the list of processes. On Ctrl-C only this presence of it ends."`
	TTL         time.Duration `name:"ttl" default:"30s" help:"Time that the presence lives when this command vanishes. Whole seconds."`
	ShowSession bool          `help:"Print the session id, with which anybody may change or end this presence."`
	clientFlags
}

// Help is shown below the flags' summary.
func (c *trackCmd) Help() string {
	return `Sends a heartbeat every third of the ttl, and tracks again when the node has forgotten the session.

Examples:

    rollcall track room:lobby Alice
    rollcall track room:lobby Bob --meta '{"device":"phone"}' --ttl 10s`
}

// Validate checks what the node would refuse, and what all clients check.
func (c *trackCmd) Validate() error {
	errs := []error{c.clientFlags.Validate()}
	if c.TTL < time.Second || c.TTL%time.Second != 0 {
		errs = append(errs, fmt.Errorf("--ttl is %v; it must be whole seconds, at least 1s", c.TTL))
	}
	var meta map[string]json.RawMessage
	if err := json.Unmarshal([]byte(c.Meta), &meta); err != nil || meta == nil {
		errs = append(errs, errors.New(`--meta must be a JSON object such as {"device":"phone"}`))
	}
	return errors.Join(errs...)
}

// Run tracks, keeps the presence alive until ctx is done, and leaves.
func (c *trackCmd) Run(ctx context.Context, con *console) error {
	client, err := c.open(min(c.TTL, callTimeout))
	if err != nil {
		return err
	}
	h := &held{trackCmd: c, client: client, con: con, session: c.Session}
	if h.session == "" {
		h.session = rand.Text()
	}
	if err := h.track(ctx); err != nil {
		return err
	}
	con.printf("%s is present in %s: ref %s, ttl %v. Ctrl-C to leave.", c.Key, c.Topic, h.ref, h.ttl)
	if c.ShowSession {
		con.printf("session %s", h.session)
	}
	if err := h.keep(ctx); err != nil {
		return err
	}
	if err := h.leave(); err != nil {
		return fmt.Errorf("%s is present until the ttl of %v has passed, as leaving failed: %w", c.Key, h.ttl, err)
	}
	con.printf("%s has left %s.", c.Key, c.Topic)
	return nil
}

// held is a presence that a trackCmd holds.
type held struct {
	*trackCmd
	client  *rollcallclient.Client
	con     *console
	session string
	ref     string
	ttl     time.Duration // of the session, which may have been made with another than is asked for now
}

// track makes the presence, or finds it and sets its meta.
func (h *held) track(ctx context.Context) error {
	ttl := int(h.TTL / time.Second)
	meta := json.RawMessage(h.Meta)
	presence, err := answer[rollcallclient.Presence](h.client.Track(ctx, h.Topic, rollcallclient.TrackRequest{
		Key: h.Key, Session: &h.session, Meta: &meta, Ttl: &ttl,
	}))
	if isCode(err, rollcallclient.ProblemCodeAlreadyTracked) { // by an earlier try whose answer was lost, or by somebody else
		presence, err = answer[rollcallclient.Presence](h.client.Update(ctx, h.Topic, h.Key, rollcallclient.UpdateRequest{
			Session: h.session, Meta: meta,
		}))
	}
	if err != nil {
		return err
	}
	h.ref, h.ttl = presence.Ref, time.Duration(max(1, presence.Ttl))*time.Second
	return nil
}

// keep renews the session until ctx is done. It returns an error if that cannot go on.
func (h *held) keep(ctx context.Context) error {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval = min(h.ttl/10, time.Second)
	retry.MaxInterval = min(h.ttl/3, 10*time.Second)
	retry.MaxElapsedTime = 0
	retry.Reset()
	away := false
	for wait := h.ttl / 3; sleep(ctx, wait); {
		err := h.renew(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			if away {
				h.con.warnf("the node is back")
			}
			away, wait = false, h.ttl/3
			retry.Reset()
		case isPassing(err):
			if !away {
				h.con.warnf("%v; trying on", err)
			}
			away, wait = true, retry.NextBackOff()
		default:
			return err
		}
	}
	return nil
}

// renew sends a heartbeat, and tracks again if the session has ended.
func (h *held) renew(ctx context.Context) error {
	_, err := answer[rollcallclient.Lease](h.client.Heartbeat(ctx, h.session))
	if !isCode(err, rollcallclient.ProblemCodeUnknownSession) {
		return err
	}
	if err := h.track(ctx); err != nil {
		return err
	}
	h.con.printf("%s is present in %s again: ref %s.", h.Key, h.Topic, h.ref)
	return nil
}

// leave ends the presence: the whole session if it was made here, and only this presence of one that was given.
func (h *held) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	end := func() (*http.Response, error) { return h.client.Leave(ctx, h.session) }
	if h.Session != "" {
		end = func() (*http.Response, error) {
			return h.client.Untrack(ctx, h.Topic, h.Key, &rollcallclient.UntrackParams{Session: h.session})
		}
	}
	_, err := answer[struct{}](end())
	return err
}
