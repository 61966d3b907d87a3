package main

import (
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// secretFile makes a file with a secret that is long enough.
func secretFile(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func parseServe(t *testing.T, args ...string) (*serveCmd, error) {
	t.Helper()
	con, _, _ := recorded()
	var c cli
	_, err := parse(&c, append([]string{"serve"}, args...), con)
	return &c.Serve, err
}

func TestClusterFlagsReachTheNode(t *testing.T) {
	secret := secretFile(t)
	c, err := parseServe(t, "--cluster-addr=0.0.0.0:7701", "--cluster-advertise=10.0.0.2:17701", "--advertise=presence.example:443",
		"--join=10.0.0.1:7701,[fd00::1]:7701", "--join=localhost:7701", "--cluster-secret-file="+secret,
		"--cluster-cert=cert.pem", "--cluster-key=key.pem", "--cluster-ca=ca.pem", "--down-after=500ms", "--forget-after=1s", "--journal-interval=5ms")
	if err != nil {
		t.Fatal(err)
	}
	got := c.nodeConfig(nil)
	want := NodeConfig{
		ClusterAddr: "0.0.0.0:7701", ClusterAdvertise: "10.0.0.2:17701", Advertise: "presence.example:443",
		Join: []string{"10.0.0.1:7701", "[fd00::1]:7701", "localhost:7701"}, ClusterSecretFile: secret,
		ClusterCert: "cert.pem", ClusterKey: "key.pem", ClusterCA: "ca.pem", DownAfter: 500 * time.Millisecond, ForgetAfter: time.Second,
		JournalInterval: 5 * time.Millisecond,

		Addr: got.Addr, MaxBodyBytes: got.MaxBodyBytes, DataDir: got.DataDir, DefaultTTL: got.DefaultTTL, MinTTL: got.MinTTL, MaxTTL: got.MaxTTL,
		MaxMetaBytes: got.MaxMetaBytes, DiffWindow: got.DiffWindow, KeepAlive: got.KeepAlive, WriteTimeout: got.WriteTimeout,
		ResumeBytes: got.ResumeBytes, Drain: got.Drain, Version: got.Version,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the node's configuration is %+v, want %+v", got, want)
	}
}

func TestClusterFlagsByDefaultAndInTheConfigFile(t *testing.T) {
	t.Setenv("ROLLCALL_JOIN", "") // as a template may leave it
	c, err := parseServe(t)
	if err != nil {
		t.Fatal(err)
	}
	if c.ClusterAddr != "" || len(c.Join) > 0 || c.DownAfter != 10*time.Second || c.ForgetAfter != 20*time.Minute || c.JournalInterval != 100*time.Millisecond {
		t.Errorf("by default %+v, journal %v", c.clusterFlags, c.JournalInterval)
	}
	os.Unsetenv("ROLLCALL_JOIN")
	c, err = parseServe(t, "--config", writeFile(t, "cluster-addr: localhost:7701\njoin: [10.0.0.1:7701, 10.0.0.2:7701]\ndown-after: 2s\ncluster-ca: ca\ncluster-cert: cert\ncluster-key: key\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := clusterFlags{ClusterAddr: "localhost:7701", Join: []string{"10.0.0.1:7701", "10.0.0.2:7701"}, DownAfter: 2 * time.Second,
		ClusterCA: "ca", ClusterCert: "cert", ClusterKey: "key", ForgetAfter: 20 * time.Minute}
	if !reflect.DeepEqual(c.clusterFlags, want) {
		t.Errorf("from the file %+v, want %+v", c.clusterFlags, want)
	}
}

func TestClusterFlagsThatDoNotFitTogether(t *testing.T) {
	secret := secretFile(t)
	short := writeFile(t, "0123456789abcde\n")
	const noSecret, noDial = "give all nodes the same secret", "is no address that others can connect to; write host:port"
	for args, wants := range map[string][]string{
		"--join 10.0.0.1:7701":                                         {"--join needs --cluster-addr"},
		"--cluster-advertise 10.0.0.1:7701":                            {"--cluster-advertise needs --cluster-addr"},
		"--cluster-secret-file " + secret:                              {"--cluster-secret-file needs --cluster-addr"},
		"--cluster-addr 127.0.0.1:0":                                   nil,
		"--cluster-addr [::1]:0":                                       nil,
		"--cluster-addr localhost:0":                                   nil,
		"--cluster-addr 10.0.0.1:7701":                                 {"--cluster-addr 10.0.0.1:7701 can be reached from other machines", noSecret},
		"--cluster-addr node:7701":                                     {noSecret},
		"--cluster-addr 10.0.0.1:7701 --cluster-secret-file " + secret: nil,
		"--cluster-addr 10.0.0.1:7701 --cluster-cert c --cluster-key k --cluster-ca a": nil,
		"--cluster-addr 10.0.0.1:7701 --cluster-cert c --cluster-key k":                {"--cluster-cert, --cluster-key and --cluster-ca go together"},
		"--cluster-addr 127.0.0.1:0 --cluster-ca a":                                    {"--cluster-cert, --cluster-key and --cluster-ca go together"},
		"--cluster-addr 127.0.0.1:0 --cluster-secret-file /nope":                       {"--cluster-secret-file: cluster secret: open /nope"},
		"--cluster-addr 127.0.0.1:0 --cluster-secret-file " + short:                    {"has 15 bytes, and at least 16 are needed"},
		"--cluster-addr 7701": {"--cluster-addr 7701 is no address to listen on"},
		"--cluster-addr :7701 --cluster-secret-file " + secret:                                   {"--cluster-addr :7701 is no address that other nodes can connect to; say with --cluster-advertise"},
		"--cluster-addr [::]:7701 --cluster-secret-file " + secret:                               {"say with --cluster-advertise"},
		"--cluster-addr :7701 --cluster-advertise 10.0.0.1:7701 --cluster-secret-file " + secret: nil,
		"--cluster-addr 127.0.0.1:0 --cluster-advertise 0.0.0.0:7701":                            {"--cluster-advertise 0.0.0.0:7701 " + noDial},
		"--cluster-addr 127.0.0.1:0 --join a:1,b":                                                {"--join b " + noDial},
		"--cluster-addr 127.0.0.1:0 --join a:0":                                                  {"--join a:0 " + noDial},
		"--advertise example.com":                                                                {"--advertise example.com " + noDial},
		"--advertise example.com:443":                                                            nil,
		"--down-after 499ms":                                                                     {"--down-after is 499ms; it must be at least 500ms"},
		"--down-after 5s --forget-after 5s":                                                      {"--forget-after is 5s; it must be longer than --down-after (5s)"},
		"--journal-interval 0s":                                                                  {"--journal-interval is 0s; it must be at least 1ms"},
		"--down-after 0s --join b":                                                               {"--down-after is 0s", "--join b " + noDial, "--join needs"}, // every mistake at once
	} {
		_, err := parseServe(t, strings.Fields(args)...)
		if len(wants) == 0 && err != nil {
			t.Errorf("%s: %v, want it taken", args, err)
		}
		for _, want := range wants {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", args, err, want)
			}
		}
	}
}

func TestAdvertised(t *testing.T) {
	for _, test := range []struct{ given, listening, fallback, want string }{
		{"presence.example:443", "10.0.0.1:7700", "", "presence.example:443"},
		{"", "10.0.0.1:7700", "10.9.9.9", "10.0.0.1:7700"},
		{"", "0.0.0.0:7700", "10.9.9.9", "10.9.9.9:7700"},
		{"", "[::]:7700", "fd00::1", "[fd00::1]:7700"},
		{"", "[::]:7700", "", ""},
	} {
		listening, err := net.ResolveTCPAddr("tcp", test.listening)
		if err != nil {
			t.Fatal(err)
		}
		if got := advertised(test.given, listening, test.fallback); got != test.want {
			t.Errorf("%+v: advertised %q", test, got)
		}
	}
}
