package membership

import (
	"strings"
	"testing"
)

func TestNextStep(t *testing.T) {
	for name, test := range map[string]struct {
		members, servers string // servers in capitals are voters; the leader is A
		well, dead       string
		want             step
	}{
		"nothing to do":                          {"abc", "ABC", "abc", "", step{}},
		"a new member":                           {"abc", "AB", "abc", "", step{add, "c"}},
		"one that was removed":                   {"ac", "ABC", "abc", "", step{remove, "b"}},
		"one that was removed goes first":        {"ad", "ABC", "abcd", "", step{remove, "b"}},
		"a non-voter that is well":               {"abc", "Abc", "ac", "", step{promote, "c"}},
		"a non-voter that is not":                {"ab", "Ab", "a", "", step{}},
		"enough voters":                          {"abcdef", "ABCDEf", "abcdef", "", step{}},
		"a dead voter, and none for it":          {"abc", "ABC", "ab", "c", step{}},
		"a dead voter, and room":                 {"abcd", "ABCd", "abd", "c", step{promote, "d"}},
		"a dead voter, and one instead":          {"abcdef", "ABCDEf", "abdef", "c", step{demote, "c"}},
		"a dead voter, and one that is not well": {"abcdef", "ABCDEf", "abde", "c", step{}},
		"the leader was removed":                 {"bc", "ABC", "abc", "", step{resign, "a"}},
		"the leader was removed, and is alone":   {"b", "Ab", "a", "", step{}},
		"the leader was removed, and is helped":  {"b", "Ab", "ab", "", step{promote, "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := situation{self: "a", maxVoters: 5, well: set(test.well), dead: set(test.dead)}
			for _, id := range strings.Split(test.members, "") {
				s.members = append(s.members, id)
			}
			for _, id := range strings.Split(test.servers, "") {
				s.servers = append(s.servers, server{id: strings.ToLower(id), voter: id == strings.ToUpper(id)})
			}
			if got := s.next(); got != test.want {
				t.Errorf("next = %v, want %v", got, test.want)
			}
		})
	}
}

func set(ids string) map[string]bool {
	set := map[string]bool{}
	for _, id := range strings.Split(ids, "") {
		set[id] = true
	}
	return set
}
