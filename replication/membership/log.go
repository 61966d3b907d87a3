package membership

import (
	"context"
	"log/slog"
	"sync"

	"github.com/hashicorp/go-hclog"
)

// quiet gives raft a logger whose lines all are at debug: what a user should know of it, this package says itself.
func quiet(log *slog.Logger) hclog.Logger {
	level := hclog.Off
	if log.Enabled(context.Background(), slog.LevelDebug) {
		level = hclog.Debug
	}
	return hclog.New(&hclog.LoggerOptions{
		Name: "raft", Level: level, DisableTime: true,
		Output: slog.NewLogLogger(log.Handler(), slog.LevelDebug).Writer(),
	})
}

// causes remembers what was last said about each subject, so that what fails again and again for one reason is logged once.
type causes struct {
	mu   sync.Mutex
	last map[string]string
}

// changed tells whether cause is not what it was the last time. The empty cause is none.
func (c *causes) changed(subject, cause string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last[subject] == cause {
		return false
	}
	if c.last == nil {
		c.last = map[string]string{}
	}
	c.last[subject] = cause
	return true
}
