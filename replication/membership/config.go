package membership

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Config says who this node is and how it reaches the others.
type Config struct {
	ID          string // the node id; 1 to 64 of A-Za-z0-9_-
	ClusterAddr string // host:port at which the other members reach this node
	PublicAddr  string // for the list only
	Version     string // for the list only

	// Join has the cluster addresses of members, any of them. Without one, a node that has no members to know of founds a cluster. A node
	// that is a member uses them only to be found again. Its own address among them does not count.
	Join []string

	// Storage stays the caller's, to be closed after Close.
	Storage Storage
	// Streams are closed by Close.
	Streams Streams
	Client  Client

	// OnChange gets the new list after each change of a member, an address or a role, never two at a time. Optional.
	OnChange func([]Member)
	// OnRemoved is called, once, when the node has learnt that it was removed, and takes part no more. Optional.
	OnRemoved func()
	// Logger is slog.Default() by default. What raft says is at debug.
	Logger *slog.Logger

	// MaxVoters is how many members keep the quorum. Default 5.
	MaxVoters int
	// VoterTimeout is how long a voter does not answer before a non-voter that does takes its place. Default 30 s.
	VoterTimeout time.Duration
	// Interval is between two rounds of hellos, and between two attempts to join. Default 1 s.
	Interval time.Duration
	// ElectionTimeout is how long a member does not hear its leader before it wants another one. Default 1 s.
	ElectionTimeout time.Duration
	// CallTimeout is for one request to another node. Default 2 s.
	CallTimeout time.Duration
}

func (c *Config) setDefaults() {
	setDefault(&c.MaxVoters, 5)
	setDefault(&c.VoterTimeout, 30*time.Second)
	setDefault(&c.Interval, time.Second)
	setDefault(&c.ElectionTimeout, time.Second)
	setDefault(&c.CallTimeout, 2*time.Second)
	if c.OnChange == nil {
		c.OnChange = func([]Member) {}
	}
	if c.OnRemoved == nil {
		c.OnRemoved = func() {}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Join = slices.DeleteFunc(slices.Clone(c.Join), func(addr string) bool { return addr == c.ClusterAddr })
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) validate() error {
	errs := []error{c.self().validate()}
	for _, addr := range c.Join {
		errs = append(errs, validateAddr("address to join", addr))
	}
	if c.Storage == nil || c.Streams == nil || c.Client == nil {
		errs = append(errs, errors.New("Storage, Streams and Client are needed"))
	}
	if c.MaxVoters < 1 {
		errs = append(errs, fmt.Errorf("MaxVoters %d: want at least 1", c.MaxVoters))
	}
	for name, d := range map[string]time.Duration{"VoterTimeout": c.VoterTimeout, "Interval": c.Interval, "CallTimeout": c.CallTimeout} {
		if d <= 0 {
			errs = append(errs, fmt.Errorf("%s %v: want more than 0", name, d))
		}
	}
	if c.ElectionTimeout < 10*time.Millisecond {
		errs = append(errs, fmt.Errorf("ElectionTimeout %v: want at least 10ms", c.ElectionTimeout))
	}
	return errors.Join(errs...)
}

func (c *Config) self() record {
	return record{ID: c.ID, ClusterAddr: c.ClusterAddr, PublicAddr: c.PublicAddr, Version: c.Version}
}

// patience is how long there may be no leader until that is taken for a lost quorum, not for an election.
func (c *Config) patience() time.Duration { return 4 * c.ElectionTimeout }
