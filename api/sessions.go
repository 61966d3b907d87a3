package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"rollcall/presence"
)

// ErrUnavailable is returned by [Sessions] and [Cluster] when another node has to do what was asked for, and does not answer. It may have
// been done.
var ErrUnavailable = errors.New("the node does not answer")

// Sessions does the writes, wherever their sessions live. The errors are those of [presence.Tracker], and [ErrUnavailable]. Its methods may
// be called from any goroutine.
type Sessions interface {
	Track(ctx context.Context, request presence.TrackRequest) (presence.Tracked, error)
	Update(ctx context.Context, topic presence.Topic, key presence.Key, session presence.SessionID, meta presence.Meta) (tracked presence.Tracked, created bool, err error)
	Patch(ctx context.Context, topic presence.Topic, key presence.Key, session presence.SessionID, patch presence.Meta) (presence.Tracked, error)
	Untrack(ctx context.Context, topic presence.Topic, key presence.Key, session presence.SessionID) error
	Leave(ctx context.Context, session presence.SessionID) error
	Heartbeat(ctx context.Context, session presence.SessionID) (presence.Lease, error)
	Heartbeats(ctx context.Context, sessions []presence.SessionID) (unknown []presence.SessionID, err error)
	// Attach binds a session to a stream that begins here; the caller closes the binding.
	Attach(ctx context.Context, request presence.AttachRequest) (*presence.Binding, error)
}

// local is the Sessions of a node that owns them all.
type local struct{ tracker *presence.Tracker }

func (l local) Track(_ context.Context, request presence.TrackRequest) (presence.Tracked, error) {
	return l.tracker.Track(request)
}

func (l local) Update(_ context.Context, topic presence.Topic, key presence.Key, session presence.SessionID, meta presence.Meta) (presence.Tracked, bool, error) {
	return l.tracker.Update(topic, key, session, meta)
}

func (l local) Patch(_ context.Context, topic presence.Topic, key presence.Key, session presence.SessionID, patch presence.Meta) (presence.Tracked, error) {
	return l.tracker.Patch(topic, key, session, patch)
}

func (l local) Untrack(_ context.Context, topic presence.Topic, key presence.Key, session presence.SessionID) error {
	return l.tracker.Untrack(topic, key, session)
}

func (l local) Leave(_ context.Context, session presence.SessionID) error {
	return l.tracker.Leave(session)
}

func (l local) Heartbeat(_ context.Context, session presence.SessionID) (presence.Lease, error) {
	return l.tracker.Heartbeat(session)
}

func (l local) Heartbeats(_ context.Context, sessions []presence.SessionID) ([]presence.SessionID, error) {
	return l.tracker.Heartbeats(sessions), nil
}

func (l local) Attach(_ context.Context, request presence.AttachRequest) (*presence.Binding, error) {
	return l.tracker.Attach(request)
}

const maxHeartbeats = 1_000

// Heartbeat renews a session's lease.
func (h *handlers) Heartbeat(c echo.Context, session Session) error {
	id, err := presence.ParseSessionID(session)
	if err != nil {
		return err
	}
	lease, err := h.config.Sessions.Heartbeat(c.Request().Context(), id)
	if err != nil {
		return err
	}
	return writeJSON(c, http.StatusOK, Lease{Session: session, ExpiresAt: wallClock(lease.ExpiresAt)})
}

// Heartbeats renews many leases. A session that is named twice counts once.
func (h *handlers) Heartbeats(c echo.Context) error {
	body, err := decode[HeartbeatsRequest](h, c)
	if err != nil {
		return err
	}
	if err := checkCount("sessions", len(body.Sessions), maxHeartbeats); err != nil {
		return err
	}
	seen := make(map[presence.SessionID]bool, len(body.Sessions))
	ids := make([]presence.SessionID, 0, len(body.Sessions))
	for i, s := range body.Sessions {
		id, err := presence.ParseSessionID(s)
		if err != nil {
			return invalidElement("sessions", i, err)
		}
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	lost, err := h.config.Sessions.Heartbeats(c.Request().Context(), ids)
	if err != nil {
		return err
	}
	unknown := make([]SessionID, 0, len(lost))
	for _, id := range lost {
		unknown = append(unknown, string(id))
	}
	return writeJSON(c, http.StatusOK, HeartbeatsResult{Renewed: len(ids) - len(lost), Unknown: unknown})
}

// Leave ends a session and all its presences.
func (h *handlers) Leave(c echo.Context, session Session) error {
	id, err := presence.ParseSessionID(session)
	if err != nil {
		return err
	}
	if err := h.config.Sessions.Leave(c.Request().Context(), id); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// LeaveByPost is Leave for navigator.sendBeacon, which can only POST. Its body is of no interest.
func (h *handlers) LeaveByPost(c echo.Context, session Session) error { return h.Leave(c, session) }
