package main

import (
	"fmt"
	"math"

	"github.com/dustin/go-humanize"
)

// byteSize is a flag for a number of bytes: 4096, 4KiB, 1MiB.
type byteSize int64

// UnmarshalText takes a number with or without a unit: B, KiB, MiB, GiB, or kB, MB, GB.
func (s *byteSize) UnmarshalText(text []byte) error {
	n, err := humanize.ParseBytes(string(text))
	if err != nil || n > math.MaxInt64 {
		return fmt.Errorf("%q is not a size; write bytes (4096) or a unit (64KiB, 1MiB)", text)
	}
	*s = byteSize(n)
	return nil
}

func (s byteSize) String() string {
	for _, unit := range []struct {
		size byteSize
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if s >= unit.size && s%unit.size == 0 {
			return fmt.Sprintf("%d%s", s/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%d bytes", int64(s))
}
