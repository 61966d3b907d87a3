package presence

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"

	jsonpatch "github.com/evanphx/json-patch/v5"
)

// Meta is the JSON object of one presence. Inside the package it is canonical: compact, members sorted, without phx_ref and phx_ref_prev, so that equal
// metas are equal bytes. An alias, since a defined type would lose MarshalJSON.
type Meta = json.RawMessage

var emptyMeta = Meta("{}")

// canonicalMeta returns raw in canonical form, {} when there is none, or an [*InvalidError] for the field "meta".
func canonicalMeta(raw Meta, maxBytes int) (Meta, error) {
	if len(raw) == 0 {
		return emptyMeta, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber() // 1e400 and 20-digit ids survive
	var members map[string]any
	if err := decoder.Decode(&members); err != nil || members == nil {
		return nil, &InvalidError{Field: "meta", Reason: "must be a JSON object"}
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, &InvalidError{Field: "meta", Reason: "must be one JSON object and nothing after it"}
	}
	delete(members, "phx_ref")
	delete(members, "phx_ref_prev")

	var canonical bytes.Buffer
	encoder := json.NewEncoder(&canonical)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(members); err != nil {
		return nil, fmt.Errorf("presence: encode meta: %w", err)
	}
	meta := bytes.TrimSuffix(canonical.Bytes(), []byte("\n"))
	if len(meta) > maxBytes {
		return nil, &InvalidError{Field: "meta", Reason: fmt.Sprintf("is %d bytes of JSON; at most %d are allowed", len(meta), maxBytes)}
	}
	return meta, nil
}

// mergeMeta merges patch into meta by RFC 7386.
func mergeMeta(meta, patch Meta, maxBytes int) (Meta, error) {
	if _, err := canonicalMeta(patch, math.MaxInt); err != nil { // a patch that is no object would replace the whole
		return nil, err
	}
	merged, err := jsonpatch.MergePatch(meta, patch)
	if err != nil {
		return nil, &InvalidError{Field: "meta", Reason: "must be a JSON object"}
	}
	return canonicalMeta(merged, maxBytes)
}
