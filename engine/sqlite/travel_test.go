package sqlite_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"selvage/engine/sqlite"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
)

// world is a store whose clock the test moves, and what its database was at each moment.
type world struct {
	t     *testing.T
	s     *sqlite.Store
	o     sqlite.Options
	now   time.Time
	clock atomic.Int64 // now, for the store, which archives in the background
	r     *rand.Rand
	marks []mark
}

type mark struct {
	at   time.Time
	b    sqlite.Bookmark
	dump [32]byte
}

func newWorld(t *testing.T, seed uint64, o sqlite.Options) *world {
	w := &world{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), r: rand.New(rand.NewPCG(seed, 1)), o: o}
	w.o.Dir = t.TempDir()
	w.pass(0)
	w.o.Clock = clock.Fixed(func() time.Time { return time.Unix(w.clock.Load(), 0).UTC() })
	w.reopen()
	if err := w.s.Create(t.Context(), "acme/one"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.s.Close() })
	return w
}

func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	w.clock.Store(w.now.Unix())
}

func (w *world) reopen() {
	if w.s != nil {
		if err := w.s.Close(); err != nil {
			w.t.Fatal(err)
		}
	}
	s, err := sqlite.Open(w.o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.s = s
}

func (w *world) dump() [32]byte {
	var b bytes.Buffer
	if err := w.s.Dump(w.t.Context(), "acme/one", &b, sqlite.DumpOptions{}); err != nil {
		w.t.Fatal(err)
	}
	return sha256.Sum256(b.Bytes())
}

// write does something and notes what the database is then.
func (w *world) write(sql string, args ...any) {
	_, a, err := do(w.t.Context(), w.s, sql, args...)
	if err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	w.note(a.Bookmark)
}

func (w *world) note(b sqlite.Bookmark) {
	w.marks = append(w.marks, mark{w.now, b, w.dump()})
}

func (w *world) step(i int) {
	w.pass(time.Duration(w.r.IntN(90)) * time.Second)
	switch w.r.IntN(14) {
	case 0:
		w.write(fmt.Sprintf("CREATE TABLE t%d (id INTEGER PRIMARY KEY, a, b)", i))
	case 1:
		w.write(fmt.Sprintf("CREATE INDEX i%d ON t (a, b)", i))
	case 2:
		w.write("DELETE FROM t WHERE id % 3 = ?", w.r.IntN(3))
	case 3:
		w.write("UPDATE t SET a = a + 1, b = randomblob(?)", w.r.IntN(2000))
	case 4:
		w.reopen()
	case 5, 6:
		w.travel(w.marks[w.r.IntN(len(w.marks))])
	case 7:
		w.write("INSERT INTO t (a, b) WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT ?) SELECT x, randomblob(1500) FROM c", 1+w.r.IntN(400))
	default:
		w.write("INSERT INTO t (a, b) VALUES (?, randomblob(?))", w.r.IntN(100), w.r.IntN(6000))
	}
}

// travel restores to m, which must be as it was, undoes that and does it again.
func (w *world) travel(m mark) {
	w.t.Helper()
	was := w.dump()
	previous, err := w.s.Restore(w.t.Context(), "acme/one", m.b)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.dump() != m.dump {
		w.t.Fatalf("restored to %s, but it is not what it was", m.b)
	}
	if w.r.IntN(2) == 0 {
		if _, err := w.s.Restore(w.t.Context(), "acme/one", previous); err != nil {
			w.t.Fatal(err)
		}
		if w.dump() != was {
			w.t.Fatalf("restoring to %s was not undone by %s", m.b, previous)
		}
	}
	b, err := w.s.Bookmark(w.t.Context(), "acme/one")
	if err != nil {
		w.t.Fatal(err)
	}
	w.note(b)
}

// Whatever happened, each place in history can be gone back to, by bookmark and by time.
func TestTimeTravelIsExact(t *testing.T) {
	for seed := range uint64(rounds(t, 2)) {
		w := newWorld(t, seed, sqlite.Options{WAL: 100 << 10, Snapshot: 300 << 10})
		w.write("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)")
		for i := range 25 {
			w.step(i)
		}
		if !slices.IsSortedFunc(w.marks, func(a, b mark) int { return strings.Compare(string(a.b), string(b.b)) }) {
			t.Error("bookmarks do not sort in the order of transactions")
		}
		w.checkTimes()
		w.shellAgrees()
	}
}

func (w *world) checkTimes() {
	for range 5 {
		m := w.marks[w.r.IntN(len(w.marks))]
		b, err := w.s.BookmarkAt(w.t.Context(), "acme/one", m.at)
		if err != nil {
			w.t.Fatal(err)
		}
		last := m
		for _, o := range w.marks {
			if !o.at.After(m.at) {
				last = o
			}
		}
		if b != last.b {
			w.t.Errorf("BookmarkAt(%v) = %s, want %s", m.at, b, last.b)
		}
		w.travel(last)
	}
	if _, err := w.s.BookmarkAt(w.t.Context(), "acme/one", w.now.Add(time.Hour)); fault.KindOf(err) != fault.Invalid {
		w.t.Errorf("a time in the future: %v", err)
	}
}

// shellAgrees has the sqlite3 shell look at a backup.
func (w *world) shellAgrees() {
	shell, err := exec.LookPath("sqlite3")
	if err != nil {
		return
	}
	file := filepath.Join(w.t.TempDir(), "backup.db")
	f, err := os.Create(file)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.s.Backup(w.t.Context(), "acme/one", f); err != nil {
		w.t.Fatal(err)
	}
	f.Close()
	out, err := exec.Command(shell, file, "PRAGMA integrity_check; SELECT count(*), sum(length(b)), sum(a) FROM t").CombinedOutput()
	row := must(w.t, w.s, "SELECT count(*), coalesce(sum(length(b)), ''), coalesce(sum(a), '') FROM t")[0]
	if want := fmt.Sprintf("ok\n%v|%v|%v\n", row...); err != nil || string(out) != want {
		w.t.Errorf("the shell says %s (%v), want %s", out, err, want)
	}
}

// What is older than the retention goes, and nothing else.
func TestHistoryIsPruned(t *testing.T) {
	w := newWorld(t, 7, sqlite.Options{WAL: 64 << 10, Snapshot: 200 << 10, Retention: 12 * time.Hour})
	w.write("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)")
	for range 40 {
		w.pass(time.Hour)
		w.write("INSERT INTO t (a, b) VALUES (1, randomblob(20000))")
		w.write("DELETE FROM t WHERE id <= (SELECT max(id) FROM t) - 3")
	}
	w.reopen() // waits for the archiving
	w.write("INSERT INTO t (a) VALUES (2)")
	st, err := w.s.Stat(t.Context(), "acme/one")
	if err != nil || st.HistoryBytes > 3<<20 {
		t.Errorf("history holds %d bytes, %v", st.HistoryBytes, err)
	}
	for _, m := range w.marks {
		if w.now.Sub(m.at) < 12*time.Hour && w.r.IntN(4) == 0 {
			w.travel(m)
		}
	}
	if _, err := w.s.Restore(t.Context(), "acme/one", w.marks[0].b); fault.KindOf(err) != fault.Invalid {
		t.Errorf("what is older than the retention: %v", err)
	}
	if _, err := w.s.BookmarkAt(t.Context(), "acme/one", w.marks[0].at); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a time before the retention: %v", err)
	}
}

