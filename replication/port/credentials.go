package port

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
)

// MinSecretBytes is the length of the shortest secret that is taken.
const MinSecretBytes = 16

// What is derived from the secret is named here, with a version: other nodes must derive the same.
const (
	authorityInfo = "rollcall cluster authority v1"
	greetingInfo  = "rollcall cluster greeting v1"
	exporterLabel = "EXPORTER-rollcall-cluster-v1"
)

// ErrUntrusted is returned by a dial to a node whose credentials are not those of this one's cluster.
var ErrUntrusted = errors.New("the credentials of the two nodes do not match: give all nodes of a cluster the same secret, or certificates of one authority")

// Credentials are what the nodes of a cluster know each other by. They print as what they are made of, never as what they are.
type Credentials struct {
	identities  identities // nil: plain
	greetingKey []byte     // empty without a secret
	kind        string
}

// identities are the certificate that a node shows and its check of the other's.
type identities interface {
	// config returns the TLS configuration of one connection. With an error it may return one, too: the last that was good.
	config(side side) (*tls.Config, error)
}

// side is an end of a connection.
type side string

const (
	dialler  side = "dialler"
	listener side = "listener"
)

// LoadCredentials reads the files that are named: a secret, or a certificate with its key and the authority that signed all nodes' certificates,
// in PEM, or both, or none of them. A newline that ends the secret is not part of it.
func LoadCredentials(secretFile, certFile, keyFile, caFile string) (*Credentials, error) {
	c := &Credentials{kind: "none"}
	var secret []byte
	if secretFile != "" {
		var err error
		if secret, err = readSecret(secretFile); err != nil {
			return nil, err
		}
		if c.greetingKey, err = hkdf.Key(sha256.New, secret, nil, greetingInfo, sha256.Size); err != nil {
			return nil, fmt.Errorf("cluster secret: %w", err)
		}
	}
	var err error
	switch {
	case certFile != "" && keyFile != "" && caFile != "":
		c.kind = "certificate"
		if secret != nil {
			c.kind = "certificate and secret"
		}
		c.identities, err = loadFiles(certFile, keyFile, caFile)
	case certFile != "" || keyFile != "" || caFile != "":
		err = errors.New("the cluster's TLS needs three files, a certificate, its key and the authority (CA) that signed it: give all of them or none")
	case secret != nil:
		c.kind = "secret"
		c.identities, err = deriveAuthority(secret)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

func readSecret(file string) ([]byte, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cluster secret: %w", err)
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	if len(secret) < MinSecretBytes {
		return nil, fmt.Errorf("the cluster secret in %s has %d bytes, and at least %d are needed: make one with openssl rand -base64 32",
			file, len(secret), MinSecretBytes)
	}
	return []byte(secret), nil
}

// Plain tells that there are no credentials: whoever reaches the port is a member, and everything can be read on the way.
func (c *Credentials) Plain() bool { return c == nil || c.identities == nil }

// String says which kind of credentials these are.
func (c *Credentials) String() string {
	if c == nil {
		return "none"
	}
	return c.kind
}

// GoString is String, also for %#v.
func (c *Credentials) GoString() string { return c.String() }

// LogValue is String, for slog.
func (c *Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// secure makes conn a connection whose other end is a member, or closes it. It takes until ctx ends at most. Trouble with files that have changed, which
// does not stop it, goes to warn.
func (c *Credentials) secure(ctx context.Context, conn net.Conn, side side, warn func(error)) (net.Conn, error) {
	if c.Plain() {
		return conn, nil
	}
	config, err := c.identities.config(side)
	if err != nil {
		warn(err)
	}
	secured := tls.Server(conn, config)
	if side == dialler {
		secured = tls.Client(conn, config)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	err = c.handshake(ctx, secured, side)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, explain(ctx, err)
	}
	return secured, nil
}

// handshake is TLS's, and a greeting each way, the dialler's first.
func (c *Credentials) handshake(ctx context.Context, conn *tls.Conn, side side) error {
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	state := conn.ConnectionState()
	shared, err := state.ExportKeyingMaterial(exporterLabel, nil, sha256.Size)
	if err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	if side == dialler {
		_, _ = conn.Write(c.greeting(dialler, shared)) // when this fails, what can be read says why
	}
	theirs := make([]byte, sha256.Size)
	if _, err := io.ReadFull(conn, theirs); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	if side == dialler {
		return compare(theirs, c.greeting(listener, shared))
	}
	err = compare(theirs, c.greeting(dialler, shared))
	ours := make([]byte, sha256.Size) // zeros say no: a proof for a stranger would let him guess at the secret
	if err == nil {
		ours = c.greeting(listener, shared)
	}
	if _, writeErr := conn.Write(ours); writeErr != nil && err == nil {
		err = fmt.Errorf("greeting: %w", writeErr)
	}
	return err
}

func (c *Credentials) greeting(from side, shared []byte) []byte {
	mac := hmac.New(sha256.New, c.greetingKey)
	_, _ = io.WriteString(mac, string(from))
	_, _ = mac.Write(shared)
	return mac.Sum(nil)
}

func compare(theirs, expected []byte) error {
	if !hmac.Equal(theirs, expected) {
		return ErrUntrusted
	}
	return nil
}

// explain makes of a failed handshake's error what its reader can do something about.
func explain(ctx context.Context, err error) error {
	var (
		alert  *net.OpError
		notTLS tls.RecordHeaderError
	)
	switch {
	case errors.Is(err, ErrUntrusted):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("handshake: %w", ctx.Err())
	case errors.As(err, &notTLS):
		return fmt.Errorf("%w (the other side speaks without TLS: it has no secret or is no rollcall node)", ErrUntrusted)
	case errors.As(err, &alert) && alert.Op == "remote error": // how TLS tells what the other side says
		return fmt.Errorf("%w (%w)", ErrUntrusted, err)
	default:
		return fmt.Errorf("handshake: %w", err)
	}
}
