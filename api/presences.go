package api

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"rollcall/presence"
)

const (
	maxPageKeys       = 10_000
	maxPageTopics     = 1_000
	defaultPageTopics = 100
	maxCursorBytes    = 255
)

// ListTopics answers with a page of topics and their counts.
func (h *handlers) ListTopics(c echo.Context, params ListTopicsParams) error {
	limit, err := parseLimit(params.Limit, defaultPageTopics, maxPageTopics)
	if err != nil {
		return err
	}
	prefix, err := parseCursor("prefix", params.Prefix)
	if err != nil {
		return err
	}
	after, err := parseCursor("after", params.After)
	if err != nil {
		return err
	}
	topics, more := h.config.Tracker.Topics(prefix, after, limit)
	page := TopicPage{Topics: make([]TopicCount, 0, len(topics))}
	for _, t := range topics {
		page.Topics = append(page.Topics, TopicCount{Topic: string(t.Topic), Keys: t.Keys, Metas: t.Metas})
	}
	if more {
		page.Next = new(string(topics[len(topics)-1].Topic))
	}
	return writeJSON(c, http.StatusOK, page)
}

// CountPresences counts a topic's keys and metas.
func (h *handlers) CountPresences(c echo.Context, topic Topic) error {
	t, err := parseTopic(c, topic)
	if err != nil {
		return err
	}
	count := h.config.Tracker.Count(t)
	return writeJSON(c, http.StatusOK, Count{Keys: count.Keys, Metas: count.Metas})
}

// ListPresences answers with a topic's state, whole or a page of it, unless the client has it already.
func (h *handlers) ListPresences(c echo.Context, topic Topic, params ListPresencesParams) error {
	t, err := parseTopic(c, topic)
	if err != nil {
		return err
	}
	if params.Limit == nil && params.After == nil {
		list := h.config.Tracker.List(t)
		return h.writeVersion(c, list.Version, params.IfNoneMatch, list.JSON)
	}
	limit, err := parseLimit(params.Limit, maxPageKeys, maxPageKeys)
	if err != nil {
		return err
	}
	after, err := parseCursor("after", params.After)
	if err != nil {
		return err
	}
	page, more, version := h.config.Tracker.Page(t, after, limit)
	if more {
		last := page[len(page)-1].Key
		c.Response().Header().Set("Link", fmt.Sprintf(`<%s?limit=%d&after=%s>; rel="next"`,
			presencesPath(t), limit, url.QueryEscape(string(last))))
	}
	return h.writeVersion(c, version, params.IfNoneMatch, page.AppendJSON(nil))
}

// writeVersion writes a version of a topic, or 304 when the client named it in If-None-Match.
func (h *handlers) writeVersion(c echo.Context, version uint64, ifNoneMatch *string, body []byte) error {
	tag := h.run + "-" + strconv.FormatUint(version, 36)
	if h.look(c) {
		// Else a client that keeps answers would keep the mark of this one, too: a 304 takes no header away.
		tag += "-" + viewIncomplete
	}
	etag := `"` + tag + `"`
	header := c.Response().Header()
	header.Set("ETag", etag)
	header.Set("Cache-Control", "no-cache") // may be kept, must be asked for again
	if ifNoneMatch != nil && matchesETag(*ifNoneMatch, etag) {
		return c.NoContent(http.StatusNotModified)
	}
	return c.Blob(http.StatusOK, echo.MIMEApplicationJSON, body)
}

// matchesETag reports whether etag is in an If-None-Match header, compared weakly as RFC 9110 section 13.1.2 asks.
func matchesETag(ifNoneMatch, etag string) bool {
	for tag := range strings.SplitSeq(ifNoneMatch, ",") { // etag holds no comma, so cutting another's in two does no harm
		tag = strings.TrimSpace(tag)
		if tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
			return true
		}
	}
	return false
}

// Track makes a session present.
func (h *handlers) Track(c echo.Context, topic Topic) error {
	t, err := parseTopic(c, topic)
	if err != nil {
		return err
	}
	body, err := decode[TrackRequest](h, c)
	if err != nil {
		return err
	}
	request := presence.TrackRequest{Topic: t}
	if request.Key, err = presence.ParseKey(body.Key); err != nil {
		return err
	}
	if body.Session != nil {
		if request.Session, err = presence.ParseSessionID(*body.Session); err != nil {
			return err
		}
	}
	if body.Meta != nil {
		request.Meta = *body.Meta
	}
	if body.Ttl != nil {
		if request.TTL, err = parseTTL(*body.Ttl); err != nil {
			return err
		}
	}
	tracked, err := h.config.Sessions.Track(c.Request().Context(), request)
	if err != nil {
		return err
	}
	return writeTracked(c, http.StatusCreated, tracked)
}

