package membership

import (
	"errors"
	"reflect"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

func TestListApply(t *testing.T) {
	a, b, c := record{ID: "a", ClusterAddr: "a:1", Revision: 3}, record{ID: "b", ClusterAddr: "b:1"}, record{ID: "c", ClusterAddr: "c:1"}
	with := func(r record, addr string, revision uint64) record {
		r.ClusterAddr, r.Revision = addr, revision
		return r
	}
	before := list{Cluster: "x", Index: 7, Members: []record{a, c}}
	for name, test := range map[string]struct {
		from    list
		command command
		want    []record
		err     error
		unknown bool
	}{
		"found":             {list{}, command{Kind: joinCommand, Member: a, Cluster: "x"}, []record{a}, nil, false},
		"join":              {before, command{Kind: joinCommand, Member: b, Cluster: "y"}, []record{a, b, c}, nil, false},
		"join again":        {before, command{Kind: joinCommand, Member: with(a, "z:1", 0)}, []record{with(a, "z:1", 4), c}, nil, false},
		"update":            {before, command{Kind: updateCommand, Member: with(a, "z:1", 9)}, []record{with(a, "z:1", 9), c}, nil, false},
		"an older update":   {before, command{Kind: updateCommand, Member: with(a, "z:1", 2)}, []record{a, c}, nil, false},
		"update of none":    {before, command{Kind: updateCommand, Member: b}, []record{a, c}, ErrUnknownMember, false},
		"remove":            {before, command{Kind: removeCommand, Member: record{ID: "a"}}, []record{c}, nil, false},
		"remove of none":    {before, command{Kind: removeCommand, Member: record{ID: "b"}}, []record{a, c}, ErrUnknownMember, false},
		"remove of all":     {list{Cluster: "x", Members: []record{a}}, command{Kind: removeCommand, Member: record{ID: "a"}}, []record{a}, ErrLastMember, false},
		"a later version's": {before, command{Kind: 99, Member: record{ID: "a"}}, []record{a, c}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, known, err := test.from.apply(8, test.command)
			if want := (list{Cluster: "x", Index: 8, Members: test.want}); !reflect.DeepEqual(got, want) {
				t.Errorf("apply = %+v, want %+v", got, want)
			}
			if !errors.Is(err, test.err) || known == test.unknown {
				t.Errorf("apply = known %v, error %v, want %v, %v", known, err, !test.unknown, test.err)
			}
		})
	}
	if want := (list{Cluster: "x", Index: 7, Members: []record{a, c}}); !reflect.DeepEqual(before, want) {
		t.Errorf("apply changed the list that was: %+v", before)
	}
}

func TestMessagesIgnoreWhatALaterVersionAdds(t *testing.T) {
	later, err := cbor.Marshal(map[int]any{1: map[int]any{1: "a", 2: "a:1", 77: []string{"new"}}, 2: true, 99: "new"})
	if err != nil {
		t.Fatal(err)
	}
	var got joining
	if err := decode(later, &got); err != nil {
		t.Fatal(err)
	}
	if want := (joining{Member: record{ID: "a", ClusterAddr: "a:1"}, Update: true}); got != want {
		t.Errorf("decode = %+v, want %+v", got, want)
	}
}

func TestErrorsSurviveTheWayBetweenNodes(t *testing.T) {
	for _, c := range codes {
		p, status := problemOf(&userError{kind: c.err, sentence: "do this"})
		if got := p.err(); !errors.Is(got, c.err) || got.Error() != "do this" || status < 400 {
			t.Errorf("%v arrives as %v with status %d", c.err, got, status)
		}
	}
	if p, status := problemOf(errors.New("disk on fire")); p.err().Error() != "disk on fire" || status != 500 {
		t.Errorf("an unknown error arrives as %v with status %d", p.err(), status)
	}
}

func TestRecordValidate(t *testing.T) {
	good := record{ID: "abcdefghijklmnop", ClusterAddr: "[::1]:7946", PublicAddr: "https://node.example:8080", Version: "v1.2.3-dirty"}
	if err := good.validate(); err != nil {
		t.Errorf("validate of %+v = %v", good, err)
	}
	long := string(make([]byte, 300))
	for _, bad := range []record{
		{}, {ID: "a"}, {ID: "a b", ClusterAddr: "a:1"}, {ID: "a\n", ClusterAddr: "a:1"}, {ID: "a", ClusterAddr: "a"}, {ID: "a", ClusterAddr: ":1"},
		{ID: "a", ClusterAddr: "a:"}, {ID: "a", ClusterAddr: "a/b:1"}, {ID: "a", ClusterAddr: "u@a:1"}, {ID: "a", ClusterAddr: "a:1", Version: "\x00"},
		{ID: "a", ClusterAddr: "a:1", PublicAddr: long}, {ID: long, ClusterAddr: "a:1"},
	} {
		if bad.validate() == nil {
			t.Errorf("validate of %+v = nil", bad)
		}
	}
}
