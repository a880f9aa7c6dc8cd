// Package cache answers requests from memory or disk, and remembers what origins say. What HTTP
// allows is in semantics, how responses are kept in storage; here is a request's way through it.
package cache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"selvage/edge"
	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/product/cache/storage"
	"selvage/spec"
)

// Options is what a Cache is made of. A field that is zero gets its default.
type Options struct {
	Dir         string // of the disk tier; empty for none
	MemoryBytes int64  // of the memory tier, overhead counted; 128 MiB
	DiskBytes   int64  // of the disk tier; 10 GiB
	MaxObject   int64  // a longer body is passed on unstored; 5 GiB, at most a quarter of DiskBytes

	// LockTimeout is how long a request waits for another's response to begin before it asks the
	// origin itself; 10 s.
	LockTimeout time.Duration

	Observe observe.Observer
	Clock   clock.Clock
}

// Cache is the product. Safe for concurrent use.
type Cache struct {
	options  Options
	store    *storage.Store
	metrics  *metrics
	zones    atomic.Pointer[table]
	hopeless hopeless

	base    context.Context // of fetches: it ends when Run does
	stop    context.CancelFunc
	fetches sync.WaitGroup

	mu      sync.Mutex // guards the field below
	flights map[storage.Key]*flight
}

var (
	_ product.Product   = (*Cache)(nil)
	_ product.Phaser    = (*Cache)(nil)
	_ product.Resourcer = (*Cache)(nil)
	_ product.Ruler     = (*Cache)(nil)
)

// New opens the cache. What is on disk is served once Run has indexed it.
func New(o Options) (*Cache, error) {
	if o.MemoryBytes == 0 {
		o.MemoryBytes = 128 << 20
	}
	if o.DiskBytes == 0 {
		o.DiskBytes = 10 << 30
	}
	if o.MaxObject == 0 {
		o.MaxObject = 5 << 30
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = 10 * time.Second
	}
	o.MaxObject = min(o.MaxObject, o.DiskBytes/4)
	store, err := storage.Open(storage.Options{
		Dir: o.Dir, MemoryBytes: o.MemoryBytes, DiskBytes: o.DiskBytes,
		MaxObject: o.MaxObject, Log: o.Observe.Logger(), Now: o.Clock.Now,
	})
	if err != nil {
		return nil, err
	}
	c := &Cache{options: o, store: store, flights: map[storage.Key]*flight{}}
	c.base, c.stop = context.WithCancel(context.Background())
	c.zones.Store(&table{from: spec.NewSnapshot()})
	c.metrics = newMetrics(o.Observe, store)
	return c, nil
}

// Name returns "cache".
func (c *Cache) Name() string { return "cache" }

// Prepare compiles settings and rules of the zones that changed. A zone whose rules do not compile
// is blamed alone.
func (c *Cache) Prepare(ctx context.Context, next *spec.Snapshot) (product.Change, error) {
	old := c.zones.Load()
	e := old.byID.Edit()
	var faults []error
	for id, config := range next.Changed(old.from) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if config == nil {
			e.Delete(id)
			continue
		}
		z, err := compileZone(config, old.byID.Get(id))
		if err != nil {
			faults = append(faults, &product.ZoneError{ZoneID: id, Err: err})
			continue
		}
		e.Set(id, z)
	}
	if faults != nil {
		return nil, errors.Join(faults...)
	}
	return product.Commit(func() { c.zones.Store(&table{byID: e.Map(), from: next}) }), nil
}

// Run indexes the disk tier and keeps it in order until ctx ends; then it ends what is being
// fetched and writes out what memory still owes the disk.
func (c *Cache) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, c.stop)()
	err := c.store.Run(ctx)
	if ctx.Err() != nil {
		c.stop()
	}
	c.fetches.Wait()
	return err
}

// Phase returns the cache's step in a request's way.
func (c *Cache) Phase() edge.Phase { return edge.Phase{Name: "cache", Handle: c.handle} }

// RulePhases returns the phase of cache rules.
func (c *Cache) RulePhases() []product.RulePhase {
	return []product.RulePhase{{Name: rulePhase, Group: "Cache Settings", Check: checkRuleset}}
}

// Release ends all writing to the cache's folder: call it before another process takes it over.
// Serving goes on; purges are refused, for they are the other's to record.
func (c *Cache) Release() { c.store.Release() }

// Reclaim takes the folder back after Release, when the other process gave up before its Run.
func (c *Cache) Reclaim() { c.store.Reclaim() }

// Stats returns what is stored.
func (c *Cache) Stats() storage.Stats { return c.store.Stats() }

func (c *Cache) now() time.Time { return c.options.Clock.Now() }
