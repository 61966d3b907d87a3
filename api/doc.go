// The public HTTP API: types and routes generated from openapi.yaml, the handlers behind them, and a few pages for people.
//
// Make a [Server] with [New] and serve it with net/http. The rest of what the package exports is generated (openapi.gen.go); other
// programs use clients/go instead.
//
// # A request
//
//	access log, metrics, request id        accesslog.go, metrics.go
//	└─ panics become errors                server.go
//	   └─ CORS                             cors.go
//	      └─ 503 for writes while draining server.go
//	         └─ Rollcall-View for reads    view.go
//	            └─ generated wrapper       openapi.gen.go: path, query and header parameters to Go values
//	               └─ handler              presences.go, keys.go, sessions.go, streams.go, cluster.go, pages.go
//
// A handler checks names with package presence, reads a body with decode (body.go), calls the tracker or the hub, and writes. Whatever
// goes wrong is returned as an error; problem.go holds the one table from errors to statuses and writes the RFC 9457 answer.
//
// # A cluster
//
// Every node answers reads from its own [presence.Tracker]. Writes go to [Sessions], which knows where a session lives, and what is to say
// about other nodes comes from [Cluster]; without them the Tracker owns every session and the node is alone.
//
// # Names in paths
//
// Topics and keys may hold any character, so a name is taken from the path as it was sent and percent-decoded exactly once: Echo routes on
// URL.RawPath where the encoding matters, and the generated wrapper decodes only then. A "/" inside a name must come as %2F; Echo would give
// the last parameter of a route everything that is left of the path, which oneSegment refuses.
//
// # Goroutines
//
// None. Every handler runs on the goroutine of its request. A stream's handler stays in [stream.Hub.Serve] until the stream ends.
//
// # Trade-offs
//
//   - Bodies are split into members before they are decoded, because encoding/json alone would take unknown, repeated and wrongly cased
//     members, and nulls. It costs a copy of a body that is small.
//   - The generated wrapper reports a bad parameter as text only, so paramProblem reads the parameter's name out of that text. A test calls
//     every such parameter, so that a new version of the generator cannot change it unseen.
//   - A list of presences is written as the tracker encoded it. Its entity tag holds a random part of this Server, because versions start
//     again when the node does.
package api
