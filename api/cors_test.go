package api_test

import (
	"net/http"
	"strings"
	"testing"

	"rollcall/api"
)

const appOrigin = "https://app.example.com"

func allowApp(c *api.Config) {
	c.AllowOrigins = []string{appOrigin, "https://*.example.org", "http://localhost:3000"}
}

func TestPagesOfListedOriginsMayUseTheAPI(t *testing.T) {
	n := start(t, allowApp)
	for origin, allowed := range map[string]bool{
		appOrigin:                          true,
		"https://a.example.org":            true,
		"http://localhost:3000":            true,
		"http://localhost:3001":            false,
		"http://app.example.com":           false,
		"https://evil.example.com":         false,
		"https://app.example.com.evil.net": false,
		"https://example.org":              false,
		"null":                             false,
	} {
		want := ""
		if allowed {
			want = origin
		}
		for _, path := range []string{"/v1/topics", "/nope"} { // errors are readable as well
			a := n.get(path, "Origin", origin)
			if got := a.Header.Get("Access-Control-Allow-Origin"); got != want {
				t.Errorf("%s from %s: allowed %q, want %q", path, origin, got, want)
			}
			if !strings.Contains(a.Header.Get("Vary"), "Origin") {
				t.Errorf("%s from %s: Vary %q", path, origin, a.Header.Get("Vary"))
			}
			exposed := a.Header.Get("Access-Control-Expose-Headers")
			for _, name := range []string{"ETag", "Link", "Location", "X-Request-ID", "Retry-After", "Rollcall-View"} {
				if allowed != strings.Contains(exposed, name) {
					t.Errorf("%s from %s: exposed headers %q", path, origin, exposed)
				}
			}
		}
		a := n.do(http.MethodOptions, "/v1/topics/lobby/presences/Alice", "", "Origin", origin,
			"Access-Control-Request-Method", "PATCH", "Access-Control-Request-Headers", "content-type")
		a.want(http.StatusNoContent)
		if got := a.Header.Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("preflight from %s: allowed %q, want %q", origin, got, want)
		}
		if allowed && (!strings.Contains(a.Header.Get("Access-Control-Allow-Methods"), "PATCH") ||
			!strings.Contains(a.Header.Get("Access-Control-Allow-Headers"), "content-type")) {
			t.Errorf("preflight from %s: %v", origin, a.Header)
		}
	}
	events := n.stream("/v1/topics/lobby/events", "Origin", appOrigin)
	if got := events.Header.Get("Access-Control-Allow-Origin"); got != appOrigin {
		t.Errorf("stream: allowed %q, want %q", got, appOrigin)
	}
}

func TestAnyOriginMayBeListed(t *testing.T) {
	n := start(t, func(c *api.Config) { c.AllowOrigins = []string{"*"} })
	if got := n.get("/v1/topics", "Origin", "https://anywhere.example").Header.Get("Access-Control-Allow-Origin"); got != "*" {
		t.Errorf("allowed %q, want *", got)
	}
}

func TestWithoutAListNoOriginIsAllowed(t *testing.T) {
	n := start(t)
	for _, method := range []string{http.MethodGet, http.MethodOptions} {
		a := n.do(method, "/v1/topics", "", "Origin", appOrigin, "Access-Control-Request-Method", "GET")
		for name := range a.Header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: %s: %s", method, name, a.Header.Get(name))
			}
		}
	}
}
