package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	rollcallclient "rollcall/clients/go"
)

// roster is what watch knows of one topic, and turns the topic's events into lines for a person to read.
type roster struct {
	known bool // a state has come
	state rollcallclient.PresenceState
}

// applyState takes a presence_state. The first is shown whole; a later one, after a break, only by what it changes.
func (r *roster) applyState(next rollcallclient.PresenceState) []string {
	if !r.known {
		r.known, r.state = true, next
		return r.all()
	}
	changes := changeSet{}
	r.state.SyncState(next, changes.join, changes.leave)
	return changes.lines(r.state)
}

// applyDiff takes a presence_diff.
func (r *roster) applyDiff(diff rollcallclient.PresenceDiff) []string {
	if r.state == nil {
		r.state = rollcallclient.PresenceState{}
	}
	changes := changeSet{}
	r.state.SyncDiff(diff, changes.join, changes.leave)
	return changes.lines(r.state)
}

// all returns a headline and a line for each key.
func (r *roster) all() []string {
	metas := 0
	for _, key := range r.state {
		metas += len(key.Metas)
	}
	lines := []string{countText(len(r.state), metas)}
	for _, key := range slices.Sorted(maps.Keys(r.state)) {
		lines = append(lines, "  "+key+devices(len(r.state[key].Metas), 1))
	}
	return lines
}

// changeSet is what one event changed, by key.
type changeSet map[string]*keyChange

type keyChange struct {
	joined []rollcallclient.TrackedMeta
	left   int
}

func (c changeSet) of(key string) *keyChange {
	if c[key] == nil {
		c[key] = &keyChange{}
	}
	return c[key]
}

func (c changeSet) join(key string, _, joined []rollcallclient.TrackedMeta) {
	c.of(key).joined = joined
}
func (c changeSet) leave(key string, _, left []rollcallclient.TrackedMeta) {
	c.of(key).left = len(left)
}

// lines describes the changes, after which a topic's state is as given: "+ Alice (2 devices)" for somebody who came or has one more device,
// "- Alice" or "- Alice (1 device)" for the opposite, and "~ Alice {…}" with the meta of a device that changed it.
func (c changeSet) lines(state rollcallclient.PresenceState) []string {
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(c)) {
		change, now := c[key], len(state[key].Metas)
		updated := min(len(change.joined), change.left) // a meta that left with another in its place
		for _, meta := range change.joined[:updated] {
			lines = append(lines, "~ "+key+" "+metaText(meta))
		}
		switch {
		case len(change.joined) > updated:
			lines = append(lines, "+ "+key+devices(now, 1))
		case change.left > updated:
			lines = append(lines, "- "+key+devices(now, 0))
		}
	}
	return lines
}

// devices returns " (2 devices)", or nothing for as many as go without saying.
func devices(n, unsaid int) string {
	switch n {
	case unsaid:
		return ""
	case 1:
		return " (1 device)"
	default:
		return fmt.Sprintf(" (%d devices)", n)
	}
}

// metaText returns a meta as the client sent it, safe to print on a terminal.
func metaText(meta rollcallclient.TrackedMeta) string {
	if len(meta.AdditionalProperties) == 0 {
		return "{}"
	}
	text, err := json.Marshal(meta.AdditionalProperties)
	if err != nil {
		return "" // cannot be: it came as JSON
	}
	return printable(string(text))
}

// printable returns s without what a terminal would act on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