// GetPresence answers with one key's metas.
func (h *handlers) GetPresence(c echo.Context, topic Topic, key Key) error {
	t, k, err := parseMember(c, topic, key)
	if err != nil {
		return err
	}
	metas := h.config.Tracker.Get(t, k)
	if len(metas) == 0 {
		return presence.ErrNotPresent
	}
	return c.Blob(http.StatusOK, echo.MIMEApplicationJSON, metas.AppendJSON(nil))
}

// Update replaces a presence's meta, or tracks it.
func (h *handlers) Update(c echo.Context, topic Topic, key Key) error {
	t, k, session, meta, err := h.parseUpdate(c, topic, key)
	if err != nil {
		return err
	}
	tracked, created, err := h.config.Sessions.Update(c.Request().Context(), t, k, session, meta)
	if err != nil {
		return err
	}
	if created {
		return writeTracked(c, http.StatusCreated, tracked)
	}
	return writeTracked(c, http.StatusOK, tracked)
}

// Patch merges into a presence's meta.
func (h *handlers) Patch(c echo.Context, topic Topic, key Key) error {
	t, k, session, meta, err := h.parseUpdate(c, topic, key)
	if err != nil {
		return err
	}
	tracked, err := h.config.Sessions.Patch(c.Request().Context(), t, k, session, meta)
	if err != nil {
		return err
	}
	return writeTracked(c, http.StatusOK, tracked)
}

// Untrack ends one presence.
func (h *handlers) Untrack(c echo.Context, topic Topic, key Key, params UntrackParams) error {
	t, k, err := parseMember(c, topic, key)
	if err != nil {
		return err
	}
	session, err := presence.ParseSessionID(params.Session)
	if err != nil {
		return err
	}
	if err := h.config.Sessions.Untrack(c.Request().Context(), t, k, session); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func parseMember(c echo.Context, topic, key string) (presence.Topic, presence.Key, error) {
	t, err := parseTopic(c, topic)
	if err != nil {
		return "", "", err
	}
	k, err := presence.ParseKey(key)
	return t, k, err
}

func (h *handlers) parseUpdate(c echo.Context, topic, key string) (
	t presence.Topic, k presence.Key, session presence.SessionID, meta presence.Meta, err error,
) {
	if t, k, err = parseMember(c, topic, key); err != nil {
		return
	}
	body, err := decode[UpdateRequest](h, c)
	if err != nil {
		return
	}
	session, err = presence.ParseSessionID(body.Session)
	return t, k, session, body.Meta, err
}

// parseTTL makes a duration of seconds. The tracker knows the bounds; this only keeps 0 from meaning its default, and a large number from
// wrapping round into them.
func parseTTL(seconds int) (time.Duration, error) {
	const most = int(math.MaxInt64 / time.Second)
	if seconds < 1 {
		return 0, invalid("ttl", "is %d seconds; it must be at least 1", seconds)
	}
	return time.Duration(min(seconds, most)) * time.Second, nil
}

func parseLimit(limit *int, otherwise, most int) (int, error) {
	switch {
	case limit == nil:
		return otherwise, nil
	case *limit < 1 || *limit > most:
		return 0, invalid("limit", "is %d; 1 to %d are allowed", *limit, most)
	}
	return *limit, nil
}

// parseCursor checks the parameters that are compared with names but need not be ones.
func parseCursor(field string, s *string) (string, error) {
	switch {
	case s == nil:
		return "", nil
	case len(*s) > maxCursorBytes:
		return "", invalid(field, "is %d bytes long; at most %d are allowed", len(*s), maxCursorBytes)
	case !utf8.ValidString(*s):
		return "", invalid(field, "must be valid UTF-8")
	}
	return *s, nil
}

// writeTracked writes a presence to the client that holds its session.
func writeTracked(c echo.Context, status int, tracked presence.Tracked) error {
	if status == http.StatusCreated {
		c.Response().Header().Set("Location", presencesPath(tracked.Topic)+"/"+escapeSegment(string(tracked.Key)))
	}
	return writeJSON(c, status, Presence{
		Topic:     string(tracked.Topic),
		Key:       string(tracked.Key),
		Session:   string(tracked.Session),
		Ref:       string(tracked.Ref),
		Meta:      tracked.Meta,
		Ttl:       int((tracked.TTL + time.Second - 1) / time.Second),
		ExpiresAt: wallClock(tracked.ExpiresAt),
	})
}

// wallClock is how times go out: UTC, in milliseconds.
func wallClock(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

func presencesPath(topic presence.Topic) string {
	return "/v1/topics/" + escapeSegment(string(topic)) + "/presences"
}

// escapeSegment encodes a name as one segment of a path. Dots alone would be taken for the directory above.
func escapeSegment(name string) string {
	if name == "." || name == ".." {
		return strings.ReplaceAll(name, ".", "%2E")
	}
	return url.PathEscape(name)
}
