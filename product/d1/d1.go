// Package d1 is D1: SQL databases on SQLite.
package d1

import (
	"context"

	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/spec"
)

// Options is what D1 is made of. A field that is zero gets its default.
type Options struct {
	State   product.State
	Dir     string // holds the databases and their history
	Observe observe.Observer
	Clock   clock.Clock
}

// D1 is the product. Safe for concurrent use.
type D1 struct {
	o Options
}

// New returns D1 over what is stored already.
func New(o Options) (*D1, error) {
	return &D1{o: o}, nil
}

// Name returns "d1".
func (p *D1) Name() string { return "d1" }

// Prepare takes a snapshot.
func (p *D1) Prepare(context.Context, *spec.Snapshot) (product.Change, error) {
	return product.Commit(func() {}), nil
}

// Run does background work until ctx ends.
func (p *D1) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Routes serves the API.
func (p *D1) Routes() []product.Route { return nil }

// Bindings returns what scripts can bind to.
func (p *D1) Bindings() []product.BindingType { return nil }

// Quotas returns what is counted of each account.
func (p *D1) Quotas() []product.Quota { return nil }

var (
	_ product.Resourcer = (*D1)(nil)
	_ product.Binder    = (*D1)(nil)
	_ product.Metered   = (*D1)(nil)
)
