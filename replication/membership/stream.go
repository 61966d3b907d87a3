package membership

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Streams are raft's connections over the cluster port.
type Streams interface {
	net.Listener
	Dial(address string, timeout time.Duration) (net.Conn, error)
}

const (
	preambleWord     = "rollcall-raft/1"
	maxPreambleBytes = 256
)

// streams has raft know nodes by their ids alone: the address of a server is its id, and is looked up when it is dialled. Each
// connection begins with a line that says who is meant, because an address may by now be another node's, and raft would take
// that node's word for the other one's.
type streams struct {
	inner   Streams
	self    string
	timeout time.Duration                  // to say or hear the first line
	addr    func(id string) (string, bool) // where a member is
	cluster func() string                  // "": talk to nobody

	mu      sync.Mutex
	severed bool
	conns   map[net.Conn]struct{}
}

// Accept is raft.StreamLayer's.
func (s *streams) Accept() (net.Conn, error) {
	conn, err := s.inner.Accept()
	if err != nil {
		return nil, err
	}
	c, err := s.keep(conn)
	if err != nil {
		return nil, err
	}
	c.accepted = true
	return c, nil
}

// Dial is raft.StreamLayer's.
func (s *streams) Dial(id raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	addr, known := s.addr(string(id))
	cluster := s.cluster()
	if !known || cluster == "" {
		return nil, fmt.Errorf("dial %s: no address is known", id)
	}
	conn, err := s.inner.Dial(addr, timeout)
	if err != nil {
		return nil, err
	}
	c, err := s.keep(conn)
	if err != nil {
		return nil, err
	}
	_ = c.SetWriteDeadline(time.Now().Add(s.timeout))
	if _, err := fmt.Fprintf(conn, "%s %s %s\n", preambleWord, cluster, id); err != nil {
		_ = c.Close()
		return nil, err
	}
	_ = c.SetWriteDeadline(time.Time{})
	return c, nil
}

func (s *streams) keep(conn net.Conn) (*stream, error) {
	c := &stream{Conn: conn, streams: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.severed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	s.conns[c] = struct{}{}
	return c, nil
}

// Close is raft.StreamLayer's.
func (s *streams) Close() error { return s.inner.Close() }

// Addr is raft.StreamLayer's.
func (s *streams) Addr() net.Addr { return serverAddr(s.self) }

// sever ends all connections, which raft's transport leaves open when it is closed.
func (s *streams) sever() {
	_ = s.inner.Close()
	s.mu.Lock()
	s.severed = true
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	for conn := range conns {
		_ = conn.Close()
	}
}

// serverAddr is the id of a node as raft's address of it.
type serverAddr string

func (serverAddr) Network() string  { return "raft" }
func (a serverAddr) String() string { return string(a) }

// stream is a connection that streams knows of.
type stream struct {
	net.Conn
	streams  *streams
	accepted bool // and its first line has not been read
}

// Read first makes sure that an accepted connection is for this node. It is here, not in Accept, so that a slow one holds up nobody.
func (c *stream) Read(p []byte) (int, error) {
	if c.accepted {
		if err := c.readPreamble(); err != nil {
			return 0, err
		}
		c.accepted = false
	}
	return c.Conn.Read(p)
}

func (c *stream) readPreamble() error {
	_ = c.SetReadDeadline(time.Now().Add(c.streams.timeout))
	var line []byte
	for one := make([]byte, 1); len(line) == 0 || line[len(line)-1] != '\n'; line = append(line, one[0]) {
		if len(line) == maxPreambleBytes {
			return errors.New("no raft stream of rollcall")
		}
		if _, err := c.Conn.Read(one); err != nil {
			return err
		}
	}
	words := strings.Fields(string(line))
	if len(words) < 3 || words[0] != preambleWord { // more words are a later version's
		return errors.New("no raft stream of rollcall")
	}
	if cluster := c.streams.cluster(); words[1] != cluster || words[2] != c.streams.self {
		return fmt.Errorf("a stream for %s of cluster %s, and this is %s of %q", words[2], words[1], c.streams.self, cluster)
	}
	return c.SetReadDeadline(time.Time{})
}

func (c *stream) Close() error {
	c.streams.mu.Lock()
	delete(c.streams.conns, c)
	c.streams.mu.Unlock()
	return c.Conn.Close()
}
