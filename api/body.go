package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"
)

// decode reads the body as a T, one of the generated request types: a struct whose members are required unless tagged omitempty.
func decode[T any](h *handlers, c echo.Context) (T, error) {
	var body T
	data, err := readBody(c, h.config.MaxBodyBytes)
	if err != nil {
		return body, err
	}
	members, err := splitObject(data)
	if err != nil {
		return body, err
	}
	return body, decodeMembers(members, reflect.ValueOf(&body).Elem())
}

func readBody(c echo.Context, limit int64) ([]byte, error) {
	r := c.Request()
	if err := checkMediaType(r.Header); err != nil {
		return nil, err
	}
	tooLarge := &refusal{code: ProblemCodeBodyTooLarge, detail: fmt.Sprintf("The body is larger than %d bytes.", limit)}
	if r.ContentLength > limit {
		return nil, tooLarge
	}
	// The writer under Echo's is the one that can close the connection of a body that goes on.
	data, err := io.ReadAll(http.MaxBytesReader(c.Response().Writer, r.Body, limit))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge
	}
	switch {
	case err != nil:
		return nil, malformed("it ended early")
	case len(bytes.TrimSpace(data)) == 0:
		return nil, malformed("it is empty; send an object")
	case !utf8.Valid(data):
		return nil, malformed("it is not UTF-8")
	}
	return data, nil
}

func checkMediaType(header http.Header) error {
	mediaType, params, err := mime.ParseMediaType(header.Get(echo.HeaderContentType))
	charset, encoding := params["charset"], header.Get(echo.HeaderContentEncoding)
	switch {
	case err != nil, mediaType != echo.MIMEApplicationJSON, charset != "" && !strings.EqualFold(charset, "utf-8"):
		return &refusal{code: ProblemCodeUnsupportedMediaType,
			detail: "Send the body as JSON, with the header Content-Type: application/json (curl: --json)."}
	case encoding != "" && !strings.EqualFold(encoding, "identity"):
		return &refusal{code: ProblemCodeUnsupportedMediaType, detail: "Send the body as it is, without a Content-Encoding."}
	}
	return nil
}

// splitObject returns the members of the one JSON object that data is.
func splitObject(data []byte) (map[string]json.RawMessage, error) {
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		return nil, malformed("%s", describeSyntax(err))
	}
	decoder := json.NewDecoder(bytes.NewReader(data)) // cannot fail from here on: the whole is valid
	if start, _ := decoder.Token(); start != json.Delim('{') {
		return nil, malformed("it is not an object")
	}
	members := map[string]json.RawMessage{}
	for decoder.More() {
		token, _ := decoder.Token()
		name := token.(string)
		if _, again := members[name]; again {
			return nil, malformed("it has the field %q twice", shorten(name))
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, malformed("%s", describeSyntax(err))
		}
		members[name] = value
	}
	return members, nil
}

func describeSyntax(err error) string {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("%s, at byte %d", syntax, syntax.Offset)
	}
	return err.Error()
}

func malformed(reason string, args ...any) error {
	return &refusal{code: ProblemCodeMalformedJson, detail: fmt.Sprintf("The body is not valid JSON for this call: "+reason+".", args...)}
}

// decodeMembers sets the fields of a struct to the members of their names.
func decodeMembers(members map[string]json.RawMessage, into reflect.Value) error {
	fields, names := map[string]reflect.StructField{}, []string{}
	for _, field := range reflect.VisibleFields(into.Type()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		fields[name], names = field, append(names, name)
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if _, known := fields[name]; !known {
			return &refusal{code: ProblemCodeUnknownField, field: shorten(name), detail: fmt.Sprintf(
				"The body has a field %q that this call does not know; it knows %s.", shorten(name), strings.Join(names, ", "))}
		}
	}
	for _, name := range names {
		field := fields[name]
		value, given := members[name]
		_, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		optional := strings.Contains(options, "omitempty")
		switch {
		case !given && optional:
			continue
		case !given:
			return invalid(name, "is missing")
		case string(value) == "null" && optional:
			return invalid(name, "is null; leave it out instead")
		case string(value) == "null":
			return invalid(name, "must not be null")
		}
		if err := decodeMember(name, value, into.FieldByIndex(field.Index)); err != nil {
			return err
		}
	}
	return nil
}

func decodeMember(name string, value json.RawMessage, into reflect.Value) error {
	err := json.Unmarshal(value, into.Addr().Interface())
	if err == nil {
		return nil
	}
	kind := into.Type()
	if kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	wanted := map[reflect.Kind]string{
		reflect.String: "a string", reflect.Int: "a whole number", reflect.Slice: "an array of strings",
	}[kind.Kind()]
	if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return invalid(name, "must be %s; found %s", wanted, withArticle(mismatch.Value))
	}
	return invalid(name, "must be %s", wanted)
}

// withArticle completes what encoding/json calls a value: number, number 1.5, string, bool, array, object.
func withArticle(value string) string {
	if strings.HasPrefix(value, "array") || strings.HasPrefix(value, "object") {
		return "an " + value
	}
	return "a " + value
}

// shorten keeps what a client sent from filling an error.
func shorten(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// writeJSON writes v with the status. A Content-Type that is set already is kept.
func writeJSON(c echo.Context, status int, v any) error {
	header := c.Response().Header()
	if header.Get(echo.HeaderContentType) == "" {
		header.Set(echo.HeaderContentType, echo.MIMEApplicationJSON)
	}
	c.Response().WriteHeader(status)
	encoder := json.NewEncoder(c.Response())
	encoder.SetEscapeHTML(false) // a meta goes out as it came in
	return encoder.Encode(v)
}
