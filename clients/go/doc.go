// Package rollcallclient is the Go client of rollcall's REST calls, generated from openapi.yaml.
//
// It covers everything but the event streams, which are read with an SSE client such as github.com/r3labs/sse/v2.
package rollcallclient

//go:generate go tool oapi-codegen -config oapi-codegen.yaml ../../openapi.yaml
