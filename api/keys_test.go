package api_test

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"rollcall/api"
)

func TestKeysAreFoundWhereTheyAre(t *testing.T) {
	n := start(t)
	n.track("lobby", "Alice", session1)
	n.track("lobby", "Alice", session2)
	n.track("attic", "Alice", session1)
	n.track("lobby", "__proto__", session1)

	alice := decode[api.Whereabouts](n.get("/v1/keys/Alice").want(http.StatusOK))
	if !alice.Online || len(alice.Topics) != 2 || len(alice.Topics["lobby"].Metas) != 2 || len(alice.Topics["attic"].Metas) != 1 {
		t.Errorf("Alice is %+v", alice)
	}
	if got := strings.TrimSpace(n.get("/v1/keys/Nobody").want(http.StatusOK).body); got != `{"online":false,"topics":{}}` {
		t.Errorf("Nobody is %s", got)
	}

	a := n.do("POST", "/v1/keys/query", `{"keys":["Nobody","Alice","__proto__","Alice"]}`).want(http.StatusOK)
	want := api.KeysOnline{
		"Alice":     {Online: true, Topics: []string{"attic", "lobby"}},
		"Nobody":    {Topics: []string{}},
		"__proto__": {Online: true, Topics: []string{"lobby"}},
	}
	if got := decode[api.KeysOnline](a); !reflect.DeepEqual(got, want) {
		t.Errorf("online = %+v, want %+v", got, want)
	}
	if got := strings.TrimSpace(n.do("POST", "/v1/keys/query", `{"keys":[]}`).want(http.StatusOK).body); got != "{}" {
		t.Errorf("no keys = %s", got)
	}
}

func TestKeysQueryTakesAThousandKeys(t *testing.T) {
	n := start(t)
	n.do("POST", "/v1/keys/query", encode(t, map[string]any{"keys": numbered("key", 1000)})).want(http.StatusOK)
	problem := n.do("POST", "/v1/keys/query", encode(t, map[string]any{"keys": numbered("key", 1001)})).
		wantProblem(http.StatusUnprocessableEntity, api.ProblemCodeInvalidField, "keys")
	if want := "keys has 1001 entries; at most 1000 are allowed."; problem.Detail != want {
		t.Errorf("detail = %s, want %s", problem.Detail, want)
	}
	problem = n.do("POST", "/v1/keys/query", `{"keys":["Alice","","Bob"]}`).
		wantProblem(http.StatusUnprocessableEntity, api.ProblemCodeInvalidField, "keys")
	if want := "keys[1] must not be empty."; problem.Detail != want {
		t.Errorf("detail = %s, want %s", problem.Detail, want)
	}
}

func numbered(prefix string, count int) (names []string) {
	for i := range count {
		names = append(names, fmt.Sprintf("%s-%020d", prefix, i))
	}
	return names
}
