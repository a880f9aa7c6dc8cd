package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"selvage/control/store"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

func audit(t testing.TB, s *store.Store, q spec.AuditQuery) []*spec.AuditEntry {
	t.Helper()
	var entries []*spec.AuditEntry
	for e, err := range s.AuditLog(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return entries
}

func TestAuditSaysWhoDidWhatWhen(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	s := open(t, openDB(t, t.TempDir()), store.Options{Clock: clock.Fixed(func() time.Time { return now })})
	z := zone("a.test")
	r := record(z, "www")
	put(t, s, account, z, r)
	changed := *r
	changed.Content = "192.0.2.2"
	put(t, s, &changed)
	remove(t, s, r)

	got := audit(t, s, spec.AuditQuery{NounID: r.ID, OldestFirst: true})
	if len(got) != 3 {
		t.Fatalf("%d entries, want 3", len(got))
	}
	for i, want := range []struct {
		action   string
		version  uint64
		old, new string // part of it
	}{{"create", 1, "", "192.0.2.1"}, {"update", 2, "192.0.2.1", "192.0.2.2"}, {"delete", 3, "192.0.2.2", ""}} {
		e := got[i]
		if e.Action != want.action || e.Version != want.version || !holds(e.Old, want.old) || !holds(e.New, want.new) {
			t.Errorf("entry %d = %+v, want %+v", i, e, want)
		}
		if e.Actor != admin || !e.When.Equal(now) || e.Account != account.ID || e.Zone != z.ID || e.Name != "a.test" || len(e.ID) != 32 {
			t.Errorf("entry %d = %+v: wrong actor, time, owner or ID", i, e)
		}
	}
}

// holds tells whether a noun in JSON holds part; an empty part stands for no noun.
func holds(noun []byte, part string) bool {
	if part == "" {
		return noun == nil
	}
	return strings.Contains(string(noun), part)
}

func TestAuditNeverHoldsSecrets(t *testing.T) {
	s := fresh(t)
	z := zone("a.test")
	tok := token("ci", "hash-of-the-secret")
	cert := &spec.Certificate{ID: spec.NewID(), ZoneID: z.ID, Chain: "chain", PrivateKey: "the-private-key"}
	put(t, s, account, z, tok, cert)
	remove(t, s, tok)
	remove(t, s, cert)
	for _, e := range audit(t, s, spec.AuditQuery{}) {
		if text := string(e.Old) + string(e.New); strings.Contains(text, "the-private-key") || strings.Contains(text, "hash-of-the-secret") {
			t.Errorf("a secret in %s", text)
		}
	}
}

func TestAuditFiltersAndPages(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	start := now
	s := open(t, openDB(t, t.TempDir()), store.Options{Clock: clock.Fixed(func() time.Time { return now })})
	put(t, s, account)
	for i := range 9 {
		now = now.Add(time.Hour)
		put(t, s, zone(fmt.Sprintf("z%d.test", i)))
	}
	other := spec.Actor{Email: "Other@example.com", Via: "api"}
	err := s.Update(t.Context(), other, func(tx product.Tx) error { return tx.Put(zone("other.test")) })
	if err != nil {
		t.Fatal(err)
	}
	all := audit(t, s, spec.AuditQuery{})
	for name, tc := range map[string]struct {
		q    spec.AuditQuery
		want int
	}{
		"all":           {spec.AuditQuery{}, 11},
		"since":         {spec.AuditQuery{Since: start.Add(5 * time.Hour)}, 6},
		"before":        {spec.AuditQuery{Before: start.Add(5 * time.Hour)}, 5},
		"email":         {spec.AuditQuery{Actor: "other@example.com"}, 1},
		"address":       {spec.AuditQuery{Actor: "192.0.2.9"}, 10},
		"token":         {spec.AuditQuery{Actor: "t1"}, 10},
		"user":          {spec.AuditQuery{User: "u1"}, 10},
		"zone":          {spec.AuditQuery{Zone: "z3.test"}, 1},
		"account":       {spec.AuditQuery{Account: account.ID}, 11},
		"action":        {spec.AuditQuery{Action: "delete"}, 0},
		"one":           {spec.AuditQuery{ID: all[4].ID}, 1},
		"after, newest": {spec.AuditQuery{After: all[3].ID}, 7},
		"after, oldest": {spec.AuditQuery{After: all[3].ID, OldestFirst: true}, 3},
		"very early":    {spec.AuditQuery{Before: time.Date(1, 2, 3, 4, 5, 6, 7, time.UTC)}, 0},
	} {
		if got := len(audit(t, s, tc.q)); got != tc.want {
			t.Errorf("%s: %d entries, want %d", name, got, tc.want)
		}
	}
	for _, err := range s.AuditLog(t.Context(), spec.AuditQuery{After: "nonsense"}) {
		if fault.KindOf(err) != fault.Invalid {
			t.Errorf("a bad ID: %v", err)
		}
	}
}

func TestAuditIsTrimmed(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, openDB(t, dir), store.Options{AuditEntries: 10, AuditAge: time.Hour})
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go s.Run(ctx)
		synctest.Wait()
		put(t, s, account)
		for i := range 30 {
			put(t, s, zone(fmt.Sprintf("z%d.test", i)))
		}
		synctest.Wait()
		if got := len(audit(t, s, spec.AuditQuery{})); got < 10 || got > 11 {
			t.Errorf("%d entries are left, want 10 or 11", got)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if got := len(audit(t, s, spec.AuditQuery{})); got != 0 {
			t.Errorf("%d entries are left after their age, want 0", got)
		}
	})
}
