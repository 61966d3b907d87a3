package port

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"time"
)

// authority is the certificate authority that all who know the secret derive from it, and a certificate of it that was made for this run.
type authority struct {
	public      ed25519.PublicKey
	certificate tls.Certificate
}

func deriveAuthority(secret []byte) (*authority, error) {
	seed, err := hkdf.Key(sha256.New, secret, nil, authorityInfo, ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("cluster secret: %w", err)
	}
	signer := ed25519.NewKeyFromSeed(seed)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cluster certificate: %w", err)
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "rollcall node"},
		NotBefore: time.Unix(0, 0),
		NotAfter:  time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280's word for no end
	}
	parent := &x509.Certificate{Subject: pkix.Name{CommonName: "rollcall cluster"}}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, fmt.Errorf("cluster certificate: %w", err)
	}
	return &authority{
		public:      signer.Public().(ed25519.PublicKey),
		certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private},
	}, nil
}

func (a *authority) config(side) (*tls.Config, error) {
	return mutual(a.certificate, a.verify), nil
}

// verify looks at the signature alone, so that no clock has a say. That the other side has the certificate's key, TLS has seen to.
func (a *authority) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) != 1 {
		return ErrUntrusted
	}
	leaf := state.PeerCertificates[0]
	if leaf.SignatureAlgorithm != x509.PureEd25519 || !ed25519.Verify(a.public, leaf.RawTBSCertificate, leaf.Signature) {
		return ErrUntrusted
	}
	return nil
}

// mutual is TLS in which both sides show a certificate and verify alone decides about the other's.
func mutual(certificate tls.Certificate, verify func(tls.ConnectionState) error) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{certificate},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // verify does it, on both sides
		VerifyConnection:       verify,
		SessionTicketsDisabled: true, // each connection is verified anew
	}
}
