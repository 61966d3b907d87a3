// Package layout keeps the import graph as it was designed.
package layout

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// arrows is the picture: the packages of this module that each package may import. cmd wires everything and tests look at
// everything, so they are not in it. A new package gets its line here first.
var arrows = map[string][]string{
	"rollcall":                        {},
	"rollcall/api":                    {"rollcall", "rollcall/api/stream", "rollcall/presence"},
	"rollcall/api/stream":             {"rollcall/presence"},
	"rollcall/presence":               {"rollcall/presence/crdt"},
	"rollcall/presence/crdt":          {},
	"rollcall/replication":            {"rollcall/presence", "rollcall/presence/crdt", "rollcall/replication/protocol"},
	"rollcall/replication/protocol":   {"rollcall/presence/crdt"},
	"rollcall/replication/membership": {},
	"rollcall/replication/port":       {},
	"rollcall/store":                  {},
	"rollcall/clients/go":             {},
}

// keepers names the packages that alone may import a library.
var keepers = map[string][]string{
	"go.etcd.io/bbolt":                 {"rollcall/store"},
	"github.com/hashicorp/raft-boltdb": {"rollcall/store"},
	"github.com/hashicorp/raft":        {"rollcall/replication/membership"},
	"github.com/labstack/echo/v4":      {"rollcall/api"},
	"github.com/getkin/kin-openapi":    {"rollcall/tests/contract"}, // for tests, not in the binary
	"github.com/alecthomas/kong":       {"rollcall/cmd/rollcall"},
}

// pure packages get the time and the dice as arguments, so that a seed replays a run exactly.
var (
	pure        = []string{"rollcall/presence/crdt", "rollcall/replication/protocol"}
	pureForbids = []string{"net", "os", "sync", "context", "log", "crypto/rand", "syscall", "io/fs"}
	clockCalls  = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer"}
)

type goPackage struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
	Deps       []string
}

func TestPackagesImportOnlyWhatThePictureAllows(t *testing.T) {
	for _, p := range packages(t) {
		if unrestricted(p.ImportPath) {
			continue
		}
		allowed, known := arrows[p.ImportPath]
		if !known {
			t.Errorf("%s is not in the picture: say in arrows what it may import", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			if within(imported, "rollcall") && !slices.Contains(allowed, imported) {
				t.Errorf("%s imports %s; it may import of this module only %v", p.ImportPath, imported, allowed)
			}
		}
	}
}

func TestPurePackagesTouchNothingOutside(t *testing.T) {
	for _, p := range packages(t) {
		if !slices.Contains(pure, p.ImportPath) {
			continue
		}
		for _, imported := range p.Imports {
			for _, forbidden := range pureForbids {
				if within(imported, forbidden) {
					t.Errorf("%s imports %s; it is pure, so what it needs from there comes as an argument", p.ImportPath, imported)
				}
			}
		}
		for _, call := range readsOfClock(t, p) {
			t.Errorf("%s; the package is pure, so the time comes as an argument", call)
		}
	}
}

func TestLibrariesStayWithTheirKeepers(t *testing.T) {
	for _, p := range packages(t) {
		for library, allowed := range keepers {
			imports := slices.ContainsFunc(p.Imports, func(imported string) bool { return within(imported, library) })
			if imports && !slices.Contains(allowed, p.ImportPath) {
				t.Errorf("%s imports %s, which is for %v alone", p.ImportPath, library, allowed)
			}
		}
	}
}

func TestTrackerKnowsNoHTTP(t *testing.T) {
	for _, p := range packages(t) {
		if p.ImportPath == "rollcall/presence" && slices.Contains(p.Deps, "net/http") {
			t.Errorf("%s depends on net/http; HTTP belongs to package api", p.ImportPath)
		}
	}
}

// TestBinaryHoldsNoTestLibraries cannot keep package testing out of the binary, since hashicorp/raft itself imports it, but out of our packages.
func TestBinaryHoldsNoTestLibraries(t *testing.T) {
	for _, p := range packages(t) {
		if !within(p.ImportPath, "rollcall/tests") && slices.Contains(p.Imports, "testing") {
			t.Errorf("%s imports testing, which is for tests", p.ImportPath)
		}
		if p.ImportPath != "rollcall/cmd/rollcall" {
			continue
		}
		for _, dependency := range p.Deps {
			for _, library := range []string{"github.com/getkin/kin-openapi", "pgregory.net/rapid", "go.uber.org/goleak"} {
				if within(dependency, library) {
					t.Errorf("the binary holds %s, which is for tests", dependency)
				}
			}
		}
	}
}

// packages returns every package of the module, without its tests: those may import what they check.
func packages(t *testing.T) []goPackage {
	t.Helper()
	var stderr strings.Builder
	list := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports,Deps", "rollcall/...")
	list.Stderr = &stderr
	output, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		t.Fatal("go list found no packages")
	}
	return all
}

// readsOfClock finds the uses of package time that depend on when they run.
func readsOfClock(t *testing.T, p goPackage) []string {
	t.Helper()
	var found []string
	files := token.NewFileSet()
	for _, name := range p.GoFiles {
		file, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			selector, ok := node.(*ast.SelectorExpr)
			if !ok || !slices.Contains(clockCalls, selector.Sel.Name) {
				return true
			}
			if x, ok := selector.X.(*ast.Ident); ok && x.Name == "time" {
				found = append(found, files.Position(selector.Pos()).String()+" uses time."+selector.Sel.Name)
			}
			return true
		})
	}
	return found
}

func unrestricted(path string) bool {
	return within(path, "rollcall/cmd") || within(path, "rollcall/tests")
}

// within tells whether path is the package or below it.
func within(path, parent string) bool {
	return path == parent || strings.HasPrefix(path, parent+"/")
}
