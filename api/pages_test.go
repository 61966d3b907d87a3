package api_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"rollcall"
	"rollcall/api"
)

func TestPagesNeedNothingOfOtherHosts(t *testing.T) {
	n := start(t)
	reference := regexp.MustCompile(`(?:src|href|action)="([^"]*)"`)
	for _, path := range []string{"/", "/docs", "/demo", "/demo?name=Alice"} {
		a := n.get(path).want(http.StatusOK)
		if got := a.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
			t.Errorf("%s: Content-Type %s", path, got)
		}
		policy := a.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'self'; ") || strings.Contains(policy, "http") || strings.Contains(policy, "script-src 'self' 'unsafe-inline'") {
			t.Errorf("%s: Content-Security-Policy %s", path, policy)
		}
		if scripts, hashes := strings.Count(a.body, "<script>")+strings.Count(a.body, `<script type="module">`), strings.Count(policy, "'sha256-"); scripts != hashes {
			t.Errorf("%s: %d scripts, %d of them allowed", path, scripts, hashes)
		}
		for _, match := range reference.FindAllStringSubmatch(a.body, -1) {
			target, err := a.Request.URL.Parse(match[1])
			if err != nil {
				t.Fatal(err)
			}
			if target.Scheme == "data" {
				continue
			}
			if target.Host != a.Request.URL.Host {
				t.Errorf("%s refers to %s", path, match[1])
				continue
			}
			n.get(target.RequestURI()).want(http.StatusOK)
		}
	}
	if got := n.get("/docs/").want(http.StatusPermanentRedirect).Header.Get("Location"); got != "../docs" {
		t.Errorf("/docs/ leads to %s", got)
	}
	if got := n.get("/favicon.ico").want(http.StatusOK).Header.Get("Content-Type"); got != "image/svg+xml" {
		t.Errorf("/favicon.ico: Content-Type %s", got)
	}
}

func TestContractIsServedAsItIs(t *testing.T) {
	n := start(t)
	a := n.get("/openapi.yaml").want(http.StatusOK)
	if a.body != string(rollcall.OpenAPI) || a.Header.Get("Content-Type") != "application/yaml" {
		t.Errorf("openapi.yaml: %d bytes as %s", len(a.body), a.Header.Get("Content-Type"))
	}
}

func TestProbesAnswer(t *testing.T) {
	n := start(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		if got := decode[api.Status](n.get(path).want(http.StatusOK)); got.Status != api.Ok {
			t.Errorf("%s = %+v", path, got)
		}
	}
}

func TestAnyOriginMayLoadTheBrowserClient(t *testing.T) {
	a := start(t).get("/rollcall.js").want(http.StatusOK)
	if got := a.Header.Get("Content-Type"); got != "text/javascript; charset=utf-8" {
		t.Errorf("Content-Type %s", got)
	}
	if got := a.Header.Get("Access-Control-Allow-Origin"); got != "*" {
		t.Errorf("Access-Control-Allow-Origin %q, want *", got)
	}
	if !strings.Contains(a.body, "export{") || !strings.Contains(a.body, "presence_diff") {
		t.Errorf("this is no module of the client: %.80s", a.body)
	}
}
