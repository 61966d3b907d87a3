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
	"rollcall/replication"
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

	ClusterAddr      string                                                            // to listen on for other nodes; "" is a node that runs by itself
	ClusterListener  net.Listener                                                      // used in place of ClusterAddr; the node closes it
	ClusterDial      func(ctx context.Context, network, addr string) (net.Conn, error) // to other nodes. Default: TCP
	ClusterAdvertise string                                                            // host:port by which other nodes reach ClusterAddr. Default: what is listened on
	Advertise        string                                                            // host:port by which clients reach Addr, for others to tell. Default: what is listened on, see advertised
	Join             []string                                                          // cluster addresses of members, of which one must answer when the node is no member yet
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
	c.JournalInterval = cmp.Or(c.JournalInterval, 100*time.Millisecond)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Node is a running rollcall.
type Node struct {
	config   NodeConfig
	tracker  *presence.Tracker
	journal  *journalist
	restored []uint64     // presences that the journal brought back, by shard
	cluster  *clusterNode // nil for a node that runs by itself
	hub      *stream.Hub
	api      *api.Server
	listener net.Listener
	http     *http.Server
	closers  []func() error // of what was opened, in that order

	failed   chan error    // why the node cannot go on
	served   chan struct{} // closed when serving has ended
	serveErr error         // why, if not by Shutdown; valid after served

	shutdown    sync.Once
	shutdownErr error
}

// OpenNode opens everything that a node is made of and starts to serve. After an error nothing is left open.
func OpenNode(config NodeConfig) (*Node, error) {
	config.setDefaults()
	n := &Node{config: config, listener: config.Listener, failed: make(chan error, 1), served: make(chan struct{})}
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
	if n.listener == nil {
		if n.listener, err = listen(c.Addr, c.InsecureOpen, c.WriteTimeout); err != nil {
			return err
		}
		n.closers = append(n.closers, ignoreClosed(n.listener.Close))
	}
	if c.ClusterAddr != "" || c.ClusterListener != nil {
		if err := n.openCluster(disk); err != nil {
			return err
		}
	}
	if n.cluster != nil {
		if err := n.raiseIncarnation(disk); err != nil {
			return err
		}
	}
	n.tracker, err = presence.Open(presence.Config{
		Replica:      crdt.Replica{Name: disk.NodeID(), Incarnation: disk.Incarnation()},
		DefaultTTL:   c.DefaultTTL,
		MinTTL:       c.MinTTL,
		MaxTTL:       c.MaxTTL,
		MaxMetaBytes: c.MaxMetaBytes,
	})
	if err != nil {
		return usageError{err}
	}
	n.closers = append(n.closers, closer(n.tracker.Close))
	n.journal, n.restored, err = openJournal(c.DataDir, n.tracker, c.JournalInterval, c.Logger)
	if err != nil {
		return err
	}
	n.closers = append(n.closers, n.journal.close)
	if n.cluster != nil {
		if err := n.replicate(); err != nil {
			return err
		}
	}
	if err := n.openAPI(); err != nil {
		return err
	}
	if n.cluster != nil {
		n.cluster.awaitSync()
	}
	c.Logger.Info("serving", "addr", n.listener.Addr().String(), "node", disk.NodeID(), "incarnation", disk.Incarnation(), "version", c.Version)
	return nil
}

// openCluster opens the cluster port and takes part in keeping the list of members.
func (n *Node) openCluster(disk *store.Store) error {
	log, err := disk.OpenRaftLog()
	if err != nil {
		return err
	}
	n.closers = append(n.closers, log.Close)
	cluster, err := openPort(&n.config)
	if err != nil {
		return err
	}
	n.closers = append(n.closers, cluster.port.Close)
	if err := cluster.takePart(&n.config, disk.NodeID(), n.publicAddr(), log); err != nil {
		return err
	}
	n.closers = append(n.closers, cluster.membership.Close)
	n.cluster = cluster
	return nil
}

// raiseIncarnation takes a higher incarnation if other members know one that is as high as this: then the data directory was set back to an earlier state.
func (n *Node) raiseIncarnation(disk *store.Store) error {
	var addrs []string
	for _, m := range n.cluster.membership.Members() {
		if m.ID != disk.NodeID() {
			addrs = append(addrs, m.ClusterAddr)
		}
	}
	self := crdt.Replica{Name: disk.NodeID(), Incarnation: disk.Incarnation()}
	known := replication.Greet(context.Background(), replication.Config{Client: n.cluster.port.Client(), Logger: n.config.Logger}, self, addrs)
	if known < self.Incarnation {
		return nil
	}
	n.config.Logger.Warn("other nodes know a later run of this node: its data directory was set back", "incarnation", self.Incarnation, "known", known)
	return disk.RaiseIncarnation(known)
}

