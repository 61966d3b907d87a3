package presence

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"room:lobby": true, "a": true, "__proto__": true, `"\`: true, "日本語 👩‍👩‍👧": true, " ": true, "a/b?c#d%": true,
		strings.Repeat("x", 255): true, strings.Repeat("é", 127): true, "\u2028": true,
		"": false, strings.Repeat("x", 256): false, strings.Repeat("é", 128): false,
		"a\nb": false, "\x00": false, "\x7f": false, "\u0085": false, "\xff": false, "a\xc3": false,
	} {
		_, topicErr := ParseTopic(name)
		_, keyErr := ParseKey(name)
		if (topicErr == nil) != ok || (keyErr == nil) != ok {
			t.Errorf("%.20q: topic %v, key %v, want ok = %v", name, topicErr, keyErr, ok)
		}
	}
}

func TestParseSessionID(t *testing.T) {
	for id, ok := range map[string]bool{
		"0123456789abcdef": true, strings.Repeat("Z", 64): true, "A-_-A-_-A-_-A-_-": true, "5f0c2a9e-1b2c-4d3e-8f90-a1b2c3d4e5f6": true,
		"": false, "0123456789abcde": false, strings.Repeat("Z", 65): false, "0123456789abcde=": false, "0123456789abcdeé": false,
	} {
		_, err := ParseSessionID(id)
		if (err == nil) != ok {
			t.Errorf("ParseSessionID(%q) = %v, want ok = %v", id, err, ok)
		}
		if err != nil && id != "" && strings.Contains(err.Error(), id) {
			t.Errorf("the error repeats the secret: %v", err)
		}
	}
}

// FuzzAppendName checks that every name that is taken becomes JSON that means it, on one line.
func FuzzAppendName(f *testing.F) {
	for _, seed := range []string{"room:lobby", `a"b\c`, "\u2028", "__proto__", "日本", "</script>", "\xff", "a\r\nb"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if _, err := ParseTopic(name); err != nil {
			return
		}
		if !utf8.ValidString(name) {
			t.Fatalf("%q is a topic and not UTF-8", name)
		}
		encoded := AppendName(nil, name)
		var back string
		if err := json.Unmarshal(encoded, &back); err != nil || back != name {
			t.Fatalf("%s means %q (%v), want %q", encoded, back, err, name)
		}
		if strings.ContainsAny(string(encoded), "\r\n") {
			t.Fatalf("%q breaks the line", encoded)
		}
	})
}
