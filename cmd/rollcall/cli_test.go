package main

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestHelpSaysWhatMatters(t *testing.T) {
	for args, wants := range map[string][]string{
		"":       {"serve", "track", "watch", "topics", "count", "cluster list", "cluster remove", "version", "Exit codes", "3  the data directory is locked", "4  the address cannot", "ROLLCALL_MAX_TTL"},
		"--help": {"Exit codes", "watch"},
		"serve --help": {"Network:", "Data:", "Sessions:", "Streams:", "Operation:", "--config=FILE", `--addr="127.0.0.1:7700"`, "--insecure-open",
			"--allow-origin=ORIGIN,...", "--max-body=1MiB", `--data-dir="./rollcall-data"`, "--journal-interval=100ms",
			"Cluster:", "--cluster-addr=HOST:PORT", "--cluster-advertise=HOST:PORT", "--advertise=HOST:PORT", "--join=HOST:PORT,...", "--cluster-secret-file=FILE",
			"--cluster-cert=FILE", "--cluster-key=FILE", "--cluster-ca=FILE", "--down-after=10s", "--forget-after=20m", "--default-ttl=30s", "--min-ttl=1s", "--max-ttl=1h",
			"--max-meta=4KiB", "--diff-window=50ms", "--keepalive=15s", "--write-timeout=10s", "--resume-memory=64MiB", "--drain=10s",
			`--log-level="info"`, `--log-format="text"`, "Examples:", "Durations are written"},
		"track --help":          {"<topic> <key>", "--meta", "--session=ID", "--ttl=30s", "--show-session", `--url="http://127.0.0.1:7700"`, "Examples:"},
		"watch --help":          {"<topic> ...", "--json", "+ Alice (2 devices)", "Examples:"},
		"topics --help":         {"--prefix=TEXT", "--json", "Examples:"},
		"count --help":          {"<topic>", "--json"},
		"cluster --help":        {"cluster list", "cluster remove", "Examples:"},
		"cluster list --help":   {"--watch", "--json", "--interval=1s", "--url", "HEARD", "LAG", "Examples:"},
		"cluster remove --help": {"<id>", "--url", "Examples:"},
	} {
		con, stdout, stderr := recorded()
		if code := run(t.Context(), strings.Fields(args), con); code != exitFine || stderr.Len() > 0 {
			t.Errorf("%q: exit code %d, %q; want 0", args, code, stderr)
		}
		for _, want := range wants {
			if !strings.Contains(stdout.String(), want) {
				t.Errorf("%q: the help does not contain %q:\n%s", args, want, stdout)
			}
		}
	}
}

func TestUsageMistakes(t *testing.T) {
	for args, want := range map[string]string{
		"dance":                            `unexpected argument dance`,
		"serve --adr x":                    "unknown flag --adr, did you mean",
		"serve extra":                      "unexpected argument extra",
		"serve --max-ttl 5":                "--max-ttl: expected duration",
		"serve --max-meta lots":            `--max-meta: "lots" is not a size`,
		"serve --log-format xml":           `--log-format must be one of "text","json"`,
		"serve --default-ttl 2h":           "--default-ttl is 2h0m0s; it must be between --min-ttl (1s) and --max-ttl (1h0m0s)",
		"track lobby":                      `expected "<key>"`,
		"track lobby Alice --ttl 1500ms":   "--ttl is 1.5s; it must be whole seconds",
		"track lobby Alice --ttl 0s":       "--ttl is 0s; it must be whole seconds, at least 1s",
		"track lobby Alice --meta [1]":     "--meta must be a JSON object",
		"track lobby Alice --meta null":    "--meta must be a JSON object",
		"watch":                            `expected "<topic> ..."`,
		"watch lobby --url localhost:7700": `--url "localhost:7700" is not a URL`,
		"track lobby Alice --url x":        `--url "x" is not a URL`,
		"count lobby --url http://":        `--url "http://" is not a URL`,
		"topics --url ftp://x":             `--url "ftp://x" is not a URL`,
		"cluster dance":                    "unexpected argument dance",
		"cluster remove":                   `expected "<id>"`,
		"cluster --url ftp://x":            `--url "ftp://x" is not a URL`,
		"cluster --watch --interval 1ms":   "--interval is 1ms; it must be at least 100ms",
	} {
		con, stdout, stderr := recorded()
		code := run(t.Context(), strings.Fields(args), con)
		if code != exitUsage || !strings.Contains(stderr.String(), want) || stdout.Len() > 0 {
			t.Errorf("%q: exit code %d, %q; want 2 and %q", args, code, stderr, want)
		}
	}
}

func TestMistakeInTheEnvironmentIsNamed(t *testing.T) {
	t.Setenv("ROLLCALL_KEEPALIVE", "often")
	con, _, stderr := recorded()
	code := run(t.Context(), []string{"serve"}, con)
	if code != exitUsage || !strings.Contains(stderr.String(), `ROLLCALL_KEEPALIVE="often"`) {
		t.Errorf("exit code %d, %q; want 2 and the variable", code, stderr)
	}
}

func TestByteSize(t *testing.T) {
	for text, want := range map[string]byteSize{"0": 0, "4096": 4096, "4KiB": 4096, "1MiB": 1 << 20, "2 GiB": 2 << 30, "1kB": 1000, "1.5KiB": 1536} {
		var got byteSize
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "-1", "1XB", "99999999999GiB", "9EiB"} {
		var got byteSize
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q = %d, want an error", text, got)
		}
	}
	for size, want := range map[byteSize]string{0: "0 bytes", 4096: "4KiB", 1 << 20: "1MiB", 3 << 30: "3GiB", 1500: "1500 bytes", 1<<20 + 1024: "1025KiB"} {
		if got := size.String(); got != want {
			t.Errorf("%d is written %q, want %q", int64(size), got, want)
		}
	}
}

func TestVersion(t *testing.T) {
	con, stdout, _ := recorded()
	if code := run(t.Context(), []string{"version"}, con); code != exitFine || !strings.HasPrefix(stdout.String(), "rollcall ") {
		t.Errorf("exit code %d, %q; want 0 and the version", code, stdout)
	}
	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	for want, info := range map[string]debug.BuildInfo{
		"v1.2.3":          {Main: debug.Module{Version: "v1.2.3"}},
		"devel":           {Main: debug.Module{Version: "(devel)"}},
		"devel-abc":       {Settings: []debug.BuildSetting{setting("vcs.revision", "abc"), setting("vcs.modified", "false")}},
		"devel-abc-dirty": {Settings: []debug.BuildSetting{setting("vcs.revision", "abc"), setting("vcs.modified", "true")}},
	} {
		if got := buildVersion(&info); got != want {
			t.Errorf("version %q, want %q", got, want)
		}
	}
}
