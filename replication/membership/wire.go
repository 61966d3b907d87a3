package membership

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/fxamacker/cbor/v2"
)

const (
	helloPath  = "/cluster/v1/members/hello"
	joinPath   = "/cluster/v1/members/join"
	removePath = "/cluster/v1/members/remove"

	contentType     = "application/cbor"
	maxMessageBytes = 1 << 20
	maxRecords      = 4096 // in one message
)

// Messages are CBOR maps with integer keys. A key, once used, keeps its meaning; a later version adds keys, and this one ignores them.

// greeting is a hello and its answer alike, and the answer to a join.
type greeting struct {
	From    record   `cbor:"1,keyasint"`
	Cluster string   `cbor:"2,keyasint"` // "" before the node has joined one
	Index   uint64   `cbor:"3,keyasint"` // list.Index
	Members []record `cbor:"4,keyasint"` // those of the list, with the newest addresses that the sender knows
	Servers []string `cbor:"5,keyasint"` // whom raft counts
}

// joining asks for a place in the list or, with Update, for new words in the place that there is.
type joining struct {
	Member    record `cbor:"1,keyasint"`
	Update    bool   `cbor:"2,keyasint,omitempty"`
	Forwarded bool   `cbor:"3,keyasint,omitempty"` // by a member to its leader, which forwards it no further
	Cluster   string `cbor:"4,keyasint,omitempty"` // with Update
}

type removal struct {
	ID      string `cbor:"1,keyasint"`
	Cluster string `cbor:"2,keyasint"`
}

// problem is the body of an answer that is not 200.
type problem struct {
	Code    string `cbor:"1,keyasint"`
	Message string `cbor:"2,keyasint"`
}

var decoding = func() cbor.DecMode {
	mode, err := cbor.DecOptions{MaxArrayElements: maxRecords, MaxMapPairs: 64, MaxNestedLevels: 8}.DecMode()
	if err != nil {
		panic(err)
	}
	return mode
}()

// encode cannot fail: what is encoded here are structs of numbers and strings.
func encode(v any) []byte {
	data, err := cbor.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

func decode(data []byte, v any) error { return decoding.Unmarshal(data, v) }

// Client sends requests to other nodes' cluster ports. *http.Client is one.
type Client interface {
	Do(*http.Request) (*http.Response, error)
}

// call posts request to the node at addr and decodes its answer.
func call[Answer any](ctx context.Context, client Client, addr, path string, request any) (answer Answer, err error) {
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+path, bytes.NewReader(encode(request)))
	if err != nil {
		return answer, err
	}
	post.Header.Set("Content-Type", contentType)
	response, err := client.Do(post)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxMessageBytes))
	if err != nil {
		return answer, err
	}
	if response.StatusCode != http.StatusOK {
		var p problem
		if decode(body, &p) != nil || p.Code == "" {
			return answer, fmt.Errorf("it answered %s", response.Status)
		}
		return answer, p.err()
	}
	if err := decode(body, &answer); err != nil {
		return answer, fmt.Errorf("its answer is not understood: %w", err)
	}
	return answer, nil
}

// causeOf is err in words that are the same each time: without the URL, and without ports that change with each connection.
func causeOf(err error) string {
	var (
		request *url.Error
		op      *net.OpError
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "it does not answer"
	case errors.As(err, &op):
		return op.Op + ": " + op.Err.Error()
	case errors.As(err, &request):
		return request.Err.Error()
	}
	return err.Error()
}
