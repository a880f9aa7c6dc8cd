// Package kv is Workers KV: namespaces of keys and values that are read far more often than written.
package kv

import (
	"context"

	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/spec"
)

// Options is what KV is made of. A field that is zero gets its default.
type Options struct {
	State   product.State
	DB      *state.Shared // of the node; keys of KV begin with Prefix
	Dir     string        // holds large values
	Observe observe.Observer
	Clock   clock.Clock
}

// KV is the product. Safe for concurrent use.
type KV struct {
	o Options
}

// New returns KV over what is stored already.
func New(o Options) (*KV, error) {
	return &KV{o: o}, nil
}

// Name returns "kv".
func (p *KV) Name() string { return "kv" }

// Prepare takes a snapshot.
func (p *KV) Prepare(context.Context, *spec.Snapshot) (product.Change, error) {
	return product.Commit(func() {}), nil
}

// Run does background work until ctx ends.
func (p *KV) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Routes serves the API.
func (p *KV) Routes() []product.Route { return nil }

// Bindings returns what scripts can bind to.
func (p *KV) Bindings() []product.BindingType { return nil }

// Quotas returns what is counted of each account.
func (p *KV) Quotas() []product.Quota { return nil }

var (
	_ product.Resourcer = (*KV)(nil)
	_ product.Binder    = (*KV)(nil)
	_ product.Metered   = (*KV)(nil)
)

// Prefix is how keys of KV in the node's store begin.
const Prefix = "k/"
