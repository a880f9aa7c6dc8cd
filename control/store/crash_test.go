package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"selvage/control/store"
	"selvage/engine/state"
	"selvage/engine/state/powercut"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// siblings is a durability plan: each change makes a zone with two records; an acknowledged one must
// be there as a whole, with its audit entries, and none may be there by half.
var siblings = powercut.Plan{
	Writer: func(dir string, round int, ack func(string)) error {
		ctx := context.Background()
		db, err := state.Open(dir, state.Options{})
		if err != nil {
			return err
		}
		s, err := store.Open(ctx, db, store.Options{})
		if err != nil {
			return err
		}
		if err := s.Update(ctx, admin, func(tx product.Tx) error { return tx.Put(account) }); err != nil {
			return err
		}
		var mu sync.Mutex // guards ack and failed
		var failed error
		var group sync.WaitGroup
		for w := range 8 {
			group.Go(func() {
				for i := 0; ; i++ {
					name := fmt.Sprintf("z%d-%d-%d.test", round, w, i)
					err := s.Update(ctx, admin, func(tx product.Tx) error { return putSiblings(tx, name) })
					mu.Lock()
					if err != nil {
						failed = err
						mu.Unlock()
						return
					}
					ack(name)
					mu.Unlock()
				}
			})
		}
		group.Wait()
		return failed
	},
	Verify: func(dir string, acked []string) error {
		db, err := state.Open(dir, state.Options{})
		if err != nil {
			return err
		}
		defer db.Close()
		s, err := store.Open(context.Background(), db, store.Options{})
		if err != nil {
			return err
		}
		return verifySiblings(s, acked)
	},
}

func putSiblings(tx product.Tx, name string) error {
	z := zone(name)
	for _, n := range []spec.Noun{z, record(z, "one"), record(z, "two")} {
		if err := tx.Put(n); err != nil {
			return err
		}
	}
	return nil
}

func verifySiblings(s *store.Store, acked []string) error {
	audited := map[string]int{}
	newest := uint64(0)
	for e, err := range s.AuditLog(context.Background(), spec.AuditQuery{OldestFirst: true}) {
		if err != nil {
			return err
		}
		if e.Version < newest {
			return fmt.Errorf("the audit log goes from version %d to %d", newest, e.Version)
		}
		newest = e.Version
		audited[e.Name]++
	}
	snap := s.Snapshot()
	if snap.Version != newest {
		return fmt.Errorf("the state has version %d, the audit log ends at %d", snap.Version, newest)
	}
	found := map[string]bool{}
	for _, z := range snap.Zones {
		found[z.Zone.Name] = true
		if len(z.Records) != 2 || audited[z.Zone.Name] != 3 || z.Version == 0 {
			return fmt.Errorf("zone %s of version %d has %d records and %d audit entries, want 2 and 3", z.Zone.Name, z.Version, len(z.Records), audited[z.Zone.Name])
		}
	}
	for _, name := range acked {
		if !found[name] {
			return fmt.Errorf("zone %s is lost", name)
		}
	}
	return nil
}

func TestAcknowledgedSurvivesKill(t *testing.T) {
	p := siblings
	p.Rounds, p.Writing = 4, 150*time.Millisecond
	powercut.Kill(t, p)
}

func TestAcknowledgedSurvivesPowerCut(t *testing.T) { powercut.Cut(t, siblings) }

