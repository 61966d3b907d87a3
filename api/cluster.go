package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"rollcall/presence"
)

var (
	// ErrUnknownNode is returned by [Cluster.Remove] when no member has the id.
	ErrUnknownNode = errors.New("unknown node")
	// ErrNoQuorum is returned by [Cluster.Remove] when the cluster has no leader, so that its members cannot change.
	ErrNoQuorum = errors.New("no quorum")
	// ErrNoCluster is returned by [Cluster.Remove] when this node runs by itself.
	ErrNoCluster = errors.New("no cluster")
)

// Cluster is what the API needs to know of the nodes. Its methods may be called from any goroutine.
type Cluster interface {
	// Status returns the members as this node sees them, itself among them.
	Status() ClusterStatus
	// Complete is Status().Complete, at next to no cost: it is asked for every answer, before and after the tracker. It must be false from
	// before a node's presences are hidden until after they are shown or forgotten.
	Complete() bool
	// Remove takes a node out of the cluster for good, up or not. It returns [ErrUnknownNode], [ErrNoQuorum] or [ErrNoCluster] for the reasons
	// that these name, and [ErrUnavailable] when the leader did not answer.
	Remove(ctx context.Context, id string) error
}

// alone is the Cluster of a node that runs by itself.
type alone struct {
	tracker *presence.Tracker
	version string
}

func (a alone) Status() ClusterStatus {
	self, stats := a.tracker.Replica(), a.tracker.Stats()
	return ClusterStatus{Node: self.Name, Complete: true, Quorum: true, Members: []ClusterMember{{
		Id:          self.Name,
		Incarnation: int(self.Incarnation),
		Role:        Leader,
		State:       Up,
		Version:     a.version,
		HeardMs:     new(0),
		Sessions:    stats.Sessions,
		Presences:   stats.Presences,
	}}}
}

func (alone) Complete() bool                       { return true }
func (alone) Remove(context.Context, string) error { return ErrNoCluster }

// Cluster lists the members.
func (h *handlers) Cluster(c echo.Context) error {
	status := h.config.Cluster.Status()
	status.Members = append([]ClusterMember{}, status.Members...) // never null
	slices.SortFunc(status.Members, func(a, b ClusterMember) int { return cmp.Compare(a.Id, b.Id) })
	return writeJSON(c, http.StatusOK, status)
}

// RemoveNode takes a member out of the cluster.
func (h *handlers) RemoveNode(c echo.Context, id string) error {
	if err := h.config.Cluster.Remove(c.Request().Context(), id); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
