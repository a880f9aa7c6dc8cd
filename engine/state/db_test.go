package state_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"selvage/engine/state"
	"selvage/foundation/fault"
)

func open(t *testing.T, dir string) *state.DB {
	t.Helper()
	db, err := state.Open(dir, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func put(t *testing.T, db *state.DB, pairs ...string) {
	t.Helper()
	b := db.NewBatch()
	for i := 0; i < len(pairs); i += 2 {
		if err := b.Put([]byte(pairs[i]), []byte(pairs[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Commit(b); err != nil {
		t.Fatal(err)
	}
}

func keys(t *testing.T, db *state.DB, r state.Range) string {
	t.Helper()
	var out []string
	for p, err := range db.Scan(r) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(p.Key)+"="+string(p.Value))
	}
	return strings.Join(out, " ")
}

func TestReadsWhatWasWritten(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	put(t, db, "a/1", "x", "a/2", "y", "b/1", "z")
	b := db.NewBatch()
	b.DeleteRange(state.Prefix([]byte("a/")))
	b.Put([]byte("a/3"), []byte("new"))
	b.Delete([]byte("b/1"))
	if err := db.Commit(b); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, dir)
	if got, want := keys(t, db, state.Range{}), "a/3=new"; got != want {
		t.Errorf("after reopening: %s, want %s", got, want)
	}
	if v, err := db.Get([]byte("a/1")); v != nil || err != nil {
		t.Errorf("Get of a deleted key = %q, %v", v, err)
	}
}

func TestScanGoesBothWays(t *testing.T) {
	db := open(t, t.TempDir())
	put(t, db, "a", "1", "p\xff", "2", "p\xff\xff", "3", "q", "4")
	r := state.Prefix([]byte("p\xff"))
	if got, want := keys(t, db, r), "p\xff=2 p\xff\xff=3"; got != want {
		t.Errorf("prefix scan = %q, want %q", got, want)
	}
	r.Reverse = true
	if got, want := keys(t, db, r), "p\xff\xff=3 p\xff=2"; got != want {
		t.Errorf("reverse scan = %q, want %q", got, want)
	}
}

func TestSecondOpenerIsRefused(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	_, err := state.Open(dir, state.Options{})
	if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), fmt.Sprintf("%s (pid %d)", dir, os.Getpid())) {
		t.Fatalf("second Open = %v, want a conflict that names the directory and process %d", err, os.Getpid())
	}
	go func() {
		time.Sleep(20 * time.Millisecond)
		db.Close()
	}()
	second, err := state.Open(dir, state.Options{LockWait: 10 * time.Second})
	if err != nil {
		t.Fatalf("Open with LockWait = %v", err)
	}
	second.Close()
}

func TestClosedStoreSaysSo(t *testing.T) {
	db := open(t, t.TempDir())
	b := db.NewBatch()
	b.Put([]byte("k"), []byte("v"))
	db.Close()
	if err := db.Commit(b); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("Commit after Close = %v", err)
	}
	if _, err := db.Get([]byte("k")); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("Get after Close = %v", err)
	}
	if fault.KindOf(db.Err()) != fault.Unavailable {
		t.Errorf("Err after Close = %v", db.Err())
	}
}

// Damage in the middle of the log is told from a torn tail: what was acknowledged does not vanish
// in silence.
func TestDamagedLogIsAnError(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	for i := range 400 {
		put(t, db, fmt.Sprint("key", i), strings.Repeat("v", 1000))
	}
	// A copy of the directory is what a crash would have left.
	crashed := t.TempDir()
	if err := os.CopyFS(filepath.Join(crashed, "pebble"), os.DirFS(filepath.Join(dir, "pebble"))); err != nil {
		t.Fatal(err)
	}
	logs, _ := filepath.Glob(filepath.Join(crashed, "pebble", "*.log"))
	data, err := os.ReadFile(logs[len(logs)-1])
	if err != nil {
		t.Fatal(err)
	}
	copy(data[100_000:], "damage damage damage")
	if err := os.WriteFile(logs[len(logs)-1], data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = state.Open(crashed, state.Options{})
	if err == nil || !strings.Contains(err.Error(), "The store in "+crashed+" is damaged.") {
		t.Fatalf("Open of a damaged store = %v", err)
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprint("writers=", writers), func(b *testing.B) {
			db, err := state.Open(b.TempDir(), state.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			b.ReportAllocs()
			var left atomic.Int64
			left.Store(int64(b.N))
			var group sync.WaitGroup
			for range writers {
				group.Go(func() { commitAll(b, db, &left) })
			}
			group.Wait()
		})
	}
}

func commitAll(b *testing.B, db *state.DB, left *atomic.Int64) {
	value := make([]byte, 1024)
	for n := left.Add(-1); n >= 0; n = left.Add(-1) {
		batch := db.NewBatch()
		batch.Put(fmt.Appendf(nil, "key%d", n), value)
		if err := db.Commit(batch); err != nil {
			b.Error(err)
		}
	}
}

func TestCheckpoint(t *testing.T) {
	dir := t.TempDir()
	d, err := state.Open(filepath.Join(dir, "a"), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	put := func(from, to int) {
		for i := from; i < to; i++ {
			b := d.NewBatch()
			b.Put(fmt.Appendf(nil, "k%06d", i), make([]byte, 1000))
			if err := d.Commit(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(0, 3000)
	if err := d.Checkpoint(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if err := d.Checkpoint(filepath.Join(dir, "b")); err == nil {
		t.Error("a checkpoint went over another")
	}
	put(3000, 3500)
	c, err := state.Open(filepath.Join(dir, "b"), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n := 0
	for _, err := range c.Scan(state.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 3000 {
		t.Errorf("the copy has %d keys, want the 3000 that were there", n)
	}
}
