package store_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"selvage/control/store"
	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

var (
	admin   = spec.Actor{Email: "admin@example.com", UserID: "u1", TokenID: "t1", IP: netip.MustParseAddr("192.0.2.9"), Via: "api"}
	account = &spec.Account{ID: strings.Repeat("a", 32), Name: "test", Type: "standard"}
)

func openDB(t testing.TB, dir string) *state.DB {
	t.Helper()
	db, err := state.Open(dir, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func open(t testing.TB, db *state.DB, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), db, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fresh(t testing.TB) *store.Store {
	t.Helper()
	return open(t, openDB(t, t.TempDir()), store.Options{})
}

// put stores nouns in one change.
func put(t testing.TB, s *store.Store, nouns ...spec.Noun) {
	t.Helper()
	err := s.Update(t.Context(), admin, func(tx product.Tx) error {
		for _, n := range nouns {
			if err := tx.Put(n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, s *store.Store, n spec.Noun) {
	t.Helper()
	if err := s.Update(t.Context(), admin, func(tx product.Tx) error { return tx.Delete(n.Key()) }); err != nil {
		t.Fatal(err)
	}
}

func zone(name string) *spec.Zone {
	return &spec.Zone{ID: spec.NewID(), AccountID: account.ID, Name: name, Status: "active", Type: "full"}
}

func record(z *spec.Zone, name string) *spec.Record {
	return &spec.Record{ID: spec.NewID(), ZoneID: z.ID, Name: name + "." + z.Name, Type: "A", Content: "192.0.2.1", TTL: 1}
}

func token(name, hash string) *spec.Token {
	return &spec.Token{ID: spec.NewID(), AccountID: account.ID, Name: name, Hash: hash, Status: "active", Policies: []spec.TokenPolicy{{Effect: "allow"}}}
}

func TestUpdateSurvivesReopening(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir)
	s := open(t, db, store.Options{})
	a, b := zone("a.test"), zone("b.test")
	put(t, s, account, a, b)
	put(t, s, record(a, "one"), record(a, "two"))
	put(t, s, token("ci", "cafe"))
	if got := s.Snapshot().Version; got != 3 {
		t.Errorf("version %d after three updates", got)
	}
	db.Close()

	s = open(t, openDB(t, dir), store.Options{})
	snap := s.Snapshot()
	if snap.Version != 3 || len(snap.Zones) != 2 || len(snap.Zones[a.ID].Records) != 2 || snap.Accounts[account.ID] == nil {
		t.Errorf("after reopening: version %d, %d zones, accounts %v", snap.Version, len(snap.Zones), snap.Accounts)
	}
	if got := [2]uint64{snap.Zones[a.ID].Version, snap.Zones[b.ID].Version}; got != [2]uint64{2, 1} {
		t.Errorf("zones last changed at %v, want 2 and 1", got)
	}
	if got := listed(t, s, spec.KindToken, ""); len(got) != 1 || got[0].(*spec.Token).Hash != "cafe" {
		t.Errorf("tokens = %v", got)
	}
}

// listed reads in an Update that changes nothing.
func listed(t *testing.T, s *store.Store, kind spec.Kind, scope string) (nouns []spec.Noun) {
	t.Helper()
	err := s.Update(t.Context(), admin, func(tx product.Tx) error {
		for n, err := range tx.List(kind, scope) {
			if err != nil {
				return err
			}
			nouns = append(nouns, n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return nouns
}

func TestTransactionSeesItsOwnWrites(t *testing.T) {
	s := fresh(t)
	z := zone("a.test")
	old := record(z, "old")
	put(t, s, account, z, old)
	err := s.Update(t.Context(), admin, func(tx product.Tx) error {
		made := record(z, "made")
		if err := errors.Join(tx.Put(made), tx.Delete(old.Key())); err != nil {
			return err
		}
		if n, err := tx.Get(made.Key()); n != spec.Noun(made) || err != nil {
			t.Errorf("Get of a new record = %v, %v", n, err)
		}
		if n, err := tx.Get(old.Key()); n != nil || err != nil {
			t.Errorf("Get of a deleted record = %v, %v", n, err)
		}
		var listed []string
		for n, err := range tx.List(spec.KindRecord, z.ID) {
			listed = append(listed, n.Key().ID, fmt.Sprint(err))
		}
		if got, want := fmt.Sprint(listed), fmt.Sprint([]string{made.ID, "<nil>"}); got != want {
			t.Errorf("List = %s, want %s", got, want)
		}
		if got := tx.Snapshot().Zones[z.ID].Records[0].ID; got != old.ID {
			t.Errorf("the snapshot before the change has record %s, want %s", got, old.ID)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestErrorChangesNothing(t *testing.T) {
	s := fresh(t)
	z := zone("a.test")
	put(t, s, account, z)
	before := s.Snapshot()
	bad := record(z, "bad")
	bad.TTL = 7
	for name, tc := range map[string]struct {
		fn   func(tx product.Tx) error
		kind fault.Kind
	}{
		"the function's own error": {func(tx product.Tx) error { tx.Put(record(z, "x")); return fault.New(fault.Conflict, "no") }, fault.Conflict},
		"an invalid noun":          {func(tx product.Tx) error { return errors.Join(tx.Put(record(z, "x")), tx.Put(bad)) }, fault.Invalid},
		"a noun of no zone":        {func(tx product.Tx) error { return tx.Put(record(zone("b.test"), "x")) }, fault.NotFound},
		"a noun without an ID":     {func(tx product.Tx) error { return tx.Put(&spec.Zone{Name: "c.test", Type: "full"}) }, fault.Invalid},
		"a zero byte in an ID":     {func(tx product.Tx) error { return tx.Put(&spec.Account{ID: "a\x00b", Name: "x"}) }, fault.Invalid},
		"an account with zones":    {func(tx product.Tx) error { return tx.Delete(account.Key()) }, fault.Conflict},
	} {
		if err := s.Update(t.Context(), admin, tc.fn); fault.KindOf(err) != tc.kind {
			t.Errorf("%s: %v, want kind %v", name, err, tc.kind)
		}
	}
	if s.Snapshot() != before {
		t.Errorf("version %d became %d", before.Version, s.Snapshot().Version)
	}
	if got := len(audit(t, s, spec.AuditQuery{})); got != 2 {
		t.Errorf("%d audit entries; want the 2 of the first change", got)
	}
}

func TestReadingUpdateMakesNoVersion(t *testing.T) {
	s := fresh(t)
	put(t, s, account)
	if err := s.Update(t.Context(), admin, func(tx product.Tx) error { return tx.Delete(zone("no.test").Key()) }); err != nil {
		t.Fatal(err)
	}
	if got := s.Snapshot().Version; got != 1 {
		t.Errorf("version %d, want 1", got)
	}
}

func TestDeletingAZoneTakesItsNouns(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir)
	s := open(t, db, store.Options{})
	gone, kept := zone("gone.test"), zone("kept.test")
	put(t, s, account, gone, kept, record(gone, "a"), record(gone, "b"), record(kept, "c"))
	remove(t, s, gone)
	for p, err := range db.Scan(state.Range{Upper: []byte("zzz"), Lower: []byte("b")}) {
		if err != nil || strings.Contains(string(p.Key), gone.ID) {
			t.Errorf("left on disk: %q %v", p.Key, err)
		}
	}
	if got := len(audit(t, s, spec.AuditQuery{Action: "delete", Zone: "GONE.test"})); got != 3 {
		t.Errorf("%d audit entries of the deletion; want 3", got)
	}
	// The zone may come back under its ID, empty.
	put(t, s, gone)
	if got := len(s.Snapshot().Zones[gone.ID].Records); got != 0 {
		t.Errorf("the new zone has %d records", got)
	}
}

func TestRecreatingAZoneInOneChange(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir)
	s := open(t, db, store.Options{})
	z := zone("a.test")
	put(t, s, account, z, record(z, "old"))
	made := record(z, "new")
	err := s.Update(t.Context(), admin, func(tx product.Tx) error {
		return errors.Join(tx.Delete(z.Key()), tx.Put(z), tx.Put(made))
	})
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	for _, s := range []*store.Store{s, open(t, openDB(t, dir), store.Options{})} {
		if r := s.Snapshot().Zones[z.ID].Records; len(r) != 1 || r[0].ID != made.ID {
			t.Errorf("records %v, want only %s", r, made.ID)
		}
	}
}

func TestHooksSeeVersionsInOrder(t *testing.T) {
	s := fresh(t)
	put(t, s, account)
	var seen []uint64
	s.OnCommit(func(_ context.Context, snap *spec.Snapshot) error {
		seen = append(seen, snap.Version)
		return errors.New("this zone is bad")
	})
	s.OnCommit(func(context.Context, *spec.Snapshot) error { panic("broken hook") })
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			z := zone(fmt.Sprintf("z%d.test", i))
			put(t, s, z)
			if s.Snapshot().Zones[z.ID] == nil {
				t.Errorf("zone %d is not in the snapshot after Update", i)
			}
		})
	}
	group.Wait()
	for i := 1; i < len(seen); i++ {
		if seen[i] <= seen[i-1] {
			t.Fatalf("hook saw versions %v", seen)
		}
	}
	if got := seen[len(seen)-1]; got != 51 {
		t.Errorf("the last version a hook saw is %d, want 51", got)
	}
}

func TestEndedContextChangesNothing(t *testing.T) {
	s := fresh(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Update(ctx, admin, func(tx product.Tx) error { return tx.Put(account) }); !errors.Is(err, context.Canceled) {
		t.Errorf("Update = %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	err := s.Update(ctx, admin, func(tx product.Tx) error {
		cancel() // too late: the client may as well have gone a moment later
		return tx.Put(account)
	})
	if err != nil || s.Snapshot().Accounts[account.ID] == nil {
		t.Errorf("Update whose client left = %v, account stored: %v", err, s.Snapshot().Accounts[account.ID] != nil)
	}
}

func TestNounOfANewerProgramIsKept(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir)
	b := db.NewBatch()
	key := []byte("n/\x00gadget\x00" + strings.Repeat("b", 32))
	b.Put(key, []byte(`{"script":"..."}`))
	if err := db.Commit(b); err != nil {
		t.Fatal(err)
	}
	put(t, open(t, db, store.Options{}), account)
	if v, err := db.Get(key); v == nil || err != nil {
		t.Errorf("Get = %q, %v", v, err)
	}
}

func TestUnreadableNounIsNamed(t *testing.T) {
	for name, value := range map[string]string{
		"not JSON":     `{"id":`,
		"null":         `null`,
		"another noun": `{"id":"other"}`,
		"wrong type":   `{"id":7}`,
	} {
		db := openDB(t, t.TempDir())
		b := db.NewBatch()
		b.Put([]byte("n/\x00zone\x00abc"), []byte(value))
		if err := db.Commit(b); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Open(t.Context(), db, store.Options{}); err == nil || !strings.Contains(err.Error(), "zone//abc") {
			t.Errorf("%s: Open = %v, want an error that names zone//abc", name, err)
		}
	}
}

func TestClockThatGoesBack(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := open(t, openDB(t, t.TempDir()), store.Options{Clock: clock.Fixed(func() time.Time { return now })})
	put(t, s, account)
	now = now.Add(-10 * time.Second)
	put(t, s, zone("later.test"))
	if got := audit(t, s, spec.AuditQuery{}); len(got) != 2 || got[0].Name != "later.test" {
		t.Errorf("newest entry first: %+v", got)
	}
	now = now.Add(-time.Hour)
	put(t, s, zone("right.test"))
	if got := audit(t, s, spec.AuditQuery{Zone: "right.test"}); len(got) != 1 || !got[0].When.Equal(now) {
		t.Errorf("after the clock was set right: %+v, want an entry at %v", got, now)
	}
}
