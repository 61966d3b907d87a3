package membership

import (
	"errors"
	"net/http"
)

var (
	// ErrNoQuorum is returned by Remove, and answered to a node that joins, while the cluster has no leader because too few of its voters
	// reach each other. The list of members stays readable, and nothing else is affected.
	ErrNoQuorum = errors.New("no quorum")
	// ErrUnknownMember is returned by Remove for an id that is not in the list.
	ErrUnknownMember = errors.New("unknown member")
	// ErrLastMember is returned by Remove for the only member.
	ErrLastMember = errors.New("the only member of a cluster cannot be removed; stop the node instead")
	// ErrRemoved is returned by Open, unless there are addresses to join, and by Remove, when this node was removed from its cluster.
	ErrRemoved = errors.New("this node was removed from its cluster")
	// ErrCorrupt is returned by Open when what it reads from Storage is damaged.
	ErrCorrupt = errors.New("membership log damaged")
	// ErrOtherNode is returned by Open when Storage belongs to a node with another id.
	ErrOtherNode = errors.New("membership log of another node")
	// ErrClosed is returned by Remove after Close.
	ErrClosed = errors.New("membership closed")
)

// These are between nodes; a user meets their text in the log of a node that joins.
var (
	errBadRequest   = errors.New("bad request")
	errNotLeader    = errors.New("not the leader")
	errNotMember    = errors.New("that node is not a member itself yet")
	errOtherCluster = errors.New("that node is a member of another cluster")
	errUnreachable  = errors.New("the leader cannot reach this node")
)

// userError is one of the errors above with a sentence for the person at the node.
type userError struct {
	kind     error
	sentence string
	cause    error // nil if there is nothing to add
}

func (e *userError) Error() string { return e.sentence }

func (e *userError) Unwrap() []error {
	if e.cause == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.cause}
}

// codes is how errors travel between nodes. A code that a node does not know is a failure like any other.
var codes = []struct {
	err    error
	code   string
	status int
}{
	{ErrNoQuorum, "no_quorum", http.StatusServiceUnavailable},
	{ErrUnknownMember, "unknown_member", http.StatusNotFound},
	{ErrLastMember, "last_member", http.StatusConflict},
	{ErrRemoved, "removed", http.StatusGone},
	{ErrClosed, "closed", http.StatusServiceUnavailable},
	{errBadRequest, "bad_request", http.StatusBadRequest},
	{errNotLeader, "not_leader", http.StatusServiceUnavailable},
	{errNotMember, "not_member", http.StatusServiceUnavailable},
	{errOtherCluster, "other_cluster", http.StatusConflict},
	{errUnreachable, "unreachable", http.StatusUnprocessableEntity},
}

func problemOf(err error) (problem, int) {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return problem{Code: c.code, Message: err.Error()}, c.status
		}
	}
	return problem{Code: "failed", Message: err.Error()}, http.StatusInternalServerError
}

// err is problemOf reversed.
func (p problem) err() error {
	for _, c := range codes {
		if p.Code == c.code {
			return &userError{kind: c.err, sentence: p.Message}
		}
	}
	return errors.New(p.Message)
}
