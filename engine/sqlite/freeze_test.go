package sqlite_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"

	"selvage/engine/sqlite"
)

// hold reads a row and keeps its statement open until told.
type hold struct{ reached, leave chan struct{} }

func (hold) Begin(int, []string) error { return nil }

func (h hold) Row(int, sqlite.Row) error {
	select {
	case <-h.reached:
	default:
		close(h.reached)
	}
	<-h.leave
	return nil
}

// A reader that stays keeps the WAL from being moved into the file. Backups are right all the same, nobody waits, and what
// was kept is moved on later.
func TestBackupBesideAnOldReader(t *testing.T) {
	s := open(t, sqlite.Options{WAL: 50 << 10})
	must(t, s, "CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
	must(t, s, "INSERT INTO t (x) VALUES (randomblob(10)), (randomblob(10))")
	h := hold{make(chan struct{}), make(chan struct{})}
	ended := make(chan error)
	go func() {
		_, err := s.Run(t.Context(), "acme/one", sqlite.Request{Sink: h, Statements: []sqlite.Statement{{SQL: "SELECT x FROM t"}}})
		ended <- err
	}()
	<-h.reached
	for range 30 {
		must(t, s, "INSERT INTO t (x) VALUES (randomblob(5000))")
	}
	var b bytes.Buffer
	if err := s.Backup(t.Context(), "acme/one", &b); err != nil {
		t.Fatal(err)
	}
	if err := s.Load(t.Context(), "acme/two", &b); err != nil {
		t.Fatal(err)
	}
	if dumpOf(t, s, "acme/one", sqlite.DumpOptions{}) != dumpOf(t, s, "acme/two", sqlite.DumpOptions{}) {
		t.Error("the backup differs")
	}
	close(h.leave)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	must(t, s, "INSERT INTO t (x) VALUES (1)")
}

// Statements end where sqlite3_complete says so.
func TestSplitAgreesWithSQLite(t *testing.T) {
	words := []string{";", ";", " ", "\n", "CREATE", "TEMP", "TRIGGER", "END", "EXPLAIN", "SELECT 1", "'a;b'", "\"c;\"", "[d;]", "`;`", "-- e;\n", "/* f; */", "x", "'", "ends", "CASE", "(", "$end", "é;"}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		var b strings.Builder
		for range 1 + r.IntN(12) {
			b.WriteString(words[r.IntN(len(words))])
			if r.IntN(3) > 0 {
				b.WriteByte(' ')
			}
		}
		sql := b.String()
		left := sql
		for i, piece := range sqlite.Split(sql) {
			left = left[strings.Index(left, piece)+len(piece):]
			first := strings.IndexByte(piece, ';')
			for first >= 0 && first < len(piece)-1 {
				if completes(piece[:first+1]) {
					t.Fatalf("Split(%q): piece %d, %q, is complete after %d bytes", sql, i, piece, first+1)
				}
				next := strings.IndexByte(piece[first+1:], ';')
				if next < 0 {
					break
				}
				first += 1 + next
			}
			if len(sqlite.Split(left)) > 0 && !completes(piece) {
				t.Fatalf("Split(%q): piece %d, %q, is not complete", sql, i, piece)
			}
		}
	}
}

func completes(sql string) bool {
	tls := libc.NewTLS()
	defer tls.Close()
	text, err := libc.CString(sql)
	if err != nil {
		return false
	}
	defer libc.Xfree(tls, text)
	return lib.Xsqlite3_complete(tls, text) == 1
}
