package state_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"selvage/engine/state"
	"selvage/engine/state/powercut"
)

// pairs is a durability plan: eight writers, each write of two keys in one batch, some batches large
// enough to bypass the memtable.
var pairs = powercut.Plan{
	Writer: func(dir string, round int, ack func(string)) error {
		db, err := state.Open(dir, state.Options{})
		if err != nil {
			return err
		}
		return writePairs(db, round, ack)
	},
	Verify: func(dir string, acked []string) error {
		db, err := state.Open(dir, state.Options{})
		if err != nil {
			return err
		}
		defer db.Close()
		return verifyPairs(db, acked)
	},
}

// writePairs writes until a write fails.
func writePairs(db *state.DB, round int, ack func(string)) error {
	var mu sync.Mutex // guards ack
	var group sync.WaitGroup
	var failed atomic.Pointer[error]
	for w := range 8 {
		group.Go(func() {
			for i := 0; failed.Load() == nil; i++ {
				name := fmt.Sprintf("%d-%d-%d", round, w, i)
				if err := commitPair(db, name, i); err != nil {
					failed.Store(&err)
					return
				}
				mu.Lock()
				ack(name)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return *failed.Load()
}

func commitPair(db *state.DB, name string, i int) error {
	size := 100
	if i%50 == 49 {
		size = 2 << 20
	}
	value := []byte(strings.Repeat(name+" ", size/len(name)))
	b := db.NewBatch()
	for _, half := range []string{"a/", "b/"} {
		if err := b.Put([]byte(half+name), value); err != nil {
			return err
		}
	}
	return db.Commit(b)
}

// verifyPairs makes sure that every acknowledged write is there and none is there by half.
func verifyPairs(db *state.DB, acked []string) error {
	found := map[string]int{}
	for p, err := range db.Scan(state.Range{}) {
		if err != nil {
			return err
		}
		name := string(p.Key[2:])
		if !strings.HasPrefix(string(p.Value), name+" ") {
			return fmt.Errorf("%s holds %.40q", p.Key, p.Value)
		}
		found[name]++
	}
	for name, n := range found {
		if n != 2 {
			return fmt.Errorf("only %d of the 2 keys of %s are there", n, name)
		}
	}
	for _, name := range acked {
		if found[name] == 0 {
			return fmt.Errorf("%s is lost", name)
		}
	}
	return nil
}

func TestAcknowledgedSurvivesKill(t *testing.T) {
	p := pairs
	p.Rounds = 6
	powercut.Kill(t, p)
}

func TestAcknowledgedSurvivesPowerCut(t *testing.T) {
	powercut.Cut(t, pairs)
}

// The same on a filesystem in memory that forgets a random part of what was not synced: it needs no
// rights, runs everywhere, and cuts more often.
func TestAcknowledgedSurvivesSimulatedPowerCut(t *testing.T) {
	fs := vfs.NewCrashableMem()
	rng := rand.New(rand.NewPCG(3, 4))
	var acked []string
	for round := range 8 {
		db, err := state.Open("state", state.Options{FS: fs})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := verifyPairs(db, acked); err != nil {
			t.Fatalf("round %d, %d acknowledged: %v", round, len(acked), err)
		}
		var mu sync.Mutex // guards the two below
		var named []string
		var crashed *vfs.MemFS
		limit := 20 + rng.IntN(400)
		writePairs(db, round, func(name string) {
			mu.Lock()
			defer mu.Unlock()
			if crashed != nil {
				return
			}
			named = append(named, name)
			if len(named) == limit {
				// What is acknowledged from here on happened after the cut.
				crashed = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
				go db.Close()
			}
		})
		acked = append(acked, named...)
		fs = crashed
	}
	t.Logf("%d writes acknowledged in 8 rounds, none lost", len(acked))
}
