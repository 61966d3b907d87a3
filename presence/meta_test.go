package presence

import (
	"errors"
	"strings"
	"testing"
)

func TestCanonicalMeta(t *testing.T) {
	for raw, want := range map[string]string{
		``:   `{}`,
		`{}`: `{}`,
		` { "b" : 1 , "a" : [ 1, {"y":2,"x":1} ] } `: `{"a":[1,{"x":1,"y":2}],"b":1}`,
		`{"phx_ref":"x","phx_ref_prev":"y","a":1}`:   `{"a":1}`,
		`{"n":12345678901234567890.5e400}`:           `{"n":12345678901234567890.5e400}`,
		`{"html":"<b>&</b>","n":null}`:               `{"html":"<b>&</b>","n":null}`,
		"{\"line\":\"a\\nb\\u2028\"}":                "{\"line\":\"a\\nb\\u2028\"}",
		`{"a":1,"a":2}`:                              `{"a":2}`,
	} {
		got, err := canonicalMeta(Meta(raw), 4096)
		if err != nil || string(got) != want {
			t.Errorf("canonicalMeta(%q) = %s, %v, want %s", raw, got, err, want)
		}
	}
	for _, raw := range []string{`null`, `[]`, `"x"`, `1`, `{`, `{}{}`, `{} x`, `{"a":}`, strings.Repeat(`{"a":`, 20000)} {
		var invalid *InvalidError
		if got, err := canonicalMeta(Meta(raw), 4096); !errors.As(err, &invalid) || invalid.Field != "meta" {
			t.Errorf("canonicalMeta(%.20q) = %s, %v, want an InvalidError for meta", raw, got, err)
		}
	}
	exact := `{"a":"` + strings.Repeat("x", 4096-8) + `"}`
	if _, err := canonicalMeta(Meta(exact), 4096); err != nil {
		t.Errorf("a meta of exactly the limit: %v", err)
	}
	if _, err := canonicalMeta(Meta(exact+" "), 4096); err != nil {
		t.Errorf("white space counts against the limit: %v", err)
	}
	if _, err := canonicalMeta(Meta(exact[:6]+"y"+exact[6:]), 4096); err == nil {
		t.Error("a meta one byte over the limit was taken")
	}
}

func TestMergeMeta(t *testing.T) {
	for _, c := range []struct{ meta, patch, want string }{
		{`{"a":1,"b":2}`, `{"b":null,"c":3}`, `{"a":1,"c":3}`},
		{`{"a":{"x":1,"y":2}}`, `{"a":{"x":null}}`, `{"a":{"y":2}}`},
		{`{"a":null}`, `{"b":1}`, `{"a":null,"b":1}`},
		{`{}`, `{"a":{"b":null}}`, `{"a":{}}`},
		{`{"a":1}`, `{}`, `{"a":1}`},
		{`{"a":[1,2]}`, `{"a":[3]}`, `{"a":[3]}`},
		{`{"n":12345678901234567890}`, `{"m":1e400}`, `{"m":1e400,"n":12345678901234567890}`},
		{`{"a":1}`, `{"phx_ref":"forged"}`, `{"a":1}`},
	} {
		got, err := mergeMeta(Meta(c.meta), Meta(c.patch), 4096)
		if err != nil || string(got) != c.want {
			t.Errorf("mergeMeta(%s, %s) = %s, %v, want %s", c.meta, c.patch, got, err, c.want)
		}
	}
	for _, patch := range []string{`null`, `[]`, `3`, `{`} {
		if got, err := mergeMeta(Meta(`{"a":1}`), Meta(patch), 4096); err == nil {
			t.Errorf("mergeMeta with the patch %s = %s, want an error", patch, got)
		}
	}
	if _, err := mergeMeta(Meta(`{"a":1}`), Meta(`{"b":"`+strings.Repeat("x", 90)+`"}`), 100); err == nil {
		t.Error("a merge that grows over the limit was taken")
	}
}
