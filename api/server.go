package api

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/prometheus/client_golang/prometheus"

	"rollcall/api/stream"
	"rollcall/presence"
)

// Config says what a [Server] serves.
type Config struct {
	Tracker *presence.Tracker // required
	Hub     *stream.Hub       // required; reads from the same Tracker
	Logger  *slog.Logger      // default: slog.Default()

	Sessions Sessions // where writes go; default: the Tracker, which then owns every session
	Cluster  Cluster  // default: this node alone

	// Ready says why the node takes no traffic, which /readyz passes on; it may be several errors, joined. Default: nothing does.
	Ready func() error
	// Collectors are the metrics of other packages, for /metrics.
	Collectors []prometheus.Collector

	// AllowOrigins lists the origins whose pages may use the API from a browser, e.g. "https://app.example.com",
	// "https://*.example.com" or "*". Empty: only pages that this node serves itself.
	AllowOrigins []string

	MaxBodyBytes int64  // of a request's body; default 1 MiB
	MaxMetaBytes int    // as the Tracker's, default 4096; New checks that a body can hold it
	Version      string // of the program, for the metrics; default "devel"
}

const bodyOverhead = 2048 // more than all of a body except its meta takes: a key, a session, a ttl and their names

func (c *Config) setDefaults() {
	c.Logger = cmp.Or(c.Logger, slog.Default())
	c.MaxBodyBytes = cmp.Or(c.MaxBodyBytes, 1<<20)
	c.MaxMetaBytes = cmp.Or(c.MaxMetaBytes, 4096)
	c.Version = cmp.Or(c.Version, "devel")
	if c.Ready == nil {
		c.Ready = func() error { return nil }
	}
	if c.Sessions == nil {
		c.Sessions = local{c.Tracker}
	}
	if c.Cluster == nil {
		c.Cluster = alone{c.Tracker, c.Version}
	}
}

func (c *Config) validate() error {
	var errs []error
	if c.Tracker == nil {
		errs = append(errs, errors.New("a Tracker is required"))
	}
	if c.Hub == nil {
		errs = append(errs, errors.New("a Hub is required"))
	}
	if least := int64(c.MaxMetaBytes) + bodyOverhead; c.MaxMetaBytes < 0 || c.MaxBodyBytes < least {
		errs = append(errs, fmt.Errorf("MaxBodyBytes is %d; metas of %d bytes need at least %d", c.MaxBodyBytes, c.MaxMetaBytes, least))
	}
	for _, origin := range c.AllowOrigins {
		errs = append(errs, checkOrigin(origin))
	}
	return errors.Join(errs...)
}

// Server is the handler of everything that a node serves to the public.
type Server struct {
	echo     *echo.Echo
	handlers *handlers
}

// handlers implements the generated ServerInterface.
type handlers struct {
	config   Config
	run      string // random, so that entity tags of an earlier run do not match
	metrics  *metrics
	draining atomic.Bool
}

// New returns a Server, or every mistake of config at once. There is nothing to close.
func New(config Config) (*Server, error) {
	config.setDefaults()
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("api: config: %w", err)
	}
	h := &handlers{config: config, run: strings.ToLower(rand.Text()[:8])}
	var err error
	if h.metrics, err = newMetrics(config); err != nil {
		return nil, fmt.Errorf("api: metrics: %w", err)
	}

	e := echo.New()
	e.Logger.SetOutput(io.Discard) // it would write to stdout; what matters goes to config.Logger
	e.HTTPErrorHandler = h.writeProblem
	e.IPExtractor = echo.ExtractIPDirect() // a header could claim any address
	e.Use(h.observe, identify, h.recoverPanics(), defaultHeaders)
	if len(config.AllowOrigins) > 0 {
		e.Use(cors(config.AllowOrigins))
	}
	e.Use(oneSegment)
	h.route(e)
	return &Server{echo: e, handlers: h}, nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.echo.ServeHTTP(w, r) }

