package sqlite_test

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"selvage/engine/sqlite"
)

// open returns a store in a directory of the test with one database, "acme/one".
func open(t testing.TB, o sqlite.Options) *sqlite.Store {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s, err := sqlite.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if !s.Exists("acme/one") {
		if err := s.Create(t.Context(), "acme/one"); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// table takes rows.
type table struct {
	columns []string
	rows    [][]any
}

func (b *table) Begin(_ int, columns []string) error {
	b.columns, b.rows = append([]string(nil), columns...), nil
	return nil
}

func (b *table) Row(_ int, r sqlite.Row) error {
	row := make([]any, r.Len())
	for i := range row {
		switch r.Type(i) {
		case sqlite.Integer:
			row[i] = r.Int(i)
		case sqlite.Float:
			row[i] = r.Float(i)
		case sqlite.Text:
			row[i] = string(r.Bytes(i))
		case sqlite.Blob:
			row[i] = append([]byte{}, r.Bytes(i)...)
		}
	}
	b.rows = append(b.rows, row)
	return nil
}

// do runs one statement and returns its rows.
func do(ctx context.Context, s *sqlite.Store, sql string, args ...any) ([][]any, sqlite.Answer, error) {
	var rows table
	a, err := s.Run(ctx, "acme/one", sqlite.Request{Statements: []sqlite.Statement{{SQL: sql, Args: args}}, Sink: &rows})
	return rows.rows, a, err
}

func must(t testing.TB, s *sqlite.Store, sql string, args ...any) [][]any {
	t.Helper()
	rows, _, err := do(t.Context(), s, sql, args...)
	if err != nil {
		t.Fatalf("%.200s: %v", sql, err)
	}
	return rows
}

func TestRun(t *testing.T) {
	s := open(t, sqlite.Options{})
	must(t, s, "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, weight REAL, picture BLOB)")
	must(t, s, "INSERT INTO people (name, weight, picture) VALUES (?, ?, ?)", "Ada", 1.5, []byte{0, 1})
	_, a, err := do(t.Context(), s, "INSERT INTO people (name) VALUES (?1), (?1)", "Bob")
	if err != nil {
		t.Fatal(err)
	}
	if m := a.Metas[0]; m.Changes != 2 || m.LastRowID != 3 || !m.ChangedDB || m.SizeAfter != 8192 {
		t.Errorf("meta of an insert = %+v", m)
	}
	rows := must(t, s, "SELECT * FROM people ORDER BY id LIMIT 2")
	want := [][]any{{int64(1), "Ada", 1.5, []byte{0, 1}}, {int64(2), "Bob", nil, nil}}
	if !reflect.DeepEqual(rows, want) {
		t.Errorf("rows = %v, want %v", rows, want)
	}
}

func TestTimeTravelAndBack(t *testing.T) {
	s := open(t, sqlite.Options{})
	must(t, s, "CREATE TABLE t (n)")
	var marks []sqlite.Bookmark
	for i := range 10 {
		_, a, err := do(t.Context(), s, "INSERT INTO t VALUES (?)", i)
		if err != nil {
			t.Fatal(err)
		}
		marks = append(marks, a.Bookmark)
	}
	for _, i := range []int{3, 9, 0} {
		if _, err := s.Restore(t.Context(), "acme/one", marks[i]); err != nil {
			t.Fatal(err)
		}
		if got := must(t, s, "SELECT count(*), max(n) FROM t"); fmt.Sprint(got) != fmt.Sprintf("[[%d %d]]", i+1, i) {
			t.Errorf("after restoring to %d: %v", i, got)
		}
	}
	if _, err := s.BookmarkAt(t.Context(), "acme/one", time.Now()); err != nil {
		t.Error(err)
	}
}
