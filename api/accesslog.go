package api

import (
	"context"
	"crypto/rand"
	"log/slog"
	"regexp"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/presence"
)

// topicKey is where the context of a request keeps its topic, for the log.
const topicKey = "topic"

// parseTopic checks a topic from a path and keeps it for the log.
func parseTopic(c echo.Context, s string) (presence.Topic, error) {
	topic, err := presence.ParseTopic(s)
	if err != nil {
		return "", err
	}
	c.Set(topicKey, topic)
	return topic, nil
}

var saneRequestID = regexp.MustCompile(`^[A-Za-z0-9._:/+=-]{1,64}$`)

// identify gives the request the id that its client or a proxy chose, or a new one.
func identify(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		id := c.Request().Header.Get(echo.HeaderXRequestID)
		if !saneRequestID.MatchString(id) {
			id = rand.Text()
		}
		c.Response().Header().Set(echo.HeaderXRequestID, id)
		return next(c)
	}
}

func requestID(c echo.Context) string { return c.Response().Header().Get(echo.HeaderXRequestID) }

// observe writes the answer for an error, then logs and counts the request; a stream when it ends.
func (h *handlers) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		if err := next(c); err != nil {
			c.Error(err)
		}
		took := time.Since(start)
		h.metrics.observe(c, took)
		h.logRequest(c, took)
		return nil
	}
}

// probes are asked every few seconds by machines, so they are logged at debug level.
var probes = map[string]bool{"/healthz": true, "/readyz": true, "/metrics": true}

// logRequest logs the route rather than the path, and never the query: both may hold session ids.
func (h *handlers) logRequest(c echo.Context, took time.Duration) {
	level := slog.LevelInfo
	if probes[c.Path()] {
		level = slog.LevelDebug
	}
	attrs := []slog.Attr{
		slog.String("method", methodLabel(c.Request().Method)),
		slog.String("route", routeLabel(c)),
		slog.Int("status", c.Response().Status),
		slog.Int64("bytes", c.Response().Size),
		slog.Duration("duration", took),
		slog.String("request_id", requestID(c)),
		slog.String("remote", c.RealIP()),
	}
	if topic, ok := c.Get(topicKey).(presence.Topic); ok {
		attrs = append(attrs, slog.String("topic", string(topic)))
	}
	h.config.Logger.LogAttrs(context.Background(), level, "request", attrs...)
}
