package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/alecthomas/kong"
)

// serveCmd runs a node.
type serveCmd struct {
	Config string `placeholder:"FILE" help:"YAML file whose keys are these flags. A flag beats the environment, which beats the file."`

	Addr         string   `group:"Network:" default:"127.0.0.1:7700" help:"Address to listen on. Port 0 takes a free one."`
	InsecureOpen bool     `group:"Network:" help:"Listen on an address that is not loopback although there is no authentication: whoever reaches the node may read and change everything."`
	AllowOrigin  []string `group:"Network:" placeholder:"ORIGIN" help:"Origin of web pages that may use the node from a browser: https://app.example.com, https://*.example.com, or * for all. Can be repeated."`
	MaxBody      byteSize `group:"Network:" default:"1MiB" help:"Largest body of a request."`

	DataDir         string        `group:"Data:" default:"./rollcall-data" help:"Directory for what the node must not forget, made if it is not there. One process at a time can use it."`
	JournalInterval time.Duration `group:"Data:" default:"100ms" help:"Time between two writes of the journal, and so what a crash may lose of the latest changes."`

	clusterFlags

	DefaultTTL time.Duration `group:"Sessions:" default:"30s" help:"Time that a session lives without renewal, if it asks for no other. Whole seconds."`
	MinTTL     time.Duration `group:"Sessions:" default:"1s" help:"Shortest ttl that a session may ask for. Whole seconds."`
	MaxTTL     time.Duration `group:"Sessions:" default:"1h" help:"Longest ttl that a session may ask for. Whole seconds."`
	MaxMeta    byteSize      `group:"Sessions:" default:"4KiB" help:"Largest meta, as compact JSON."`

	DiffWindow   time.Duration `group:"Streams:" default:"50ms" help:"Changes of a topic within this time go out as one diff. 0 sends each by itself."`
	Keepalive    time.Duration `group:"Streams:" default:"15s" help:"Silence after which a stream gets a comment, so that proxies keep it open."`
	WriteTimeout time.Duration `group:"Streams:" default:"10s" help:"Time that a client may take nothing, or not answer on the network, before its stream is cut off."`
	ResumeMemory byteSize      `group:"Streams:" default:"64MiB" help:"Memory for diffs that are kept for clients that reconnect."`

	Drain     time.Duration `group:"Operation:" default:"10s" help:"Time over which streams are ended on shutdown, so that clients do not all come back at once. Without streams the node stops at once."`
	LogLevel  string        `group:"Operation:" enum:"debug,info,warn,error" default:"info" help:"Least important messages to log: debug, info, warn or error."`
	LogFormat string        `group:"Operation:" enum:"text,json" default:"text" help:"Format of the log on stderr: text or json."`
}

// Help is shown below the flags' summary.
func (c *serveCmd) Help() string {
	return `Below, each flag is shown with its default. Durations are written 500ms, 30s, 1h; sizes 4096 (bytes), 64KiB, 1MiB. Every flag
can be set in the environment, --max-ttl as ROLLCALL_MAX_TTL, and in a config file, as "max-ttl: 1h".

Examples:

    rollcall serve
    rollcall serve --addr 127.0.0.1:0 --data-dir /tmp/rollcall --log-level warn
    rollcall serve --config /etc/rollcall.yaml
    ROLLCALL_MAX_TTL=10m rollcall serve --allow-origin https://app.example.com
    rollcall serve --cluster-addr 10.0.0.1:7701 --cluster-secret-file /etc/rollcall.secret
    rollcall serve --cluster-addr 10.0.0.2:7701 --cluster-secret-file /etc/rollcall.secret --join 10.0.0.1:7701

Once the node takes requests, stdout gets the line "rollcall is ready on http://HOST:PORT"; the log goes to stderr. SIGTERM or Ctrl-C
stops the node in good order, a second one at once.`
}

// BeforeResolve reads the config file, if there is one.
func (c *serveCmd) BeforeResolve(command *kong.Context) error {
	flags := command.Selected().Flags
	for _, flag := range flags {
		path, _ := command.FlagValue(flag).(string)
		if flag.Name != "config" || path == "" {
			continue
		}
		file, err := readConfigFile(path, flags)
		if err != nil {
			return err
		}
		command.AddResolver(file)
	}
	return nil
}

