//go:build linux

package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"rollcall/tests/program"
)

// client is one keep-alive connection. It does no more with an answer than it must to find its end.
type client struct {
	conn   net.Conn
	reader *bufio.Reader
}

func dial(b *testing.B, n *program.Node) *client {
	b.Helper()
	conn, err := net.Dial("tcp", n.Addr())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return &client{conn, bufio.NewReaderSize(conn, 64<<10)}
}

// request returns a request as it goes over the wire. A body is JSON.
func request(method, path, body string) []byte {
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: bench\r\n", method, path)
	if body != "" {
		head += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	return []byte(head + "\r\n" + body)
}

// do sends a request and reads the answer, which must be a success or 304. It may be called in any goroutine.
func (c *client) do(request []byte) error {
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	status, err := c.reader.ReadSlice('\n')
	if err != nil {
		return err
	}
	const code = len("HTTP/1.1 ")
	if len(status) < code+3 || status[code] != '2' && !bytes.HasPrefix(status[code:], []byte("304")) {
		return fmt.Errorf("%.80q: %q", request, status)
	}
	length := 0
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			length, err = strconv.Atoi(string(bytes.TrimSpace(value)))
			if err != nil {
				return err
			}
		}
		if bytes.HasPrefix(line, []byte("Transfer-Encoding: chunked")) {
			length = -1
		}
	}
	if length >= 0 {
		_, err := c.reader.Discard(length)
		return err
	}
	return c.discardChunks()
}

func (c *client) discardChunks() error {
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 32)
		if err != nil {
			return err
		}
		if _, err := c.reader.Discard(int(size) + 2); err != nil {
			return err
		}
		if size == 0 {
			return nil
		}
	}
}

// must is do for preparations.
func (c *client) must(b *testing.B, method, path, body string) {
	b.Helper()
	if err := c.do(request(method, path, body)); err != nil {
		b.Fatal(err)
	}
}

const clients = 4 // connections under load: enough to keep two processors busy

// load sends b.N requests over a few connections, each as soon as the one before is answered, and reports what that took. Next returns
// the request of a number, and is called by several goroutines.
func load(b *testing.B, n *program.Node, next func(i int) []byte) {
	b.Helper()
	loadOver(b, n, clients, next)
}

// loadOver is load over so many connections. It also reports what the requests cost other nodes, if any are given.
func loadOver(b *testing.B, n *program.Node, connections int, next func(i int) []byte, others ...*program.Node) {
	b.Helper()
	b.ResetTimer()
	before, othersBefore := n.CPU(), cpuOf(others)
	took := sendAll(b, n, connections, b.N, next)
	b.StopTimer()
	cpu, othersCPU := n.CPU()-before, cpuOf(others)-othersBefore
	figures := []figure{
		{"req/s", float64(b.N) / b.Elapsed().Seconds()},
		{"p50-us", micros(percentile(took, 50))},
		{"p99-us", micros(percentile(took, 99))},
		{"cpu-us/req", micros(cpu) / float64(b.N)},
	}
	if len(others) > 0 {
		figures = append(figures, figure{"cpu-us/req-others", micros(othersCPU) / float64(b.N)})
	}
	report(b, figures...)
}

// sendAll sends requests over so many connections and returns how long each took.
func sendAll(b *testing.B, n *program.Node, connections, requests int, next func(i int) []byte) []time.Duration {
	b.Helper()
	took := make([]time.Duration, requests)
	failed := make(chan error, connections)
	for c := range connections {
		client := dial(b, n)
		go func() {
			for i := c; i < requests; i += connections {
				request := next(i)
				start := time.Now()
				if err := client.do(request); err != nil {
					failed <- err
					return
				}
				took[i] = time.Since(start)
			}
			failed <- nil
		}()
	}
	for range connections {
		if err := <-failed; err != nil {
			b.Fatal(err)
		}
	}
	return took
}

func cpuOf(nodes []*program.Node) (sum time.Duration) {
	for _, n := range nodes {
		sum += n.CPU()
	}
	return sum
}
