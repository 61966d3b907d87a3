package port

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// newClient makes the client for requests. It goes through no proxy and follows no redirect: what other nodes send is for members.
func (p *Port) newClient() *http.Client {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            p.dial,
			Protocols:              protocols,
			DisableCompression:     true, // the exchange knows what is worth it
			MaxIdleConnsPerHost:    64,
			IdleConnTimeout:        clientIdleTimeout,
			MaxResponseHeaderBytes: maxHeaderBytes,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// dial opens a connection to another node's port, up to where it knows us as a member.
func (p *Port) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()

	connecting, cancelConnecting := context.WithTimeout(ctx, p.config.DialTimeout)
	defer cancelConnecting()
	raw, err := p.config.Dial(connecting, network, addr)
	if err != nil {
		return nil, err // net's name the address
	}
	c, err := p.keep(raw)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	shaking, cancelShaking := context.WithTimeout(ctx, p.config.HandshakeTimeout)
	defer cancelShaking()
	secured, err := p.config.Credentials.secure(shaking, c, dialler, p.warn)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return secured, nil
}

// listen opens a TCP listener whose connections notice dead peers.
func listen(addr string, deadAfter time.Duration) (net.Listener, error) {
	config := net.ListenConfig{Control: controlDeadAfter(deadAfter), KeepAliveConfig: keepAlive(deadAfter)}
	return config.Listen(context.Background(), "tcp", addr)
}

// dialer opens TCP connections that notice dead peers.
func dialer(deadAfter time.Duration) *net.Dialer {
	return &net.Dialer{Control: controlDeadAfter(deadAfter), KeepAliveConfig: keepAlive(deadAfter)}
}

// keepAlive is for connections that are idle. The system counts in whole seconds.
func keepAlive(deadAfter time.Duration) net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: max(deadAfter/2, time.Second), Interval: max(deadAfter/5, time.Second), Count: 3}
}
