package api

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"net/http"
	"regexp"
	"strings"

	"github.com/labstack/echo/v4"
	swaggerui "github.com/swaggest/swgui/v5/static"
	"github.com/vearutop/statigz"

	"rollcall"
)

// pages are what people open in a browser.
//
//go:embed pages
var pages embed.FS

const (
	mimeHTML = "text/html; charset=utf-8"
	mimeSVG  = "image/svg+xml"
	mimeYAML = "application/yaml"
)

// swaggerAssets are the files of Swagger UI that docs.html loads.
var swaggerAssets = []string{"swagger-ui.css", "swagger-ui-bundle.js"}

func (h *handlers) routePages(r EchoRouter) {
	r.GET("/", page("pages/index.html", mimeHTML))
	r.GET("/demo", page("pages/demo.html", mimeHTML))
	r.GET("/docs", page("pages/docs.html", mimeHTML))
	r.GET("/docs/", func(c echo.Context) error { return c.Redirect(http.StatusPermanentRedirect, "../docs") })
	r.GET("/favicon.ico", page("pages/favicon.svg", mimeSVG)) // browsers ask for it by that name and go by the type
	assets := echo.WrapHandler(http.StripPrefix("/docs/", statigz.FileServer(swaggerui.FS)))
	for _, name := range swaggerAssets {
		r.GET("/docs/"+name, assets)
	}
}

func page(name, contentType string) echo.HandlerFunc {
	content, err := pages.ReadFile(name)
	if err != nil {
		panic(err) // the file was left out of the build
	}
	policy := contentPolicy(content)
	return func(c echo.Context) error {
		header := c.Response().Header()
		header.Set(echo.HeaderContentSecurityPolicy, policy)
		header.Set("Cache-Control", "no-cache") // asked for again, but kept for the back button
		header.Set(echo.HeaderReferrerPolicy, "no-referrer")
		return c.Blob(http.StatusOK, contentType, content)
	}
}

var inlineScript = regexp.MustCompile(`(?s)<script(?: type="module")?>(.*?)</script>`)

// contentPolicy lets a page load what this node serves and run the scripts that it holds, and nothing else. Swagger UI needs style
// attributes and draws icons from data: URLs.
func contentPolicy(html []byte) string {
	scripts := ""
	for _, match := range inlineScript.FindAllSubmatch(html, -1) {
		sum := sha256.Sum256(match[1])
		scripts += " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'self'; script-src 'self'" + scripts + "; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
		"object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
}

// Openapi serves the contract as it was written.
func (h *handlers) Openapi(c echo.Context) error {
	return c.Blob(http.StatusOK, mimeYAML, rollcall.OpenAPI)
}

//go:embed pages/rollcall.js
var browserClient []byte // built from clients/js

// BrowserClient serves the client as a module. Pages of every origin may load it, as it is no secret; what they may call is another matter.
func (h *handlers) BrowserClient(c echo.Context) error {
	header := c.Response().Header()
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("Cache-Control", "no-cache")
	return c.Blob(http.StatusOK, "text/javascript; charset=utf-8", browserClient)
}

// Healthz says that the process lives.
func (h *handlers) Healthz(c echo.Context) error {
	return writeJSON(c, http.StatusOK, Status{Status: Ok})
}

// Readyz says whether the node takes traffic.
func (h *handlers) Readyz(c echo.Context) error {
	return h.refuseWhileDraining(h.readyz)(c)
}

func (h *handlers) readyz(c echo.Context) error {
	if err := h.config.Ready(); err != nil {
		reasons := strings.ReplaceAll(err.Error(), "\n", "; ") // of errors.Join
		return &refusal{code: ProblemCodeNotReady, detail: "The node is not ready: " + reasons + "."}
	}
	return h.Healthz(c)
}
