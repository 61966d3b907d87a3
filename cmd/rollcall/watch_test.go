package main

import (
	"strings"
	"testing"

	rollcallclient "rollcall/clients/go"
)

func TestWatchShowsStateAndChanges(t *testing.T) {
	_, base := openNode(t, NodeConfig{DiffWindow: -1})
	api := client(t, base)
	track(t, api, "lobby", "Alice", sessionA, `{}`)
	cmd := start(t, "watch", "lobby", "--url", base)
	cmd.awaitLine(t, "  Alice")
	track(t, api, "lobby", "Bob", sessionB, `{}`)
	track(t, api, "lobby", "Alice", sessionA, `{"status":"away"}`)
	track(t, api, "lobby", "Alice", sessionB, `{}`)
	leave(t, api, sessionA)
	leave(t, api, sessionB)
	cmd.awaitLine(t, "- Bob")
	const want = "1 person on 1 device\n  Alice\n+ Bob\n~ Alice {\"status\":\"away\"}\n+ Alice (2 devices)\n- Alice (1 device)\n- Alice\n- Bob\n"
	swapped := strings.Replace(want, "- Alice\n- Bob\n", "- Bob\n- Alice\n", 1) // one session's presences end in any order
	eventually(t, func() bool { got := cmd.stdout.String(); return got == want || got == swapped })
	if code := cmd.stop(t); code != exitFine || cmd.stderr.Len() > 0 {
		t.Errorf("exit code %d, %q; want 0", code, cmd.stderr)
	}
}

func TestWatchSeveralTopics(t *testing.T) {
	_, base := openNode(t, NodeConfig{})
	api := client(t, base)
	track(t, api, "a&b", "Alice", sessionA, `{}`)
	cmd := start(t, "watch", "a&b", "c/d", "--url", base)
	cmd.awaitLine(t, "a&b:   Alice")
	cmd.awaitLine(t, "c/d: 0 people on 0 devices")
	track(t, api, "c/d", "Bob", sessionB, `{}`)
	cmd.awaitLine(t, "c/d: + Bob")
}

func TestWatchPrintsJSON(t *testing.T) {
	_, base := openNode(t, NodeConfig{})
	api := client(t, base)
	one, two := start(t, "watch", "lobby", "--json", "--url", base), start(t, "watch", "lobby", "attic", "--json", "--url", base)
	for _, cmd := range []*command{one, two} {
		eventually(t, func() bool { return strings.Contains(cmd.stdout.String(), `"topic":"lobby","data":{}}`) })
	}
	eventually(t, func() bool { return strings.Contains(two.stdout.String(), `"topic":"attic","data":{}}`) })
	track(t, api, "lobby", "Alice", sessionA, `{"x":1}`)
	for _, cmd := range []*command{one, two} {
		eventually(t, func() bool { return strings.Contains(cmd.stdout.String(), "presence_diff") })
		lines := strings.Split(strings.TrimSpace(cmd.stdout.String()), "\n")
		last := decode[eventLine](t, lines[len(lines)-1])
		diff := decode[rollcallclient.PresenceDiff](t, string(last.Data))
		if last.Event != "presence_diff" || last.Topic != "lobby" || last.ID == "" || diff.Joins["Alice"].Metas[0].AdditionalProperties["x"] != 1.0 {
			t.Errorf("last line %+v, want Alice's join", last)
		}
	}
}

func TestWatchGoesOnAfterABreak(t *testing.T) {
	_, base := openNode(t, NodeConfig{DiffWindow: -1})
	api, proxy := client(t, base), newFlaky(t, base)
	cmd := start(t, "watch", "lobby", "--url", proxy.URL)
	cmd.awaitLine(t, "0 people on 0 devices")
	track(t, api, "lobby", "Alice", sessionA, `{}`)
	cmd.awaitLine(t, "+ Alice")
	proxy.cut()
	eventually(t, func() bool { return strings.Contains(cmd.stderr.String(), "the stream has ended") })
	track(t, api, "lobby", "Bob", sessionB, `{}`)
	leave(t, api, sessionA)
	proxy.restore()
	cmd.awaitLine(t, "- Alice")
	const want = "0 people on 0 devices\n+ Alice\n+ Bob\n- Alice\n"
	if got := cmd.stdout.String(); got != want {
		t.Errorf("stdout %q, want %q", got, want)
	}
	requests := proxy.seen("GET", "/events")
	if got := requests[len(requests)-1].Header.Get("Last-Event-ID"); got == "" {
		t.Error("the stream was opened again without Last-Event-ID")
	}
}

func TestWatchGoesOnWithAnotherNode(t *testing.T) {
	dir := t.TempDir()
	first, base := openNode(t, NodeConfig{DataDir: dir})
	track(t, client(t, base), "lobby", "Alice", sessionA, `{}`)
	cmd := start(t, "watch", "lobby", "--url", base)
	cmd.awaitLine(t, "  Alice")
	if err := first.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, base = openNode(t, NodeConfig{DataDir: dir, Addr: strings.TrimPrefix(base, "http://")})
	track(t, client(t, base), "lobby", "Bob", sessionB, `{}`)
	cmd.awaitLine(t, "+ Bob")
	leave(t, client(t, base), sessionA) // she was restored with the node
	cmd.awaitLine(t, "- Alice")
	if got, want := cmd.stdout.String(), "1 person on 1 device\n  Alice\n+ Bob\n- Alice\n"; got != want {
		t.Errorf("stdout %q, want %q", got, want)
	}
}
