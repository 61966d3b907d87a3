package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/labstack/echo/v4"

	"rollcall/api/stream"
	"rollcall/presence"
)

const mimeProblem = "application/problem+json"

// retryAfter is how many seconds a client waits after a 503. By then a balancer has noticed a node that drains, or the node is back, and a
// cluster has elected its next leader.
const retryAfter = "2"

// refusal is an error that a handler finds itself; others come from the tracker and the hub.
type refusal struct {
	code   ProblemCode
	field  string // with invalid_field and unknown_field
	detail string // a sentence that says what to do; repeats no session id
}

func (r *refusal) Error() string { return r.detail }

// invalid says why a field cannot be taken. The reason completes a sentence that begins with the field.
func invalid(field, reason string, args ...any) error {
	return &presence.InvalidError{Field: field, Reason: fmt.Sprintf(reason, args...)}
}

var statuses = map[ProblemCode]int{
	ProblemCodeMalformedUrl:         http.StatusBadRequest,
	ProblemCodeMalformedJson:        http.StatusBadRequest,
	ProblemCodeUnknownField:         http.StatusBadRequest,
	ProblemCodeNotFound:             http.StatusNotFound,
	ProblemCodeUnknownSession:       http.StatusNotFound,
	ProblemCodeNotPresent:           http.StatusNotFound,
	ProblemCodeMethodNotAllowed:     http.StatusMethodNotAllowed,
	ProblemCodeUnknownNode:          http.StatusNotFound,
	ProblemCodeAlreadyTracked:       http.StatusConflict,
	ProblemCodeNoCluster:            http.StatusConflict,
	ProblemCodeBodyTooLarge:         http.StatusRequestEntityTooLarge,
	ProblemCodeUnsupportedMediaType: http.StatusUnsupportedMediaType,
	ProblemCodeInvalidField:         http.StatusUnprocessableEntity,
	ProblemCodeInternal:             http.StatusInternalServerError,
	ProblemCodeDraining:             http.StatusServiceUnavailable,
	ProblemCodeUnavailable:          http.StatusServiceUnavailable,
	ProblemCodeNoQuorum:             http.StatusServiceUnavailable,
	ProblemCodeNotReady:             http.StatusServiceUnavailable,
}

// problemOf is the only place where an error meets HTTP.
func problemOf(err error) Problem {
	var (
		refused *refusal
		value   *presence.InvalidError
		tracked *presence.AlreadyTrackedError
		routed  *echo.HTTPError
	)
	switch {
	case errors.As(err, &refused):
		return newProblem(refused.code, refused.field, refused.detail)
	case errors.As(err, &value):
		return newProblem(ProblemCodeInvalidField, value.Field, value.Error()+".")
	case errors.As(err, &tracked):
		problem := newProblem(ProblemCodeAlreadyTracked, "",
			"The session is already present in this topic under this key. PUT the presence to change its meta.")
		problem.Ref = new(string(tracked.Ref))
		return problem
	case errors.Is(err, presence.ErrUnknownSession):
		return newProblem(ProblemCodeUnknownSession, "", "The session was never made, has left, or its lease ran out. Track again.")
	case errors.Is(err, presence.ErrNotPresent):
		return newProblem(ProblemCodeNotPresent, "", "The key is not present in the topic. Track it first.")
	case errors.Is(err, stream.ErrDraining):
		return newProblem(ProblemCodeDraining, "", "This node is shutting down. Try again in a moment.")
	case errors.Is(err, ErrUnknownNode):
		return newProblem(ProblemCodeUnknownNode, "", "No member of the cluster has this id. GET /v1/cluster lists the members.")
	case errors.Is(err, ErrNoCluster):
		return newProblem(ProblemCodeNoCluster, "", "This node runs by itself: there is no cluster to remove a node from.")
	case errors.Is(err, ErrNoQuorum):
		return newProblem(ProblemCodeNoQuorum, "", "The cluster has no leader. Try again when most of its voters are up.")
	case errors.Is(err, ErrUnavailable), errors.Is(err, presence.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return newProblem(ProblemCodeUnavailable, "", "The node that this concerns did not answer. Try again in a moment.")
	case errors.As(err, &routed):
		return routingProblem(routed)
	default: // writeProblem logs it; the client needs only to know that it may try again
		return newProblem(ProblemCodeInternal, "", "Something went wrong on this node. Try again; its log has the cause.")
	}
}

// routingProblem is for the errors of Echo's router and of the generated wrapper.
func routingProblem(err *echo.HTTPError) Problem {
	switch err.Code {
	case http.StatusNotFound:
		return newProblem(ProblemCodeNotFound, "", "There is nothing at this path. /docs lists what there is; a / inside a name is written %2F.")
	case http.StatusMethodNotAllowed:
		return newProblem(ProblemCodeMethodNotAllowed, "", "This path does not take this method. The Allow header lists those that it takes.")
	case http.StatusBadRequest:
		return paramProblem(fmt.Sprint(err.Message))
	default:
		return newProblem(ProblemCodeInternal, "", "Something went wrong on this node. Try again; its log has the cause.")
	}
}

var paramMessage = regexp.MustCompile(`^(?:Invalid format for parameter|Expected one value for) ([\w-]+)`)

// paramProblem makes a problem of the generated wrapper's message about a parameter. The message itself is not passed on, since it may
// repeat a session id.
func paramProblem(message string) Problem {
	match := paramMessage.FindStringSubmatch(message)
	if match == nil {
		return newProblem(ProblemCodeMalformedUrl, "", "The URL is not valid.")
	}
	field, reason := match[1], "must be a whole number"
	switch {
	case strings.Contains(message, "unescaping"):
		return newProblem(ProblemCodeMalformedUrl, "", "The path is not valid: percent-encode each name (a % is %25, a / is %2F).")
	case strings.Contains(message, "is required"):
		reason = "must be given in the query string"
	case strings.Contains(message, "multiple values"), strings.HasPrefix(message, "Expected one value"):
		reason = "must be given only once"
	case strings.Contains(message, "is empty"):
		reason = "must not be empty"
	}
	return newProblem(ProblemCodeInvalidField, field, field+" "+reason+".")
}

func newProblem(code ProblemCode, field, detail string) Problem {
	status := statuses[code]
	problem := Problem{Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
	if field != "" {
		problem.Field = &field
	}
	return problem
}

// writeProblem is Echo's error handler. It logs what is the node's own fault, once, and answers unless an answer has begun.
func (h *handlers) writeProblem(err error, c echo.Context) {
	problem := problemOf(err)
	if problem.Code == ProblemCodeInternal {
		h.logFailure(err, c)
	}
	if c.Response().Committed {
		return
	}
	if problem.Status == http.StatusServiceUnavailable {
		c.Response().Header().Set("Retry-After", retryAfter)
	}
	problem.RequestId = new(requestID(c))
	c.Response().Header().Set(echo.HeaderContentType, mimeProblem)
	_ = writeJSON(c, problem.Status, problem) // the client is gone
}

func (h *handlers) logFailure(err error, c echo.Context) {
	attrs := []any{"err", err, "method", c.Request().Method, "route", c.Path(), "request_id", requestID(c)}
	if p, ok := errors.AsType[*panicError](err); ok {
		attrs = append(attrs, "stack", string(p.stack))
	}
	h.config.Logger.Error("request failed", attrs...)
}
