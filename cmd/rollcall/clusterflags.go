package main

import (
	"fmt"
	"net"
	"slices"
	"time"

	"rollcall/replication/port"
)

// clusterFlags are the flags of serve that make a node one of several.
type clusterFlags struct {
	ClusterAddr       string        `group:"Cluster:" placeholder:"HOST:PORT" help:"Address to listen on for other nodes. Without it the node runs by itself."`
	ClusterAdvertise  string        `group:"Cluster:" placeholder:"HOST:PORT" help:"Address that other nodes use for --cluster-addr, if it is another. It may change at a restart."`
	Advertise         string        `group:"Cluster:" placeholder:"HOST:PORT" help:"Address that clients use, for rollcall cluster to show. By default --addr, with the host of --cluster-advertise when --addr is all interfaces."`
	Join              []string      `group:"Cluster:" placeholder:"HOST:PORT" help:"Cluster address of a member, of which one must answer when the node joins for the first time. Without it the node begins a cluster. Can be repeated."`
	ClusterSecretFile string        `group:"Cluster:" placeholder:"FILE" help:"File with the secret that all nodes of the cluster have, 16 random characters or more: openssl rand -base64 32."`
	ClusterCert       string        `group:"Cluster:" placeholder:"FILE" help:"Certificate (PEM) of this node for other nodes. With it they talk TLS, and both sides must have one."`
	ClusterKey        string        `group:"Cluster:" placeholder:"FILE" help:"Private key (PEM) of --cluster-cert."`
	ClusterCA         string        `name:"cluster-ca" group:"Cluster:" placeholder:"FILE" help:"Certificates (PEM) of the authority that has signed those of all nodes."`
	DownAfter         time.Duration `group:"Cluster:" default:"10s" help:"Silence of a node after which its presences are hidden."`
	ForgetAfter       time.Duration `group:"Cluster:" default:"20m" help:"Silence of a node after which its presences are forgotten."`
}

const minDownAfter = 500 * time.Millisecond

// validate checks what no single flag can, and returns every mistake.
func (c *clusterFlags) validate() (errs []error) {
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.DownAfter >= minDownAfter, "--down-after is %v; it must be at least %v", c.DownAfter, minDownAfter)
	check(c.ForgetAfter > c.DownAfter, "--forget-after is %v; it must be longer than --down-after (%v)", c.ForgetAfter, c.DownAfter)
	errs = append(errs, c.validateAddresses()...)

	tls := c.ClusterCert != "" || c.ClusterKey != "" || c.ClusterCA != ""
	check(!tls || c.ClusterCert != "" && c.ClusterKey != "" && c.ClusterCA != "",
		"--cluster-cert, --cluster-key and --cluster-ca go together; one of them is missing")
	_, err := port.LoadCredentials(c.ClusterSecretFile, "", "", "") // the certificates are read when the node opens
	check(err == nil, "--cluster-secret-file: %w", err)
	check(c.ClusterAddr == "" || isLoopback(c.ClusterAddr) || c.ClusterSecretFile != "" || tls,
		"--cluster-addr %s can be reached from other machines: give all nodes the same secret with --cluster-secret-file, or certificates with "+
			"--cluster-cert, --cluster-key and --cluster-ca", c.ClusterAddr)
	return errs
}

func (c *clusterFlags) validateAddresses() (errs []error) {
	c.Join = slices.DeleteFunc(c.Join, func(member string) bool { return member == "" }) // of an empty variable in the environment
	check := func(flag, addr string, valid func(host, port string) bool, format string) {
		host, port, err := net.SplitHostPort(addr)
		if addr != "" && (err != nil || !valid(host, port)) {
			errs = append(errs, fmt.Errorf("--%s %s "+format, flag, addr))
		}
	}
	listened := func(_, port string) bool { return port != "" }
	dialled := func(host, port string) bool { return !isUnspecified(host) && port != "" && port != "0" }
	const notDialled = "is no address that others can connect to; write host:port"
	check("cluster-addr", c.ClusterAddr, listened, "is no address to listen on; write host:port")
	check("cluster-advertise", c.ClusterAdvertise, dialled, notDialled)
	check("advertise", c.Advertise, dialled, notDialled)
	for _, member := range c.Join {
		check("join", member, dialled, notDialled)
	}
	if host, _, err := net.SplitHostPort(c.ClusterAddr); err == nil && isUnspecified(host) && c.ClusterAdvertise == "" {
		errs = append(errs, fmt.Errorf("--cluster-addr %s is no address that other nodes can connect to; say with --cluster-advertise which one is",
			c.ClusterAddr))
	}
	for _, needs := range []struct {
		flag  string
		given bool
	}{
		{"join", len(c.Join) > 0}, {"cluster-advertise", c.ClusterAdvertise != ""}, {"cluster-secret-file", c.ClusterSecretFile != ""},
		{"cluster-cert", c.ClusterCert != ""},
	} {
		if needs.given && c.ClusterAddr == "" {
			errs = append(errs, fmt.Errorf("--%s needs --cluster-addr, the address to listen on for other nodes", needs.flag))
		}
	}
	return errs
}

// isUnspecified tells whether a host is that of all interfaces, or none.
func isUnspecified(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// isLoopback tells whether addr can only be reached from this machine. Of names it knows localhost.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// advertised returns the address to tell others: the one that was given, else the one that is listened on, with fallback as its host when
// that is all interfaces. It is "" when nothing says the host.
func advertised(given string, listening net.Addr, fallback string) string {
	if given != "" {
		return given
	}
	host, port, err := net.SplitHostPort(listening.String())
	if isUnspecified(host) {
		host = fallback
	}
	if err != nil || host == "" {
		return ""
	}
	return net.JoinHostPort(host, port)
}
