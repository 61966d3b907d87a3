package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	rollcallclient "rollcall/clients/go"
	"rollcall/tests/contract"
	"rollcall/tests/program"
)

// badInput is a request as bytes, and what must come back.
type badInput struct {
	name    string
	request string
	status  int
	code    string // of the problem; "" when the request does not get as far as the API
	field   string
}

// request returns a request in HTTP/1.1. Lines are more headers.
func request(method, target, body string, lines ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: x\r\n", method, target)
	if body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	for _, line := range lines {
		b.WriteString(line + "\r\n")
	}
	return b.String() + "\r\n" + body
}

const asJSON = "Content-Type: application/json"

// post and put return requests with a JSON body.
func post(target, body string) string { return request("POST", target, body, asJSON) }
func put(target, body string) string  { return request("PUT", target, body, asJSON) }

// exchange sends bytes over a connection of its own, ends its side of it if told to, and returns the answer.
func (n *node) exchange(raw string, end bool) (*http.Response, []byte) {
	n.t.Helper()
	conn, err := net.Dial("tcp", n.Addr())
	if err != nil {
		n.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(program.Patience))
	go func() { // a node that has refused reads no further
		_, _ = io.WriteString(conn, raw)
		if end {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
	}()
	method, _, _ := strings.Cut(raw, " ")
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		n.t.Fatalf("%.200q: %v", raw, err)
	}
	if strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		return response, nil
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		n.t.Fatalf("%.200q: %v", raw, err)
	}
	return response, body
}

// check sends a bad input and compares the answer, with the contract as well.
func (n *node) check(test badInput, end bool) {
	n.t.Helper()
	response, body := n.exchange(test.request, end)
	if response.StatusCode != test.status {
		n.t.Errorf("%s: %s %s, want %d", test.name, response.Status, body, test.status)
		return
	}
	if test.code == "" {
		return
	}
	problem := decode[rollcallclient.Problem](n.t, body)
	field := ""
	if problem.Field != nil {
		field = *problem.Field
	}
	if string(problem.Code) != test.code || field != test.field || !strings.HasSuffix(problem.Detail, ".") {
		n.t.Errorf("%s: %s, want code %q and field %q", test.name, body, test.code, test.field)
	}
	parsed, err := http.ReadRequest(bufio.NewReader(strings.NewReader(test.request)))
	if err != nil {
		n.t.Fatalf("%s: %v", test.name, err)
	}
	parsed.URL.Scheme, parsed.URL.Host = "http", n.Addr()
	response.Body = io.NopCloser(bytes.NewReader(body))
	if err := contract.CheckResponse(parsed, response); err != nil {
		n.t.Errorf("%s: %s breaks the contract: %v", test.name, body, err)
	}
}

// stillServes checks that a node is as good as new.
func (n *node) stillServes() {
	n.t.Helper()
	w := n.watch("/v1/topics/afterwards/events")
	w.nextState()
	session := n.track("afterwards", `{"key":"Alice"}`).Session
	w.nextDiff()
	n.leave(session)
	if leaves := w.nextDiff().Leaves; len(leaves["Alice"].Metas) != 1 {
		n.t.Errorf("left %v, want Alice", leaves)
	}
}

func repeated(n int, element string) string {
	return strings.TrimSuffix(strings.Repeat(element+",", n), ",")
}

