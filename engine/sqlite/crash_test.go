package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"selvage/engine/sqlite"
	"selvage/engine/state/powercut"
	"selvage/foundation/fault"
)

// crashOptions move the WAL on and take snapshots all the time.
func crashOptions(dir string) sqlite.Options {
	return sqlite.Options{Dir: dir, WAL: 60 << 10, Snapshot: 200 << 10, MaxOpen: 2}
}

// growing is a durability plan: three databases, of which two may be open at once, each with a table that gets row n in
// transaction n (the table is transaction 1), a small or a large one. At times a database is restored to where it was a
// few rows ago and back. What is acknowledged is the row and its bookmark.
func growing(rounds int) powercut.Plan {
	return powercut.Plan{
		Rounds: rounds,
		Writer: func(dir string, round int, ack func(string)) error {
			s, err := sqlite.Open(crashOptions(dir))
			if err != nil {
				return err
			}
			var mu sync.Mutex
			var group sync.WaitGroup
			var failed atomic.Pointer[error]
			for i := range 3 {
				group.Go(func() {
					err := grow(s, fmt.Sprint("acme/db", i), func(name string) {
						mu.Lock()
						defer mu.Unlock()
						ack(name)
					})
					failed.Store(&err)
				})
			}
			group.Wait()
			return *failed.Load()
		},
		Verify: func(dir string, acked []string) error {
			s, err := sqlite.Open(crashOptions(dir))
			if err != nil {
				return err
			}
			return errors.Join(verifyGrown(s, acked), s.Close())
		},
	}
}

// grow adds rows until that fails.
func grow(s *sqlite.Store, name string, ack func(string)) error {
	ctx := context.Background()
	if !s.Exists(name) {
		if err := s.Create(ctx, name); err != nil {
			return err
		}
	}
	if _, err := ask(s, name, "CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, sum INTEGER, filler BLOB)"); err != nil {
		return err
	}
	var last sqlite.Bookmark
	for i := 0; ; i++ {
		size := 100
		if i%20 == 19 {
			size = 100_000
		}
		a, err := ask(s, name, "INSERT INTO t SELECT coalesce(max(n), 0) + 1, coalesce(sum(n), 0), randomblob(?) FROM t", size)
		if err != nil {
			return err
		}
		ack(fmt.Sprintf("%s %d %s", name, a.Metas[0].LastRowID, a.Bookmark))
		if i%15 == 14 {
			ack(fmt.Sprintf("%s %d %s back", name, a.Metas[0].LastRowID, a.Bookmark)) // for a moment by one row
			now, err := s.Restore(ctx, name, last)
			if err != nil {
				return err
			}
			if _, err := s.Restore(ctx, name, now); err != nil {
				return err
			}
			ack(fmt.Sprintf("%s %d %s", name, a.Metas[0].LastRowID, a.Bookmark))
		}
		last = a.Bookmark
	}
}

func ask(s *sqlite.Store, name, sql string, args ...any) (sqlite.Answer, error) {
	return s.Run(context.Background(), name, sqlite.Request{Statements: []sqlite.Statement{{SQL: sql, Args: args}}})
}

// verifyGrown makes sure of the rows of each database and that some of the bookmarks lead to the rows they were given for.
func verifyGrown(s *sqlite.Store, acked []string) error {
	newest, back := map[string]int{}, map[string]int{}
	for _, line := range acked {
		name, rest, _ := strings.Cut(line, " ")
		row, _, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(row)
		if err != nil {
			return err
		}
		newest[name], back[name] = max(newest[name], n), 0
		if strings.HasSuffix(line, " back") {
			back[name] = 1
		}
	}
	for name, n := range newest {
		if err := whole(s, name, n-back[name], false); err != nil {
			return err
		}
		if wrong, err := s.Check(context.Background(), name); err != nil || wrong != nil {
			return fmt.Errorf("%s is damaged: %v, %v", name, wrong, err)
		}
	}
	for range 6 {
		f := strings.Fields(acked[rand.IntN(len(acked))])
		n, _ := strconv.Atoi(f[1])
		now, err := s.Restore(context.Background(), f[0], sqlite.Bookmark(f[2]))
		if err != nil {
			return fmt.Errorf("go back to %v: %w", f, err)
		}
		if err := whole(s, f[0], n, true); err != nil {
			return fmt.Errorf("back at %v: %w", f, err)
		}
		if _, err := s.Restore(context.Background(), f[0], now); err != nil {
			return err
		}
	}
	return nil
}

