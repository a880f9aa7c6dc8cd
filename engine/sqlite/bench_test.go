package sqlite_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"

	zombiezen "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"selvage/engine/sqlite"
)

const seed = "INSERT INTO t WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 10000) SELECT n, hex(randomblob(50)) FROM c"

// peer is zombiezen.com/go/sqlite as it is, in WAL mode, with as much durability.
func peer(b *testing.B) *zombiezen.Conn {
	c, err := zombiezen.OpenConn(filepath.Join(b.TempDir(), "peer.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	for _, sql := range []string{"PRAGMA synchronous=FULL", "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)"} {
		if err := sqlitex.ExecuteTransient(c, sql, nil); err != nil {
			b.Fatal(err)
		}
	}
	return c
}

func BenchmarkPointRead(b *testing.B) {
	const sql = "SELECT x FROM t WHERE id = ?"
	b.Run("engine", func(b *testing.B) {
		s := open(b, sqlite.Options{})
		must(b, s, "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
		must(b, s, seed)
		ctx, n := context.Background(), int64(0)
		for b.Loop() {
			n++
			if _, err := s.Run(ctx, "acme/one", sqlite.Request{Sink: discard{}, Statements: []sqlite.Statement{{SQL: sql, Args: []any{n%10000 + 1}}}}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("zombiezen", func(b *testing.B) {
		c := peer(b)
		if err := sqlitex.ExecuteTransient(c, seed, nil); err != nil {
			b.Fatal(err)
		}
		n := int64(0)
		for b.Loop() {
			n++
			s := c.Prep(sql)
			s.BindInt64(1, n%10000+1)
			if row, err := s.Step(); err != nil || !row {
				b.Fatal(row, err)
			}
			_ = s.ColumnText(0)
			s.Reset()
		}
	})
}

func BenchmarkInsert(b *testing.B) {
	const sql = "INSERT INTO t (x) VALUES (?)"
	b.Run("engine", func(b *testing.B) {
		s := open(b, sqlite.Options{})
		must(b, s, "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
		for b.Loop() {
			if _, err := ask(s, "acme/one", sql, "a hundred bytes a hundred bytes a hundred bytes a hundred bytes a hundred bytes a hundred bytes 1234"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("zombiezen", func(b *testing.B) {
		c := peer(b)
		for b.Loop() {
			s := c.Prep(sql)
			s.BindText(1, "a hundred bytes a hundred bytes a hundred bytes a hundred bytes a hundred bytes a hundred bytes 1234")
			if _, err := s.Step(); err != nil {
				b.Fatal(err)
			}
			s.Reset()
		}
	})
}

// BenchmarkOpenDatabases measures what 1,000 databases cost that were written and read and stay open.
func BenchmarkOpenDatabases(b *testing.B) {
	const databases = 1000
	for b.Loop() {
		s := open(b, sqlite.Options{MaxOpen: databases + 1})
		before := resident(b)
		for i := range databases {
			name := fmt.Sprint("many/", i)
			if err := s.Create(b.Context(), name); err != nil {
				b.Fatal(err)
			}
			for _, sql := range []string{"CREATE TABLE t (x)", "INSERT INTO t VALUES (1)", "SELECT * FROM t"} {
				if _, err := ask(s, name, sql); err != nil {
					b.Fatal(err)
				}
			}
		}
		runtime.GC()
		b.ReportMetric(float64(resident(b)-before)/databases, "bytes/database")
	}
}

type discard struct{}

// Begin drops it.
func (discard) Begin(int, []string) error { return nil }

// Row reads what a caller would.
func (discard) Row(_ int, r sqlite.Row) error { _ = string(r.Bytes(0)); return nil }
