// Package port is the cluster port: the one TCP listener of a node for the other nodes, and its way to theirs.
//
// [LoadCredentials] reads the secret or the certificates, and [Open] listens. Requests under /cluster/ go to Config.Handler,
// [Port.Client] sends them to other nodes, and [Port.Raft] accepts and dials raft's streams. Whoever does not know the credentials reaches none of these.
//
// # Flow
//
// A connection that arrives is a stranger until its handshake is done: TLS 1.3, in which each side checks the other's certificate, then one greeting each way. Only then is
// it given to the HTTP server, so no stranger's byte meets the HTTP parser. Strangers have [Config.HandshakeTimeout], and there may be no more than
// maxStrangers of them; one more costs the oldest its place, so that one who opens connections and is silent does not lock members out. A connection
// that asks for "Upgrade: rollcall-raft" is taken from the HTTP server and handed to raft. Dialling is the same from the other side, so [Port.Client] takes
// http:// addresses whatever the credentials: the connection below is what is encrypted.
//
// # Credentials
//
// With a secret alone, each node derives the same certificate authority from it (HKDF, ed25519), makes itself a key and a certificate of that
// authority when it starts, and keeps them in memory only. That a certificate is the authority's is checked by its signature and nothing else: there is no
// time in it, so nodes whose clocks are wrong can talk.
//
// With certificate files, each side's certificate must be of the given authority, be valid at this time and be for servers and for clients. Names in it
// are not checked, because nodes change their addresses: the authority should be the cluster's own. Changed files are read again at the next connection; the ones
// there are stay. With files and a secret, both are needed: the greeting proves the secret.
//
// A greeting is an HMAC of a value that only the two ends of this TLS connection share, under a key derived from the secret, so it is of no use on another
// connection, and whoever listens with a certificate but without the secret learns nothing that he could use. It has the same shape without a secret, where it tells the
// dialler that it was accepted: in TLS 1.3 the client is otherwise told only when it reads.
//
// Without credentials the port is plain, for a loopback address. Whoever opens it looks at that.
//
// # Dead peers
//
// The kernel gives a connection up when what was sent is not acknowledged for [Config.DeadAfter], or an idle one does not answer for about that long. This is
// not only about noticing: a connection that outlives a cut network may wait for its next retransmission for as long as the cut was, while a new one works at once.
//
// # Goroutines
//
//	accepting, one      Port.Close ends it
//	a handshake each    a stranger's; ends with the timeout
//	the HTTP server's   one a connection; Close closes the connections and waits for the handlers
//
// # Trade-offs
//
//   - Every stranger is shown a certificate that was signed with a key derived from the secret, so a secret that can be guessed can be guessed offline. It must
//     be random: openssl rand -base64 32. A slow derivation would help a bad secret a little, and a password exchange would be protocol of our own.
//   - All members have the same rights, and the secret does not say which member one is: a node that is taken over can act as any other.
//   - HTTP/1.1 only. Hijacking needs it, and a stalled repair holds up no push, which is on another connection.
//   - One round trip more for the greeting, on connections that live for minutes.
package port
