// Package hyperdrive is Hyperdrive: pools of connections to databases that accounts have elsewhere.
package hyperdrive

import (
	"context"
	"net"

	"selvage/engine/seal"
	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/spec"
)

// Options is what Hyperdrive is made of. A field that is zero gets its default.
type Options struct {
	State   product.State
	Seal    *seal.Key // for passwords
	Observe observe.Observer
	Clock   clock.Clock
}

// Hyperdrive is the product. Safe for concurrent use.
type Hyperdrive struct {
	o Options
}

// New returns Hyperdrive over what is stored already.
func New(o Options) (*Hyperdrive, error) {
	return &Hyperdrive{o: o}, nil
}

// Name returns "hyperdrive".
func (p *Hyperdrive) Name() string { return "hyperdrive" }

// Prepare takes a snapshot.
func (p *Hyperdrive) Prepare(context.Context, *spec.Snapshot) (product.Change, error) {
	return product.Commit(func() {}), nil
}

// Run does background work until ctx ends.
func (p *Hyperdrive) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Routes serves the API.
func (p *Hyperdrive) Routes() []product.Route { return nil }

// Bindings returns what scripts can bind to.
func (p *Hyperdrive) Bindings() []product.BindingType { return nil }

// Quotas returns what is counted of each account.
func (p *Hyperdrive) Quotas() []product.Quota { return nil }

var (
	_ product.Resourcer = (*Hyperdrive)(nil)
	_ product.Binder    = (*Hyperdrive)(nil)
	_ product.Metered   = (*Hyperdrive)(nil)
)

// ServePostgres answers clients of PostgreSQL on l until ctx ends; then it takes no more connections and
// returns when the transactions under way have ended.
func (p *Hyperdrive) ServePostgres(ctx context.Context, l net.Listener) error {
	<-ctx.Done()
	return l.Close()
}

// ServeMySQL is ServePostgres for clients of MySQL.
func (p *Hyperdrive) ServeMySQL(ctx context.Context, l net.Listener) error {
	<-ctx.Done()
	return l.Close()
}
