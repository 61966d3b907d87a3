package contract_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"rollcall/tests/contract"
)

const problem = `{"title":"Not Found","status":404,"code":"not_present","detail":"Not there.","request_id":"r1"}`

func TestAnswersAreCheckedAgainstTheContract(t *testing.T) {
	for _, test := range []struct {
		call, mediaType, body string
		status                int
		fault                 string // "" when there is none
	}{
		{"GET /v1/topics/a%2Fb/count", "application/json", `{"keys":1,"metas":2}`, 200, ""},
		{"GET /v1/topics/a%2Fb/count", "application/json", `{"keys":1}`, 200, "metas"},
		{"GET /v1/topics/a%2Fb/count", "application/json", `{"keys":1,"metas":2,"more":3}`, 200, "more"},
		{"GET /v1/topics/a%2Fb/count", "application/json", `{"keys":"1","metas":2}`, 200, "integer"},
		{"GET /v1/topics/a%2Fb/count", "text/plain", `{"keys":1,"metas":2}`, 200, "text/plain"},
		{"GET /v1/topics/a%2Fb/count", "application/json", `{"keys":1,"metas":2}`, 201, "status is not supported"},
		{"GET /v1/topics/a/count", "application/problem+json", problem, 404, "status is not supported"},
		{"GET /v1/topics/a/presences/b", "application/problem+json", problem, 404, ""},
		{"GET /v1/topics/a/presences/b", "application/json", problem, 404, "application/json"},
		{"GET /v1/topics/a/presences/b", "application/problem+json", `{"status":404}`, 404, "Problem"},
		{"GET /v1/topics/a/presences/b", "application/problem+json", strings.Replace(problem, "404", "422", 1), 404, "status is 422"},
		{"GET /v1/topics/a/presences/b", "application/problem+json", strings.Replace(problem, "r1", "r2", 1), 404, "request_id"},
		{"GET /v1/topics/a/presences/b", "application/problem+json", strings.Replace(problem, "not_present", "nope", 1), 404, "code"},
		{"GET /v1/topics/a/presences/b", "application/json", `{"metas":[{"phx_ref":"short"}]}`, 200, "phx_ref"},
		{"GET /v1/topics/a/events", "text/event-stream", "data: not read", 200, ""},
		{"GET /v1/topics/a/events", "text/event-stream; charset=utf-8", "data: not read", 204, "status is not supported"},
		{"GET /nope", "text/html", "<p>outside the contract", 200, ""},
		{"GET /nope", "text/plain", "404 page not found", 404, "text/plain"},
		{"GET /nope", "application/problem+json", problem, 404, ""},
		{"HEAD /v1/topics", "", "", 200, ""},
	} {
		method, path, _ := strings.Cut(test.call, " ")
		request, err := http.NewRequest(method, "http://127.0.0.1:1"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response := &http.Response{
			StatusCode: test.status,
			Header:     http.Header{"Content-Type": {test.mediaType}, "X-Request-Id": {"r1"}},
			Body:       io.NopCloser(strings.NewReader(test.body)),
		}
		err = contract.CheckResponse(request, response)
		switch {
		case test.fault == "" && err != nil:
			t.Errorf("%s %d %s: %v, want no fault", test.call, test.status, test.body, err)
		case test.fault != "" && (err == nil || !strings.Contains(err.Error(), test.fault)):
			t.Errorf("%s %d %s: %v, want a fault with %q", test.call, test.status, test.body, err, test.fault)
		}
		if body, err := io.ReadAll(response.Body); err != nil || string(body) != test.body {
			t.Errorf("%s: afterwards the body is %q, %v, want %q", test.call, body, err, test.body)
		}
	}
}

func TestRequestsAreCheckedAgainstTheContract(t *testing.T) {
	for call, fault := range map[string]string{
		`POST /v1/topics/a%2Fb/presences {"key":"Alice"}`: "",
		`POST /v1/topics/a%2Fb/presences {"name":"x"}`:    "key",
		`POST /v1/topics/a/presences {"key":"x","ttl":0}`: "ttl",
		`GET /v1/topics?limit=1001 `:                      "limit",
		`GET /v1/events?topic=a&topic=b `:                 "",
		`GET /v1/events `:                                 "topic",
		`GET /nope `:                                      "no matching",
	} {
		parts := strings.SplitN(call, " ", 3)
		request, err := http.NewRequest(parts[0], "http://127.0.0.1:1"+parts[1], strings.NewReader(parts[2]))
		if err != nil {
			t.Fatal(err)
		}
		if parts[2] != "" {
			request.Header.Set("Content-Type", "application/json")
		}
		err = contract.CheckRequest(request)
		if (err == nil) != (fault == "") || err != nil && !strings.Contains(err.Error(), fault) {
			t.Errorf("%s: %v, want a fault with %q", call, err, fault)
		}
		if body, err := io.ReadAll(request.Body); err != nil || string(body) != parts[2] {
			t.Errorf("%s: afterwards the body is %q, %v", call, body, err)
		}
	}
}

func TestEventsAreCheckedAgainstTheContract(t *testing.T) {
	const metas = `{"metas":[{"phx_ref":"0Mz9kW---1h2Q-Fa","n":123456789012345678901234567890}]}`
	for _, test := range []struct {
		wrapped     bool
		event, data string
		valid       bool
	}{
		{false, "presence_state", `{}`, true},
		{false, "presence_state", `{"Alice":` + metas + `}`, true},
		{false, "presence_state", `{"Alice":{"metas":[]}}`, false},
		{false, "presence_diff", `{"joins":{},"leaves":{"__proto__":` + metas + `}}`, true},
		{false, "presence_diff", `{"joins":{}}`, false},
		{false, "presence_diff", `{`, false},
		{true, "presence_state", `{"topic":"a","payload":{}}`, true},
		{true, "presence_state", `{}`, false},
		{true, "presence_diff", `{"topic":"a","payload":{"joins":{},"leaves":{}}}`, true},
		{true, "presence_diff", `{"topic":"","payload":{"joins":{},"leaves":{}}}`, false},
		{false, "message", `{}`, false},
	} {
		if err := contract.CheckEvent(test.wrapped, test.event, []byte(test.data)); (err == nil) != test.valid {
			t.Errorf("CheckEvent(%v, %s, %s) = %v, want it valid %v", test.wrapped, test.event, test.data, err, test.valid)
		}
	}
}

// failures notes that a test was failed.
type failures struct {
	testing.TB
	count int
}

func (f *failures) Errorf(string, ...any) { f.count++ }

type answering func(*http.Request) *http.Response

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) { return a(r), nil }

func TestTransportFailsTheTest(t *testing.T) {
	for path, want := range map[string]int{"/v1/topics": 0, "/v1/topics?limit=x": 1, "/healthz": 1, "/healthz?x": 1} {
		noted := &failures{TB: t}
		client := http.Client{Transport: &contract.Transport{TB: noted, Requests: true, Base: answering(func(*http.Request) *http.Response {
			return &http.Response{
				StatusCode: 200,
				Header:     http.Header{"Content-Type": {"application/json"}},
				Body:       io.NopCloser(strings.NewReader(`{"topics":[]}`)),
			}
		})}}
		response, err := client.Get("http://127.0.0.1:1" + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if noted.count != want {
			t.Errorf("%s: %d failures, want %d", path, noted.count, want)
		}
	}
}
