package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/labstack/echo/v4"

	"rollcall/api/stream"
	"rollcall/presence"
)

func TestEveryErrorHasItsProblem(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
		code   ProblemCode
		detail string
	}{
		{fmt.Errorf("heartbeat: %w", presence.ErrUnknownSession), 404, ProblemCodeUnknownSession,
			"The session was never made, has left, or its lease ran out. Track again."},
		{presence.ErrNotPresent, 404, ProblemCodeNotPresent, "The key is not present in the topic. Track it first."},
		{&presence.AlreadyTrackedError{Ref: "0Mz9kW---1h2Q-Fa"}, 409, ProblemCodeAlreadyTracked,
			"The session is already present in this topic under this key. PUT the presence to change its meta."},
		{&presence.InvalidError{Field: "ttl", Reason: "is 7200 seconds; 1 to 3600 are allowed"}, 422, ProblemCodeInvalidField,
			"ttl is 7200 seconds; 1 to 3600 are allowed."},
		{stream.ErrDraining, 503, ProblemCodeDraining, "This node is shutting down. Try again in a moment."},
		{fmt.Errorf("remove: %w", ErrUnknownNode), 404, ProblemCodeUnknownNode,
			"No member of the cluster has this id. GET /v1/cluster lists the members."},
		{ErrNoCluster, 409, ProblemCodeNoCluster, "This node runs by itself: there is no cluster to remove a node from."},
		{ErrNoQuorum, 503, ProblemCodeNoQuorum, "The cluster has no leader. Try again when most of its voters are up."},
		{presence.ErrUnavailable, 503, ProblemCodeUnavailable, "The node that this concerns did not answer. Try again in a moment."},
		{fmt.Errorf("track: %w", ErrUnavailable), 503, ProblemCodeUnavailable,
			"The node that this concerns did not answer. Try again in a moment."},
		{context.DeadlineExceeded, 503, ProblemCodeUnavailable, "The node that this concerns did not answer. Try again in a moment."},
		{&refusal{code: ProblemCodeBodyTooLarge, detail: "The body is larger than 5 bytes."}, 413, ProblemCodeBodyTooLarge,
			"The body is larger than 5 bytes."},
		{echo.ErrNotFound, 404, ProblemCodeNotFound,
			"There is nothing at this path. /docs lists what there is; a / inside a name is written %2F."},
		{echo.ErrMethodNotAllowed, 405, ProblemCodeMethodNotAllowed,
			"This path does not take this method. The Allow header lists those that it takes."},
		{echo.ErrTeapot, 500, ProblemCodeInternal, "Something went wrong on this node. Try again; its log has the cause."},
		{io.ErrUnexpectedEOF, 500, ProblemCodeInternal, "Something went wrong on this node. Try again; its log has the cause."},
	} {
		got := problemOf(test.err)
		if got.Status != test.status || got.Code != test.code || got.Detail != test.detail || got.Title != http.StatusText(test.status) {
			t.Errorf("problemOf(%v) = %+v, want %d %s %q", test.err, got, test.status, test.code, test.detail)
		}
	}
	if got := problemOf(&presence.AlreadyTrackedError{Ref: "0Mz9kW---1h2Q-Fa"}); got.Ref == nil || *got.Ref != "0Mz9kW---1h2Q-Fa" {
		t.Errorf("the ref of an already tracked presence = %v", got.Ref)
	}
}

func TestEveryCodeHasAStatus(t *testing.T) {
	for code, status := range statuses {
		if !code.Valid() {
			t.Errorf("%s is not in the contract", code)
		}
		if http.StatusText(status) == "" {
			t.Errorf("%s has the status %d", code, status)
		}
	}
}
