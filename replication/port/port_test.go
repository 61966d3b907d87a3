package port

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// syncBuffer is a buffer for a logger that other goroutines use.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func TestMembersTalk(t *testing.T) {
	authority := newCA(t)
	authority.issue("a", nil)
	authority.issue("b", nil)
	for name, credentials := range map[string][2]*Credentials{
		"plain":                  {nil, load(t, "", "", "", "")},
		"secret":                 {withSecret(t, secret), withSecret(t, secret)},
		"certificate":            {authority.load("a", ""), authority.load("b", "")},
		"certificate and secret": {authority.load("a", write(t, secret)), authority.load("b", write(t, secret))},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := openNode(t, Config{Credentials: credentials[0]}), openNode(t, Config{Credentials: credentials[1]})
			var wg sync.WaitGroup
			for _, pair := range [][2]*node{{a, b}, {b, a}} {
				from, to := pair[0], pair[1].Addr().String()
				wg.Go(func() {
					for range 20 {
						if err := from.post(to, strings.Repeat("body", 10_000)); err != nil {
							t.Error(err)
						}
					}
				})
				for range 3 {
					wg.Go(func() {
						stream, err := from.Raft().Dial(to, patience)
						if err != nil {
							t.Error(err)
							return
						}
						defer stream.Close()
						for range 20 {
							if err := talk(stream, strings.Repeat("log entry", 1000)); err != nil {
								t.Error(err)
							}
						}
					})
				}
			}
			wg.Wait()
			for _, n := range []*node{a, b} {
				if requests, streams := n.requests.Load(), n.streams.Load(); requests != 20 || streams != 3 {
					t.Errorf("%d requests and %d streams, want 20 and 3", requests, streams)
				}
			}
		})
	}
}

func TestMembersTalkWithoutSockets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &pipes{}
		a := openNode(t, Config{Credentials: withSecret(t, secret), Listener: network.listen("a:1"), Dial: network.dial})
		openNode(t, Config{Credentials: withSecret(t, secret), Listener: network.listen("b:1"), Dial: network.dial})
		if err := a.post("b:1", "hello"); err != nil {
			t.Error(err)
		}
		stream, err := a.Raft().Dial("b:1", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // an idle stream lives on
		if err := talk(stream, "hello"); err != nil {
			t.Error(err)
		}
	})
}

func TestPathsOfThePort(t *testing.T) {
	n := openNode(t, Config{})
	for path, want := range map[string]int{"/": 404, "/v1/topics": 404, "/cluster": 404, "/cluster/raft": 426, "/cluster/other": 200} {
		response, err := n.Client().Get("http://" + n.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("GET %s = %d, want %d", path, response.StatusCode, want)
		}
	}
}

func TestNoStreamsAfterRaftIsClosed(t *testing.T) {
	a, b := openNode(t, Config{}), openNode(t, Config{})
	_ = b.Raft().Close()
	if _, err := b.Raft().Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close = %v, want net.ErrClosed", err)
	}
	if _, err := a.Raft().Dial(b.Addr().String(), patience); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("Dial = %v, want a 503", err)
	}
	if err := a.post(b.Addr().String(), "still there"); err != nil {
		t.Error(err)
	}
}

func TestDialTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &pipes{}
		a := openNode(t, Config{Credentials: withSecret(t, secret), Listener: network.listen("a:1"), Dial: network.dial})
		network.listen("deaf:1") // never accepts
		mute := network.listen("mute:1")
		go func() { // accepts and is silent
			conn, err := mute.Accept()
			if err == nil {
				_, _ = io.Copy(io.Discard, conn)
			}
		}()
		for addr, want := range map[string]time.Duration{"deaf:1": time.Second, "mute:1": 3 * time.Second} {
			began := time.Now()
			_, err := a.Raft().Dial(addr, 3*time.Second)
			if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != want {
				t.Errorf("Dial(%s) = %v after %v, want DeadlineExceeded after %v", addr, err, took, want)
			}
		}
		_ = mute.Close()
	})
}

func TestCloseEndsEverything(t *testing.T) {
	for _, credentials := range []*Credentials{nil, withSecret(t, secret)} {
		t.Run(credentials.String(), func(t *testing.T) {
			entered, left := make(chan struct{}), make(chan struct{})
			b, err := Open(Config{Addr: "127.0.0.1:0", Credentials: credentials, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				close(entered)
				<-r.Context().Done()
				time.Sleep(10 * time.Millisecond) // what it still has to do
				close(left)
			})})
			if err != nil {
				t.Fatal(err)
			}
			a := openNode(t, Config{Credentials: credentials})
			addr := b.Addr().String()

			var wg sync.WaitGroup
			wg.Go(func() {
				if err := a.post(addr, "never answered"); err == nil {
					t.Error("a request was answered by a closed port")
				}
			})
			near, err := a.Raft().Dial(addr, patience)
			if err != nil {
				t.Fatal(err)
			}
			far, err := b.Raft().Accept()
			if err != nil {
				t.Fatal(err)
			}
			dialled, err := b.Raft().Dial(a.Addr().String(), patience)
			if err != nil {
				t.Fatal(err)
			}
			stranger, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer stranger.Close()
			<-entered

			_ = b.Close()
			select {
			case <-left:
			default:
				t.Error("Close did not wait for the handler")
			}
			wg.Wait()
			for name, conn := range map[string]net.Conn{"stream": near, "accepted stream": far, "dialled stream": dialled, "stranger": stranger} {
				_ = conn.SetReadDeadline(time.Now().Add(patience))
				if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
					t.Errorf("%s after Close: read = %v, want its end", name, err)
				}
			}
			if _, err := b.Raft().Dial(a.Addr().String(), patience); err == nil {
				t.Error("a closed port dials")
			}
			_ = b.Close() // again
		})
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func TestOpenRefusesBadConfig(t *testing.T) {
	for name, test := range map[string]struct {
		config Config
		want   string
	}{
		"nowhere to listen": {Config{}, "neither Addr nor Listener"},
		"negative timeout":  {Config{Addr: "127.0.0.1:0", DialTimeout: -1}, "DialTimeout is negative"},
		"no such address":   {Config{Addr: "127.0.0.1:99999"}, "cannot listen on 127.0.0.1:99999"},
	} {
		if p, err := Open(test.config); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Open = %v, %v, want an error with %q", name, p, err, test.want)
		}
	}
}
