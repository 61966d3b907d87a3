package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	rollcallclient "rollcall/clients/go"
)

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var value T
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return value
}

func TestRosterShowsDiffs(t *testing.T) {
	const before = `{"Alice":{"metas":[{"phx_ref":"a1","device":"phone"}]},"Bob":{"metas":[{"phx_ref":"b1"},{"phx_ref":"b2"}]}}`
	for name, test := range map[string]struct{ diff, want string }{
		"somebody comes":         {`{"joins":{"Carol":{"metas":[{"phx_ref":"c1"}]}},"leaves":{}}`, "+ Carol"},
		"on two devices":         {`{"joins":{"Carol":{"metas":[{"phx_ref":"c1"},{"phx_ref":"c2"}]}},"leaves":{}}`, "+ Carol (2 devices)"},
		"one more device":        {`{"joins":{"Alice":{"metas":[{"phx_ref":"a2"}]}},"leaves":{}}`, "+ Alice (2 devices)"},
		"somebody leaves":        {`{"joins":{},"leaves":{"Alice":{"metas":[{"phx_ref":"a1"}]}}}`, "- Alice"},
		"one of two devices":     {`{"joins":{},"leaves":{"Bob":{"metas":[{"phx_ref":"b1"}]}}}`, "- Bob (1 device)"},
		"both devices":           {`{"joins":{},"leaves":{"Bob":{"metas":[{"phx_ref":"b1"},{"phx_ref":"b2"}]}}}`, "- Bob"},
		"an update":              {`{"joins":{"Alice":{"metas":[{"phx_ref":"a2","phx_ref_prev":"a1","status":"away"}]}},"leaves":{"Alice":{"metas":[{"phx_ref":"a1"}]}}}`, `~ Alice {"status":"away"}`},
		"an update to nothing":   {`{"joins":{"Alice":{"metas":[{"phx_ref":"a2","phx_ref_prev":"a1"}]}},"leaves":{"Alice":{"metas":[{"phx_ref":"a1"}]}}}`, `~ Alice {}`},
		"an update and a device": {`{"joins":{"Alice":{"metas":[{"phx_ref":"a2","n":1},{"phx_ref":"a3"}]}},"leaves":{"Alice":{"metas":[{"phx_ref":"a1"}]}}}`, "~ Alice {\"n\":1}\n+ Alice (2 devices)"},
		"several keys in order":  {`{"joins":{"Dan":{"metas":[{"phx_ref":"d1"}]},"Carol":{"metas":[{"phx_ref":"c1"}]}},"leaves":{"Alice":{"metas":[{"phx_ref":"a1"}]}}}`, "- Alice\n+ Carol\n+ Dan"},
		"a key unknown before":   {`{"joins":{},"leaves":{"Zoe":{"metas":[{"phx_ref":"z1"}]}}}`, ""},
		"control characters":     {`{"joins":{"Alice":{"metas":[{"phx_ref":"a2","x":"\u009b1m\u007f"}]}},"leaves":{"Alice":{"metas":[{"phx_ref":"a1"}]}}}`, `~ Alice {"x":"�1m�"}`},
		"nothing":                {`{"joins":{},"leaves":{}}`, ""},
	} {
		r := roster{}
		r.applyState(decode[rollcallclient.PresenceState](t, before))
		if got := strings.Join(r.applyDiff(decode[rollcallclient.PresenceDiff](t, test.diff)), "\n"); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestRosterShowsTheFirstStateWholeAndLaterOnesByWhatChanged(t *testing.T) {
	r := roster{}
	for _, step := range []struct {
		state string
		want  []string
	}{
		{`{"Bob":{"metas":[{"phx_ref":"b1"}]},"Alice":{"metas":[{"phx_ref":"a1"},{"phx_ref":"a2"}]}}`, []string{"2 people on 3 devices", "  Alice (2 devices)", "  Bob"}},
		{`{"Bob":{"metas":[{"phx_ref":"b1"}]},"Alice":{"metas":[{"phx_ref":"a1"},{"phx_ref":"a2"}]}}`, nil},
		{`{"Bob":{"metas":[{"phx_ref":"b2","x":1}]},"Carol":{"metas":[{"phx_ref":"c1"}]}}`, []string{"- Alice", `~ Bob {"x":1}`, "+ Carol"}},
		{`{}`, []string{"- Bob", "- Carol"}},
	} {
		if got := r.applyState(decode[rollcallclient.PresenceState](t, step.state)); !slices.Equal(got, step.want) {
			t.Errorf("state %s: got %q, want %q", step.state, got, step.want)
		}
	}
	empty := roster{}
	if got := empty.applyState(rollcallclient.PresenceState{}); !slices.Equal(got, []string{"0 people on 0 devices"}) {
		t.Errorf("an empty topic: got %q", got)
	}
}
