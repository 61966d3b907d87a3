package port

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	maxStrangers   = 256      // connections whose handshake is not done
	maxHeaderBytes = 16 << 10 // of a request
	headerTimeout  = 10 * time.Second
	// The side that sends requests gives an idle connection up first, so that none is sent into a connection that is being closed.
	clientIdleTimeout = 30 * time.Second
	serverIdleTimeout = 2 * time.Minute
)

// Config configures a [Port]. Addr or Listener must be set.
type Config struct {
	Addr        string       // to listen on, host:port
	Listener    net.Listener // used in place of Addr; the port closes it
	Credentials *Credentials // default: none, so whoever reaches the port is a member

	// Handler gets the requests under /cluster/, except those for raft's streams. It sets the deadlines it needs by http.ResponseController: there are none
	// after the header. Default: 404.
	Handler http.Handler

	// Dial opens a connection to another node's port. Default: TCP that notices dead peers, see DeadAfter.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	DialTimeout      time.Duration // of Dial. Default 1 s
	HandshakeTimeout time.Duration // of a connection, on either side, after which it must be a member's. Default 5 s
	DeadAfter        time.Duration // how long the other side may not acknowledge before a TCP connection is given up. Default 5 s
	Logger           *slog.Logger  // default: none
}

func (c *Config) setDefaults() {
	c.DialTimeout = cmp.Or(c.DialTimeout, time.Second)
	c.HandshakeTimeout = cmp.Or(c.HandshakeTimeout, 5*time.Second)
	c.DeadAfter = cmp.Or(c.DeadAfter, 5*time.Second)
	if c.Credentials == nil {
		c.Credentials = &Credentials{kind: "none"}
	}
	if c.Handler == nil {
		c.Handler = http.NotFoundHandler()
	}
	if c.Dial == nil {
		c.Dial = dialer(c.DeadAfter).DialContext
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

func (c *Config) validate() error {
	var errs []error
	if c.Addr == "" && c.Listener == nil {
		errs = append(errs, errors.New("neither Addr nor Listener is set"))
	}
	for name, d := range map[string]time.Duration{"DialTimeout": c.DialTimeout, "HandshakeTimeout": c.HandshakeTimeout, "DeadAfter": c.DeadAfter} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s is negative", name))
		}
	}
	return errors.Join(errs...)
}

// Port is an open cluster port.
type Port struct {
	config   Config
	listener net.Listener
	server   *http.Server
	members  *backlog // connections for server
	streams  *Streams
	client   *http.Client
	refusals refusals

	ctx    context.Context // of everything; done when the port closes
	cancel context.CancelFunc
	wg     sync.WaitGroup // every goroutine and handler
	once   sync.Once

	mu        sync.Mutex
	closed    bool
	conns     map[*conn]struct{} // all there are, both ways
	strangers *list.List         // of *conn, the oldest first
}

// Open listens. The returned port must be closed.
func Open(config Config) (*Port, error) {
	config.setDefaults()
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("cluster port: config: %w", err)
	}
	p := &Port{config: config, listener: config.Listener, conns: map[*conn]struct{}{}, strangers: list.New()}
	if p.listener == nil {
		var err error
		if p.listener, err = listen(config.Addr, config.DeadAfter); err != nil {
			return nil, fmt.Errorf("cluster port: cannot listen on %s: %w", config.Addr, err)
		}
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.members = newBacklog(p.listener.Addr())
	p.streams = &Streams{backlog: newBacklog(p.listener.Addr()), port: p}
	p.client = p.newClient()
	p.server = &http.Server{
		Handler:           http.HandlerFunc(p.serveHTTP),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       serverIdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return p.ctx },
		ErrorLog:          slog.NewLogLogger(config.Logger.Handler(), slog.LevelWarn),
	}
	p.wg.Go(p.accept)
	p.wg.Go(func() { _ = p.server.Serve(p.members) }) // until members is closed
	return p, nil
}

// Addr is the address that the port listens on.
func (p *Port) Addr() net.Addr { return p.listener.Addr() }

// Raft returns raft's streams. It is always the same value.
func (p *Port) Raft() *Streams { return p.streams }

// Client returns the client for requests to other nodes' ports: http://host:port/cluster/…, encrypted below where there are credentials. It
// has no timeout for a request as a whole; that is the context's. It is always the same value.
func (p *Port) Client() *http.Client { return p.client }

// Close ends all connections of the port, also those that were taken over or dialled, and waits for the handlers. It must not be called by one.
func (p *Port) Close() error {
	p.once.Do(p.close)
	return nil
}

func (p *Port) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	_ = p.listener.Close()
	_ = p.members.Close()
	_ = p.streams.Close()
	// First the connections below TLS: closing TLS would wait for peers that do not read.
	for _, c := range p.open() {
		_ = c.Close()
	}
	_ = p.server.Close()
	p.client.CloseIdleConnections()
	p.wg.Wait()
}

func (p *Port) open() []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*conn
	for c := range p.conns {
		all = append(all, c)
	}
	return all
}

// begin counts a goroutine or handler that Close will wait for, unless the port is closed. Each that began calls wg.Done.
func (p *Port) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.wg.Add(1)
	}
	return !p.closed
}

// accept is the goroutine that takes connections from the listener.
func (p *Port) accept() {
	const first, longest = 5 * time.Millisecond, time.Second
	wait := first
	for {
		raw, err := p.listener.Accept()
		switch {
		case p.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			if raw != nil {
				_ = raw.Close()
			}
			return
		case err != nil: // such as too many open files
			p.config.Logger.Error("the cluster port accepts no connection for a moment", "error", err, "wait", wait)
			if !sleep(p.ctx, wait) {
				return
			}
			wait = min(2*wait, longest)
			continue
		}
		wait = first
		if p.begin() {
			go p.receive(raw)
		} else {
			_ = raw.Close()
		}
	}
}

// receive is a stranger's goroutine: it makes it a member, or ends it.
func (p *Port) receive(raw net.Conn) {
	defer p.wg.Done()
	c, err := p.keep(raw)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, p.config.HandshakeTimeout)
	defer cancel()
	admitted := p.queue(c)
	secured, err := p.config.Credentials.secure(ctx, c, listener, p.warn)
	admitted()
	if err != nil {
		if p.ctx.Err() == nil {
			p.refusals.log(p.config.Logger, raw.RemoteAddr(), err)
		}
		return
	}
	if !p.members.put(secured) {
		_ = c.Close()
	}
}

// queue counts c among the strangers until the returned function is called. The oldest must go for it if there are too many.
func (p *Port) queue(c *conn) (admitted func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.strangers.Len() >= maxStrangers {
		oldest := p.strangers.Remove(p.strangers.Front()).(*conn)
		_ = oldest.Conn.Close() // its own goroutine does the rest
	}
	place := p.strangers.PushBack(c)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.strangers.Remove(place) // nothing if it was removed
	}
}

// serveHTTP is the handler of members' requests.
func (p *Port) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if !p.begin() {
		return
	}
	defer p.wg.Done()
	switch {
	case r.URL.Path == raftPath:
		p.streams.takeOver(w, r)
	case strings.HasPrefix(r.URL.Path, "/cluster/"):
		p.config.Handler.ServeHTTP(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (p *Port) warn(err error) {
	p.config.Logger.Warn("the new certificate files of the cluster are not used", "error", err)
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
