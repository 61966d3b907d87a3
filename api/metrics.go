package api

import (
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"rollcall/api/stream"
	"rollcall/presence"
)

// metrics counts requests, and serves the counts with those of the tracker, the hub, the cluster and Config.Collectors.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	handler  http.Handler
}

func newMetrics(config Config) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_http_requests_total",
			Help: "Requests that were answered; streams count when they end.",
		}, []string{"method", "route", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "rollcall_http_request_duration_seconds",
			Help:    "How long requests took, without streams.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}, []string{"method", "route", "code"}),
	}
	registry := prometheus.NewRegistry()
	all := append([]prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.requests,
		m.duration,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "rollcall_build_info",
			Help:        "Always 1; its labels say what runs.",
			ConstLabels: prometheus.Labels{"version": config.Version, "go_version": runtime.Version()},
		}, func() float64 { return 1 }),
		&statsCollector{tracker: config.Tracker, hub: config.Hub},
		&clusterCollector{config.Cluster},
	}, config.Collectors...)
	for _, collector := range all {
		if err := registry.Register(collector); err != nil {
			return nil, err
		}
	}
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry})
	return m, nil
}

func (m *metrics) observe(c echo.Context, took time.Duration) {
	labels := []string{methodLabel(c.Request().Method), routeLabel(c), strconv.Itoa(c.Response().Status)}
	m.requests.WithLabelValues(labels...).Inc()
	if !isStream(c.Path()) {
		m.duration.WithLabelValues(labels...).Observe(took.Seconds())
	}
}

// methodLabel keeps a client from making labels, or log entries, of its own.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "other"
	}
}

func routeLabel(c echo.Context) string {
	if c.Path() == "" {
		return "none"
	}
	return c.Path()
}

// Metrics serves the metrics in the format that Prometheus asks for.
func (h *handlers) Metrics(c echo.Context) error {
	h.metrics.handler.ServeHTTP(c.Response(), c.Request())
	return nil
}

// stat is a metric that is read from the statistics of the tracker and the hub.
type stat struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(presence.Stats, stream.Stats) float64
}

func gauge[N int | int64](name, help string, read func(presence.Stats, stream.Stats) N) stat {
	return newStat(prometheus.GaugeValue, name, help, read)
}

func counter(name, help string, read func(presence.Stats, stream.Stats) uint64) stat {
	return newStat(prometheus.CounterValue, name, help, read)
}

func newStat[N int | int64 | uint64](kind prometheus.ValueType, name, help string, read func(presence.Stats, stream.Stats) N) stat {
	return stat{
		desc: prometheus.NewDesc("rollcall_"+name, help, nil, nil),
		kind: kind,
		read: func(t presence.Stats, s stream.Stats) float64 { return float64(read(t, s)) },
	}
}

var stats = []stat{
	gauge("topics", "Topics that somebody is in.", func(t presence.Stats, _ stream.Stats) int { return t.Topics }),
	gauge("presences", "Presences.", func(t presence.Stats, _ stream.Stats) int { return t.Presences }),
	gauge("sessions", "Sessions with a lease.", func(t presence.Stats, _ stream.Stats) int { return t.Sessions }),
	counter("tracks_total", "Presences that were tracked.", func(t presence.Stats, _ stream.Stats) uint64 { return t.Tracks }),
	counter("updates_total", "Metas that were changed.", func(t presence.Stats, _ stream.Stats) uint64 { return t.Updates }),
	counter("untracks_total", "Presences that were untracked.", func(t presence.Stats, _ stream.Stats) uint64 { return t.Untracks }),
	counter("sessions_expired_total", "Sessions whose lease ran out.", func(t presence.Stats, _ stream.Stats) uint64 { return t.Expired }),
	counter("heartbeats_total", "Leases that clients renewed.", func(t presence.Stats, _ stream.Stats) uint64 { return t.Heartbeats }),

	gauge("streams", "Open streams.", func(_ presence.Stats, s stream.Stats) int { return s.Streams }),
	gauge("stream_topics", "Topics that streams watch, or did a minute ago.", func(_ presence.Stats, s stream.Stats) int { return s.Feeds }),
	gauge("stream_kept_bytes", "Memory of the diffs that are kept for clients that come back.", func(_ presence.Stats, s stream.Stats) int64 { return s.KeptBytes }),
	counter("streams_opened_total", "Streams that were opened.", func(_ presence.Stats, s stream.Stats) uint64 { return s.Opened }),
	counter("streams_resumed_total", "Streams that went on where an earlier one ended.", func(_ presence.Stats, s stream.Stats) uint64 { return s.Resumed }),
	counter("streams_cut_off_total", "Streams that were ended because their client took nothing.", func(_ presence.Stats, s stream.Stats) uint64 { return s.CutOff }),
	counter("stream_resets_total", "Times that a slow stream got a new state instead of diffs.", func(_ presence.Stats, s stream.Stats) uint64 { return s.Resets }),
	counter("stream_frames_total", "Frames that were encoded, each once for all streams.", func(_ presence.Stats, s stream.Stats) uint64 { return s.Frames }),
	counter("stream_events_total", "Events that were written to streams.", func(_ presence.Stats, s stream.Stats) uint64 { return s.Events }),
	counter("stream_bytes_total", "Bytes that were written to streams.", func(_ presence.Stats, s stream.Stats) uint64 { return s.Bytes }),
}

// statsCollector reads all stats at one time when Prometheus asks.
type statsCollector struct {
	tracker *presence.Tracker
	hub     *stream.Hub
}

func (*statsCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, s := range stats {
		descs <- s.desc
	}
}

func (c *statsCollector) Collect(out chan<- prometheus.Metric) {
	t, s := c.tracker.Stats(), c.hub.Stats()
	for _, stat := range stats {
		out <- prometheus.MustNewConstMetric(stat.desc, stat.kind, stat.read(t, s))
	}
}

var (
	membersDesc  = prometheus.NewDesc("rollcall_cluster_members", "Members of the cluster by state, as this node sees them.", []string{"state"}, nil)
	completeDesc = prometheus.NewDesc("rollcall_cluster_view_complete",
		"1 unless a member is down and not forgotten, or this node has not caught up yet.", nil, nil)
	quorumDesc = prometheus.NewDesc("rollcall_cluster_quorum", "1 while nodes can join and be removed.", nil, nil)
)

// clusterCollector reads the cluster's status when Prometheus asks.
type clusterCollector struct{ cluster Cluster }

func (*clusterCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- membersDesc
	descs <- completeDesc
	descs <- quorumDesc
}

func (c *clusterCollector) Collect(out chan<- prometheus.Metric) {
	status := c.cluster.Status()
	members := map[ClusterMemberState]int{Up: 0, Down: 0, Permdown: 0, Leaving: 0}
	for _, member := range status.Members {
		members[member.State]++
	}
	for state, count := range members {
		out <- prometheus.MustNewConstMetric(membersDesc, prometheus.GaugeValue, float64(count), string(state))
	}
	out <- prometheus.MustNewConstMetric(completeDesc, prometheus.GaugeValue, oneIf(status.Complete))
	out <- prometheus.MustNewConstMetric(quorumDesc, prometheus.GaugeValue, oneIf(status.Quorum))
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
