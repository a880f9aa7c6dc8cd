package product

import (
	"context"
	"iter"

	"selvage/spec"
)

// State is what should be: the nouns, as products and the API read and change them. Safe for
// concurrent use.
type State interface {
	// Snapshot returns the newest acknowledged state. It may be ahead of what is in effect when a
	// rollout keeps a bad zone back.
	Snapshot() *spec.Snapshot

	// Update runs fn and makes its changes durable, all or none, with one audit entry for each in
	// actor's name. When it returns nil the changes are on disk and in effect on this node. fn may
	// run while others wait: no I/O in it. An error of fn is returned as it is and changes nothing.
	Update(ctx context.Context, actor spec.Actor, fn func(tx Tx) error) error
}

// Tx is a change in the making; it sees its own writes. Valid until fn returns.
type Tx interface {
	// Snapshot returns the state before this change.
	Snapshot() *spec.Snapshot
	// Get returns a noun, or nil if there is none.
	Get(key spec.Key) (spec.Noun, error)
	// List yields the nouns of a kind in a scope, ordered by ID.
	List(kind spec.Kind, scope string) iter.Seq2[spec.Noun, error]
	// Put validates and stores a noun.
	Put(n spec.Noun) error
	// Delete removes a noun; nothing happens if there is none. Deleting a zone removes what is in it.
	Delete(key spec.Key) error
}