// SetDraining makes the server refuse, from now on, writes and new streams with 503, and say so on /readyz. Reads go on.
func (s *Server) SetDraining() { s.handlers.draining.Store(true) }

var (
	// writes are refused while draining; whoIsOnline, a POST, reads.
	writes = []string{"track", "update", "patch", "untrack", "heartbeat", "heartbeats", "leave", "leaveByPost", "removeNode",
		"streamTopic", "streamTopics"}
	// views are the operations whose answers lack somebody while the view is incomplete.
	views = []string{"listTopics", "countPresences", "listPresences", "getPresence", "whereIs", "whoIsOnline", "streamTopic", "streamTopics"}
	// queries are the operations that read parameters from the query string.
	queries = []string{"listTopics", "listPresences", "untrack", "streamTopic", "streamTopics"}
)

func (h *handlers) route(e *echo.Echo) {
	middlewares := map[string][]echo.MiddlewareFunc{}
	for _, operation := range writes {
		middlewares[operation] = append(middlewares[operation], h.refuseWhileDraining)
	}
	for _, operation := range views {
		middlewares[operation] = append(middlewares[operation], h.markView)
	}
	for _, operation := range queries {
		middlewares[operation] = append(middlewares[operation], checkQuery)
	}
	r := headRouter{e}
	RegisterHandlersWithOptions(r, h, RegisterHandlersOptions{OperationMiddlewares: middlewares})
	h.routePages(r)

	// Echo takes no route with a parameter for a path that ends in its place, so these would be unknown paths.
	e.GET("/v1/keys/", emptyName("key"))
	e.DELETE("/v1/sessions/", emptyName("session"))
	e.Match([]string{http.MethodGet, http.MethodPut, http.MethodPatch, http.MethodDelete},
		"/v1/topics/:topic/presences/", emptyName("key"))
}

func emptyName(field string) echo.HandlerFunc {
	return func(echo.Context) error { return invalid(field, "must not be empty") }
}

// headRouter answers HEAD wherever it answers GET, as RFC 9110 asks, except for streams, which would not end.
type headRouter struct{ *echo.Echo }

func (r headRouter) GET(path string, handler echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	if !isStream(path) {
		r.HEAD(path, handler, m...)
	}
	return r.Echo.GET(path, handler, m...)
}

func isStream(route string) bool { return strings.HasSuffix(route, "/events") }

func (h *handlers) refuseWhileDraining(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if h.draining.Load() {
			return stream.ErrDraining
		}
		return next(c)
	}
}

// checkQuery refuses a query string that net/url would silently take only in part.
func checkQuery(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if _, err := url.ParseQuery(c.Request().URL.RawQuery); err != nil {
			return &refusal{code: ProblemCodeMalformedUrl,
				detail: "The query string is not valid: percent-encode each value (a % is %25, an & is %26, a ; is %3B)."}
		}
		return next(c)
	}
}

// oneSegment refuses a path whose last parameter would span several segments.
func oneSegment(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		spans := func(value string) bool { return strings.Contains(value, "/") }
		if slices.ContainsFunc(c.ParamValues(), spans) {
			return echo.ErrNotFound
		}
		return next(c)
	}
}

// defaultHeaders are for every answer; a handler may set others.
func defaultHeaders(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		header := c.Response().Header()
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Cache-Control", "no-store")
		return next(c)
	}
}

// panicError is what a handler panicked with.
type panicError struct {
	err   error
	stack []byte
}

func (e *panicError) Error() string { return "panic: " + e.err.Error() }
func (e *panicError) Unwrap() error { return e.err }

func (h *handlers) recoverPanics() echo.MiddlewareFunc {
	return middleware.RecoverWithConfig(middleware.RecoverConfig{
		StackSize:           16 << 10,
		DisableStackAll:     true,
		DisableErrorHandler: true, // observe calls it, once
		LogErrorFunc: func(_ echo.Context, err error, stack []byte) error {
			return &panicError{err: err, stack: stack}
		},
	})
}
