// Package contract checks what goes over the wire against openapi.yaml.
//
// Tests use a [Client]: every answer that comes through it must be one that the contract allows for the request, or the test fails. Events of
// streams are checked one at a time with [CheckEvent]. To check an answer that came another way, use [CheckResponse].
package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"rollcall"
)

func init() {
	openapi3filter.RegisterBodyDecoder("text/javascript", openapi3filter.FileBodyDecoder) // as text; kin-openapi knows only text/plain
}

// Transport is a RoundTripper that fails a test when an answer, or a request if Requests is set, breaks the contract.
type Transport struct {
	TB       testing.TB
	Base     http.RoundTripper // default http.DefaultTransport
	Requests bool              // check requests as well; not for tests of bad input
}

// Client returns a client whose requests and answers are both checked.
func Client(tb testing.TB) *http.Client {
	return &http.Client{Transport: &Transport{TB: tb, Requests: true}}
}

// RoundTrip sends r by way of Base and checks both sides.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.Requests {
		if err := CheckRequest(r); err != nil {
			t.TB.Errorf("%s %s: request breaks the contract: %v", r.Method, r.URL.EscapedPath(), err)
		}
	}
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	response, err := base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if err := CheckResponse(r, response); err != nil {
		t.TB.Errorf("%s %s: %s breaks the contract: %v", r.Method, r.URL.EscapedPath(), response.Status, err)
	}
	return response, nil
}

// CheckRequest returns an error unless r is a call of the contract with all that it needs. The body can still be read afterwards.
func CheckRequest(r *http.Request) error {
	c, err := load()
	if err != nil {
		return err
	}
	route, params, err := c.router.FindRoute(r)
	if err != nil {
		return err
	}
	copied := r.Clone(r.Context()) // the validator consumes the body
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		copied.Body = io.NopCloser(bytes.NewReader(body))
	}
	return openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
		Request: copied, PathParams: params, Route: route, Options: &openapi3filter.Options{SkipSettingDefaults: true},
	})
}

// CheckResponse returns an error unless the answer is one that the contract has for r. The body can still be read afterwards; of a
// stream nothing is read.
//
// For what is outside the contract, such as pages and unknown paths, errors must still be problems.
func CheckResponse(r *http.Request, response *http.Response) error {
	c, err := load()
	if err != nil {
		return err
	}
	if r.Method == http.MethodHead {
		return nil
	}
	streams := strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream")
	var body []byte
	if !streams {
		if body, err = io.ReadAll(response.Body); err != nil {
			return err
		}
		response.Body.Close()
		response.Body = io.NopCloser(bytes.NewReader(body))
	}
	if response.StatusCode >= 400 {
		if err := c.checkProblem(response, body); err != nil {
			return err
		}
	}
	route, params, err := c.router.FindRoute(r)
	switch {
	case errors.Is(err, routers.ErrPathNotFound), errors.Is(err, routers.ErrMethodNotAllowed):
		return nil
	case err != nil:
		return err
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
		Status:                 response.StatusCode,
		Header:                 response.Header,
		Options:                &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: streams},
	}
	input.SetBodyBytes(body)
	return openapi3filter.ValidateResponse(context.Background(), input)
}

func (c *contract) checkProblem(response *http.Response, body []byte) error {
	if got := response.Header.Get("Content-Type"); got != "application/problem+json" {
		return fmt.Errorf("an error of type %q, want application/problem+json", got)
	}
	if err := c.checkSchema("Problem", body); err != nil {
		return err
	}
	var problem struct {
		Status    int    `json:"status"`
		RequestID string `json:"request_id"`
	}
	if err := json.Unmarshal(body, &problem); err != nil {
		return err
	}
	if problem.Status != response.StatusCode {
		return fmt.Errorf("the problem's status is %d", problem.Status)
	}
	if want := response.Header.Get("X-Request-ID"); problem.RequestID != want {
		return fmt.Errorf("the problem's request_id is %q, the header's %q", problem.RequestID, want)
	}
	if response.StatusCode == http.StatusServiceUnavailable && response.Header.Get("Retry-After") == "" {
		return errors.New("no Retry-After")
	}
	if response.StatusCode == http.StatusMethodNotAllowed && response.Header.Get("Allow") == "" {
		return errors.New("no Allow")
	}
	return nil
}

// CheckEvent returns an error unless data is what the contract says of a stream's event of that name. Wrapped is for /v1/events.
func CheckEvent(wrapped bool, event string, data []byte) error {
	schema, ok := map[string]string{
		"presence_state": "PresenceState", "presence_diff": "PresenceDiff",
	}[event]
	if !ok {
		return fmt.Errorf("the contract has no event %q", event)
	}
	if wrapped {
		schema = strings.Replace(schema, "Presence", "Topic", 1)
	}
	c, err := load()
	if err != nil {
		return err
	}
	return c.checkSchema(schema, data)
}

func (c *contract) checkSchema(name string, data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber() // a client's meta may hold any number
	var value any
	if err := decoder.Decode(&value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := c.doc.Components.Schemas[name].Value.VisitJSON(value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// contract is openapi.yaml, ready to check with.
type contract struct {
	doc    *openapi3.T
	router routers.Router
}

var load = sync.OnceValues(func() (*contract, error) {
	doc, err := openapi3.NewLoader().LoadFromData(rollcall.OpenAPI)
	if err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	doc.Servers = nil // any host
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	return &contract{doc, router}, nil
})
