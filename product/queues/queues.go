// Package queues is Queues: messages that are delivered at least once.
package queues

import (
	"context"

	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/spec"
)

// Options is what Queues is made of. A field that is zero gets its default.
type Options struct {
	State   product.State
	DB      *state.Shared // of the node; keys of queues begin with Prefix
	Observe observe.Observer
	Clock   clock.Clock
}

// Queues is the product. Safe for concurrent use.
type Queues struct {
	o Options
}

// New returns Queues over what is stored already.
func New(o Options) (*Queues, error) {
	return &Queues{o: o}, nil
}

// Name returns "queues".
func (p *Queues) Name() string { return "queues" }

// Prepare takes a snapshot.
func (p *Queues) Prepare(context.Context, *spec.Snapshot) (product.Change, error) {
	return product.Commit(func() {}), nil
}

// Run does background work until ctx ends.
func (p *Queues) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Routes serves the API.
func (p *Queues) Routes() []product.Route { return nil }

// Bindings returns what scripts can bind to.
func (p *Queues) Bindings() []product.BindingType { return nil }

// Quotas returns what is counted of each account.
func (p *Queues) Quotas() []product.Quota { return nil }

var (
	_ product.Resourcer = (*Queues)(nil)
	_ product.Binder    = (*Queues)(nil)
	_ product.Metered   = (*Queues)(nil)
)

// Prefix is how keys of queues in the node's store begin.
const Prefix = "q/"