func TestBadURLsAreRefusedWithAReason(t *testing.T) {
	t.Parallel()
	n := serve(t)
	long := strings.Repeat("x", 256)
	for _, test := range []badInput{
		{"a path that is not percent-encoded", request("GET", "/v1/topics/%zz/presences", ""), 400, "", ""},
		{"a path that ends in a %", request("GET", "/v1/topics/100%/presences", ""), 400, "", ""},
		{"a space in the path", request("GET", "/v1/topics/a b/presences", ""), 400, "", ""},
		{"a query that is not percent-encoded", request("GET", "/v1/topics?prefix=100%", ""), 400, "malformed_url", ""},
		{"a query with a semicolon", request("GET", "/v1/topics?limit=1;after=x", ""), 400, "malformed_url", ""},
		{"… of a stream", request("GET", "/v1/topics/a/events?key=%z", ""), 400, "malformed_url", ""},
		{"… of an untrack", request("DELETE", "/v1/topics/a/presences/b?session=%", ""), 400, "malformed_url", ""},

		{"a topic that is not UTF-8", request("GET", "/v1/topics/%ff/presences", ""), 422, "invalid_field", "topic"},
		{"a topic with a NUL", request("GET", "/v1/topics/a%00b/count", ""), 422, "invalid_field", "topic"},
		{"a topic with a line feed", post("/v1/topics/a%0Ab/presences", `{"key":"a"}`), 422, "invalid_field", "topic"},
		{"a topic with DEL", request("GET", "/v1/topics/a%7F/events", ""), 422, "invalid_field", "topic"},
		{"a topic with a C1 control", request("GET", "/v1/topics/a%C2%85/count", ""), 422, "invalid_field", "topic"},
		{"a topic of 256 bytes", request("GET", "/v1/topics/"+long+"/presences", ""), 422, "invalid_field", "topic"},
		{"no topic", request("GET", "/v1/topics//presences", ""), 422, "invalid_field", "topic"},
		{"a key of 256 bytes", request("GET", "/v1/topics/a/presences/"+long, ""), 422, "invalid_field", "key"},
		{"a key that is not UTF-8", request("GET", "/v1/keys/%c3%28", ""), 422, "invalid_field", "key"},
		{"no key", request("GET", "/v1/keys/", ""), 422, "invalid_field", "key"},
		{"no key in a topic", request("DELETE", "/v1/topics/a/presences/?session=alice-phone-0001", ""), 422, "invalid_field", "key"},
		{"no session", request("DELETE", "/v1/sessions/", ""), 422, "invalid_field", "session"},
		{"a session that is too short", request("DELETE", "/v1/sessions/tooshort", ""), 422, "invalid_field", "session"},
		{"a session that is too long", request("POST", "/v1/sessions/"+long+"/heartbeat", ""), 422, "invalid_field", "session"},
		{"a session with a dot", request("POST", "/v1/sessions/alice.phone.0001/leave", ""), 422, "invalid_field", "session"},
		{"untrack without a session", request("DELETE", "/v1/topics/a/presences/b", ""), 422, "invalid_field", "session"},
		{"untrack with two sessions", request("DELETE", "/v1/topics/a/presences/b?session=alice-phone-0001&session=bobs-phone-00001", ""), 422, "invalid_field", "session"},

		{"limit=0", request("GET", "/v1/topics?limit=0", ""), 422, "invalid_field", "limit"},
		{"limit=-1", request("GET", "/v1/topics/a/presences?limit=-1", ""), 422, "invalid_field", "limit"},
		{"limit=1001", request("GET", "/v1/topics?limit=1001", ""), 422, "invalid_field", "limit"},
		{"limit=10001", request("GET", "/v1/topics/a/presences?limit=10001", ""), 422, "invalid_field", "limit"},
		{"limit=x", request("GET", "/v1/topics?limit=x", ""), 422, "invalid_field", "limit"},
		{"limit=1e2", request("GET", "/v1/topics?limit=1e2", ""), 422, "invalid_field", "limit"},
		{"limit=", request("GET", "/v1/topics?limit=", ""), 422, "invalid_field", "limit"},
		{"limit beyond 64 bits", request("GET", "/v1/topics?limit=99999999999999999999", ""), 422, "invalid_field", "limit"},
		{"two limits", request("GET", "/v1/topics?limit=1&limit=2", ""), 422, "invalid_field", "limit"},
		{"two prefixes", request("GET", "/v1/topics?prefix=a&prefix=b", ""), 422, "invalid_field", "prefix"},
		{"two afters", request("GET", "/v1/topics/a/presences?after=a&after=b", ""), 422, "invalid_field", "after"},
		{"an after of 256 bytes", request("GET", "/v1/topics?after="+long, ""), 422, "invalid_field", "after"},
		{"a prefix that is not UTF-8", request("GET", "/v1/topics?prefix=%ff", ""), 422, "invalid_field", "prefix"},

		{"an unknown path", request("GET", "/v1/nope", ""), 404, "not_found", ""},
		{"an unknown version", request("GET", "/v2/topics", ""), 404, "not_found", ""},
		{"a path that goes on", request("GET", "/v1/topics/a/presences/b/c", ""), 404, "not_found", ""},
		{"a path with dots", request("GET", "/v1/../../etc/passwd", ""), 404, "not_found", ""},
		{"a wrong method", request("PUT", "/v1/topics", ""), 405, "method_not_allowed", ""},
		{"a wrong method for a list", request("DELETE", "/v1/topics/a/presences", ""), 405, "method_not_allowed", ""},
		{"a wrong method for a stream", request("POST", "/v1/topics/a/events", ""), 405, "method_not_allowed", ""},
		{"a wrong method for a heartbeat", request("GET", "/v1/sessions/alice-phone-0001/heartbeat", ""), 405, "method_not_allowed", ""},
		{"a wrong method for a probe", request("DELETE", "/healthz", ""), 405, "method_not_allowed", ""},
		{"TRACE", request("TRACE", "/v1/topics", ""), 405, "method_not_allowed", ""},
		{"a method that nobody knows", request("BREW", "/v1/topics", ""), 405, "method_not_allowed", ""},
	} {
		n.check(test, false)
	}
	n.stillServes()
}

