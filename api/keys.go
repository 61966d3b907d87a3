package api

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"rollcall/presence"
)

const maxQueryKeys = 1_000

// WhereIs answers with every topic that a key is in.
func (h *handlers) WhereIs(c echo.Context, key Key) error {
	k, err := presence.ParseKey(key)
	if err != nil {
		return err
	}
	places := h.config.Tracker.WhereIs(k)
	topics := make(map[presence.Topic]json.RawMessage, len(places))
	for _, place := range places {
		topics[place.Topic] = place.Metas.AppendJSON(nil)
	}
	return writeJSON(c, http.StatusOK, struct { // Whereabouts, with the metas as the tracker encodes them
		Online bool                               `json:"online"`
		Topics map[presence.Topic]json.RawMessage `json:"topics"`
	}{len(topics) > 0, topics})
}

// WhoIsOnline answers for many keys where they are.
func (h *handlers) WhoIsOnline(c echo.Context) error {
	body, err := decode[KeysQuery](h, c)
	if err != nil {
		return err
	}
	if err := checkCount("keys", len(body.Keys), maxQueryKeys); err != nil {
		return err
	}
	online := make(KeysOnline, len(body.Keys))
	for i, s := range body.Keys {
		key, err := presence.ParseKey(s)
		if err != nil {
			return invalidElement("keys", i, err)
		}
		online[s] = h.whereIsBriefly(key)
	}
	return writeJSON(c, http.StatusOK, online)
}

func (h *handlers) whereIsBriefly(key presence.Key) KeyOnline {
	topics := h.config.Tracker.TopicsOf(key)
	names := make([]Name, 0, len(topics))
	for _, topic := range topics {
		names = append(names, string(topic))
	}
	return KeyOnline{Online: len(names) > 0, Topics: names}
}

func checkCount(field string, count, most int) error {
	if count > most {
		return invalid(field, "has %d entries; at most %d are allowed", count, most)
	}
	return nil
}

// invalidElement says which entry of an array is wrong.
func invalidElement(field string, index int, err error) error {
	reason := err.Error()
	if value, ok := err.(*presence.InvalidError); ok {
		reason = value.Reason
	}
	return &refusal{code: ProblemCodeInvalidField, field: field, detail: fmt.Sprintf("%s[%d] %s.", field, index, reason)}
}
