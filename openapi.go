// Package rollcall holds the contract of the HTTP API.
package rollcall

import _ "embed"

// OpenAPI is openapi.yaml, which every node serves and from which the types, routes and clients are generated.
//
//go:embed openapi.yaml
var OpenAPI []byte
