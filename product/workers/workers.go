// Package workers is the product that runs code at the edge: scripts uploaded through the v4 API
// become units of engine/isolate, and requests reach them by routes, domains and subdomains.
//
// It reads from here: Workers is the product, units.go makes units of nouns, phase.go is its part of
// a request, cron.go its clock. The API has a file for each of its nouns: scripts, versions,
// deployments, secrets, routes, domains, subdomain, schedules.
package workers

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"selvage/edge"
	"selvage/engine/blob"
	"selvage/engine/isolate"
	"selvage/engine/seal"
	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/product/workers/assets"
	"selvage/product/workers/tail"
	"selvage/spec"
)

// Options is what Workers are made of.
type Options struct {
	State  product.State
	Blobs  *blob.Store   // code, source maps, asset files
	Seal   *seal.Key     // for secrets at rest
	Host   *isolate.Host // runs the scripts
	Assets *assets.Store
	Tail   *tail.Hub
	// Services are what children reach outside of their own scripts.
	Services Services
	// Bindings are the binding types that other products bring, by type.
	Bindings map[string]product.BindingType

	ObjectsDir string // holds the storage of Durable Objects, a folder per account
	Domain     string // under which accounts have their subdomains, such as workers.localhost
	Observe    observe.Observer
	Clock      clock.Clock
}

// Workers is the product. Safe for concurrent use.
type Workers struct {
	o   Options
	log *slog.Logger

	current atomic.Pointer[table]
	turn    sync.Mutex // one commit at a time brings units in line
}

var (
	_ product.Product   = (*Workers)(nil)
	_ product.Phaser    = (*Workers)(nil)
	_ product.Resourcer = (*Workers)(nil)
)
