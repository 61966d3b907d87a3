//go:build linux

package bench

import (
	"bytes"
	"net/http/httputil"
	"strings"
	"testing"
)

// chunks takes the chunked encoding of HTTP/1.1 off what comes, in whatever pieces it comes.
type chunks struct {
	left int  // bytes of the present chunk that are to come
	size int  // of the next chunk, as far as its line has come
	line bool // within the line of a size, where digits count
}

// appendTo appends the content of data to dst.
func (c *chunks) appendTo(dst, data []byte) []byte {
	for len(data) > 0 {
		if c.left > 0 {
			n := min(c.left, len(data))
			dst = append(dst, data[:n]...)
			c.left -= n
			data = data[n:]
			continue
		}
		digit := data[0]
		data = data[1:]
		switch { // the line before a size ends the chunk before it, and is empty
		case digit >= '0' && digit <= '9':
			c.size, c.line = c.size<<4|int(digit-'0'), true
		case digit >= 'a' && digit <= 'f':
			c.size, c.line = c.size<<4|int(digit-'a'+10), true
		case digit == '\n' && c.line:
			c.left, c.size, c.line = c.size, 0, false
		}
	}
	return dst
}

func TestChunksComeInAnyPieces(t *testing.T) {
	var encoded bytes.Buffer
	w := httputil.NewChunkedWriter(&encoded)
	var want strings.Builder
	for _, text := range []string{"a", "event: x\r\ndata: 1f\n\n", strings.Repeat("0123456789abcdef\r\n", 100), "\n", "end"} {
		want.WriteString(text)
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for piece := 1; piece <= encoded.Len(); piece++ {
		var decoder chunks
		var got []byte
		for rest := encoded.Bytes(); len(rest) > 0; rest = rest[min(piece, len(rest)):] {
			got = decoder.appendTo(got, rest[:min(piece, len(rest))])
		}
		if string(got) != want.String() {
			t.Fatalf("in pieces of %d: %q, want %q", piece, got, want.String())
		}
	}
}
