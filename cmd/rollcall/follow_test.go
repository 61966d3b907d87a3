package main

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/r3labs/sse/v2"
)

func TestWholeEventsDropsWhatBrokeOff(t *testing.T) {
	broken := errors.New("connection reset")
	for input, want := range map[string]string{
		"":                               "",
		"id: 1\n":                        "",
		"id: 1\n\n":                      "id: 1\n\n",
		"id: 1\n\nid: 2":                 "id: 1\n\n",
		"id: 1\n\nid: 2\n":               "id: 1\n\n",
		"id: 1\n\nid: 2\n\n:\n\nid: 345": "id: 1\n\nid: 2\n\n:\n\n",
		"id: 1\n\n\n\nid: 2":             "id: 1\n\n\n\n",
		strings.Repeat("x", 100_000) + "\n\n" + strings.Repeat("y", 100_000): strings.Repeat("x", 100_000) + "\n\n",
	} {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"at once":          func(r io.Reader) io.Reader { return r },
			"byte by byte":     iotest.OneByteReader,
			"half":             iotest.HalfReader,
			"error with bytes": iotest.DataErrReader,
		} {
			body := wrap(io.MultiReader(strings.NewReader(input), iotest.ErrReader(broken)))
			got, err := io.ReadAll(&wholeEvents{body: io.NopCloser(body), limit: 1 << 20})
			if string(got) != want || !errors.Is(err, broken) {
				t.Errorf("%s: %.40q gave %.40q, %v; want %.40q and the error", name, input, got, err, want)
			}
		}
	}
}

func TestWholeEventsBoundsAnEvent(t *testing.T) {
	endless := io.MultiReader(strings.NewReader("id: 1\n\n"), neverEnding('x'))
	n, err := io.Copy(io.Discard, &wholeEvents{body: io.NopCloser(endless), limit: 1 << 20})
	if n != 7 || err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("read %d bytes, %v; want the one whole event and an error", n, err)
	}
}

type neverEnding byte

func (b neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}

func TestFollowEndsWithWhatTheHandlerReturns(t *testing.T) {
	_, url := openNode(t, NodeConfig{})
	want := errors.New("enough")
	err := follow(t.Context(), url+"/v1/topics/lobby/events", func(*sse.Event) error { return want }, t.Logf)
	if !errors.Is(err, want) {
		t.Errorf("follow = %v, want the handler's error", err)
	}
}
