package api_test

import (
	"net/http"
	"strings"
	"testing"

	"rollcall/api"
)

// TestEveryParameterThatIsWrongIsNamed calls every parameter that the generated wrapper may refuse, because the answer is made of the text
// of its errors.
func TestEveryParameterThatIsWrongIsNamed(t *testing.T) {
	n := start(t)
	const number, once, given = "must be a whole number.", "must be given only once.", "must be given in the query string."
	for call, want := range map[string][2]string{
		"GET /v1/topics?limit=":                            {"limit", number},
		"GET /v1/topics?limit=x":                           {"limit", number},
		"GET /v1/topics?limit=1.5":                         {"limit", number},
		"GET /v1/topics?limit=99999999999999999999":        {"limit", number},
		"GET /v1/topics?limit=1&limit=1":                   {"limit", once},
		"GET /v1/topics?limit=0":                           {"limit", "is 0; 1 to 1000 are allowed."},
		"GET /v1/topics?limit=-1":                          {"limit", "is -1; 1 to 1000 are allowed."},
		"GET /v1/topics?limit=1001":                        {"limit", "is 1001; 1 to 1000 are allowed."},
		"GET /v1/topics?after=a&after=b":                   {"after", once},
		"GET /v1/topics?prefix=a&prefix=b":                 {"prefix", once},
		"GET /v1/topics?prefix=%FF":                        {"prefix", "must be valid UTF-8."},
		"GET /v1/topics?after=" + strings.Repeat("x", 256): {"after", "is 256 bytes long; at most 255 are allowed."},
		"GET /v1/topics/lobby/presences?limit=x":           {"limit", number},
		"GET /v1/topics/lobby/presences?limit=0":           {"limit", "is 0; 1 to 10000 are allowed."},
		"GET /v1/topics/lobby/presences?limit=10001":       {"limit", "is 10001; 1 to 10000 are allowed."},
		"GET /v1/topics/lobby/presences?after=%C3%28":      {"after", "must be valid UTF-8."},
		"GET /v1/topics/lobby/presences?after=a&after=b":   {"after", once},
		"DELETE /v1/topics/lobby/presences/Alice":          {"session", given},
		"DELETE /v1/topics/lobby/presences/Alice?session=" + session1 + "&session=" + session1: {"session", once},
		"GET /v1/events":                                              {"topic", given},
		"GET /v1/events?topic=a&key=b&linger=x":                       {"linger", number},
		"GET /v1/topics/lobby/events?key=b&linger=x":                  {"linger", number},
		"GET /v1/topics/lobby/events?key=b&session=a&session=b":       {"session", once},
		"GET /v1/topics/lobby/events?last_event_id=a&last_event_id=b": {"last_event_id", once},
	} {
		method, path, _ := strings.Cut(call, " ")
		problem := n.do(method, path, "").wantProblem(http.StatusUnprocessableEntity, api.ProblemCodeInvalidField, want[0])
		if wanted := want[0] + " " + want[1]; problem.Detail != wanted {
			t.Errorf("%s: detail %q, want %q", call, problem.Detail, wanted)
		}
	}
	for header, path := range map[string]string{"If-None-Match": "/v1/topics/lobby/presences", "Last-Event-ID": "/v1/topics/lobby/events"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header[http.CanonicalHeaderKey(header)] = []string{`"a"`, `"b"`}
		response, err := n.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("two %s headers = %s, want 422", header, response.Status)
		}
	}
}

func TestQueriesThatAreNotPercentEncodedAreMalformed(t *testing.T) {
	n := start(t)
	for _, call := range []string{
		"GET /v1/topics?prefix=%zz", "GET /v1/topics?prefix=a;b", "GET /v1/topics/lobby/presences?after=100%",
		"DELETE /v1/topics/lobby/presences/Alice?session=%", "GET /v1/topics/lobby/events?key=%f", "GET /v1/events?topic=a&topic=%",
	} {
		method, path, _ := strings.Cut(call, " ")
		n.do(method, path, "").wantProblem(http.StatusBadRequest, api.ProblemCodeMalformedUrl, "")
	}
}

func TestPathsAndMethodsThatAreNoneAreProblems(t *testing.T) {
	n := start(t)
	for _, call := range []string{
		"GET /v1", "GET /v1/", "GET /v1/nope", "GET /nope", "GET /v1/topics/", "GET /v1/topics/lobby", "GET /v1/sessions/" + session1 + "/nope",
		"POST /v1/sessions/" + session1 + "/leave/", "GET /docs/../server.go", "GET /docs/index.html", "DELETE /V1/topics",
	} {
		method, path, _ := strings.Cut(call, " ")
		if a := n.do(method, path, ""); a.wantProblem(http.StatusNotFound, api.ProblemCodeNotFound, "").RequestId == nil || strings.Contains(a.body, session1) {
			t.Errorf("%s: %s", call, a.body)
		}
	}
	for call, allow := range map[string]string{
		"POST /v1/topics":                       "OPTIONS, GET, HEAD",
		"DELETE /v1/topics/lobby/presences":     "OPTIONS, GET, HEAD, POST",
		"POST /v1/topics/lobby/presences/Alice": "OPTIONS, DELETE, GET, HEAD, PATCH, PUT",
		"PUT /v1/keys/Alice":                    "OPTIONS, GET, HEAD",
		"GET /v1/sessions/" + session1:          "OPTIONS, DELETE",
		"GET /v1/heartbeats":                    "OPTIONS, POST",
		"PROPFIND /v1/topics/lobby/events":      "OPTIONS, GET",
		"BREW /v1/topics/lobby/count":           "OPTIONS, GET, HEAD",
	} {
		method, path, _ := strings.Cut(call, " ")
		a := n.do(method, path, "")
		a.wantProblem(http.StatusMethodNotAllowed, api.ProblemCodeMethodNotAllowed, "")
		if got := a.Header.Get("Allow"); got != allow {
			t.Errorf("%s: Allow %s, want %s", call, got, allow)
		}
	}
}