func TestBadStreamsAreRefusedWithAReason(t *testing.T) {
	t.Parallel()
	n := serve(t)
	manyTopics := func(count int) string {
		var query strings.Builder
		for i := range count {
			fmt.Fprintf(&query, "&topic=t%d", i)
		}
		return "/v1/events?" + query.String()[1:]
	}
	if response, _ := n.exchange(request("GET", manyTopics(100), ""), false); response.StatusCode != http.StatusOK {
		t.Errorf("100 topics: %s, want 200", response.Status)
	}
	for _, test := range []badInput{
		{"101 topics", request("GET", manyTopics(101), ""), 422, "invalid_field", "topic"},
		{"no topic", request("GET", "/v1/events", ""), 422, "invalid_field", "topic"},
		{"an empty topic", request("GET", "/v1/events?topic=a&topic=", ""), 422, "invalid_field", "topic"},
		{"a topic with a line feed", request("GET", "/v1/events?topic=a%0Ab", ""), 422, "invalid_field", "topic"},
		{"an empty key", request("GET", "/v1/topics/a/events?key=", ""), 422, "invalid_field", "key"},
		{"two keys", request("GET", "/v1/topics/a/events?key=a&key=b", ""), 422, "invalid_field", "key"},
		{"a short session", request("GET", "/v1/topics/a/events?session=x", ""), 422, "invalid_field", "session"},
		{"a session that is unknown", request("GET", "/v1/topics/a/events?session=alice-phone-0001", ""), 404, "unknown_session", ""},
		{"a meta without a key", request("GET", "/v1/topics/a/events?meta=%7B%7D", ""), 422, "invalid_field", "meta"},
		{"a meta that is no JSON", request("GET", "/v1/topics/a/events?key=a&meta=x", ""), 422, "invalid_field", "meta"},
		{"a meta that is no object", request("GET", "/v1/topics/a/events?key=a&meta=%5B%5D", ""), 422, "invalid_field", "meta"},
		{"a meta that is too large", request("GET", "/v1/topics/a/events?key=a&meta=%7B%22a%22%3A%22"+strings.Repeat("x", 4096)+"%22%7D", ""), 422, "invalid_field", "meta"},
		{"a linger without a session", request("GET", "/v1/topics/a/events?linger=1", ""), 422, "invalid_field", "linger"},
		{"linger=61", request("GET", "/v1/topics/a/events?key=a&linger=61", ""), 422, "invalid_field", "linger"},
		{"linger=-1", request("GET", "/v1/topics/a/events?key=a&linger=-1", ""), 422, "invalid_field", "linger"},
		{"linger=1.5", request("GET", "/v1/topics/a/events?key=a&linger=1.5", ""), 422, "invalid_field", "linger"},
		{"linger beyond 64 bits", request("GET", "/v1/events?topic=a&key=a&linger=99999999999999999999", ""), 422, "invalid_field", "linger"},
	} {
		n.check(test, false)
	}
	if page := get[rollcallclient.TopicPage](n, "/v1/topics"); len(page.Topics) != 0 {
		t.Errorf("somebody is in %v, want nobody: what was refused has tracked nothing", page.Topics)
	}
	n.stillServes()
}