// A full disk refuses a change as a whole and loses none; when there is room, changes go on.
func TestFullDiskRefusesChanges(t *testing.T) {
	err := powercut.OnSmallDisk(t, 64, func(t *testing.T, dir string) {
		s := open(t, openDB(t, filepath.Join(dir, "state")), store.Options{})
		put(t, s, account)
		filler := filepath.Join(dir, "filler")
		if err := os.WriteFile(filler, make([]byte, 64<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("filling the disk = %v", err)
		}
		err := s.Update(t.Context(), admin, func(tx product.Tx) error { return putSiblings(tx, "refused.test") })
		if fault.KindOf(err) != fault.Unavailable || s.Snapshot().Version != 1 {
			t.Fatalf("Update on a full disk = %v, version %d", err, s.Snapshot().Version)
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		if err := s.Update(t.Context(), admin, func(tx product.Tx) error { return putSiblings(tx, "back.test") }); err != nil {
			t.Fatalf("Update with room again = %v", err)
		}
		if err := verifySiblings(s, []string{"back.test"}); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Logf("no small disk here: %v", err)
	}
}

// operation sets or reads the TTL of one of the records.
type operation struct {
	write  bool
	ttl    int
	record int
}

// registers says how TTLs behave if one operation happens after the other.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := map[int][]porcupine.Operation{}
		for _, op := range history {
			k := op.Input.(operation).record
			parts[k] = append(parts[k], op)
		}
		var all [][]porcupine.Operation
		for _, p := range parts {
			all = append(all, p)
		}
		return all
	},
	Init: func() any { return 1 },
	Step: func(state, input, output any) (bool, any) {
		op := input.(operation)
		// Both see the value before: a write changes it in the same transaction.
		if output.(int) != state.(int) {
			return false, state
		}
		if op.write {
			return true, op.ttl
		}
		return true, state
	},
}

// Whatever runs at once, there is an order in which each Update saw what the one before it left, and
// each Snapshot what was acknowledged before it was asked for.
func TestUpdatesAndSnapshotsAreLinearizable(t *testing.T) {
	s := fresh(t)
	z := zone("a.test")
	records := []*spec.Record{record(z, "r0"), record(z, "r1"), record(z, "r2")}
	put(t, s, account, z, records[0], records[1], records[2])

	var mu sync.Mutex // guards history
	var history []porcupine.Operation
	began := time.Now()
	run := func(client int, op operation, do func() int) {
		call := time.Since(began).Nanoseconds()
		out := do()
		back := time.Since(began).Nanoseconds()
		mu.Lock()
		defer mu.Unlock()
		history = append(history, porcupine.Operation{ClientId: client, Input: op, Call: call, Output: out, Return: back})
	}
	var group sync.WaitGroup
	for c := range 8 {
		group.Go(func() {
			for i := range 60 {
				k := (c + i) % len(records)
				run(2*c, operation{true, 30 + 100*c + i, k}, func() int { return swapTTL(t, s, records[k], 30+100*c+i) })
			}
		})
		group.Go(func() {
			for i := range 200 {
				k := (c + i) % len(records)
				read := func() int { return ttlOf(s.Snapshot(), records[k]) }
				if i%10 == 0 {
					read = func() int { return readTTL(t, s, records[k]) }
				}
				run(2*c+1, operation{record: k}, read)
			}
		})
	}
	group.Wait()
	if result := porcupine.CheckOperationsTimeout(registers, history, 30*time.Second); result != porcupine.Ok {
		t.Errorf("a history of %d operations is %s", len(history), result)
	}
}

// swapTTL sets a record's TTL and returns the one before.
func swapTTL(t *testing.T, s *store.Store, r *spec.Record, ttl int) (before int) {
	err := s.Update(t.Context(), admin, func(tx product.Tx) error {
		n, err := tx.Get(r.Key())
		if err != nil {
			return err
		}
		before = n.(*spec.Record).TTL
		if seen := ttlOf(tx.Snapshot(), r); seen != before {
			t.Errorf("Get says %d, Snapshot %d", before, seen)
		}
		next := *n.(*spec.Record)
		next.TTL = ttl
		return tx.Put(&next)
	})
	if err != nil {
		t.Error(err)
	}
	return before
}

// readTTL reads in an Update, which may be ahead of Snapshot.
func readTTL(t *testing.T, s *store.Store, r *spec.Record) (ttl int) {
	err := s.Update(t.Context(), admin, func(tx product.Tx) error {
		n, err := tx.Get(r.Key())
		ttl = n.(*spec.Record).TTL
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return ttl
}

func ttlOf(s *spec.Snapshot, r *spec.Record) int {
	for _, got := range s.Zones[r.ZoneID].Records {
		if got.ID == r.ID {
			return got.TTL
		}
	}
	return 0
}

// Whatever lies in the store, opening it ends in a store or in an error that names the noun.
func FuzzStoredNoun(f *testing.F) {
	for kind, text := range map[string]string{
		"zone":        `{"id":"z","account_id":"a","name":"a.test","type":"full","created_on":"2026-01-02T03:04:05Z"}`,
		"record":      `{"id":"z","zone_id":"z","name":"www.a.test","type":"A","content":"192.0.2.1","ttl":1,"data":{"x":[1]}}`,
		"settings":    `{"zone_id":"z","values":{"ssl":"full"},"modified_on":null}`,
		"ruleset":     `{"id":"z","zone_id":"z","phase":"p","kind":"zone","rules":[{"expression":"true","action_parameters":{}}]}`,
		"certificate": `{"id":"z","zone_id":"z","hosts":["a.test"]}`,
		"token":       `{"id":"z","policies":[{"resources":{"a":{"b":"*"}}}]}`,
		"user":        `{"id":"z","email":"a@example.com"}`,
		"account":     `{"id":"z","name":"a"}`,
		"unknown":     `{"id":"z"}`,
	} {
		f.Add(kind, "", "z", []byte(text))
		f.Add(kind, "z", "z", []byte(text))
	}
	db := openDB(f, f.TempDir())
	f.Fuzz(func(t *testing.T, kind, scope, id string, value []byte) {
		if strings.ContainsRune(kind+scope+id, 0) {
			return
		}
		key := []byte("n/" + scope + "\x00" + kind + "\x00" + id)
		b := db.NewBatch()
		b.Put(key, value)
		if err := db.Commit(b); err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(t.Context(), db, store.Options{})
		if err != nil && !strings.Contains(err.Error(), kind+"/"+scope+"/"+id) {
			t.Errorf("Open = %v, which does not name %s/%s/%s", err, kind, scope, id)
		}
		if err == nil {
			s.Snapshot().With(1, nil)
		}
		b = db.NewBatch()
		b.Delete(key)
		if err := db.Commit(b); err != nil {
			t.Fatal(err)
		}
	})
}
