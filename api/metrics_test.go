package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"rollcall/api"
)

func (n *node) metrics() map[string]*dto.MetricFamily {
	n.Helper()
	a := n.get("/metrics").want(http.StatusOK)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(a.body))
	if err != nil {
		n.Fatal(err)
	}
	return families
}

// requests returns how many requests of a method, route and status were counted, and how many durations.
func requests(families map[string]*dto.MetricFamily, method, route, code string) (count float64, durations uint64) {
	matches := func(m *dto.Metric) bool {
		got := map[string]string{}
		for _, label := range m.Label {
			got[label.GetName()] = label.GetValue()
		}
		return got["method"] == method && got["route"] == route && got["code"] == code
	}
	for _, m := range families["rollcall_http_requests_total"].GetMetric() {
		if matches(m) {
			count += m.Counter.GetValue()
		}
	}
	for _, m := range families["rollcall_http_request_duration_seconds"].GetMetric() {
		if matches(m) {
			durations += m.Histogram.GetSampleCount()
		}
	}
	return count, durations
}

func TestMetricsCountWhatHappens(t *testing.T) {
	n := start(t)
	n.track("lobby", "Alice", session1)
	n.track("attic", "Alice", session1)
	n.do("PUT", "/v1/topics/attic/presences/Alice", `{"session":"`+session1+`","meta":{"x":1}}`).want(http.StatusOK)
	n.do("DELETE", "/v1/topics/attic/presences/Alice?session="+session1, "").want(http.StatusNoContent)
	n.do("POST", "/v1/sessions/"+session1+"/heartbeat", "").want(http.StatusOK)
	open := n.stream("/v1/topics/lobby/events")
	open.next()
	ended := n.stream("/v1/topics/lobby/events")
	ended.next()
	ended.close()

	value := func(name string) float64 {
		family := n.metrics()["rollcall_"+name]
		if family == nil || len(family.Metric) != 1 {
			t.Fatalf("rollcall_%s = %v, want one metric", name, family)
		}
		if m := family.Metric[0]; m.Gauge != nil {
			return m.Gauge.GetValue()
		}
		return family.Metric[0].Counter.GetValue()
	}
	eventually(t, "the stream has ended", func() bool { return value("streams") == 1 && value("stream_bytes_total") > 0 })
	for name, want := range map[string]float64{
		"topics": 1, "presences": 1, "sessions": 1, "tracks_total": 2, "updates_total": 1, "untracks_total": 1, "heartbeats_total": 1,
		"sessions_expired_total": 0, "streams": 1, "stream_topics": 1, "streams_opened_total": 2, "stream_events_total": 2,
		"streams_resumed_total": 0, "streams_cut_off_total": 0, "stream_resets_total": 0, "build_info": 1,
	} {
		if got := value(name); got != want {
			t.Errorf("rollcall_%s = %v, want %v", name, got, want)
		}
	}
	for _, name := range []string{"go_goroutines", "process_open_fds", "rollcall_stream_kept_bytes", "rollcall_stream_frames_total"} {
		if n.metrics()[name] == nil {
			t.Errorf("no %s", name)
		}
	}
}

func TestRequestsAreCountedByRouteAndStreamsNotTimed(t *testing.T) {
	n := start(t)
	n.get("/v1/topics/lobby/count")
	n.get("/v1/topics/attic/count")
	n.get("/v1/topics/%FF/count")
	n.do("BREW", "/v1/topics", "")
	n.do("STEW", "/v1/topics", "")
	n.get("/nope/" + session1)
	n.get("/nope/" + session2)
	events := n.stream("/v1/topics/lobby/events")
	events.close()
	eventually(t, "the stream is counted", func() bool {
		count, _ := requests(n.metrics(), "GET", "/v1/topics/:topic/events", "200")
		return count == 1
	})
	families := n.metrics()
	for _, want := range []struct {
		method, route, code string
		count               float64
		durations           uint64
	}{
		{"GET", "/v1/topics/:topic/count", "200", 2, 2},
		{"GET", "/v1/topics/:topic/count", "422", 1, 1},
		{"GET", "/v1/topics/:topic/events", "200", 1, 0},
		{"other", "/v1/topics", "405", 2, 2},
		{"GET", "none", "404", 2, 2},
	} {
		if count, durations := requests(families, want.method, want.route, want.code); count != want.count || durations != want.durations {
			t.Errorf("%+v: counted %v, timed %d", want, count, durations)
		}
	}
}

func TestMetricsOfOtherPackagesAreServedWithOurs(t *testing.T) {
	dropped := prometheus.NewCounter(prometheus.CounterOpts{Name: "rollcall_pushes_dropped_total", Help: "Pushes that did not fit."})
	dropped.Add(3)
	n := start(t, func(c *api.Config) { c.Collectors = []prometheus.Collector{dropped} })
	if m := n.metrics()["rollcall_pushes_dropped_total"].GetMetric(); len(m) != 1 || m[0].Counter.GetValue() != 3 {
		t.Errorf("the other package's counter = %v, want 3", m)
	}
	_, err := api.New(api.Config{Tracker: n.tracker, Hub: n.hub, Collectors: []prometheus.Collector{dropped, dropped}})
	if err == nil || !strings.Contains(err.Error(), "metrics") {
		t.Errorf("New with a collector twice = %v, want an error", err)
	}
}

func TestMetricsAreNamedAsPrometheusAsks(t *testing.T) {
	n := start(t)
	problems, err := promlint.New(strings.NewReader(n.get("/metrics").want(http.StatusOK).body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		if strings.HasPrefix(problem.Metric, "rollcall_") {
			t.Errorf("%s: %s", problem.Metric, problem.Text)
		}
	}
}

func TestTwoServersInOneProcessCountApart(t *testing.T) {
	a, b := start(t), start(t, func(c *api.Config) { c.Version = "2" })
	a.get("/v1/topics")
	if count, _ := requests(b.metrics(), "GET", "/v1/topics", "200"); count != 0 {
		t.Errorf("the other server counted %v requests", count)
	}
}
