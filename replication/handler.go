package replication

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Handler serves other nodes' requests. Whoever can reach it is trusted to be a node; what is no member is refused.
func (r *Replicator) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathExchange, r.serveExchange)
	mux.HandleFunc("POST "+pathRepair, r.serveRepair)
	mux.HandleFunc("POST "+pathPush, r.servePush)
	mux.HandleFunc("POST "+pathOps, r.serveOps)
	return mux
}

func (r *Replicator) serveExchange(w http.ResponseWriter, request *http.Request) {
	message, ok := r.readMessage(w, request)
	if !ok {
		return
	}
	theirs, err := unmarshalDigests(message)
	if err != nil {
		r.refuse(w, request, err)
		return
	}
	if !r.admit(w, request, theirs.From.Name) {
		return
	}
	r.receive(theirs.Beats)
	out := patientWriter(w)
	answer, _ := r.asking()
	if err := sendStream(out, answer, r.repair(theirs)); err != nil {
		r.logger.Debug("an exchange broke off", "node", theirs.From.Name, "err", err)
	}
}

func (r *Replicator) serveRepair(w http.ResponseWriter, request *http.Request) {
	control := http.NewResponseController(w)
	progress := func() { _ = control.SetReadDeadline(time.Now().Add(patience)) }
	progress()
	received := func() {}
	defer func() { received() }()
	err := receiveStream(request.Body,
		func(d Digests) error {
			if r.address(d.From.Name) == "" {
				return &notMemberError{d.From.Name}
			}
			r.receive(d.Beats)
			received = r.receiving()
			return nil
		},
		func(part Part) {
			progress()
			r.merge(part)
		})
	if err != nil {
		r.refuse(w, request, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *Replicator) servePush(w http.ResponseWriter, request *http.Request) {
	message, ok := r.readMessage(w, request)
	if !ok {
		return
	}
	push, err := unmarshalPush(message)
	if err != nil {
		r.refuse(w, request, err)
		return
	}
	if !r.admit(w, request, push.From.Name) {
		return
	}
	for _, part := range push.Parts {
		r.merge(part)
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *Replicator) serveOps(w http.ResponseWriter, request *http.Request) {
	message, ok := r.readMessage(w, request)
	if !ok {
		return
	}
	ops, err := unmarshalOps(message)
	if err != nil {
		r.refuse(w, request, err)
		return
	}
	if !r.admit(w, request, ops.From.Name) {
		return
	}
	results := make([]OpResult, len(ops.Ops))
	for i, op := range ops.Ops {
		results[i] = r.doOp(ops.From, op)
	}
	answer, err := marshalResults(results)
	if err != nil {
		r.logger.Error("the results of operations cannot be encoded", "node", ops.From.Name, "err", err)
		http.Error(w, "the results cannot be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", mimeMessages)
	_, _ = w.Write(answer) // the other is gone
}

// readMessage reads a request's body, which is one message.
func (r *Replicator) readMessage(w http.ResponseWriter, request *http.Request) (message []byte, ok bool) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(patience))
	message, err := io.ReadAll(http.MaxBytesReader(w, request.Body, maxMessage))
	if err != nil {
		r.refuse(w, request, err)
		return nil, false
	}
	return message, true
}

// admit refuses what does not come from a member.
func (r *Replicator) admit(w http.ResponseWriter, request *http.Request, node string) bool {
	if r.address(node) != "" {
		return true
	}
	r.refuse(w, request, &notMemberError{node})
	return false
}

// notMemberError is the answer to a node that is not in the list of members.
type notMemberError struct{ node string }

func (e *notMemberError) Error() string {
	return fmt.Sprintf("node %s is no member of this cluster: it was removed, or has not joined yet; start it with --join", e.node)
}

func (r *Replicator) refuse(w http.ResponseWriter, request *http.Request, err error) {
	status := http.StatusBadRequest
	if _, ok := errors.AsType[*notMemberError](err); ok {
		status = http.StatusForbidden
	}
	r.logger.Debug("a request of another node was refused", "path", request.URL.Path, "status", status, "err", err)
	http.Error(w, err.Error(), status)
}

// patientWriter is w, on which each write may take as long as patience.
func patientWriter(w http.ResponseWriter) io.Writer {
	return &deadlineWriter{w: w, control: http.NewResponseController(w)}
}

type deadlineWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (d *deadlineWriter) Write(p []byte) (int, error) {
	_ = d.control.SetWriteDeadline(time.Now().Add(patience))
	n, err := d.w.Write(p)
	if err == nil {
		err = d.control.Flush()
	}
	return n, err
}
