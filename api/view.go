package api

import "github.com/labstack/echo/v4"

const (
	// viewHeader marks the answers that may lack somebody.
	viewHeader     = "Rollcall-View"
	viewIncomplete = "incomplete"
)

// markView marks the answer if the view is incomplete before the handler reads or after it has: a node may be hidden, or shown, meanwhile.
func (h *handlers) markView(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h.look(c)
		c.Response().Before(func() {
			if c.Response().Header().Get("ETag") == "" { // else writeVersion has looked after it read, and the tag fits what it saw
				h.look(c)
			}
		})
		return next(c)
	}
}

// look marks the answer if the view is incomplete now, and returns whether it is marked.
func (h *handlers) look(c echo.Context) bool {
	header := c.Response().Header()
	if !h.config.Cluster.Complete() {
		header.Set(viewHeader, viewIncomplete)
	}
	return header.Get(viewHeader) != ""
}
