package port

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

const (
	raftPath     = "/cluster/raft"
	raftProtocol = "rollcall-raft"
)

// Streams are raft's connections: a net.Listener for those that other nodes open, and Dial.
type Streams struct {
	*backlog
	port *Port
}

// Dial opens a stream to the node whose cluster port is at address. timeout is for everything until the other side has taken it; zero leaves it at
// Config.DialTimeout and Config.HandshakeTimeout.
func (s *Streams) Dial(address string, timeout time.Duration) (net.Conn, error) {
	if timeout <= 0 {
		timeout = s.port.config.DialTimeout + s.port.config.HandshakeTimeout
	}
	ctx, cancel := context.WithTimeout(s.port.ctx, timeout)
	defer cancel()
	conn, err := s.port.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	stream, err := upgrade(conn, address)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("dial %s: raft stream: %w", address, err)
	}
	return stream, nil
}

// upgrade asks the HTTP server at the other end to hand the connection to its raft.
func upgrade(conn net.Conn, address string) (net.Conn, error) {
	request, err := http.NewRequest(http.MethodGet, "http://"+address+raftPath, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", raftProtocol)
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get("Upgrade") != raftProtocol {
		return nil, fmt.Errorf("the other node answered %s", response.Status)
	}
	return &readAhead{conn, reader}, nil
}

// takeOver makes the connection of an upgrade request a stream.
func (s *Streams) takeOver(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != raftProtocol {
		w.Header().Set("Upgrade", raftProtocol)
		http.Error(w, "this path is for streams of "+raftProtocol, http.StatusUpgradeRequired)
		return
	}
	if s.closed() {
		http.Error(w, "raft is closed on this node", http.StatusServiceUnavailable)
		return
	}
	stream, err := s.hijack(w)
	if err != nil {
		s.port.config.Logger.Warn("a raft stream could not be taken over", "remote", r.RemoteAddr, "error", err)
		return
	}
	if !s.put(stream) {
		_ = stream.Close()
	}
}

func (s *Streams) hijack(w http.ResponseWriter) (net.Conn, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	_, writeErr := conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + raftProtocol + "\r\n\r\n"))
	if err := errors.Join(conn.SetDeadline(time.Time{}), writeErr); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &readAhead{conn, buffered.Reader}, nil
}

// readAhead is a connection of which some bytes may have been read already.
type readAhead struct {
	net.Conn
	reader *bufio.Reader
}

// Read reads what was read ahead first.
func (r *readAhead) Read(b []byte) (int, error) { return r.reader.Read(b) }
