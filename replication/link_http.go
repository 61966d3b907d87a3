package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
)

// The paths of the exchange, on the cluster port. Their version is that of the paths alone; messages have their own.
const (
	pathExchange = "/cluster/v1/exchange"
	pathRepair   = "/cluster/v1/repair"
	pathPush     = "/cluster/v1/push"
	pathOps      = "/cluster/v1/operations"

	mimeMessages = "application/cbor-seq"
)

// httpLink carries messages over HTTP.
type httpLink struct {
	client *http.Client
}

func (l *httpLink) exchange(ctx context.Context, addr string, ask Digests, begun func(Digests), each func(Part)) error {
	message, err := marshalDigests(ask)
	if err != nil {
		return err
	}
	response, err := l.post(ctx, addr, pathExchange, bytes.NewReader(message))
	if err != nil {
		return err
	}
	defer drain(response.Body)
	return receiveStream(response.Body, func(d Digests) error { begun(d); return nil }, each)
}

// receiveStream reads a stream of digests and parts to its end, or until begun returns an error.
func receiveStream(r io.Reader, begun func(Digests) error, each func(Part)) error {
	stream, err := newStreamReader(r)
	if err != nil {
		return err
	}
	defer stream.close()
	digests, err := stream.begin()
	if err != nil {
		return err
	}
	if err := begun(digests); err != nil {
		return err
	}
	for {
		part, err := stream.part()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		each(part)
	}
}

func (l *httpLink) repair(ctx context.Context, addr string, greeting Digests, parts iter.Seq[Part]) error {
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(sendStream(writer, greeting, parts)) }()
	defer reader.Close() // ends the writer, if the other did not read it all
	response, err := l.post(ctx, addr, pathRepair, reader)
	if err != nil {
		return err
	}
	drain(response.Body)
	return nil
}

// sendStream writes a stream of digests and parts with its end.
func sendStream(w io.Writer, digests Digests, parts iter.Seq[Part]) error {
	stream := newStreamWriter(w)
	defer stream.close()
	if err := stream.begin(digests); err != nil {
		return err
	}
	for part := range parts {
		if err := stream.part(part); err != nil {
			return err
		}
	}
	return stream.end()
}

func (l *httpLink) push(ctx context.Context, addr string, encoded []byte) error {
	response, err := l.post(ctx, addr, pathPush, bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	drain(response.Body)
	return nil
}

func (l *httpLink) ops(ctx context.Context, addr string, ops Ops) ([]OpResult, error) {
	message, err := marshalOps(ops)
	if err != nil {
		return nil, err
	}
	response, err := l.post(ctx, addr, pathOps, bytes.NewReader(message))
	if err != nil {
		return nil, err
	}
	defer drain(response.Body)
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxMessage))
	if err != nil {
		return nil, fmt.Errorf("replication: read results: %w", err)
	}
	results, err := unmarshalResults(answer)
	if err == nil && len(results) != len(ops.Ops) {
		err = fmt.Errorf("replication: %d results for %d operations", len(results), len(ops.Ops))
	}
	return results, err
}

// post sends a message and returns an answer that is fine. The caller drains it.
func (l *httpLink) post(ctx context.Context, addr, path string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+path, body)
	if err != nil {
		return nil, fmt.Errorf("replication: %w", err)
	}
	request.Header.Set("Content-Type", mimeMessages)
	response, err := l.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("replication: %w", err)
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer drain(response.Body)
	sentence, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	return nil, fmt.Errorf("replication: %s answers %s: %s", path, response.Status, strings.TrimSpace(string(sentence)))
}

// drain reads what little is left, so that the connection can be used again.
func drain(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 4<<10)
	_ = body.Close()
}
