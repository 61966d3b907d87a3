package api_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"rollcall/api"
)

const (
	malformed = api.ProblemCodeMalformedJson
	unknown   = api.ProblemCodeUnknownField
	invalid   = api.ProblemCodeInvalidField
)

func TestBodiesThatCannotBeTakenSayWhy(t *testing.T) {
	n := start(t)
	const (
		track      = "POST /v1/topics/lobby/presences"
		put        = "PUT /v1/topics/lobby/presences/Alice"
		patch      = "PATCH /v1/topics/lobby/presences/Alice"
		query      = "POST /v1/keys/query"
		heartbeats = "POST /v1/heartbeats"
	)
	session := func(rest string) string { return `{"session":"` + session1 + `"` + rest + `}` }
	for _, test := range []struct {
		call, body string
		status     int
		code       api.ProblemCode
		field      string
		detail     string // a part of it
	}{
		{track, ` `, 400, malformed, "", "empty"},
		{track, `{`, 400, malformed, "", "unexpected end of JSON input, at byte 1"},
		{track, `{"key":"Alice"`, 400, malformed, "", "unexpected end"},
		{track, `{"key":"Alice"}}`, 400, malformed, "", "after top-level value"},
		{track, `{"key":"Alice"} {"key":"Bob"}`, 400, malformed, "", "after top-level value"},
		{track, `{"key":"Alice",}`, 400, malformed, "", "at byte 16"},
		{track, `{key:"Alice"}`, 400, malformed, "", "invalid character 'k'"},
		{track, `{'key':'Alice'}`, 400, malformed, "", "invalid character"},
		{track, `key=Alice`, 400, malformed, "", "invalid character"},
		{track, "{\"key\":\"A\xff\"}", 400, malformed, "", "UTF-8"},
		{track, "{\"key\":\"A\n\"}", 400, malformed, "", "invalid character"},
		{track, "\ufeff{\"key\":\"Alice\"}", 400, malformed, "", "invalid character"},
		{track, `[]`, 400, malformed, "", "not an object"},
		{track, `null`, 400, malformed, "", "not an object"},
		{track, `"Alice"`, 400, malformed, "", "not an object"},
		{track, `{"key":"Alice","key":"Bob"}`, 400, malformed, "", `field "key" twice`},
		{track, `{"key":"Alice","meta":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`, 400, malformed, "", "depth"},
		{track, `{"key":"Alice","name":1}`, 400, unknown, "name", `"name" that this call does not know; it knows key, meta, session, ttl`},
		{track, `{"Key":"Alice"}`, 400, unknown, "Key", "does not know"},
		{track, `{"key":"Alice","":1}`, 400, unknown, "", "does not know"},
		{track, `{"key":"Alice","` + strings.Repeat("é", 500) + `":1}`, 400, unknown, strings.Repeat("é", 32) + "…", "does not know"},
		{track, `{}`, 422, invalid, "key", "key is missing."},
		{track, `{"key":null}`, 422, invalid, "key", "key must not be null."},
		{track, `{"key":1}`, 422, invalid, "key", "key must be a string; found a number."},
		{track, `{"key":["Alice"]}`, 422, invalid, "key", "key must be a string; found an array."},
		{track, `{"key":""}`, 422, invalid, "key", "key must not be empty."},
		{track, `{"key":"a\u0000b"}`, 422, invalid, "key", "control character U+0000"},
		{track, `{"key":"` + strings.Repeat("x", 256) + `"}`, 422, invalid, "key", "256 bytes long; at most 255"},
		{track, `{"key":"Alice","session":null}`, 422, invalid, "session", "session is null; leave it out instead."},
		{track, `{"key":"Alice","session":7}`, 422, invalid, "session", "must be a string"},
		{track, `{"key":"Alice","session":"short"}`, 422, invalid, "session", "16 to 64 characters"},
		{track, `{"key":"Alice","meta":null}`, 422, invalid, "meta", "meta is null; leave it out instead."},
		{track, `{"key":"Alice","meta":[1]}`, 422, invalid, "meta", "must be a JSON object"},
		{track, `{"key":"Alice","meta":"{}"}`, 422, invalid, "meta", "must be a JSON object"},
		{track, `{"key":"Alice","meta":{"x":"` + strings.Repeat("x", 5000) + `"}}`, 422, invalid, "meta", "5008 bytes of JSON; at most 4096"},
		{track, `{"key":"Alice","ttl":null}`, 422, invalid, "ttl", "leave it out"},
		{track, `{"key":"Alice","ttl":"30"}`, 422, invalid, "ttl", "ttl must be a whole number; found a string."},
		{track, `{"key":"Alice","ttl":1.5}`, 422, invalid, "ttl", "ttl must be a whole number; found a number 1.5."},
		{track, `{"key":"Alice","ttl":0}`, 422, invalid, "ttl", "ttl is 0 seconds; it must be at least 1."},
		{track, `{"key":"Alice","ttl":-5}`, 422, invalid, "ttl", "ttl is -5 seconds"},
		{track, `{"key":"Alice","ttl":3601}`, 422, invalid, "ttl", "ttl is "},
		{track, `{"key":"Alice","ttl":9223372036854775807}`, 422, invalid, "ttl", "ttl is "},
		{track, `{"key":"Alice","ttl":18446744075}`, 422, invalid, "ttl", "ttl is "}, // wraps round to a few seconds
		{track, `{"key":"Alice","ttl":99999999999999999999}`, 422, invalid, "ttl", "whole number"},
		{put, session(""), 422, invalid, "meta", "meta is missing."},
		{put, session(`,"meta":null`), 422, invalid, "meta", "meta must not be null."},
		{put, `{"meta":{}}`, 422, invalid, "session", "session is missing."},
		{put, session(`,"meta":{},"key":"Alice"`), 400, unknown, "key", "it knows meta, session"},
		{put, session(`,"meta":1`), 422, invalid, "meta", "must be a JSON object"},
		{patch, session(""), 422, invalid, "meta", "meta is missing."},
		{patch, session(`,"meta":[]`), 404, api.ProblemCodeUnknownSession, "", "Track again"},
		{query, `{"keys":"Alice"}`, 422, invalid, "keys", "keys must be an array of strings; found a string."},
		{query, `{"keys":[1]}`, 422, invalid, "keys", "keys must be an array of strings; found a number."},
		{query, `{"keys":[null]}`, 422, invalid, "keys", "keys[0] must not be empty."},
		{query, `{}`, 422, invalid, "keys", "keys is missing."},
		{heartbeats, `{"sessions":{}}`, 422, invalid, "sessions", "array of strings"},
	} {
		method, path, _ := strings.Cut(test.call, " ")
		a := n.do(method, path, test.body)
		if problem := a.wantProblem(test.status, test.code, test.field); !strings.Contains(problem.Detail, test.detail) {
			t.Errorf("%s: detail %q, want %q", test.body, problem.Detail, test.detail)
		}
		if strings.Contains(a.body, session1) {
			t.Errorf("%s: the answer repeats the session: %s", test.body, a.body)
		}
	}
	if got := n.tracker.Stats(); got.Tracks != 0 || got.Sessions != 0 {
		t.Errorf("bad bodies have left %+v", got)
	}
}

