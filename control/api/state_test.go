package api_test

import (
	"context"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"sync"

	"selvage/product"
	"selvage/spec"
)

// memory is a State without a disk: what the API needs of control/store, its sibling, and no more.
type memory struct {
	mu    sync.Mutex
	snap  *spec.Snapshot
	nouns map[spec.Key]spec.Noun
	audit []*spec.AuditEntry
}

func newMemory() *memory {
	return &memory{snap: spec.NewSnapshot(), nouns: map[spec.Key]spec.Noun{}}
}

func (m *memory) Snapshot() *spec.Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.snap
}

func (m *memory) Update(_ context.Context, actor spec.Actor, fn func(tx product.Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	tx := &memoryTx{snap: m.snap, nouns: maps.Clone(m.nouns)}
	if err := fn(tx); err != nil {
		return err
	}
	if len(tx.changes) == 0 {
		return nil
	}
	before := m.snap
	m.nouns, m.snap = tx.nouns, m.snap.With(m.snap.Version+1, tx.changes)
	for _, c := range tx.changes {
		e := &spec.AuditEntry{ID: spec.NewID(), Version: m.snap.Version, Actor: actor, Action: "delete", Kind: c.Key.Kind, NounID: c.Key.ID}
		if c.Noun != nil {
			e.Action = "create"
			e.New, _ = json.Marshal(c.Noun)
		}
		for _, s := range []*spec.Snapshot{m.snap, before} {
			for _, id := range []string{c.Key.ID, c.Key.Scope} {
				if z := s.Zones[id]; z != nil {
					e.Zone, e.Name, e.Account = id, z.Zone.Name, z.Zone.AccountID
				}
			}
		}
		m.audit = append(m.audit, e)
	}
	return nil
}

func (m *memory) AuditLog(_ context.Context, q spec.AuditQuery) iter.Seq2[*spec.AuditEntry, error] {
	m.mu.Lock()
	all := slices.Clone(m.audit)
	m.mu.Unlock()
	if !q.OldestFirst {
		slices.Reverse(all)
	}
	return func(yield func(*spec.AuditEntry, error) bool) {
		for _, e := range all {
			fits := (q.Account == "" || q.Account == e.Account) && (q.User == "" || q.User == e.Actor.UserID)
			if fits && !yield(e, nil) {
				return
			}
		}
	}
}

type memoryTx struct {
	snap    *spec.Snapshot
	nouns   map[spec.Key]spec.Noun
	changes []spec.Change
}

func (t *memoryTx) Snapshot() *spec.Snapshot { return t.snap }

func (t *memoryTx) Get(k spec.Key) (spec.Noun, error) { return t.nouns[k], nil }

func (t *memoryTx) List(kind spec.Kind, scope string) iter.Seq2[spec.Noun, error] {
	return func(yield func(spec.Noun, error) bool) {
		for k, n := range t.nouns {
			if k.Kind == kind && k.Scope == scope && !yield(n, nil) {
				return
			}
		}
	}
}

func (t *memoryTx) Put(n spec.Noun) error {
	if err := n.Validate(); err != nil {
		return err
	}
	t.nouns[n.Key()] = n
	t.changes = append(t.changes, spec.Change{Key: n.Key(), Noun: n})
	return nil
}

func (t *memoryTx) Delete(k spec.Key) error {
	if t.nouns[k] == nil {
		return nil
	}
	delete(t.nouns, k)
	t.changes = append(t.changes, spec.Change{Key: k})
	return nil
}
