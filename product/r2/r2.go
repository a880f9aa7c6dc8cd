// Package r2 is R2: buckets of objects, for S3 clients, Workers and the web.
package r2

import (
	"context"
	"net"

	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/spec"
)

// Options is what R2 is made of. A field that is zero gets its default.
type Options struct {
	State   product.State
	DB      *state.Shared // of the node; keys of R2 begin with Prefix
	Dir     string        // holds the content of objects
	Observe observe.Observer
	Clock   clock.Clock
}

// R2 is the product. Safe for concurrent use.
type R2 struct {
	o Options
}

// New returns R2 over what is stored already.
func New(o Options) (*R2, error) {
	return &R2{o: o}, nil
}

// Name returns "r2".
func (p *R2) Name() string { return "r2" }

// Prepare takes a snapshot.
func (p *R2) Prepare(context.Context, *spec.Snapshot) (product.Change, error) {
	return product.Commit(func() {}), nil
}

// Run does background work until ctx ends.
func (p *R2) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Routes serves the API.
func (p *R2) Routes() []product.Route { return nil }

// Bindings returns what scripts can bind to.
func (p *R2) Bindings() []product.BindingType { return nil }

// Quotas returns what is counted of each account.
func (p *R2) Quotas() []product.Quota { return nil }

var (
	_ product.Resourcer = (*R2)(nil)
	_ product.Binder    = (*R2)(nil)
	_ product.Metered   = (*R2)(nil)
)

// Prefix is how keys of R2 in the node's store begin.
const Prefix = "r/"

// ServeS3 answers S3 clients on l until ctx ends; then it takes no more connections and returns when
// those there are have finished what they were at.
func (p *R2) ServeS3(ctx context.Context, l net.Listener) error {
	<-ctx.Done()
	return l.Close()
}
