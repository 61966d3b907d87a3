package port

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

func TestLoadCredentialsRefusesWhatCannotWork(t *testing.T) {
	authority, other := newCA(t), newCA(t)
	authority.issue("good", nil)
	authority.issue("expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	authority.issue("future", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })
	authority.issue("server", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	file := authority.file
	for name, test := range map[string]struct{ secret, cert, key, ca, want string }{
		"short secret":        {secret: write(t, "fifteen bytes!!\n"), want: "has 15 bytes, and at least 16 are needed"},
		"empty secret":        {secret: write(t, ""), want: "has 0 bytes"},
		"no secret file":      {secret: file("missing"), want: "no such file"},
		"two files of three":  {cert: file("good.pem"), key: file("good.key"), want: "three files"},
		"no such certificate": {cert: file("missing"), key: file("good.key"), ca: file("ca.pem"), want: "no such file"},
		"key of another":      {cert: file("good.pem"), key: file("server.key"), ca: file("ca.pem"), want: "does not match"},
		"CA file without one": {cert: file("good.pem"), key: file("good.key"), ca: file("good.key"), want: "no certificate in"},
		"another's CA":        {cert: file("good.pem"), key: file("good.key"), ca: other.file("ca.pem"), want: "unknown authority"},
		"expired":             {cert: file("expired.pem"), key: file("expired.key"), ca: file("ca.pem"), want: "expired"},
		"not yet valid":       {cert: file("future.pem"), key: file("future.key"), ca: file("ca.pem"), want: "not yet valid"},
		"for servers alone":   {cert: file("server.pem"), key: file("server.key"), ca: file("ca.pem"), want: "key usage"},
		"good with bad secret": {secret: write(t, "short"), cert: file("good.pem"), key: file("good.key"), ca: file("ca.pem"),
			want: "at least 16"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := LoadCredentials(test.secret, test.cert, test.key, test.ca); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("LoadCredentials = %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestSecretIsWithoutItsFinalNewline(t *testing.T) {
	want := withSecret(t, secret).greetingKey
	for content, same := range map[string]bool{secret: true, secret + "\r\n": true, secret + "\n\n": false, secret + " ": false} {
		if got := load(t, write(t, content), "", "", "").greetingKey; bytes.Equal(got, want) != same {
			t.Errorf("the secret of %q is that of %q: %v, want %v", content, secret+"\n", !same, same)
		}
	}
	if _, err := LoadCredentials(write(t, "sixteen bytes!!!\n"), "", "", ""); err != nil {
		t.Errorf("a secret of %d bytes: %v", MinSecretBytes, err)
	}
}

func TestPlain(t *testing.T) {
	var none *Credentials
	for name, test := range map[string]struct {
		credentials *Credentials
		plain       bool
	}{
		"nil": {none, true}, "no files": {load(t, "", "", "", ""), true}, "secret": {withSecret(t, secret), false},
	} {
		if got := test.credentials.Plain(); got != test.plain {
			t.Errorf("%s: Plain() = %v, want %v", name, got, test.plain)
		}
	}
}

func TestCredentialsNeverShow(t *testing.T) {
	c := withSecret(t, secret)
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("opened", "credentials", c)
	if want := "credentials=secret\n"; !strings.HasSuffix(logged.String(), want) {
		t.Errorf("logged %q, want it to end in %q", logged.String(), want)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, c); got != "secret" {
			t.Errorf("%s prints %q", verb, got)
		}
	}
}

func TestCertificatesAreReplacedWhileRunning(t *testing.T) {
	old, renewed := newCA(t), newCA(t)
	old.issue("a", nil)
	old.issue("b", nil)
	var log syncBuffer
	a := openNode(t, Config{Credentials: old.load("a", ""), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	addr := a.Addr().String()
	post := func(when string, credentials *Credentials, want bool) {
		t.Helper()
		if err := openNode(t, Config{Credentials: credentials}).post(addr, when); (err == nil) != want {
			t.Errorf("%s: %v, want success: %v", when, err, want)
		}
	}
	b := old.load("b", "")
	post("before", b, true)

	// A certificate whose key has not arrived yet.
	key, err := os.ReadFile(old.file("a.key"))
	if err != nil {
		t.Fatal(err)
	}
	old.issue("a", nil)
	newKey, err := os.ReadFile(old.file("a.key"))
	if err != nil {
		t.Fatal(err)
	}
	replace := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(old.file(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		later := time.Now().Add(time.Minute) // another time than before, whatever the file system's resolution
		if err := os.Chtimes(old.file(name), later, later); err != nil {
			t.Fatal(err)
		}
	}
	replace("a.key", key)
	post("with the old key", b, true)
	post("with the old key again", b, true)
	if got := strings.Count(log.String(), "are not used"); got != 1 {
		t.Errorf("%d warnings about the files, want 1; log:\n%s", got, log.String())
	}
	replace("a.key", newKey)
	post("with both", b, true)

	// Another authority.
	renewed.issue("a", nil)
	renewed.issue("b", nil)
	for _, name := range []string{"a.pem", "a.key", "ca.pem"} {
		content, err := os.ReadFile(renewed.file(name))
		if err != nil {
			t.Fatal(err)
		}
		replace(name, content)
	}
	post("with the new authority", renewed.load("b", ""), true)
	post("with a certificate of the old authority", b, false)
}