func TestBodiesMustBeDeclaredAsJSON(t *testing.T) {
	n := start(t)
	for mediaType, status := range map[string]int{
		"application/json":                   http.StatusCreated,
		"application/json; charset=UTF-8":    http.StatusCreated,
		"Application/JSON;charset=\"utf-8\"": http.StatusCreated,
		"application/json;charset=latin1":    http.StatusUnsupportedMediaType,
		"text/plain":                         http.StatusUnsupportedMediaType,
		"application/x-www-form-urlencoded":  http.StatusUnsupportedMediaType,
		"application/jsonp":                  http.StatusUnsupportedMediaType,
		"application/json;;":                 http.StatusUnsupportedMediaType,
		"":                                   http.StatusUnsupportedMediaType,
	} {
		a := n.do("POST", "/v1/topics/lobby/presences", `{"key":"Alice"}`, "Content-Type", mediaType)
		if a.StatusCode != status {
			t.Errorf("Content-Type %q = %d, want %d", mediaType, a.StatusCode, status)
		}
	}
	n.do("POST", "/v1/topics/lobby/presences", `{"key":"Alice"}`, "Content-Encoding", "gzip").
		wantProblem(http.StatusUnsupportedMediaType, api.ProblemCodeUnsupportedMediaType, "")
}

func TestBodiesAreTakenUpToTheirLimit(t *testing.T) {
	const limit = 8192
	n := start(t, func(c *api.Config) { c.MaxBodyBytes = limit })
	fits := fmt.Sprintf(`{"key":"Alice"%*s`, limit-len(`{"key":"Alice"`), "}")
	n.do("POST", "/v1/topics/lobby/presences", fits).want(http.StatusCreated)
	problem := n.do("POST", "/v1/topics/lobby/presences", fits+" ").
		wantProblem(http.StatusRequestEntityTooLarge, api.ProblemCodeBodyTooLarge, "")
	if want := "The body is larger than 8192 bytes."; problem.Detail != want {
		t.Errorf("detail = %s, want %s", problem.Detail, want)
	}

	// A body that does not say how long it is, and does not end.
	conn, err := net.Dial("tcp", strings.TrimPrefix(n.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /v1/topics/lobby/presences HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
	fmt.Fprintf(conn, "%x\r\n%s\r\n", limit+1, fits+" ")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusRequestEntityTooLarge || !response.Close {
		t.Errorf("an endless body = %s, close %v; want 413 and the connection closed", response.Status, response.Close)
	}
}

func TestBodyThatEndsEarlyIsMalformed(t *testing.T) {
	n := start(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(n.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /v1/topics/lobby/presences HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"key\":")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("half a body = %s, want 400", response.Status)
	}
}