// Of a database that nobody writes any more only its last state stays.
func TestHistoryOfTheIdleIsPruned(t *testing.T) {
	w := newWorld(t, 9, sqlite.Options{Retention: 24 * time.Hour})
	w.write("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)")
	w.write("INSERT INTO t (b) VALUES (randomblob(1000000))")
	w.write("DELETE FROM t")
	w.reopen()
	w.now = time.Now() // the files' times are the machine's
	w.pass(48 * time.Hour)
	for range 2 { // a snapshot, which is too young at first, then what is before it
		w.s.Prune(t.Context())
		w.pass(48 * time.Hour)
	}
	st, err := w.s.Stat(t.Context(), "acme/one")
	if err != nil || st.HistoryBytes > 1_500_000 { // the pages, free ones too, once
		t.Errorf("history holds %d bytes, %v", st.HistoryBytes, err)
	}
	w.travel(w.marks[len(w.marks)-1])
}

func TestBookmarksOfOthersAreRefused(t *testing.T) {
	s := open(t, sqlite.Options{})
	must(t, s, "CREATE TABLE t (x)")
	if err := s.Create(t.Context(), "acme/two"); err != nil {
		t.Fatal(err)
	}
	other, err := s.Bookmark(t.Context(), "acme/two")
	if err != nil {
		t.Fatal(err)
	}
	own, err := s.Bookmark(t.Context(), "acme/one")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []sqlite.Bookmark{"", "x", other, own[:len(own)-1] + "z", "ffffffff-ffffffff-00000000-00000000000000000000000000000000"} {
		if err := s.WaitFor(t.Context(), "acme/one", b); fault.KindOf(err) != fault.Invalid {
			t.Errorf("WaitFor(%q) = %v", b, err)
		}
		if _, err := s.Restore(t.Context(), "acme/one", b); fault.KindOf(err) != fault.Invalid {
			t.Errorf("Restore(%q) = %v", b, err)
		}
	}
	if err := s.WaitFor(t.Context(), "acme/one", own); err != nil {
		t.Errorf("WaitFor of its own: %v", err)
	}
}