// whole makes sure that the rows are 1 to n with the right sums. Where it need not be exact there may be more, which were
// not acknowledged any more.
func whole(s *sqlite.Store, name string, n int, exactly bool) error {
	var rows table
	_, err := s.Run(context.Background(), name, sqlite.Request{Sink: &rows, Statements: []sqlite.Statement{{
		SQL: "SELECT count(*), max(n), sum(sum <> n * (n - 1) / 2), sum(length(filler) = 0) FROM t"}}})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	r := rows.rows[0]
	if count, ok := r[0].(int64); !ok || r[0] != r[1] || r[2] != int64(0) || r[3] != int64(0) || (exactly && count != int64(n)) || (!exactly && count < int64(n)) {
		at, _ := s.Bookmark(context.Background(), name)
		return fmt.Errorf("%s has %v, want %d rows; it is at %s", name, r, n, at)
	}
	return nil
}

// rounds is how often a writer is ended, or a world is made: SQLITE_CRASH_ROUNDS sets more.
func rounds(t *testing.T, usual int) int {
	if n, err := strconv.Atoi(os.Getenv("SQLITE_CRASH_ROUNDS")); err == nil {
		return n
	}
	return usual
}

func TestKillLosesNothing(t *testing.T)     { powercut.Kill(t, growing(rounds(t, 3))) }
func TestPowerCutLosesNothing(t *testing.T) { powercut.Cut(t, growing(rounds(t, 3))) }

func TestFullDisk(t *testing.T) {
	if err := powercut.OnSmallDisk(t, 24, fillAndRecover); err != nil {
		t.Log("there is no small disk here:", err)
	}
}

// On a full disk what writes is refused, what reads is answered, and when there is room all goes on.
func fillAndRecover(t *testing.T, dir string) {
	s, err := sqlite.Open(crashOptions(filepath.Join(dir, "data")))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"acme/a", "acme/b"} {
		if err := s.Create(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if _, err := ask(s, name, "CREATE TABLE t (n INTEGER PRIMARY KEY, sum INTEGER, filler BLOB)"); err != nil {
			t.Fatal(err)
		}
	}
	filler := filepath.Join(dir, "filler")
	rows := map[string]int{}
	for round := range 3 {
		if round > 0 {
			fill(t, filler) // once while they are open, once while they are not
		}
		for _, name := range []string{"acme/a", "acme/b"} {
			for {
				a, err := ask(s, name, "INSERT INTO t SELECT coalesce(max(n), 0) + 1, coalesce(sum(n), 0), randomblob(20000) FROM t")
				if err != nil {
					if k := fault.KindOf(err); k != fault.Unavailable {
						t.Fatalf("a full disk is %v: %v", k, err)
					}
					break
				}
				rows[name] = int(a.Metas[0].LastRowID)
				if round == 0 && rows[name] > 20 {
					break
				}
			}
			if err := whole(s, name, rows[name], true); err != nil {
				t.Fatal("on a full disk: ", err)
			}
		}
		os.Remove(filler)
		for name := range rows {
			a, err := ask(s, name, "INSERT INTO t SELECT max(n) + 1, sum(n), randomblob(100) FROM t")
			if err != nil {
				t.Fatal("there is room again: ", err)
			}
			rows[name] = int(a.Metas[0].LastRowID)
		}
		if round == 1 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = sqlite.Open(crashOptions(filepath.Join(dir, "data"))); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, n := range rows {
		if err := whole(s, name, n, true); err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func fill(t *testing.T, path string) {
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := 1 << 20; block >= 4096; block /= 2 {
		for {
			if _, err := f.Write(make([]byte, block)); err != nil {
				break
			}
		}
	}
}