func TestBadBodiesAreRefusedWithAReason(t *testing.T) {
	t.Parallel()
	n := serve(t)
	track := func(name, body string, status int, code, field string) badInput {
		return badInput{name, post("/v1/topics/a/presences", body), status, code, field}
	}
	update := func(name, body string, status int, code, field string) badInput {
		return badInput{name, put("/v1/topics/a/presences/b", body), status, code, field}
	}
	session := `"alice-phone-0001"`
	for _, test := range []badInput{
		track("no JSON", `key=Alice`, 400, "malformed_json", ""),
		track("half an object", `{"key":"Alice"`, 400, "malformed_json", ""),
		track("two objects", `{"key":"Alice"}{"key":"Bob"}`, 400, "malformed_json", ""),
		track("an array", `[]`, 400, "malformed_json", ""),
		track("null", `null`, 400, "malformed_json", ""),
		track("a string", `"Alice"`, 400, "malformed_json", ""),
		track("only spaces", `   `, 400, "malformed_json", ""),
		track("a comma too many", `{"key":"Alice",}`, 400, "malformed_json", ""),
		track("a byte order mark", "\ufeff"+`{"key":"Alice"}`, 400, "malformed_json", ""),
		track("text that is not UTF-8", "{\"key\":\"\xff\"}", 400, "malformed_json", ""),
		track("a NUL", "{\"key\":\"a\x00\"}", 400, "malformed_json", ""),
		track("a field twice", `{"key":"Alice","key":"Bob"}`, 400, "malformed_json", ""),
		track("very deep arrays", `{"key":`+strings.Repeat("[", 200_000), 400, "malformed_json", ""),
		track("very deep arrays in a meta", `{"key":"a","meta":{"a":`+strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000)+`}}`, 400, "malformed_json", ""),
		track("an unknown field", `{"key":"Alice","name":"x"}`, 400, "unknown_field", "name"),
		track("a field in capitals", `{"Key":"Alice"}`, 400, "unknown_field", "Key"),

		track("no key", `{}`, 422, "invalid_field", "key"),
		track("a key of null", `{"key":null}`, 422, "invalid_field", "key"),
		track("a key that is a number", `{"key":1}`, 422, "invalid_field", "key"),
		track("an empty key", `{"key":""}`, 422, "invalid_field", "key"),
		track("a long key", `{"key":"`+strings.Repeat("x", 256)+`"}`, 422, "invalid_field", "key"),
		track("a key with a line feed", `{"key":"a\nb"}`, 422, "invalid_field", "key"),
		track("a short session", `{"key":"a","session":"x"}`, 422, "invalid_field", "session"),
		track("a session with a space", `{"key":"a","session":"alice phone 0001"}`, 422, "invalid_field", "session"),
		track("a session of null", `{"key":"a","session":null}`, 422, "invalid_field", "session"),
		track("a session that is an object", `{"key":"a","session":{}}`, 422, "invalid_field", "session"),
		track("a meta that is an array", `{"key":"a","meta":[1]}`, 422, "invalid_field", "meta"),
		track("a meta that is a string", `{"key":"a","meta":"x"}`, 422, "invalid_field", "meta"),
		track("a meta of null", `{"key":"a","meta":null}`, 422, "invalid_field", "meta"),
		track("a meta that is too large", `{"key":"a","meta":{"a":"`+strings.Repeat("x", 4096)+`"}}`, 422, "invalid_field", "meta"),
		track("ttl 0", `{"key":"a","ttl":0}`, 422, "invalid_field", "ttl"),
		track("ttl -1", `{"key":"a","ttl":-1}`, 422, "invalid_field", "ttl"),
		track("ttl 1.5", `{"key":"a","ttl":1.5}`, 422, "invalid_field", "ttl"),
		track("ttl as text", `{"key":"a","ttl":"30"}`, 422, "invalid_field", "ttl"),
		track("ttl true", `{"key":"a","ttl":true}`, 422, "invalid_field", "ttl"),
		track("ttl of more than an hour", `{"key":"a","ttl":3601}`, 422, "invalid_field", "ttl"),
		track("ttl that wraps round to 30 s", `{"key":"a","ttl":18446744103}`, 422, "invalid_field", "ttl"),
		track("ttl of 2^63-1", `{"key":"a","ttl":9223372036854775807}`, 422, "invalid_field", "ttl"),
		track("ttl of 2^63", `{"key":"a","ttl":9223372036854775808}`, 422, "invalid_field", "ttl"),
		track("ttl of 1e400", `{"key":"a","ttl":1e400}`, 422, "invalid_field", "ttl"),
		track("ttl of 100,000 digits", `{"key":"a","ttl":`+strings.Repeat("9", 100_000)+`}`, 422, "invalid_field", "ttl"),

		update("no session", `{"meta":{}}`, 422, "invalid_field", "session"),
		update("no meta", `{"session":`+session+`}`, 422, "invalid_field", "meta"),
		update("a meta of null", `{"session":`+session+`,"meta":null}`, 422, "invalid_field", "meta"),
		update("a ttl", `{"session":`+session+`,"meta":{},"ttl":1}`, 400, "unknown_field", "ttl"),
		{"a patch that is no object", request("PATCH", "/v1/topics/a/presences/b", `{"session":`+session+`,"meta":1}`, asJSON), 404, "unknown_session", ""},

		{"1001 sessions", post("/v1/heartbeats", `{"sessions":[`+repeated(1001, session)+`]}`), 422, "invalid_field", "sessions"},
		{"a bad session among good ones", post("/v1/heartbeats", `{"sessions":[`+session+`,"x"]}`), 422, "invalid_field", "sessions"},
		{"sessions that are a string", post("/v1/heartbeats", `{"sessions":`+session+`}`), 422, "invalid_field", "sessions"},
		{"1001 keys", post("/v1/keys/query", `{"keys":[`+repeated(1001, `"a"`)+`]}`), 422, "invalid_field", "keys"},
		{"an empty key among good ones", post("/v1/keys/query", `{"keys":["a",""]}`), 422, "invalid_field", "keys"},
		{"keys that are numbers", post("/v1/keys/query", `{"keys":[1]}`), 422, "invalid_field", "keys"},

		{"no type", request("POST", "/v1/topics/a/presences", `{"key":"a"}`), 415, "unsupported_media_type", ""},
		{"a form", request("POST", "/v1/topics/a/presences", `key=a`, "Content-Type: application/x-www-form-urlencoded"), 415, "unsupported_media_type", ""},
		{"text", request("POST", "/v1/heartbeats", `{"sessions":[]}`, "Content-Type: text/plain"), 415, "unsupported_media_type", ""},
		{"another charset", request("POST", "/v1/keys/query", `{"keys":[]}`, asJSON+"; charset=utf-16"), 415, "unsupported_media_type", ""},
		{"a type that is none", request("POST", "/v1/keys/query", `{"keys":[]}`, "Content-Type: ;;;"), 415, "unsupported_media_type", ""},
		{"a compressed body", request("POST", "/v1/keys/query", `{"keys":[]}`, asJSON, "Content-Encoding: gzip"), 415, "unsupported_media_type", ""},
		{"a body of 1 MiB and a byte", post("/v1/topics/a/presences", strings.Repeat(" ", 1<<20+1)), 413, "body_too_large", ""},
		{"a body of 10 GB that is announced", request("POST", "/v1/topics/a/presences", "", asJSON, "Content-Length: 10000000000"), 413, "body_too_large", ""},
	} {
		n.check(test, false)
	}
	whole := `{"key":"just fits"}`
	whole += strings.Repeat(" ", 1<<20-len(whole))
	if response, body := n.exchange(post("/v1/topics/a/presences", whole), false); response.StatusCode != http.StatusCreated {
		t.Errorf("a body of 1 MiB: %s %s, want 201", response.Status, body)
	}
	if got := devices(n.list("a")); len(got) != 1 {
		t.Errorf("there are %v, want only the one who was not refused", got)
	}
	n.stillServes()
}

