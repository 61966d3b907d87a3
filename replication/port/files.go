package port

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// files are the certificate, key and authority that the user keeps, and may replace at any time.
type files struct {
	cert, key, ca string

	mu     sync.Mutex
	looked [3]stamp // at the files as they were when they were last read
	good   *identity
}

// identity is what was in the files.
type identity struct {
	certificate tls.Certificate
	roots       *x509.CertPool
}

// stamp tells a file from its successor.
type stamp struct {
	modified time.Time
	size     int64
}

func loadFiles(cert, key, ca string) (*files, error) {
	f := &files{cert: cert, key: key, ca: ca}
	if _, err := f.current(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *files) config(side side) (*tls.Config, error) {
	id, err := f.current()
	usage := x509.ExtKeyUsageServerAuth // of the other side
	if side == listener {
		usage = x509.ExtKeyUsageClientAuth
	}
	return mutual(id.certificate, func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return ErrUntrusted
		}
		if err := id.verify(state.PeerCertificates[0], state.PeerCertificates[1:], usage); err != nil {
			return fmt.Errorf("%w (%w)", ErrUntrusted, err)
		}
		return nil
	}), err
}

// current returns what is in the files. If they have changed and are no good, it returns what was there before, and the reason, once for each
// change: files that are replaced one after the other do not fit for a moment.
func (f *files) current() (*identity, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := [3]stamp{stampOf(f.cert), stampOf(f.key), stampOf(f.ca)}
	if f.good != nil && now == f.looked {
		return f.good, nil
	}
	f.looked = now
	id, err := f.read()
	if err != nil {
		return f.good, err
	}
	f.good = id
	return id, nil
}

// stampOf returns the zero stamp for a file that is not there; reading it gives the error.
func stampOf(file string) stamp {
	info, err := os.Stat(file)
	if err != nil {
		return stamp{}
	}
	return stamp{info.ModTime(), info.Size()}
}

func (f *files) read() (*identity, error) {
	certificate, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fmt.Errorf("cluster certificate %s with key %s: %w", f.cert, f.key, err)
	}
	pem, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, fmt.Errorf("cluster CA: %w", err)
	}
	id := &identity{certificate: certificate, roots: x509.NewCertPool()}
	if !id.roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("cluster CA: there is no certificate in %s", f.ca)
	}
	if err := id.check(); err != nil {
		return nil, fmt.Errorf("the other nodes would refuse the cluster certificate %s: %w", f.cert, err)
	}
	return id, nil
}

// check is what the other nodes will do with our certificate.
func (id *identity) check() error {
	var chain []*x509.Certificate
	for _, der := range id.certificate.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		chain = append(chain, c)
	}
	return errors.Join(
		id.verify(chain[0], chain[1:], x509.ExtKeyUsageServerAuth),
		id.verify(chain[0], chain[1:], x509.ExtKeyUsageClientAuth))
}

// verify checks the chain of signatures, the time and the usage, and no names.
func (id *identity) verify(leaf *x509.Certificate, others []*x509.Certificate, usage x509.ExtKeyUsage) error {
	options := x509.VerifyOptions{Roots: id.roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{usage}}
	for _, c := range others {
		options.Intermediates.AddCert(c)
	}
	_, err := leaf.Verify(options)
	return err
}
