package sqlite_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"selvage/engine/sqlite"
	"selvage/foundation/fault"
)

// Hundreds of databases share the room of a few.
func TestManyDatabasesAreOpenedLazily(t *testing.T) {
	const databases, room = 64, 12
	s := open(t, sqlite.Options{MaxOpen: room})
	before := descriptors(t)
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			for i := w; i < databases; i += 8 {
				if err := s.Create(t.Context(), fmt.Sprint("many/", i)); err != nil {
					t.Error(err)
				}
			}
			for pass := range 2 {
				for i := w; i < databases; i += 8 {
					name := fmt.Sprint("many/", i)
					if _, err := ask(s, name, "CREATE TABLE IF NOT EXISTS t (x)"); err != nil {
						t.Error(err)
					}
					if _, err := ask(s, name, "INSERT INTO t VALUES (?)", i*10+pass); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
	if n := descriptors(t) - before; n > room*12 {
		t.Errorf("%d files are open for %d databases", n, room)
	}
	for i := range databases {
		var rows table
		_, err := s.Run(t.Context(), fmt.Sprint("many/", i), sqlite.Request{Sink: &rows, Statements: []sqlite.Statement{{SQL: "SELECT x FROM t"}}})
		if want := fmt.Sprint([][]any{{int64(i * 10)}, {int64(i*10 + 1)}}); err != nil || fmt.Sprint(rows.rows) != want {
			t.Fatalf("database %d has %v (%v), want %s", i, rows.rows, err, want)
		}
	}
}

func descriptors(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Two stores over one directory, as during a takeover: the second waits until the first lets go.
func TestTakeover(t *testing.T) {
	dir := t.TempDir()
	first, err := sqlite.Open(sqlite.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Create(t.Context(), "acme/one"); err != nil {
		t.Fatal(err)
	}
	must(t, first, "CREATE TABLE t (x)")
	second := open(t, sqlite.Options{Dir: dir})
	answered := make(chan error)
	go func() {
		_, err := ask(second, "acme/one", "INSERT INTO t VALUES (2)")
		answered <- err
	}()
	must(t, first, "INSERT INTO t VALUES (1)")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(must(t, second, "SELECT x FROM t ORDER BY x")); got != "[[1] [2]]" {
		t.Errorf("rows = %s", got)
	}
	if _, err := ask(first, "acme/one", "SELECT 1"); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a closed store: %v", err)
	}
}

func TestNamesCannotLeaveTheDirectory(t *testing.T) {
	s := open(t, sqlite.Options{})
	for _, name := range []string{"", "..", "a/..", "../a", "/etc", "a//b", "a/b/c/d", "a b", ".trash", "a/.trash", "a\x00b", "ä"} {
		if err := s.Create(t.Context(), name); fault.KindOf(err) != fault.Invalid {
			t.Errorf("Create(%q) = %v", name, err)
		}
		if _, err := ask(s, name, "SELECT 1"); fault.KindOf(err) != fault.Invalid {
			t.Errorf("Run(%q) = %v", name, err)
		}
	}
	if _, err := ask(s, "acme/none", "SELECT 1"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("Run of no database = %v", err)
	}
	if err := s.Create(t.Context(), "acme/one"); fault.KindOf(err) != fault.Conflict {
		t.Errorf("Create twice = %v", err)
	}
}

// damage flips a bit in each 97th byte of a part of a file.
func damage(t *testing.T, path string, from, to float64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := int(from * float64(len(b))); i < int(to*float64(len(b))); i += 97 {
		b[i] ^= 0x10
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Damage is found and named, and holds nobody else back. What history holds outside the damage can be gone back to.
func TestDamageIsFound(t *testing.T) {
	dir := t.TempDir()
	s, err := sqlite.Open(sqlite.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	var good sqlite.Bookmark
	for _, name := range []string{"acme/one", "acme/two", "acme/three"} {
		if err := s.Create(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		for _, sql := range []string{"CREATE TABLE t (x)", "INSERT INTO t WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 500) SELECT hex(randomblob(200)) FROM c", "UPDATE t SET x = x || 'x'"} {
			a, err := ask(s, name, sql)
			if err != nil {
				t.Fatal(err)
			}
			if name == "acme/one" && good == "" {
				good = a.Bookmark
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	damage(t, filepath.Join(dir, "acme/one/database.sqlite"), 0.2, 0.9)
	damage(t, filepath.Join(dir, "acme/three/history/0000000000000001.segment"), 0.3, 0.4)
	s = open(t, sqlite.Options{Dir: dir})
	if _, _, err := do(t.Context(), s, "SELECT sum(length(x)) FROM t"); !errors.Is(err, sqlite.ErrCorrupt) {
		t.Errorf("reading a damaged database: %v", err)
	}
	if wrong, err := s.Check(t.Context(), "acme/one"); err == nil && wrong == nil {
		t.Error("Check finds nothing wrong")
	}
	if wrong, err := s.Check(t.Context(), "acme/two"); err != nil || wrong != nil {
		t.Errorf("Check of a sound one: %v, %v", wrong, err)
	}
	if _, err := ask(s, "acme/three", "INSERT INTO t VALUES (1)"); err != nil {
		t.Errorf("a database with damaged history: %v", err)
	}
	at, err := s.Bookmark(t.Context(), "acme/three")
	if err != nil {
		t.Fatal(err)
	}
	if at[:17] != "00000000-00000004" {
		t.Errorf("damage in history moved its end: %s", at)
	}
	if _, err := s.Restore(t.Context(), "acme/one", good); err != nil {
		t.Errorf("history could not mend a damaged database: %v", err)
	}
	if got := fmt.Sprint(must(t, s, "SELECT count(*) FROM t")); got != "[[0]]" {
		t.Errorf("mended: %s", got)
	}
}

// resident returns the memory of this process.
func resident(t testing.TB) int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
