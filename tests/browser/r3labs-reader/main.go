// Command r3labs-reader prints the events of a stream as r3labs/sse reads them, one JSON object a line, until it is killed or
// the stream ends. The tests compare what it prints with what other readers saw.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/r3labs/sse/v2"
)

// maxEventBytes is what one event may have; the library's default of 64 KiB is too little for a state.
const maxEventBytes = 16 << 20

type line struct {
	Event string `json:"event"`
	ID    string `json:"id"`
	Data  string `json:"data"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "r3labs-reader:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: r3labs-reader URL")
	}
	out := json.NewEncoder(os.Stdout)
	var broken error
	err := sse.NewClient(args[0], sse.ClientMaxBufferSize(maxEventBytes)).SubscribeRaw(func(e *sse.Event) {
		if len(e.Data) == 0 { // only a retry time
			return
		}
		broken = errors.Join(broken, out.Encode(line{Event: string(e.Event), ID: string(e.ID), Data: string(e.Data)}))
	})
	return errors.Join(err, broken)
}
