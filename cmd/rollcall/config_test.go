package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func writeFile(t *testing.T, content string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "rollcall.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	const file = `
addr: file:1
data-dir: /file
max-ttl: 3m
max-meta: 3000
resume-memory: 3MiB
insecure-open: true
allow-origin: [https://file-1.example, "https://file-2.example"]
log-format: json
`
	for name, test := range map[string]struct {
		file string
		env  map[string]string
		args []string
		got  func(c *serveCmd) any
		want any
	}{
		"addr: default":                {"", nil, nil, func(c *serveCmd) any { return c.Addr }, "127.0.0.1:7700"},
		"addr: file":                   {file, nil, nil, func(c *serveCmd) any { return c.Addr }, "file:1"},
		"addr: env over file":          {file, map[string]string{"ROLLCALL_ADDR": "env:1"}, nil, func(c *serveCmd) any { return c.Addr }, "env:1"},
		"addr: flag over all":          {file, map[string]string{"ROLLCALL_ADDR": "env:1"}, []string{"--addr=flag:1"}, func(c *serveCmd) any { return c.Addr }, "flag:1"},
		"addr: flag over file":         {file, nil, []string{"--addr=flag:1"}, func(c *serveCmd) any { return c.Addr }, "flag:1"},
		"max-ttl: default":             {"", nil, nil, func(c *serveCmd) any { return c.MaxTTL }, time.Hour},
		"max-ttl: file":                {file, nil, nil, func(c *serveCmd) any { return c.MaxTTL }, 3 * time.Minute},
		"max-ttl: env over file":       {file, map[string]string{"ROLLCALL_MAX_TTL": "2m"}, nil, func(c *serveCmd) any { return c.MaxTTL }, 2 * time.Minute},
		"max-ttl: flag over all":       {file, map[string]string{"ROLLCALL_MAX_TTL": "2m"}, []string{"--max-ttl", "1m"}, func(c *serveCmd) any { return c.MaxTTL }, time.Minute},
		"max-meta: default":            {"", nil, nil, func(c *serveCmd) any { return c.MaxMeta }, byteSize(4096)},
		"max-meta: number in the file": {file, nil, nil, func(c *serveCmd) any { return c.MaxMeta }, byteSize(3000)},
		"max-meta: env over file":      {file, map[string]string{"ROLLCALL_MAX_META": "2KiB"}, nil, func(c *serveCmd) any { return c.MaxMeta }, byteSize(2048)},
		"resume-memory: unit in file":  {file, nil, nil, func(c *serveCmd) any { return c.ResumeMemory }, byteSize(3 << 20)},
		"insecure-open: default":       {"", nil, nil, func(c *serveCmd) any { return c.InsecureOpen }, false},
		"insecure-open: file":          {file, nil, nil, func(c *serveCmd) any { return c.InsecureOpen }, true},
		"insecure-open: env over file": {file, map[string]string{"ROLLCALL_INSECURE_OPEN": "false"}, nil, func(c *serveCmd) any { return c.InsecureOpen }, false},
		"insecure-open: flag over all": {file, map[string]string{"ROLLCALL_INSECURE_OPEN": "true"}, []string{"--insecure-open=false"}, func(c *serveCmd) any { return c.InsecureOpen }, false},
		"allow-origin: default":        {"", nil, nil, func(c *serveCmd) any { return c.AllowOrigin }, []string(nil)},
		"allow-origin: list in file":   {file, nil, nil, func(c *serveCmd) any { return c.AllowOrigin }, []string{"https://file-1.example", "https://file-2.example"}},
		"allow-origin: string in file": {"allow-origin: https://file.example", nil, nil, func(c *serveCmd) any { return c.AllowOrigin }, []string{"https://file.example"}},
		"allow-origin: env over file":  {file, map[string]string{"ROLLCALL_ALLOW_ORIGIN": "https://a.example,https://b.example"}, nil, func(c *serveCmd) any { return c.AllowOrigin }, []string{"https://a.example", "https://b.example"}},
		"allow-origin: flag repeated":  {file, nil, []string{"--allow-origin=https://a.example", "--allow-origin=https://b.example"}, func(c *serveCmd) any { return c.AllowOrigin }, []string{"https://a.example", "https://b.example"}},
		"log-format: file":             {file, nil, nil, func(c *serveCmd) any { return c.LogFormat }, "json"},
		"diff-window: 0 is no default": {"diff-window: 0s", nil, nil, func(c *serveCmd) any { return c.nodeConfig(nil).DiffWindow < 0 }, true},
		"an empty file":                {"# nothing\n", nil, nil, func(c *serveCmd) any { return c.Addr }, "127.0.0.1:7700"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"serve"}, test.args...)
			if test.file != "" {
				args = append(args, "--config", writeFile(t, test.file))
			}
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			con, _, _ := recorded()
			var c cli
			if _, err := parse(&c, args, con); err != nil {
				t.Fatal(err)
			}
			if got := test.got(&c.Serve); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestConfigFileIsNamedByTheEnvironment(t *testing.T) {
	t.Setenv("ROLLCALL_CONFIG", writeFile(t, "addr: file:1"))
	con, _, _ := recorded()
	var c cli
	if _, err := parse(&c, []string{"serve"}, con); err != nil {
		t.Fatal(err)
	}
	if c.Serve.Addr != "file:1" {
		t.Errorf("addr = %s, want file:1", c.Serve.Addr)
	}
}

func TestConfigFileMistakes(t *testing.T) {
	for file, want := range map[string]string{
		"adr: x":                           `unknown key "adr"`,
		"max_ttl: 5m":                      `unknown key "max_ttl"`,
		"config: other.yaml":               `unknown key "config"`,
		"help: true":                       `unknown key "help"`,
		"addr: 7700":                       "addr must be a string, not 7700",
		"addr:":                            "addr must be a string, not empty",
		"addr: {host: x}":                  "addr must be a string, not a map",
		"keepalive: 15":                    "keepalive must be a duration such as 500ms, 30s or 1h, not 15",
		"keepalive: soon":                  `keepalive: expected duration but got "soon"`,
		`insecure-open: "yes"`:             `insecure-open must be true or false, not "yes"`,
		"allow-origin: [a, 1]":             "allow-origin must be a string or a list of strings, not [a 1]",
		"max-meta: -1":                     "max-meta must be a size such as 4096, 64KiB or 1MiB, not -1",
		"max-meta: 1.5":                    "max-meta must be a size such as 4096, 64KiB or 1MiB, not 1.5",
		"max-meta: many":                   `max-meta: "many" is not a size`,
		"log-level: loud":                  "--log-level must be one of",
		"addr: a\naddr: b":                 `mapping key "addr" already defined`,
		"- addr":                           "sequence was used where mapping is expected",
		"addr: [":                          "rollcall.yaml: [1:7]",
		"min-ttl: 1500ms\ndefault-ttl: 1s": "--min-ttl is 1.5s; it must be whole seconds, at least 1s\n--default-ttl is 1s; it must be between --min-ttl (1.5s) and --max-ttl (1h0m0s)",
		"max-meta: 1MiB":                   "--max-body is 1MiB; to hold a meta of --max-meta (1MiB) it must be at least 1026KiB",
		"max-meta: 1":                      "--max-meta is 1 bytes; {} alone needs 2",
		"resume-memory: 64":                "--resume-memory is 64 bytes; it must be at least 1MiB",
		"keepalive: 1ms":                   "--keepalive is 1ms; it must be at least 100ms",
		"write-timeout: 0s":                "--write-timeout is 0s; it must be at least 100ms",
		"drain: -1s":                       "--drain is -1s; it must not be negative",
		"diff-window: -1s":                 "--diff-window is -1s; it must not be negative",
	} {
		con, _, stderr := recorded()
		code := run(t.Context(), []string{"serve", "--config", writeFile(t, file)}, con)
		if code != exitUsage || !strings.Contains(stderr.String(), want) || !strings.Contains(stderr.String(), "see rollcall serve --help") {
			t.Errorf("%q: exit code %d, %q; want 2 and %q", file, code, stderr, want)
		}
	}
}

func TestConfigFileThatCannotBeRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.yaml")
	con, _, stderr := recorded()
	if code := run(t.Context(), []string{"serve", "--config", path}, con); code != exitUsage || !strings.Contains(stderr.String(), path) {
		t.Errorf("exit code %d, %q; want 2 and the path", code, stderr)
	}
}
