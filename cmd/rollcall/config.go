package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
)

// configFile is a YAML file of flags. A flag on the command line or in the environment beats it.
type configFile struct {
	values map[string]any // by flag, as the flag's mapper takes them
}

// readConfigFile reads the file at path, whose keys are the names of flags. It returns every mistake that it finds.
func readConfigFile(path string, flags []*kong.Flag) (*configFile, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the config file cannot be read: %w", err)
	}
	var values map[string]any
	if err := yaml.Unmarshal(content, &values); err != nil {
		return nil, fmt.Errorf("%s: %s", path, yaml.FormatError(err, false, false))
	}
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(values)) {
		values[key], err = flagValue(key, values[key], flags)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
	}
	return &configFile{values: values}, errors.Join(errs...)
}

// flagValue returns the value of key in the form that the flag of that name takes, if it takes it.
func flagValue(key string, value any, flags []*kong.Flag) (any, error) {
	i := slices.IndexFunc(flags, func(flag *kong.Flag) bool { return flag.Name == key })
	if i < 0 || key == "help" || key == "config" {
		return nil, fmt.Errorf("unknown key %q; the keys are the names of the flags, without the dashes in front", key)
	}
	flag := flags[i]
	given := value
	ok := false
	want := ""
	switch flag.Target.Interface().(type) {
	case bool:
		_, ok = value.(bool)
		want = "true or false"
	case []string:
		value, ok = stringList(value)
		want = "a string or a list of strings"
	case time.Duration:
		_, ok = value.(string)
		want = "a duration such as 500ms, 30s or 1h"
	case byteSize:
		value, ok = sizeText(value)
		want = "a size such as 4096, 64KiB or 1MiB"
	default:
		_, ok = value.(string)
		want = "a string"
	}
	if !ok {
		return nil, fmt.Errorf("%s must be %s, not %v", key, want, describe(given))
	}
	scratch := kong.DecodeContext{Value: flag.Value, Scan: kong.Scan().PushTyped(value, kong.FlagValueToken)}
	if err := flag.Mapper.Decode(&scratch, reflect.New(flag.Target.Type()).Elem()); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return value, nil
}

// stringList returns value, a string or a list of strings, as a list, and whether it is one.
func stringList(value any) ([]any, bool) {
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	return list, !slices.ContainsFunc(list, func(element any) bool { _, ok := element.(string); return !ok })
}

// sizeText returns value, a number or a string, as text, and whether it is one.
func sizeText(value any) (string, bool) {
	switch value.(type) {
	case string, uint64:
		return fmt.Sprint(value), true
	default:
		return "", false
	}
}

// describe shows a value of the wrong type.
func describe(value any) string {
	switch value := value.(type) {
	case nil:
		return "empty"
	case string:
		return strconv.Quote(value)
	case map[string]any:
		return "a map"
	default:
		return fmt.Sprint(value)
	}
}

// Validate is part of kong.Resolver.
func (f *configFile) Validate(*kong.Application) error { return nil }

// Resolve returns the file's value for a flag that was not given on the command line, unless the environment sets it.
func (f *configFile) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, ok := os.LookupEnv(name); ok {
			return nil, nil
		}
	}
	return f.values[flag.Name], nil
}
