package rollcallclient

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
)

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("decode %s: %v", text, err)
	}
	return v
}

// refs returns a short form of a state or of changes: each key with its refs.
func refs(metas []TrackedMeta) string {
	out := ""
	for _, meta := range metas {
		out += meta.PhxRef
	}
	return out
}

func short(s PresenceState) []string {
	out := []string{}
	for key, metas := range s {
		out = append(out, key+"="+refs(metas.Metas))
	}
	slices.Sort(out)
	return out
}

func TestSync(t *testing.T) {
	const state = `{"ann":{"metas":[{"phx_ref":"1"},{"phx_ref":"2"}]},"bob":{"metas":[{"phx_ref":"3"}]}}`
	for name, c := range map[string]struct {
		event, data string
		want        []string
		log         []string
	}{
		"a diff joins and leaves": {"diff", `{"joins":{"ann":{"metas":[{"phx_ref":"4"}]},"cat":{"metas":[{"phx_ref":"5"}]}},"leaves":{"bob":{"metas":[{"phx_ref":"3"}]}}}`,
			[]string{"ann=124", "cat=5"}, []string{"+ann 12 4", "+cat  5", "-bob  3"}},
		"an update": {"diff", `{"joins":{"ann":{"metas":[{"phx_ref":"4","phx_ref_prev":"1"}]}},"leaves":{"ann":{"metas":[{"phx_ref":"1"}]}}}`,
			[]string{"ann=24", "bob=3"}, []string{"+ann 12 4", "-ann 24 1"}},
		"what is there joins again": {"diff", `{"joins":{"bob":{"metas":[{"phx_ref":"3"}]}},"leaves":{}}`,
			[]string{"ann=12", "bob=3"}, []string{"+bob 3 3"}},
		"a stranger leaves": {"diff", `{"joins":{},"leaves":{"eve":{"metas":[{"phx_ref":"9"}]}}}`, []string{"ann=12", "bob=3"}, nil},
		"a new state": {"state", `{"ann":{"metas":[{"phx_ref":"2"},{"phx_ref":"6"}]},"__proto__":{"metas":[{"phx_ref":"7"}]}}`,
			[]string{"__proto__=7", "ann=26"}, []string{"+__proto__  7", "+ann 12 6", "-ann 26 1", "-bob  3"}},
		"the same state": {"state", state, []string{"ann=12", "bob=3"}, nil},
		"an empty state": {"state", `{}`, []string{}, []string{"-ann  12", "-bob  3"}},
	} {
		s, log := decode[PresenceState](t, state), []string(nil)
		note := func(sign string) Change {
			return func(key string, current, changed []TrackedMeta) {
				log = append(log, fmt.Sprintf("%s%s %s %s", sign, key, refs(current), refs(changed)))
			}
		}
		if c.event == "diff" {
			s.SyncDiff(decode[PresenceDiff](t, c.data), note("+"), note("-"))
		} else {
			s.SyncState(decode[PresenceState](t, c.data), note("+"), note("-"))
		}
		slices.Sort(log)
		if got := short(s); !slices.Equal(got, c.want) {
			t.Errorf("%s: state %v, want %v", name, got, c.want)
		}
		if !slices.Equal(log, c.log) {
			t.Errorf("%s: reported %q, want %q", name, log, c.log)
		}
	}
}
