//go:build linux

// Package lab runs a cluster of real nodes, each on a host with a network of its own, and breaks the network between them.
//
// [NewNetwork] makes the hosts; [Network.Split], [Network.Cut], [Network.CutOneWay], [Network.Heal] and [Network.Impair] are what happens to it. [NewCluster] puts a
// node on each host; [Node.Kill], [Node.Pause] and [Node.Start] are what happens to those. A [Watcher] reads a node's stream as a client does, and
// [Cluster.AgreeWithin] waits until all nodes' lists and all watchers show the same, which must be what the test says.
//
// # The network
//
// A host is a network namespace without a name, with one interface, a TUN device, whose other end is this process. It takes each packet and drops it, passes it on, or keeps it for a
// while, by what the test wants of that pair of hosts in that direction. So a cut is a cable that swallows what is sent, one way or both, and loss and delay are real to TCP, on
// any kernel with TUN: netem, which would do that for veth pairs, is not in all of them. It costs some 10 µs each
// way, and the processor where hundreds of megabytes a second are sent. What belongs to a network is gone with this process, however it ends.
//
// A test talks to a node from within the node's own host, so its requests and streams are never cut.
//
// It needs Linux, root (CAP_NET_ADMIN, CAP_SYS_ADMIN), /dev/net/tun and the ip command of iproute2. Where it has not, it fails and says so.
package lab
