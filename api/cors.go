package api

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

// corsMaxAge is how many seconds a browser may remember a preflight's answer. Chromium takes no more.
const corsMaxAge = 7200

// cors lets pages of the listed origins call the API and read the headers that it uses.
func cors(origins []string) echo.MiddlewareFunc {
	return middleware.CORSWithConfig(middleware.CORSConfig{
		AllowOrigins:  origins,
		AllowMethods:  []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete},
		ExposeHeaders: []string{"ETag", "Link", "Location", "Retry-After", viewHeader, "X-Request-ID"},
		MaxAge:        corsMaxAge,
	})
}

// checkOrigin refuses what no browser would ever send as an Origin, such as an address with a path.
func checkOrigin(origin string) error {
	if origin == "*" {
		return nil
	}
	scheme, host, ok := strings.Cut(origin, "://")
	if !ok || scheme == "" || host == "" || strings.ContainsAny(host, "/?#@, ") {
		return fmt.Errorf("AllowOrigins: %q is not an origin; write scheme://host or scheme://host:port, without a path", origin)
	}
	return nil
}