// publicAddr is where clients reach the node, for others to tell.
func (n *Node) publicAddr() string {
	host, _, _ := net.SplitHostPort(cmp.Or(n.config.ClusterAdvertise, n.config.ClusterAddr))
	return advertised(n.config.Advertise, n.listener.Addr(), host)
}

// replicate begins to share presence with the other members.
func (n *Node) replicate() error {
	c := n.config
	var err error
	n.cluster.replicator, err = replication.Open(replication.Config{
		Tracker: n.tracker, Client: n.cluster.port.Client(), Restored: n.restored, Version: c.Version, PublicAddr: n.publicAddr(),
		DownAfter: c.DownAfter, ForgetAfter: c.ForgetAfter, Logger: c.Logger,
		Superseded: func(by crdt.Replica) {
			n.fail(fmt.Errorf("another rollcall runs, or has run, as node %s with incarnation %d, above this one's: is its data directory a copy? "+
				"Stop one of them, and start this one again", by.Name, by.Incarnation))
		},
	})
	if err != nil {
		return usageError{err}
	}
	n.closers = append(n.closers, closer(n.cluster.replicator.Close))
	n.cluster.serve()
	return nil
}

// openAPI makes what clients talk to.
func (n *Node) openAPI() (err error) {
	c := n.config
	n.hub, err = stream.Open(stream.Config{
		Tracker:      n.tracker,
		Window:       c.DiffWindow,
		KeepAlive:    c.KeepAlive,
		WriteTimeout: c.WriteTimeout,
		ResumeBytes:  c.ResumeBytes,
	})
	if err != nil {
		return usageError{err}
	}
	n.closers = append(n.closers, closer(n.hub.Close))
	config := api.Config{
		Tracker:      n.tracker,
		Hub:          n.hub,
		Logger:       c.Logger,
		AllowOrigins: c.AllowOrigins,
		MaxBodyBytes: c.MaxBodyBytes,
		MaxMetaBytes: c.MaxMetaBytes,
		Version:      c.Version,
		Ready:        n.ready,
		Collectors:   n.journal.collectors(),
	}
	if n.cluster != nil {
		config.Sessions, config.Cluster = n.cluster.replicator, n.cluster
	}
	if n.api, err = api.New(config); err != nil {
		return usageError{err}
	}
	n.http = &http.Server{
		Handler:           n.api,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // streams lift it for themselves
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    128 << 10, // 100 topics of 255 bytes, percent-encoded
		ErrorLog:          slog.NewLogLogger(c.Logger.Handler(), slog.LevelWarn),
	}
	return nil
}

// ready says why the node is not ready for traffic, if it is not.
func (n *Node) ready() error {
	err := n.journal.durable()
	if n.cluster != nil {
		err = errors.Join(n.cluster.ready(), err)
	}
	return err
}

// fail makes Wait return err: the node cannot go on.
func (n *Node) fail(err error) {
	select {
	case n.failed <- err:
	default: // one reason is enough
	}
}

// serve is the goroutine that accepts connections.
func (n *Node) serve() {
	defer close(n.served)
	ended := make(chan error, 1)
	go func() { ended <- n.http.Serve(n.listener) }()
	select {
	case err := <-ended:
		if !errors.Is(err, http.ErrServerClosed) {
			n.serveErr = fmt.Errorf("serving failed: %w", err)
		}
	case err := <-n.failed:
		n.serveErr = err
		_ = n.http.Close()
		<-ended
	}
}

// Addr is the address that the node listens on.
func (n *Node) Addr() net.Addr { return n.listener.Addr() }

// Wait returns when the node accepts no more connections: nil because of Shutdown, else why. Shutdown must be called in any case.
func (n *Node) Wait() error {
	<-n.served
	return n.serveErr
}

// Shutdown stops the node: it reports unready and refuses writes, hands its sessions to other nodes, ends the streams over the drain time, lets requests finish, and closes
// everything. When ctx ends, it waits no more for clients. Later calls return what the first did.
func (n *Node) Shutdown(ctx context.Context) error {
	n.shutdown.Do(func() { n.shutdownErr = n.stop(ctx) })
	return n.shutdownErr
}

func (n *Node) stop(ctx context.Context) error {
	n.api.SetDraining()
	n.tracker.Freeze() // whose stream is ended below is to be seen neither here nor elsewhere
	if n.cluster != nil {
		n.cluster.handOver(ctx, n.config.Logger)
	}
	n.journal.freeze()
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
	if n.cluster != nil {
		n.cluster.farewell()
	}
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
