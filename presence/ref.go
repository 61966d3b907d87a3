package presence

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"rollcall/presence/crdt"
)

// Ref names one version of one meta: phx_ref. 16 characters. Refs that a node makes sort after those that it made or heard of earlier.
type Ref string

// refEncoding keeps the order of the bytes that it encodes.
var refEncoding = base64.NewEncoding("-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz").WithPadding(base64.NoPadding)

// refClock makes refs: a hybrid logical clock (Kulkarni et al., "Logical physical clocks", 2014) of 48 bits of milliseconds and 16 of
// counter, which goes on counting when the wall clock stands still or jumps back, and 32 bits that tell replicas apart.
type refClock struct {
	wall func() time.Time
	tag  [4]byte
	last atomic.Uint64
}

func newRefClock(replica crdt.Replica, wall func() time.Time) *refClock {
	c := &refClock{wall: wall}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", replica.Name, replica.Incarnation))
	copy(c.tag[:], sum[:])
	return c
}

func (c *refClock) next() Ref {
	var raw [12]byte
	binary.BigEndian.PutUint64(raw[:], c.tick())
	copy(raw[8:], c.tag[:])
	return Ref(refEncoding.EncodeToString(raw[:]))
}

// tick returns a time that is later than all that were returned or observed.
func (c *refClock) tick() uint64 {
	now := uint64(c.wall().UnixMilli()) << 16
	for {
		last := c.last.Load()
		tick := max(now, last+1)
		if c.last.CompareAndSwap(last, tick) {
			return tick
		}
	}
}

// maxTick is the latest time that is believed of another node: the year 6429. It keeps garbage from stopping the clock.
const maxTick = 1 << 63

// observe makes later refs and ticks sort after a ref and a tick of another node, whatever its wall clock says.
func (c *refClock) observe(ref Ref, tick uint64) {
	var raw [12]byte
	if n, err := refEncoding.Decode(raw[:], []byte(ref)); err == nil && n == len(raw) {
		tick = max(tick, binary.BigEndian.Uint64(raw[:]))
	}
	for last := c.last.Load(); tick > last && tick < maxTick; last = c.last.Load() {
		if c.last.CompareAndSwap(last, tick) {
			return
		}
	}
}
