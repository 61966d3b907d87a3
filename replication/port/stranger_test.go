package port

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A node without the secret gets nothing and changes nothing.
func TestStrangersGetNothing(t *testing.T) {
	ours, theirs := newCA(t), newCA(t)
	ours.issue("member", nil)
	theirs.issue("stranger", nil)
	secretFile := write(t, secret)
	for name, member := range map[string]*Credentials{
		"secret":                 withSecret(t, secret),
		"certificate":            ours.load("member", ""),
		"certificate and secret": ours.load("member", secretFile),
	} {
		for kind, stranger := range map[string]*Credentials{
			"none":                           nil,
			"secret":                         withSecret(t, secret),
			"other secret":                   withSecret(t, otherSecret),
			"certificate":                    ours.load("member", ""),
			"certificate and secret":         ours.load("member", secretFile),
			"certificate and other secret":   ours.load("member", write(t, otherSecret)),
			"other certificate":              theirs.load("stranger", ""),
			"other certificate and a secret": theirs.load("stranger", secretFile),
		} {
			if kind == name {
				continue
			}
			t.Run(kind+" to "+name, func(t *testing.T) {
				a, b := openNode(t, Config{Credentials: member}), openNode(t, Config{Credentials: stranger})
				for _, pair := range [][2]*node{{b, a}, {a, b}} {
					to := pair[1].Addr().String()
					err := pair[0].post(to, "let me in")
					_, streamErr := pair[0].Raft().Dial(to, patience)
					if err == nil || streamErr == nil {
						t.Fatalf("a request: %v; a stream: %v; want errors", err, streamErr)
					}
					if !pair[0].config.Credentials.Plain() && !errors.Is(err, ErrUntrusted) {
						t.Errorf("a request: %v, want ErrUntrusted", err)
					}
				}
				a.untouched(t)
				b.untouched(t)
			})
		}
	}
}

// strangers know what a cluster port speaks, and have no credentials.
func TestImpostors(t *testing.T) {
	request := "POST /cluster/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
	upgrade := "GET /cluster/raft HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: rollcall-raft\r\n\r\n"
	authority := newCA(t)
	authority.issue("self", nil)
	self, err := tls.LoadX509KeyPair(authority.file("self.pem"), authority.file("self.key"))
	if err != nil {
		t.Fatal(err)
	}
	n := openNode(t, Config{Credentials: withSecret(t, secret), HandshakeTimeout: 500 * time.Millisecond})
	secure := func(config *tls.Config, first string) func(net.Conn) (io.ReadWriter, string) {
		config.InsecureSkipVerify = true
		return func(conn net.Conn) (io.ReadWriter, string) { return tls.Client(conn, config), first }
	}
	for name, speak := range map[string]func(net.Conn) (io.ReadWriter, string){
		"plain HTTP":                   func(conn net.Conn) (io.ReadWriter, string) { return conn, request },
		"plain upgrade":                func(conn net.Conn) (io.ReadWriter, string) { return conn, upgrade },
		"silence":                      func(conn net.Conn) (io.ReadWriter, string) { return conn, "" },
		"half a TLS record":            func(conn net.Conn) (io.ReadWriter, string) { return conn, "\x16\x03\x01\x02\x00\x01" },
		"TLS, no certificate":          secure(&tls.Config{}, request),
		"TLS, certificate of his own":  secure(&tls.Config{Certificates: []tls.Certificate{self}}, request),
		"old TLS":                      secure(&tls.Config{MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{self}}, request),
		"TLS with a greeting of zeros": secure(&tls.Config{Certificates: []tls.Certificate{self}}, strings.Repeat("\x00", 32)+request),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", n.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			stream, first := speak(conn)
			_, writeErr := io.WriteString(stream, first)
			answer, err := io.ReadAll(stream)
			if isTimeout(err) || isTimeout(writeErr) {
				t.Errorf("the connection was not closed within %v", patience)
			}
			if bytes.Contains(answer, []byte("HTTP")) {
				t.Errorf("the answer was %q, want none", answer)
			}
			n.untouched(t)
		})
	}
}

// A member that dials an address where now somebody else listens, who has a certificate but not the secret, is not taken in by its own greeting.
func TestGreetingIsOfNoUseToWhoReflectsIt(t *testing.T) {
	authority := newCA(t)
	authority.issue("a", nil)
	member := authority.load("a", write(t, secret))
	n := openNode(t, Config{Credentials: member})
	config, err := member.identities.config(listener)
	if err != nil {
		t.Fatal(err)
	}
	impostor, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	reflected := make(chan error, 1)
	go func() {
		conn, err := impostor.Accept()
		if err == nil {
			defer conn.Close()
			_, err = io.CopyN(conn, conn, 32)
		}
		reflected <- err
	}()
	defer impostor.Close()
	if _, err := n.Raft().Dial(impostor.Addr().String(), patience); !errors.Is(err, ErrUntrusted) {
		t.Errorf("Dial = %v, want ErrUntrusted", err)
	}
	if err := <-reflected; err != nil {
		t.Errorf("the greeting could not be reflected: %v", err)
	}
}

