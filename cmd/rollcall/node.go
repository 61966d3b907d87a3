package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"rollcall/api"
	"rollcall/api/stream"
	"rollcall/presence"
	"rollcall/presence/crdt"
	"rollcall/store"
)

// shutdownGrace is how long requests that are being answered may take when the node stops.
const shutdownGrace = 2 * time.Second

// NodeConfig configures a [Node]. Only DataDir must be set; other zero values are the defaults of rollcall serve, except that without
// Addr and Listener the node takes a free port on 127.0.0.1.
type NodeConfig struct {
	Addr         string       // to listen on
	Listener     net.Listener // used in place of Addr; the node closes it
	InsecureOpen bool         // Addr need not be loopback
	AllowOrigins []string
	MaxBodyBytes int64

	DataDir         string
	JournalInterval time.Duration // between two writes of the journal, and so the most that a crash loses. Default 100 ms

	ClusterAddr      string   // to listen on for other nodes; "" is a node that runs by itself
	ClusterAdvertise string   // host:port by which other nodes reach ClusterAddr. Default: what is listened on
	Advertise        string   // host:port by which clients reach Addr, for others to tell. Default: what is listened on, see advertised
	Join             []string // cluster addresses of members, of which one must answer when the node is no member yet
	// What the nodes know each other by: a file with the secret that all have, or PEM files for TLS on both sides, or both.
	ClusterSecretFile                  string
	ClusterCert, ClusterKey, ClusterCA string
	DownAfter                          time.Duration // silence of a node after which its presences are hidden. Default 10 s
	ForgetAfter                        time.Duration // silence of a node after which they are forgotten. Default 20 min

	DefaultTTL, MinTTL, MaxTTL time.Duration
	MaxMetaBytes               int

	DiffWindow   time.Duration // negative: each change by itself
	KeepAlive    time.Duration
	WriteTimeout time.Duration
	ResumeBytes  int64

	Drain   time.Duration // time over which Shutdown ends the streams
	Logger  *slog.Logger  // default: none
	Version string        // of the program, for the metrics
}

func (c *NodeConfig) setDefaults() {
	c.Addr = cmp.Or(c.Addr, "127.0.0.1:0")
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 10*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Node is a running rollcall.
type Node struct {
	config   NodeConfig
	api      *api.Server
	hub      *stream.Hub
	listener net.Listener
	http     *http.Server
	closers  []func() error // of what was opened, in that order

	served   chan struct{} // closed when serving has ended
	serveErr error         // why, if not by Shutdown; valid after served

	shutdown    sync.Once
	shutdownErr error
}

// OpenNode opens everything that a node is made of and starts to serve. After an error nothing is left open.
func OpenNode(config NodeConfig) (*Node, error) {
	config.setDefaults()
	n := &Node{config: config, listener: config.Listener, served: make(chan struct{})}
	if n.listener != nil {
		n.closers = append(n.closers, ignoreClosed(n.listener.Close))
	}
	if err := n.open(); err != nil {
		return nil, errors.Join(err, n.close())
	}
	go n.serve()
	return n, nil
}

func (n *Node) open() error {
	c := n.config
	disk, err := store.Open(c.DataDir)
	if err != nil {
		return err
	}
	n.closers = append(n.closers, disk.Close)

	tracker, err := presence.Open(presence.Config{
		Replica:      crdt.Replica{Name: disk.NodeID(), Incarnation: disk.Incarnation()},
		DefaultTTL:   c.DefaultTTL,
		MinTTL:       c.MinTTL,
		MaxTTL:       c.MaxTTL,
		MaxMetaBytes: c.MaxMetaBytes,
	})
	if err != nil {
		return usageError{err}
	}
	n.closers = append(n.closers, closer(tracker.Close))

	n.hub, err = stream.Open(stream.Config{
		Tracker:      tracker,
		Window:       c.DiffWindow,
		KeepAlive:    c.KeepAlive,
		WriteTimeout: c.WriteTimeout,
		ResumeBytes:  c.ResumeBytes,
	})
	if err != nil {
		return usageError{err}
	}
	n.closers = append(n.closers, closer(n.hub.Close))

	n.api, err = api.New(api.Config{
		Tracker:      tracker,
		Hub:          n.hub,
		Logger:       c.Logger,
		AllowOrigins: c.AllowOrigins,
		MaxBodyBytes: c.MaxBodyBytes,
		MaxMetaBytes: c.MaxMetaBytes,
		Version:      c.Version,
	})
	if err != nil {
		return usageError{err}
	}
	if n.listener == nil {
		if n.listener, err = listen(c.Addr, c.InsecureOpen, c.WriteTimeout); err != nil {
			return err
		}
		n.closers = append(n.closers, ignoreClosed(n.listener.Close))
	}
	n.http = &http.Server{
		Handler:           n.api,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // streams lift it for themselves
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    128 << 10, // 100 topics of 255 bytes, percent-encoded
		ErrorLog:          slog.NewLogLogger(c.Logger.Handler(), slog.LevelWarn),
	}
	c.Logger.Info("serving", "addr", n.listener.Addr().String(), "node", disk.NodeID(), "incarnation", disk.Incarnation(), "version", c.Version)
	return nil
}

// serve is the goroutine that accepts connections.
func (n *Node) serve() {
	defer close(n.served)
	if err := n.http.Serve(n.listener); !errors.Is(err, http.ErrServerClosed) {
		n.serveErr = fmt.Errorf("serving failed: %w", err)
	}
}

// Addr is the address that the node listens on.
func (n *Node) Addr() net.Addr { return n.listener.Addr() }

// Wait returns when the node accepts no more connections: nil because of Shutdown, else why. Shutdown must be called in any case.
func (n *Node) Wait() error {
	<-n.served
	return n.serveErr
}

// Shutdown stops the node: it reports unready and refuses writes, ends the streams over the drain time, lets requests finish, and closes
// everything. When ctx ends, it waits no more for clients. Later calls return what the first did.
func (n *Node) Shutdown(ctx context.Context) error {
	n.shutdown.Do(func() { n.shutdownErr = n.stop(ctx) })
	return n.shutdownErr
}

func (n *Node) stop(ctx context.Context) error {
	n.api.SetDraining()
	// A stream that is due may be within a write, which the write timeout ends.
	ctx, cancel := context.WithTimeout(ctx, n.config.Drain+n.config.WriteTimeout)
	defer cancel()
	drained := n.hub.Drain(ctx, n.config.Drain)

	ctx, cancel = context.WithTimeout(ctx, shutdownGrace)
	defer cancel()
	if err := n.http.Shutdown(ctx); err != nil || drained != nil {
		_ = n.http.Close() // what is still open belongs to clients that do not read
	}
	<-n.served
	return n.close()
}

// close closes what was opened, the last first.
func (n *Node) close() error {
	var errs []error
	for _, closeOne := range slices.Backward(n.closers) {
		errs = append(errs, closeOne())
	}
	return errors.Join(errs...)
}

func closer(closeOne func()) func() error {
	return func() error { closeOne(); return nil }
}

// ignoreClosed is closeOne for a listener that the http.Server may have closed before.
func ignoreClosed(closeOne func() error) func() error {
	return func() error {
		if err := closeOne(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}
