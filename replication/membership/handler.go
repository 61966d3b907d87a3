package membership

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

// Handler serves the requests of other nodes: POST below /cluster/v1/members. Whoever can reach it can change the list, so it belongs behind
// the cluster port's credentials.
func (m *Membership) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+helloPath, serve(m.config.CallTimeout, m.serveHello))
	mux.HandleFunc("POST "+joinPath, serve(m.config.CallTimeout, m.serveJoin))
	mux.HandleFunc("POST "+removePath, serve(m.config.CallTimeout, m.serveRemove))
	return mux
}

// serve decodes a request and encodes its answer or error. timeout is for reading the one and for writing the other.
func serve[Request any](timeout time.Duration, answer func(*http.Request, Request) (greeting, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		connection := http.NewResponseController(w) // that of a test has no deadlines
		_ = connection.SetReadDeadline(time.Now().Add(timeout))
		var request Request
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessageBytes))
		if err == nil {
			err = decode(body, &request)
		}
		_ = connection.SetReadDeadline(time.Time{})
		var g greeting
		if err != nil {
			err = fmt.Errorf("%w: %w", errBadRequest, err)
		} else {
			g, err = answer(r, request)
		}
		_ = connection.SetWriteDeadline(time.Now().Add(timeout))
		w.Header().Set("Content-Type", contentType)
		if err != nil {
			p, status := problemOf(err)
			w.WriteHeader(status)
			_, _ = w.Write(encode(p))
			return
		}
		_, _ = w.Write(encode(g))
	}
}

func (m *Membership) serveHello(_ *http.Request, g greeting) (greeting, error) {
	if m.ctx.Err() != nil {
		return greeting{}, m.ended()
	}
	if err := g.From.validate(); err != nil {
		return greeting{}, fmt.Errorf("%w: %w", errBadRequest, err)
	}
	if m.learn(g) {
		m.endRemoved()
		return greeting{}, ErrRemoved
	}
	return m.greeting(), nil
}

func (m *Membership) serveJoin(r *http.Request, j joining) (greeting, error) {
	if err := j.Member.validate(); err != nil {
		return greeting{}, fmt.Errorf("%w: %w", errBadRequest, err)
	}
	if j.Update && j.Cluster != m.cluster() {
		return greeting{}, errOtherCluster
	}
	return m.takeIn(r.Context(), j)
}

// serveRemove is for the leader. The member that was asked goes on looking for it.
func (m *Membership) serveRemove(r *http.Request, request removal) (greeting, error) {
	switch {
	case m.ctx.Err() != nil:
		return greeting{}, m.ended()
	case request.Cluster == "" || request.Cluster != m.cluster():
		return greeting{}, errOtherCluster
	case validateID(request.ID) != nil:
		return greeting{}, fmt.Errorf("%w: %w", errBadRequest, validateID(request.ID))
	case !m.leads():
		return greeting{}, errNotLeader
	}
	if err := m.strikeOff(r.Context(), request.ID); err != nil {
		return greeting{}, err
	}
	return m.greeting(), nil
}
