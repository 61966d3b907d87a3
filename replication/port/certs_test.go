package port

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// ca is a certificate authority of the tests.
type ca struct {
	tb          testing.TB
	dir         string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newCA(tb testing.TB) *ca {
	tb.Helper()
	c := &ca{tb: tb, dir: tb.TempDir()}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	c.certificate, c.key = c.sign(template, nil, nil)
	c.write("ca.pem", "CERTIFICATE", c.certificate.Raw)
	return c
}

// file is the path of one of the CA's files: ca.pem, NAME.pem, NAME.key.
func (c *ca) file(name string) string { return filepath.Join(c.dir, name) }

// issue writes a certificate that change may alter, and its key.
func (c *ca) issue(name string, change func(*x509.Certificate)) {
	c.tb.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	certificate, key := c.sign(template, c.certificate, c.key)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		c.tb.Fatal(err)
	}
	c.write(name+".pem", "CERTIFICATE", certificate.Raw)
	c.write(name+".key", "EC PRIVATE KEY", der)
}

// sign makes a certificate with a new key; without a parent it signs itself.
func (c *ca) sign(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	c.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.tb.Fatal(err)
	}
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		c.tb.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		c.tb.Fatal(err)
	}
	return certificate, key
}

func (c *ca) write(name, kind string, der []byte) {
	c.tb.Helper()
	if err := os.WriteFile(c.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		c.tb.Fatal(err)
	}
}

// load returns the credentials of a node with a certificate of this CA.
func (c *ca) load(name, secretFile string) *Credentials {
	c.tb.Helper()
	return load(c.tb, secretFile, c.file(name+".pem"), c.file(name+".key"), c.file("ca.pem"))
}
