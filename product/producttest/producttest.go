// Package producttest is the suite that every product passes: whatever else it does, it prepares
// aside, commits in one step, keeps the last good state, and stops when told.
package producttest

import (
	"context"
	"strings"
	"testing"
	"time"

	"selvage/product"
	"selvage/spec"
)

// Run checks p against the contract. build returns a new product each time.
func Run(t *testing.T, build func(t *testing.T) product.Product) {
	t.Run("name is one lower-case word", func(t *testing.T) {
		name := build(t).Name()
		if name == "" || name != strings.ToLower(name) || strings.ContainsAny(name, " -_/.") {
			t.Errorf("Name() = %q", name)
		}
	})
	t.Run("prepares the empty snapshot, commits and discards", func(t *testing.T) {
		p := build(t)
		prepare(t, p, spec.NewSnapshot()).Discard()
		prepare(t, p, spec.NewSnapshot()).Commit()
	})
	t.Run("prepares a zone, and the same again", func(t *testing.T) {
		p := build(t)
		snap := Snapshot(1, "one.test")
		prepare(t, p, snap).Commit()
		prepare(t, p, snap).Commit()
		prepare(t, p, spec.NewSnapshot()).Commit()
	})
	t.Run("Prepare ends with its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if c, err := build(t).Prepare(ctx, Snapshot(1, "one.test")); err == nil {
			c.Discard()
		}
	})
	t.Run("Run returns when its context ends", func(t *testing.T) {
		p := build(t)
		prepare(t, p, Snapshot(1, "one.test")).Commit()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		cancel()
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			t.Fatal("Run went on after its context had ended")
		}
	})
	t.Run("routes are complete", func(t *testing.T) {
		r, ok := build(t).(product.Resourcer)
		if !ok {
			return
		}
		for _, route := range r.Routes() {
			if route.Method == "" || !strings.HasPrefix(route.Path, "/") || route.Summary == "" || route.Handle == nil {
				t.Errorf("route %s %s lacks method, path, summary or handler", route.Method, route.Path)
			}
		}
	})
}

// Snapshot returns a snapshot with one account that owns zones of these names, each with a proxied
// apex A record 192.0.2.1 and a proxied "www" CNAME to it.
func Snapshot(version uint64, zones ...string) *spec.Snapshot {
	account := &spec.Account{ID: strings.Repeat("a", 32), Name: "test", Type: "standard"}
	changes := []spec.Change{{Key: account.Key(), Noun: account}}
	for _, name := range zones {
		z := &spec.Zone{ID: spec.NewID(), AccountID: account.ID, Name: name, Status: "active", Type: "full", NameServers: []string{"ns1." + name, "ns2." + name}}
		apex := &spec.Record{ID: spec.NewID(), ZoneID: z.ID, Name: name, Type: "A", Content: "192.0.2.1", TTL: 1, Proxied: true}
		www := &spec.Record{ID: spec.NewID(), ZoneID: z.ID, Name: "www." + name, Type: "CNAME", Content: name, TTL: 1, Proxied: true}
		for _, n := range []spec.Noun{z, apex, www} {
			changes = append(changes, spec.Change{Key: n.Key(), Noun: n})
		}
	}
	return spec.NewSnapshot().With(version, changes)
}

func prepare(t *testing.T, p product.Product, s *spec.Snapshot) product.Change {
	t.Helper()
	c, err := p.Prepare(t.Context(), s)
	if err != nil {
		t.Fatalf("Prepare(version %d) = %v", s.Version, err)
	}
	return c
}
