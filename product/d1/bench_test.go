package d1_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	zombiezen "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"selvage/edge"
	"selvage/engine/sqlite"
	"selvage/product"
	"selvage/spec"
)

// engineStore returns the engine with a database of 1,000 rows.
func engineStore(b *testing.B, o sqlite.Options) *sqlite.Store {
	b.Helper()
	o.Dir = b.TempDir()
	s, err := sqlite.Open(o)
	must(b, err)
	b.Cleanup(func() { s.Close() })
	must(b, s.Create(b.Context(), "a/one"))
	_, err = s.Run(b.Context(), "a/one", sqlite.Request{Statements: []sqlite.Statement{{SQL: setup[0]}, {SQL: setup[1]}}})
	must(b, err)
	return s
}

var setup = []string{
	"CREATE TABLE items(id INTEGER PRIMARY KEY, name TEXT)",
	"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i<999) INSERT INTO items SELECT i, hex(zeroblob(40)) FROM n",
}

// sink reads rows as a client would.
type sink struct{ n int }

func (s *sink) Begin(int, []string) error { return nil }
func (s *sink) Row(_ int, r sqlite.Row) error {
	s.n += int(r.Int(0)) + len(r.Bytes(1))
	return nil
}

func BenchmarkEngineRead(b *testing.B) {
	s, out, i := engineStore(b, sqlite.Options{}), &sink{}, 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		if _, err := s.Run(context.Background(), "a/one", sqlite.Request{Sink: out, Statements: []sqlite.Statement{{SQL: "SELECT * FROM items WHERE id = ?", Args: []any{float64(i % 1000)}}}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEngineWrite(b *testing.B) {
	s := engineStore(b, sqlite.Options{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Run(context.Background(), "a/one", sqlite.Request{Statements: []sqlite.Statement{{SQL: "INSERT INTO items(name) VALUES (?)", Args: []any{"a name"}}}}); err != nil {
			b.Fatal(err)
		}
	}
}

// zombiezenConn is SQLite as others use it from Go, as durable as the engine.
func zombiezenConn(b *testing.B) *zombiezen.Conn {
	b.Helper()
	c, err := zombiezen.OpenConn(filepath.Join(b.TempDir(), "one.sqlite"), zombiezen.OpenReadWrite, zombiezen.OpenCreate, zombiezen.OpenWAL)
	must(b, err)
	b.Cleanup(func() { c.Close() })
	for _, sql := range append([]string{"PRAGMA synchronous=FULL"}, setup...) {
		must(b, sqlitex.ExecuteTransient(c, sql, nil))
	}
	return c
}

func BenchmarkZombiezenRead(b *testing.B) {
	c, n, i := zombiezenConn(b), 0, int64(0)
	s := c.Prep("SELECT * FROM items WHERE id = ?")
	b.ReportAllocs()
	for b.Loop() {
		i++
		s.BindInt64(1, i%1000)
		if row, err := s.Step(); err != nil || !row {
			b.Fatal(row, err)
		}
		n += s.ColumnInt(0) + len(s.ColumnText(1))
		must(b, s.Reset())
	}
}

func BenchmarkZombiezenWrite(b *testing.B) {
	c := zombiezenConn(b)
	s := c.Prep("INSERT INTO items(name) VALUES (?)")
	b.ReportAllocs()
	for b.Loop() {
		s.BindText(1, "a name")
		if _, err := s.Step(); err != nil {
			b.Fatal(err)
		}
		must(b, s.Reset())
	}
}

// BenchmarkOpen opens 1,000 databases, each asked once, and says what they take while they are open.
func BenchmarkOpen(b *testing.B) {
	const many = 1000
	s := engineStore(b, sqlite.Options{MaxOpen: many + 1})
	for i := range many {
		name := "a/" + strconv.Itoa(i)
		must(b, s.Create(b.Context(), name))
		_, err := s.Run(b.Context(), name, sqlite.Request{Statements: []sqlite.Statement{{SQL: setup[0]}}})
		must(b, err)
	}
	runtime.GC()
	for b.Loop() {
		for i := range many {
			if _, err := s.Run(context.Background(), "a/"+strconv.Itoa(i), sqlite.Request{Statements: []sqlite.Statement{{SQL: "SELECT count(*) FROM items"}}}); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(rss(b))/many/1024, "KiB/database")
	b.ReportMetric(float64(files(b))/many, "files/database")
}

func rss(b *testing.B) int64 {
	data, err := os.ReadFile("/proc/self/statm")
	must(b, err)
	pages, err := strconv.ParseInt(strings.Fields(string(data))[1], 10, 64)
	must(b, err)
	return pages * int64(os.Getpagesize())
}

func files(b *testing.B) int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", os.Getpid()))
	must(b, err)
	return len(entries)
}

// BenchmarkHandler is what a query of a binding costs between the runtime's socket and the engine.
func BenchmarkHandler(b *testing.B) {
	d := newDesk(b)
	path, id := d.make(d.owner.AccountID, "one")
	d.sql(path, setup[0]+";"+setup[1])
	answer := d.d1.Bindings()[0].Handle(product.BindingUser{AccountID: d.owner.AccountID}, &spec.WorkerBinding{Type: "d1", Extra: []byte(`{"id":"` + id + `"}`)})
	body := []byte(`{"sql":"SELECT * FROM items WHERE id = ?","params":[42]}`)
	b.ReportAllocs()
	for b.Loop() {
		ex := edge.Exchange{Request: edge.Request{Method: "POST", Path: "/query", Query: "resultsFormat=ROWS_AND_COLUMNS", Length: int64(len(body)), Body: bytes.NewReader(body)}}
		if err := answer(context.Background(), &ex); err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, ex.Response.Body); err != nil {
			b.Fatal(err)
		}
		ex.Response.Close()
	}
}
