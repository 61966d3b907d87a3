package main

import (
	"strings"
	"testing"

	rollcallclient "rollcall/clients/go"
)

func TestTrackIsPresentUntilStopped(t *testing.T) {
	_, base := openNode(t, NodeConfig{})
	api, proxy := client(t, base), newFlaky(t, base)
	cmd := start(t, "track", "room/ä %", "Alice", "--meta", `{"device":"phone"}`, "--ttl", "1s", "--url", proxy.URL)
	eventually(t, func() bool { return strings.Contains(cmd.stdout.String(), "Alice is present in room/ä %: ref ") })
	if got, want := list(t, api, "room/ä %"), `{"Alice":[{"device":"phone"}]}`; got != want {
		t.Errorf("present: %s, want %s", got, want)
	}
	eventually(t, func() bool { return len(proxy.seen("POST", "/heartbeat")) > 5 }) // more than the ttl
	if got, want := list(t, api, "room/ä %"), `{"Alice":[{"device":"phone"}]}`; got != want {
		t.Errorf("after the ttl: %s, want %s", got, want)
	}
	if code := cmd.stop(t); code != exitFine {
		t.Errorf("exit code %d, %q; want 0", code, cmd.stderr)
	}
	cmd.awaitLine(t, "Alice has left room/ä %.")
	if got := list(t, api, "room/ä %"); got != "{}" {
		t.Errorf("after the end: %s, want nobody", got)
	}
	path := proxy.seen("POST", "/heartbeat")[0].URL.Path
	session := strings.Split(path, "/")[3]
	if output := cmd.stdout.String() + cmd.stderr.String(); len(session) < 16 || strings.Contains(output, session) {
		t.Errorf("the output holds the session %s: %s", session, output)
	}
}

func TestTrackSurvivesAnOutage(t *testing.T) {
	_, base := openNode(t, NodeConfig{})
	api, proxy := client(t, base), newFlaky(t, base)
	cmd := start(t, "track", "lobby", "Alice", "--ttl", "1s", "--session", sessionA, "--url", proxy.URL)
	eventually(t, func() bool { return strings.Contains(cmd.stdout.String(), "Alice is present in lobby: ref ") }) // it has the answer, too
	proxy.cut()
	eventually(t, func() bool { return strings.Contains(cmd.stderr.String(), "cannot reach "+proxy.URL) })
	eventually(t, func() bool { return list(t, api, "lobby") == `{}` }) // the lease has run out
	proxy.restore()
	eventually(t, func() bool { return list(t, api, "lobby") == `{"Alice":[{}]}` })
	eventually(t, func() bool { return strings.Contains(cmd.stdout.String(), "Alice is present in lobby again: ref ") })
	eventually(t, func() bool { return strings.Contains(cmd.stderr.String(), "the node is back") })
	if n := strings.Count(cmd.stderr.String(), "cannot reach"); n != 1 {
		t.Errorf("the outage was reported %d times, want once: %q", n, cmd.stderr)
	}
	if _, err := answer[rollcallclient.Lease](api.Heartbeat(t.Context(), sessionA)); err != nil {
		t.Errorf("the session is not the same: %v", err)
	}
}

func TestTrackEndsOnlyItsOwnPresenceOfAGivenSession(t *testing.T) {
	_, base := openNode(t, NodeConfig{})
	api := client(t, base)
	track(t, api, "attic", "Alice", sessionA, `{}`)
	cmd := start(t, "track", "lobby", "Alice", "--session", sessionA, "--show-session", "--url", base)
	cmd.awaitLine(t, "session "+sessionA)
	if code := cmd.stop(t); code != exitFine {
		t.Errorf("exit code %d, %q; want 0", code, cmd.stderr)
	}
	if lobby, attic := list(t, api, "lobby"), list(t, api, "attic"); lobby != `{}` || attic != `{"Alice":[{}]}` {
		t.Errorf("lobby %s, attic %s; want only the attic's presence", lobby, attic)
	}
}

func TestTrackTakesOverAPresenceThatIsThere(t *testing.T) {
	_, base := openNode(t, NodeConfig{})
	api := client(t, base)
	track(t, api, "lobby", "Alice", sessionA, `{"old":true}`)
	cmd := start(t, "track", "lobby", "Alice", "--session", sessionA, "--meta", `{"new":true}`, "--ttl", "10s", "--url", base)
	eventually(t, func() bool { return strings.Contains(cmd.stdout.String(), "ttl 10s") })
	if got, want := list(t, api, "lobby"), `{"Alice":[{"new":true}]}`; got != want {
		t.Errorf("present: %s, want %s", got, want)
	}
}

func TestTrackSaysWhenItCouldNotLeave(t *testing.T) {
	_, base := openNode(t, NodeConfig{})
	proxy := newFlaky(t, base)
	cmd := start(t, "track", "lobby", "Alice", "--url", proxy.URL)
	eventually(t, func() bool { return cmd.stdout.Len() > 0 })
	proxy.cut()
	if code := cmd.stop(t); code != exitFailure || !strings.Contains(cmd.stderr.String(), "Alice is present until the ttl of 30s has passed") {
		t.Errorf("exit code %d, %q; want 1 and until when she is present", code, cmd.stderr)
	}
}
