package api

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"rollcall/presence"
)

const maxHeartbeats = 1_000

// Heartbeat renews a session's lease.
func (h *handlers) Heartbeat(c echo.Context, session Session) error {
	id, err := presence.ParseSessionID(session)
	if err != nil {
		return err
	}
	lease, err := h.config.Tracker.Heartbeat(id)
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
	lost := h.config.Tracker.Heartbeats(ids)
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
	h.config.Tracker.Leave(id)
	return c.NoContent(http.StatusNoContent)
}

// LeaveByPost is Leave for navigator.sendBeacon, which can only POST. Its body is of no interest.
func (h *handlers) LeaveByPost(c echo.Context, session Session) error { return h.Leave(c, session) }
