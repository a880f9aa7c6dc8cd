package state_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"selvage/engine/state"
	"selvage/engine/state/powercut"
	"selvage/foundation/fault"
)

func TestFullDiskRefusesWritesAndLosesNothing(t *testing.T) {
	if err := powercut.OnSmallDisk(t, 64, fillAndRecover); err != nil {
		t.Logf("no small disk here (%v): only the simulated one is tested", err)
	}
}

func fillAndRecover(t *testing.T, dir string) {
	data := filepath.Join(dir, "state")
	filler := filepath.Join(dir, "filler")
	db := open(t, data)
	var acked []string
	for round := range 4 {
		acked = append(acked, writeWhileFilling(t, db, round, filler)...)
		checkRefused(t, db, filler) // takes what the ballast gave up, too
		if v, err := db.Get([]byte("a/" + acked[0])); v == nil || err != nil {
			t.Fatalf("Get on a full disk = %q, %v", v, err)
		}
		if round == 2 { // a node starts on a full disk as well
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(filler, size(t, filler)-1<<20); err != nil {
				t.Fatal(err)
			}
			db = open(t, data)
			checkRefused(t, db, filler)
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		b := db.NewBatch()
		b.Delete([]byte("c/refused"))
		if err := db.Commit(b); err != nil {
			t.Fatalf("round %d: there is room, but Commit = %v", round, err)
		}
		put(t, db, fmt.Sprint("a/back-", round), fmt.Sprint("back-", round, " "), fmt.Sprint("b/back-", round), fmt.Sprint("back-", round, " "))
		if _, err := os.Stat(filepath.Join(data, "ballast")); err != nil {
			t.Errorf("round %d: the ballast is not back: %v", round, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := verifyPairs(open(t, data), acked); err != nil {
		t.Error(err)
	}
}

// writeWhileFilling has eight writers at work while the disk fills up, until each was refused, and
// returns what was acknowledged.
func writeWhileFilling(t *testing.T, db *state.DB, round int, filler string) []string {
	t.Helper()
	var mu sync.Mutex // guards acked
	var acked []string
	var group sync.WaitGroup
	var begun atomic.Int64
	enough := make(chan struct{})
	for w := range 8 {
		group.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%d-%d-%d", round, w, i)
				b := db.NewBatch()
				b.Put([]byte("a/"+name), []byte(name+" "))
				b.Put([]byte("b/"+name), []byte(name+" "))
				if err := db.Commit(b); err != nil {
					if fault.KindOf(err) != fault.Unavailable || db.Err() != nil {
						t.Errorf("Commit on a full disk = %v, store: %v", err, db.Err())
					}
					return
				}
				mu.Lock()
				acked = append(acked, name)
				mu.Unlock()
				if begun.Add(1) == 200 {
					close(enough)
				}
			}
		})
	}
	<-enough
	fill(t, filler)
	group.Wait()
	return acked
}

// checkRefused fills the disk, again whenever the store's own cleaning made room, until a write is
// refused; nothing of it may be there.
func checkRefused(t *testing.T, db *state.DB, filler string) {
	t.Helper()
	want, err := db.Get([]byte("c/refused"))
	for i := 0; err == nil && i < 100; i++ {
		fill(t, filler)
		value := fmt.Append(nil, i)
		b := db.NewBatch()
		b.Put([]byte("c/refused"), value)
		if err = db.Commit(b); err == nil {
			want = value
		}
	}
	if got, getErr := db.Get([]byte("c/refused")); getErr != nil || string(got) != string(want) {
		t.Fatalf("Get after a refused write = %q, %v; want the last acknowledged, %q", got, getErr, want)
	}
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), db.Dir()+" is full") || db.Err() != nil {
		t.Fatalf("Commit on a full disk = %v, store: %v", err, db.Err())
	}
}

// fill appends to a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		if _, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			chunk = chunk[:len(chunk)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// A disk that fails takes the store out of use, not the process: reads go on, writes say why.
func TestFailingDiskStopsWritesOnly(t *testing.T) {
	for name, fails := range map[string]func(errorfs.Op) bool{
		"log sync": func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpFileSyncData && strings.HasSuffix(op.Path, ".log")
		},
		"log write":  func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".log") },
		"new log":    func(op errorfs.Op) bool { return op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".log") },
		"everything": func(op errorfs.Op) bool { return op.Kind.ReadOrWrite() == errorfs.OpIsWrite },
	} {
		t.Run(name, func(t *testing.T) {
			var failing atomic.Bool
			fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
				if failing.Load() && fails(op) {
					return syscall.EIO
				}
				return nil
			}))
			db, err := state.Open("state", state.Options{FS: fs})
			if err != nil {
				t.Fatal(err)
			}
			put(t, db, "before", "x")
			failing.Store(true)
			for i := 0; err == nil && i < 100; i++ {
				b := db.NewBatch()
				b.Put(fmt.Append(nil, i), make([]byte, 100_000))
				err = db.Commit(b)
			}
			if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "restart the node") {
				t.Fatalf("Commit on a failing disk = %v", err)
			}
			failing.Store(false)
			b := db.NewBatch()
			b.Put([]byte("after"), []byte("x"))
			if err := db.Commit(b); fault.KindOf(err) != fault.Unavailable || db.Err() == nil {
				t.Errorf("Commit afterwards = %v, Err = %v; a store that lost a write must not go on", err, db.Err())
			}
			if v, err := db.Get([]byte("before")); string(v) != "x" || err != nil {
				t.Errorf("Get = %q, %v", v, err)
			}
			db.Close()
		})
	}
}

// When even the ballast is gone, a write under way waits; it is neither lost nor the end of the store.
func TestWriteUnderWayWaitsForRoom(t *testing.T) {
	for name, kind := range map[string]errorfs.OpKind{"write": errorfs.OpFileWrite, "new log": errorfs.OpCreate} {
		t.Run(name, func(t *testing.T) {
			var full atomic.Bool
			tried := make(chan struct{}, 1)
			fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
				if !full.Load() || op.Kind != kind || !strings.HasSuffix(op.Path, ".log") {
					return nil
				}
				select {
				case tried <- struct{}{}:
				default:
				}
				return syscall.ENOSPC
			}))
			db, err := state.Open("state", state.Options{FS: fs})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			full.Store(true)
			done := make(chan error)
			go func() {
				var err error
				for i := 0; err == nil && i < 50; i++ {
					b := db.NewBatch()
					b.Put(fmt.Append(nil, i), make([]byte, 100_000))
					err = db.Commit(b)
				}
				done <- err
			}()
			<-tried
			full.Store(false)
			if err := <-done; err != nil || db.Err() != nil {
				t.Errorf("Commit = %v, store: %v; want it to go on when there is room", err, db.Err())
			}
		})
	}
}

func TestCloseOnAFullDiskEnds(t *testing.T) {
	var full atomic.Bool
	tried := make(chan struct{}, 1)
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !full.Load() || op.Kind != errorfs.OpFileWrite {
			return nil
		}
		select {
		case tried <- struct{}{}:
		default:
		}
		return syscall.ENOSPC
	}))
	db, err := state.Open("state", state.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	done := make(chan error)
	go func() {
		b := db.NewBatch()
		b.Put([]byte("k"), []byte("v"))
		done <- db.Commit(b)
	}()
	<-tried
	if err := db.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	if err := <-done; fault.KindOf(err) != fault.Unavailable {
		t.Errorf("Commit of a write that found no room = %v", err)
	}
}