func TestBrokenHTTPHarmsNobody(t *testing.T) {
	t.Parallel()
	n := serve(t)
	chunked := func(body string) string {
		return request("POST", "/v1/topics/a/presences", "", asJSON, "Transfer-Encoding: chunked") + body
	}
	for _, test := range []badInput{
		{"garbage", "\x00\x01\x02\xff\xfe\r\n\r\n", 400, "", ""},
		{"a TLS handshake", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 \r\n\r\n", 400, "", ""},
		{"no version", "GET /v1/topics\r\n\r\n", 400, "", ""},
		{"no Host", "GET /v1/topics HTTP/1.1\r\n\r\n", 400, "", ""},
		{"two Hosts", request("GET", "/v1/topics", "", "Host: y"), 400, "", ""},
		{"a header without a colon", request("GET", "/v1/topics", "", "nonsense"), 400, "", ""},
		{"a header with a space in its name", request("GET", "/v1/topics", "", "a b: c"), 400, "", ""},
		{"a header of 256 KiB", request("GET", "/v1/topics", "", "X: "+strings.Repeat("x", 256<<10)), 431, "", ""},
		{"30,000 headers", request("GET", "/v1/topics", "", strings.TrimSuffix(strings.Repeat("X-Y: zz\r\n", 30_000), "\r\n")), 431, "", ""},
		{"a path of 256 KiB", request("GET", "/v1/topics/"+strings.Repeat("x", 256<<10), ""), 431, "", ""},
		{"a length that is none", request("POST", "/v1/topics/a/presences", "", asJSON, "Content-Length: x"), 400, "", ""},
		{"a negative length", request("POST", "/v1/topics/a/presences", "", asJSON, "Content-Length: -1"), 400, "", ""},
		{"two lengths", request("POST", "/v1/topics/a/presences", `{"key":"a"}`, asJSON, "Content-Length: 3"), 400, "", ""},
		{"a version of HTTP that there is not", "GET /v1/topics HTTP/7.3\r\nHost: x\r\n\r\n", 505, "", ""},                                 // as RFC 9110 15.6.6 says
		{"an encoding that there is not", request("POST", "/v1/topics/a/presences", "", asJSON, "Transfer-Encoding: zigzag"), 501, "", ""}, // as RFC 9112 6.1 says

		{"no body", request("POST", "/v1/topics/a/presences", "", asJSON), 400, "malformed_json", ""},
		{"a body without a length", request("POST", "/v1/topics/a/presences", "", asJSON) + `{"key":"a"}`, 400, "malformed_json", ""},
		{"half a body, then the end", request("POST", "/v1/topics/a/presences", "", asJSON, "Content-Length: 11") + `{"key"`, 400, "malformed_json", ""},
		{"half a chunk, then the end", chunked("b\r\n{\"key\""), 400, "malformed_json", ""},
		{"a chunk of nonsense length", chunked("zz\r\n{\"key\":\"a\"}\r\n0\r\n\r\n"), 400, "malformed_json", ""},
		{"a chunk of negative length", chunked("-b\r\n{\"key\":\"a\"}\r\n0\r\n\r\n"), 400, "malformed_json", ""},
		{"chunks of more than 1 MiB", chunked(strings.Repeat("10000\r\n"+strings.Repeat(" ", 1<<16)+"\r\n", 17) + "0\r\n\r\n"), 413, "body_too_large", ""},
	} {
		n.check(test, true)
	}
	for name, raw := range map[string]string{
		"HTTP/1.0":                          "GET /v1/topics HTTP/1.0\r\n\r\n",
		"an absolute URL":                   request("GET", "http://elsewhere.example/v1/topics", ""),
		"chunks":                            chunked("b\r\n{\"key\":\"a\"}\r\n0\r\n\r\n"),
		"HTTP/1.0 POST":                     "POST /v1/topics/a/presences HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"key\":\"b\"}",
		"a body where nobody looks for one": request("POST", "/v1/sessions/alice-phone-0001/leave", "whatever \xff"),
	} {
		if response, body := n.exchange(raw, false); response.StatusCode >= 300 {
			t.Errorf("%s: %s %s, want a success", name, response.Status, body)
		}
	}
	n.hangUpAnywhere(post("/v1/topics/a/presences", `{"key":"a"}`))
	n.hangUpAnywhere(request("GET", "/v1/topics/a/events?key=a&linger=0", ""))
	n.stillServes()
}

// hangUpAnywhere sends the request again and again, each time a byte more of it, and hangs up.
func (n *node) hangUpAnywhere(raw string) {
	n.t.Helper()
	for length := range len(raw) + 1 {
		conn, err := net.Dial("tcp", n.Addr())
		if err != nil {
			n.t.Fatal(err)
		}
		if _, err := io.WriteString(conn, raw[:length]); err != nil {
			n.t.Fatal(err)
		}
		if length%2 == 0 {
			_ = conn.(*net.TCPConn).SetLinger(0) // a reset, not an end
		}
		conn.Close()
	}
}
