package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	rollcallclient "rollcall/clients/go"
)

// clientFlags are the flags of every command that talks to a node.
type clientFlags struct {
	URL string `name:"url" default:"http://127.0.0.1:7700" help:"Node to talk to."`
}

// Validate checks the URL.
func (f *clientFlags) Validate() error {
	parsed, err := url.Parse(f.URL)
	if err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
		return fmt.Errorf("--url %q is not a URL such as http://127.0.0.1:7700", f.URL)
	}
	f.URL = strings.TrimSuffix(f.URL, "/")
	return nil
}

// open returns a client whose calls take at most timeout.
func (f *clientFlags) open(timeout time.Duration) (*rollcallclient.Client, error) {
	return rollcallclient.NewClient(f.URL, rollcallclient.WithHTTPClient(&http.Client{Timeout: timeout}))
}

const callTimeout = 10 * time.Second

// problemError is an answer that is not a success.
type problemError struct {
	rollcallclient.Problem
}

func (e *problemError) Error() string { return e.Detail }

// passing tells whether the same call may succeed a little later.
func (e *problemError) passing() bool {
	return e.Status >= http.StatusInternalServerError || e.Status == http.StatusTooManyRequests
}

// isCode tells whether err is an answer with the given code.
func isCode(err error, code rollcallclient.ProblemCode) bool {
	var problem *problemError
	return errors.As(err, &problem) && problem.Code == code
}

// isPassing tells whether err may be gone a little later: the node did not answer, or could not.
func isPassing(err error) bool {
	var (
		problem *problemError
		away    *unreachableError
	)
	return errors.As(err, &away) || errors.As(err, &problem) && problem.passing()
}

// answer decodes what a call returned: a T, or the error that the call ended with. A T of struct{} stands for an empty answer.
func answer[T any](response *http.Response, err error) (T, error) {
	var value T
	if err != nil {
		return value, unreachable(err)
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusMultipleChoices {
		return value, problemOf(response)
	}
	if response.StatusCode == http.StatusNoContent {
		return value, nil
	}
	if err := json.NewDecoder(response.Body).Decode(&value); err != nil {
		return value, fmt.Errorf("%s; %w", notRollcall(response), err)
	}
	return value, nil
}

// problemOf returns the problem that an answer is.
func problemOf(response *http.Response) error {
	problem := &problemError{}
	if err := json.NewDecoder(response.Body).Decode(&problem.Problem); err != nil || problem.Detail == "" {
		problem.Detail = notRollcall(response)
	}
	problem.Status = response.StatusCode
	return problem
}

func notRollcall(response *http.Response) string {
	return fmt.Sprintf("%s answered %s, but not as rollcall does; is --url that of a node?", response.Request.URL.Host, response.Status)
}

// unreachableError says that a node did not answer.
type unreachableError struct {
	base  string // the node, as in http://127.0.0.1:7700
	cause error
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("cannot reach %s: %v; start a node (rollcall serve) or name another with --url", e.base, e.cause)
}

func (e *unreachableError) Unwrap() error { return e.cause }

// unreachable returns the error of a request that was not answered, without its path and query: they may hold a session id.
func unreachable(err error) error {
	var failed *url.Error
	if !errors.As(err, &failed) {
		return err
	}
	away := &unreachableError{cause: failed.Err}
	if at, err := url.Parse(failed.URL); err == nil {
		away.base = at.Scheme + "://" + at.Host
	}
	if failed.Timeout() {
		away.cause = errors.New("no answer in time")
	}
	return away
}

// sleep waits for d, or returns false when ctx is done before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
