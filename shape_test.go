package selvage

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The walls: what no file, function or type may exceed (the aims are half of them).
const (
	maxFileLines   = 800
	maxFuncLines   = 100
	maxParams      = 5
	maxFields      = 20
	maxMethods     = 8
	maxNesting     = 5
	noDocException = "exported name without a comment"
)

// exceptions lists what may stand over a wall, each with its reason: "file" or "file:name".
var exceptions = map[string]string{
	"engine/sqlite/raw/conn.go:onAuthorize": "SQLite calls it, with what its authorizer takes",
}

var badNames = []string{"util", "utils", "common", "helper", "helpers", "base", "misc", "types", "models", "manager", "pkg"}

func TestShape(t *testing.T) {
	files := token.NewFileSet()
	documented := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (nestedModule(path) || strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		if ast.IsGenerated(file) {
			return nil
		}
		if lines := files.Position(file.End()).Line; lines > maxFileLines {
			over(t, path, "", "has %d lines, the wall is %d", lines, maxFileLines)
		}
		if strings.HasSuffix(path, "_test.go") {
			return nil
		}
		dir := filepath.Dir(path)
		documented[dir] = documented[dir] || file.Doc != nil
		if slices.Contains(badNames, file.Name.Name) {
			t.Errorf("%s: package %s says nothing; name it after what it holds", path, file.Name.Name)
		}
		checkFile(t, files, path, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s: the package has no comment that says what it is for", dir)
		}
	}
}

func checkFile(t *testing.T, files *token.FileSet, path string, file *ast.File) {
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			checkFunc(t, files, path, d)
		case *ast.GenDecl:
			checkDecl(t, path, d)
		}
	}
}

func checkFunc(t *testing.T, files *token.FileSet, path string, d *ast.FuncDecl) {
	name := d.Name.Name
	if name == "init" && d.Recv == nil {
		over(t, path, name, "init runs behind everyone's back; call it from where it is needed")
	}
	if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
		over(t, path, name, noDocException)
	}
	if n := d.Type.Params.NumFields(); n > maxParams {
		over(t, path, name, "takes %d parameters, the wall is %d", n, maxParams)
	}
	if d.Body == nil {
		return
	}
	if n := files.Position(d.Body.End()).Line - files.Position(d.Body.Pos()).Line; n > maxFuncLines {
		over(t, path, name, "has %d lines, the wall is %d", n, maxFuncLines)
	}
	if n := nesting(d.Body); n > maxNesting {
		over(t, path, name, "nests %d deep, the wall is %d", n, maxNesting)
	}
}

func checkDecl(t *testing.T, path string, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
				over(t, path, s.Name.Name, noDocException)
			}
			switch typ := s.Type.(type) {
			case *ast.StructType:
				if n := typ.Fields.NumFields(); n > maxFields {
					over(t, path, s.Name.Name, "has %d fields, the wall is %d", n, maxFields)
				}
			case *ast.InterfaceType:
				if n := typ.Methods.NumFields(); n > maxMethods {
					over(t, path, s.Name.Name, "has %d methods, the wall is %d", n, maxMethods)
				}
			}
		case *ast.ValueSpec:
			for _, n := range s.Names {
				if n.IsExported() && s.Doc == nil && d.Doc == nil && s.Comment == nil {
					over(t, path, n.Name, noDocException)
				}
			}
		}
	}
}

// nesting returns how deep blocks stand in each other, function literals starting anew.
func nesting(n ast.Node) int {
	deepest := 0
	var walk func(n ast.Node, depth int)
	walk = func(n ast.Node, depth int) {
		ast.Inspect(n, func(c ast.Node) bool {
			if c == n || c == nil {
				return true
			}
			switch s := c.(type) {
			case *ast.FuncLit:
				walk(s.Body, 0)
				return false
			case *ast.IfStmt:
				// An else-if is the same storey as its if.
				walk(s.Body, depth+1)
				if s.Else != nil {
					if _, chained := s.Else.(*ast.IfStmt); chained {
						walk(s.Else, depth)
					} else {
						walk(s.Else, depth+1)
					}
				}
				deepest = max(deepest, depth+1)
				return false
			case *ast.ForStmt, *ast.RangeStmt, *ast.SwitchStmt, *ast.TypeSwitchStmt, *ast.SelectStmt:
				deepest = max(deepest, depth+1)
				walk(s, depth+1)
				return false
			}
			return true
		})
	}
	walk(n, 0)
	return deepest
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

func over(t *testing.T, path, name, format string, args ...any) {
	t.Helper()
	key := filepath.ToSlash(path)
	if name != "" {
		key += ":" + name
	}
	if exceptions[key] != "" {
		return
	}
	t.Errorf(key+": "+format, args...)
}