// A certificate that expires while a node runs keeps it out from then on.
func TestPeersWithExpiredCertificatesAreRefused(t *testing.T) {
	authority := newCA(t)
	authority.issue("good", nil)
	authority.issue("expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	n := openNode(t, Config{Credentials: authority.load("good", "")})
	// LoadCredentials would refuse this, so it is put together by hand.
	expired, err := tls.LoadX509KeyPair(authority.file("expired.pem"), authority.file("expired.key"))
	if err != nil {
		t.Fatal(err)
	}
	anyone := func(tls.ConnectionState) error { return nil }
	stranger := openNode(t, Config{Credentials: &Credentials{identities: fixed{mutual(expired, anyone)}}})
	if err := stranger.post(n.Addr().String(), "let me in"); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a request = %v, want ErrUntrusted", err)
	}
	if err := n.post(stranger.Addr().String(), "secret"); !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "expired") {
		t.Errorf("a request = %v, want ErrUntrusted and that it has expired", err)
	}
	n.untouched(t)
	stranger.untouched(t)
}

type fixed struct{ tls *tls.Config }

func (f fixed) config(side) (*tls.Config, error) { return f.tls, nil }

func TestSilentStrangersAreCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &pipes{}
		n := openNode(t, Config{Credentials: withSecret(t, secret), Listener: network.listen("a:1"), Dial: network.dial})
		conn, err := network.dial(t.Context(), "pipe", "a:1")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		began := time.Now()
		drip := make(chan struct{})
		go func() { // one byte of a TLS record each second
			defer close(drip)
			for _, b := range []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") {
				if _, err := conn.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		_, err = io.ReadAll(conn)
		if took := time.Since(began); err != nil || took != 5*time.Second {
			t.Errorf("cut off after %v with %v, want 5s", took, err)
		}
		<-drip
		n.untouched(t)
	})
}

func TestSlowHeadersAreCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &pipes{}
		n := openNode(t, Config{Listener: network.listen("a:1"), Dial: network.dial})
		conn, err := network.dial(t.Context(), "pipe", "a:1")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		began := time.Now()
		if _, err := io.WriteString(conn, "GET /cluster/x HTTP/1.1\r\nHost: a\r\n"); err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(conn)
		if took := time.Since(began); took != headerTimeout {
			t.Errorf("cut off after %v, want %v", took, headerTimeout)
		}
		n.untouched(t)
	})
}

func TestLongHeadersAreRefused(t *testing.T) {
	n := openNode(t, Config{})
	request, err := http.NewRequest(http.MethodGet, "http://"+n.Addr().String()+"/cluster/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Long", strings.Repeat("x", 2*maxHeaderBytes))
	response, err := n.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d, want 431", response.StatusCode)
	}
	n.untouched(t)
}

func TestManyStrangersLockNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &pipes{}
		var log syncBuffer
		n := openNode(t, Config{Credentials: withSecret(t, secret), Listener: network.listen("a:1"), Dial: network.dial,
			Logger: slog.New(slog.NewTextHandler(&log, nil))})
		member := openNode(t, Config{Credentials: withSecret(t, secret), Listener: network.listen("b:1"), Dial: network.dial})
		var conns []net.Conn
		for range 2 * maxStrangers {
			conn, err := network.dial(t.Context(), "pipe", "a:1")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conns = append(conns, conn)
			synctest.Wait()
		}
		for i, conn := range conns {
			_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := conn.Read(make([]byte, 1)); errors.Is(err, io.EOF) != (i < maxStrangers) {
				t.Errorf("stranger %d of %d: read = %v", i, len(conns), err)
			}
		}
		if err := member.post("a:1", "still served"); err != nil {
			t.Error(err)
		}
		n.mu.Lock()
		if n.strangers.Len() > maxStrangers {
			t.Errorf("%d strangers, want at most %d", n.strangers.Len(), maxStrangers)
		}
		n.mu.Unlock()
		time.Sleep(refusalInterval) // all of them have timed out
		if got := strings.Count(log.String(), "was refused"); got != 1 {
			t.Errorf("%d log lines about strangers, want 1 for each %v; log:\n%s", got, refusalInterval, log.String())
		}
	})
}

// FuzzStranger sends bytes that no member sends. Nobody gets through, and the port goes on.
func FuzzStranger(f *testing.F) {
	f.Add([]byte("GET /cluster/x HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"))
	f.Add([]byte{0x15, 3, 3, 0, 2, 2, 40})
	f.Add(clientHello(f))
	f.Add([]byte{})
	file := filepath.Join(f.TempDir(), "port") // a Unix socket: TCP would run out of ports
	socket, err := net.Listen("unix", file)
	if err != nil {
		f.Fatal(err)
	}
	n := openNode(f, Config{Credentials: withSecret(f, secret), Listener: socket})
	member := openNode(f, Config{Credentials: withSecret(f, secret), Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", file)
	}})
	f.Fuzz(func(t *testing.T, input []byte) {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: file})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = conn.Write(input)
		_ = conn.CloseWrite()
		if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
			t.Error("the connection was not closed")
		}
		n.untouched(t)
		if err := member.post("port:1", "hello"); err != nil {
			t.Error(err)
		}
		if got := n.requests.Swap(0); got != 1 {
			t.Errorf("%d requests, want the member's", got)
		}
	})
}

// clientHello is the first message of a TLS client.
func clientHello(tb testing.TB) []byte {
	tb.Helper()
	near, far := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_ = tls.Client(near, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx)
		_ = near.Close()
	}()
	hello := make([]byte, 4096)
	read, err := far.Read(hello)
	cancel()
	_ = far.Close()
	if err != nil {
		tb.Fatal(fmt.Errorf("client hello: %w", err))
	}
	return hello[:read]
}
