package selvage

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// floors are the storeys of the house, lowest first. A package imports only from floors below its
// own; on the floors in apart, siblings do not import each other either. product/producttest is
// for tests; the package product itself is the contract and lies below its siblings.
var floors = []string{"foundation", "spec", "engine", "edge", "product", "control", "node", "cmd"}

var apart = map[string]bool{"engine": true, "product": true, "control": true}

func TestFloors(t *testing.T) {
	eachImport(t, func(file, from, to string) {
		a, b := floorOf(from), floorOf(to)
		if a < 0 || b < 0 {
			t.Errorf("%s: %s imports %s: one of them stands on no floor", file, from, to)
			return
		}
		if b > a {
			t.Errorf("%s: %s (%s) imports %s, a floor above (%s)", file, from, floors[a], to, floors[b])
		}
		if a == b && apart[floors[a]] && room(from) != room(to) && strings.Contains(to, "/") {
			t.Errorf("%s: %s imports its sibling %s; declare an interface and let node pass it in", file, from, to)
		}
	})
}

// eachImport calls f for each import of a selvage package by a non-test file of another one.
func eachImport(t *testing.T, f func(file, from, to string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (nestedModule(path) || strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			to, _ := strconv.Unquote(spec.Path.Value)
			if rest, ok := strings.CutPrefix(to, "selvage/"); ok {
				f(path, filepath.ToSlash(filepath.Dir(path)), rest)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func floorOf(pkg string) int {
	first, _, _ := strings.Cut(pkg, "/")
	for i, f := range floors {
		if f == first {
			return i
		}
	}
	return -1
}

// room is the first two elements of a path: a product and what is inside it are one room.
func room(pkg string) string {
	parts := strings.SplitN(pkg, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}

func nestedModule(dir string) bool {
	m, _ := filepath.Glob(filepath.Join(dir, "go.mod"))
	return len(m) > 0
}