// Validate checks what no single flag can, and reports every mistake at once.
func (c *serveCmd) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for _, ttl := range []struct {
		flag  string
		value time.Duration
	}{{"default-ttl", c.DefaultTTL}, {"min-ttl", c.MinTTL}, {"max-ttl", c.MaxTTL}} {
		check(ttl.value >= time.Second && ttl.value%time.Second == 0, "--%s is %v; it must be whole seconds, at least 1s", ttl.flag, ttl.value)
	}
	check(c.MinTTL <= c.DefaultTTL && c.DefaultTTL <= c.MaxTTL,
		"--default-ttl is %v; it must be between --min-ttl (%v) and --max-ttl (%v)", c.DefaultTTL, c.MinTTL, c.MaxTTL)
	check(c.DiffWindow >= 0, "--diff-window is %v; it must not be negative", c.DiffWindow)
	check(c.Drain >= 0, "--drain is %v; it must not be negative", c.Drain)
	check(c.Keepalive >= minInterval, "--keepalive is %v; it must be at least %v", c.Keepalive, minInterval)
	check(c.WriteTimeout >= minInterval, "--write-timeout is %v; it must be at least %v", c.WriteTimeout, minInterval)
	check(c.MaxMeta >= 2, "--max-meta is %v; {} alone needs 2", c.MaxMeta)
	check(c.MaxBody >= c.MaxMeta+bodyOverhead, "--max-body is %v; to hold a meta of --max-meta (%v) it must be at least %v",
		c.MaxBody, c.MaxMeta, c.MaxMeta+bodyOverhead)
	check(c.ResumeMemory >= 1<<20, "--resume-memory is %v; it must be at least 1MiB", c.ResumeMemory)
	check(c.JournalInterval >= minJournalInterval, "--journal-interval is %v; it must be at least %v", c.JournalInterval, minJournalInterval)
	return errors.Join(append(errs, c.validate()...)...)
}

const (
	minInterval        = 100 * time.Millisecond
	minJournalInterval = time.Millisecond
	bodyOverhead       = 2 << 10 // what a request needs besides its meta
)

// Run serves until ctx is done, and then stops in good order.
func (c *serveCmd) Run(ctx context.Context, con *console) error {
	logger := c.logger(con.stderr)
	node, err := OpenNode(c.nodeConfig(logger))
	if err != nil {
		return err
	}
	url := "http://" + node.Addr().String()
	con.printf("rollcall is ready on %s", url)
	if con.terminal {
		con.printf("\nDemo: %s/demo?name=Alice (open it in a few tabs)\nAPI:  %s/docs\nCtrl-C stops the node.", url, url)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- node.Wait() }()
	select {
	case err = <-stopped:
		return errors.Join(err, node.Shutdown(context.Background()))
	case <-ctx.Done():
		logger.Info("stopping", "cause", context.Cause(ctx))
		err = node.Shutdown(context.Background())
		logger.Info("stopped")
		return err
	}
}

func (c *serveCmd) nodeConfig(logger *slog.Logger) NodeConfig {
	window := c.DiffWindow
	if window == 0 {
		window = -1 // in the configuration of a node zero is the default
	}
	return NodeConfig{
		Addr:              c.Addr,
		InsecureOpen:      c.InsecureOpen,
		AllowOrigins:      c.AllowOrigin,
		MaxBodyBytes:      int64(c.MaxBody),
		DataDir:           c.DataDir,
		JournalInterval:   c.JournalInterval,
		ClusterAddr:       c.ClusterAddr,
		ClusterAdvertise:  c.ClusterAdvertise,
		Advertise:         c.Advertise,
		Join:              c.Join,
		ClusterSecretFile: c.ClusterSecretFile,
		ClusterCert:       c.ClusterCert,
		ClusterKey:        c.ClusterKey,
		ClusterCA:         c.ClusterCA,
		DownAfter:         c.DownAfter,
		ForgetAfter:       c.ForgetAfter,
		DefaultTTL:        c.DefaultTTL,
		MinTTL:            c.MinTTL,
		MaxTTL:            c.MaxTTL,
		MaxMetaBytes:      int(c.MaxMeta),
		DiffWindow:        window,
		KeepAlive:         c.Keepalive,
		WriteTimeout:      c.WriteTimeout,
		ResumeBytes:       int64(c.ResumeMemory),
		Drain:             c.Drain,
		Logger:            logger,
		Version:           programVersion(),
	}
}

func (c *serveCmd) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // kong has checked it
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
