package port

import (
	"log/slog"
	"net"
	"sync"
	"time"
)

// refusalInterval is how far apart the warnings about strangers are at least: they decide how many there would be.
const refusalInterval = 10 * time.Second

// refusals logs connections that were refused, not more often than that.
type refusals struct {
	mu     sync.Mutex
	last   time.Time
	silent int // since last
}

func (r *refusals) log(logger *slog.Logger, remote net.Addr, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.last.IsZero() && time.Since(r.last) < refusalInterval {
		r.silent++
		return
	}
	logger.Warn("a connection to the cluster port was refused", "remote", remote.String(), "error", err, "refused_before", r.silent)
	r.last, r.silent = time.Now(), 0
}
