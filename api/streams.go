package api

import (
	"cmp"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/api/stream"
	"rollcall/presence"
)

const (
	maxStreamTopics  = 100
	maxLingerSeconds = 60
)

// StreamTopic watches one topic.
func (h *handlers) StreamTopic(c echo.Context, topic Topic, params StreamTopicParams) error {
	t, err := parseTopic(c, topic)
	if err != nil {
		return err
	}
	return h.serveStream(c, stream.Request{Topics: []presence.Topic{t}}, params)
}

// StreamTopics watches several topics over one connection.
func (h *handlers) StreamTopics(c echo.Context, params StreamTopicsParams) error {
	topics := make([]presence.Topic, 0, len(params.Topic))
	for _, s := range params.Topic {
		topic, err := presence.ParseTopic(s)
		if err != nil {
			return err
		}
		if !slices.Contains(topics, topic) {
			topics = append(topics, topic)
		}
		if len(topics) > maxStreamTopics {
			return invalid("topic", "is given more than %d times; open a second stream for the rest", maxStreamTopics)
		}
	}
	return h.serveStream(c, stream.Request{Topics: topics, Wrapped: true}, StreamTopicParams{
		Key: params.Key, Meta: params.Meta, Session: params.Session, Linger: params.Linger,
		LastEventId: params.LastEventId, LastEventID: params.LastEventID,
	})
}

// serveStream tracks or binds what the client asked for, and streams until one side ends it.
func (h *handlers) serveStream(c echo.Context, request stream.Request, params StreamTopicParams) error {
	attach, err := parseAttach(request.Topics, params)
	if err != nil {
		return err
	}
	request.LastEventID = cmp.Or(deref(params.LastEventID), deref(params.LastEventId))
	if attach.Key != "" || attach.Session != "" {
		binding, err := h.config.Sessions.Attach(c.Request().Context(), attach)
		if err != nil {
			return err
		}
		defer binding.Close()
	}
	return h.config.Hub.Serve(c.Response(), c.Request(), request)
}

func parseAttach(topics []presence.Topic, params StreamTopicParams) (attach presence.AttachRequest, err error) {
	attach.Topics = topics
	if params.Key != nil {
		if attach.Key, err = presence.ParseKey(*params.Key); err != nil {
			return attach, err
		}
	}
	if params.Session != nil {
		if attach.Session, err = presence.ParseSessionID(*params.Session); err != nil {
			return attach, err
		}
	}
	if params.Meta != nil {
		if params.Key == nil {
			return attach, invalid("meta", "describes a presence; give its key as well")
		}
		attach.Meta = presence.Meta(*params.Meta)
	}
	attach.Linger, err = parseLinger(params)
	return attach, err
}

func parseLinger(params StreamTopicParams) (time.Duration, error) {
	switch {
	case params.Linger == nil:
		return -1, nil // the tracker's default
	case params.Key == nil && params.Session == nil:
		return 0, invalid("linger", "keeps a session; give a key or a session as well")
	case *params.Linger < 0 || *params.Linger > maxLingerSeconds:
		return 0, invalid("linger", "is %d seconds; 0 to %d are allowed", *params.Linger, maxLingerSeconds)
	}
	return time.Duration(*params.Linger) * time.Second, nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
