package protocol

import (
	"math/rand/v2"
	"slices"
	"time"
)

// retryForgotten is how many ticks pass, on average, between two attempts to talk to a member that left or was forgotten.
const retryForgotten = 10

// contact is how direct requests to a node go.
type contact struct {
	failed  bool          // the last one did
	waiting bool          // for an answer, since
	since   time.Duration // on the clock that stands still
}

// Targets returns the ids of the members to exchange with in this tick, sorted: one at random of those that are well, and each that is not heard of or does not
// answer, so that a healed network is found at once. Members that left or were forgotten are tried now and then.
func (v *View) Targets(now time.Duration, rng *rand.Rand) []string {
	var targets, well []string
	running := v.clock.read(now)
	sorted := v.sorted()
	for _, n := range sorted {
		switch {
		case n.present == v.self || !n.member:
		case n.present.state == PermDown:
			if rng.IntN(retryForgotten) == 0 {
				targets = append(targets, n.id)
			}
		case n.present.state == Up && v.reachable(n, running):
			well = append(well, n.id)
		default:
			targets = append(targets, n.id)
		}
	}
	if len(well) > 0 {
		targets = append(targets, well[rng.IntN(len(well))])
	}
	slices.Sort(targets)
	for _, id := range targets {
		v.nodes[id].contact.ask(running)
	}
	return targets
}

// Answered tells the view that a request to the node was answered.
func (v *View) Answered(id string) {
	if n := v.nodes[id]; n != nil {
		n.contact = contact{}
	}
}

// Failed tells the view that a request to the node was not answered.
func (v *View) Failed(id string) {
	if n := v.nodes[id]; n != nil {
		n.contact.failed = true
	}
}

// Reachable tells whether a direct request to the member may be expected to be answered: the last one was, or none was tried, and none has waited
// for longer than two intervals and a half. It says nothing about whether the member is up: others may hear it.
func (v *View) Reachable(id string, now time.Duration) bool {
	n := v.nodes[id]
	return n != nil && n.member && v.reachable(n, v.clock.read(now))
}

func (v *View) reachable(n *node, running time.Duration) bool {
	c := n.contact
	return !c.failed && (!c.waiting || running-c.since <= v.config.patience())
}

func (c *contact) ask(running time.Duration) {
	if !c.waiting {
		c.waiting, c.since = true, running
	}
}
