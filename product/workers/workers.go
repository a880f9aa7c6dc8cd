// Package workers is the product that runs code at the edge: scripts uploaded through the v4 API
// become units of engine/isolate, and requests reach them by routes, domains and subdomains.
//
// It reads from here: Workers is the product, table.go finds the script of a request, script.go its
// version, phase.go has it answer; units.go makes units of nouns, clock.go fires cron triggers. The
// API has a file for each of its nouns.
package workers

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"selvage/engine/blob"
	"selvage/engine/isolate"
	"selvage/engine/seal"
	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/foundation/supervise"
	"selvage/product"
	"selvage/product/workers/assets"
	"selvage/product/workers/outbound"
	"selvage/product/workers/tail"
	"selvage/spec"
)

// Options is what Workers are made of. Observe and Clock may be left out.
type Options struct {
	State    product.State
	Blobs    *blob.Store   // code, source maps, asset files
	Seal     *seal.Key     // for secrets at rest
	Host     *isolate.Host // runs the scripts; nil on a node without the runtime
	Assets   *assets.Store
	Tail     *tail.Hub
	Outbound *outbound.Outbound // what children reach outside of their own scripts
	// Bindings are the binding types that other products bring, by type.
	Bindings map[string]product.BindingType

	ObjectsDir  string   // holds the storage of Durable Objects, a folder per account
	NameServers []string // of the zones made for subdomains
	Domain      string   // under which accounts have their subdomains, such as workers.localhost
	PoP         string   // name of this place, in request.cf and CF-Ray; "LOCAL"
	Observe     observe.Observer
	Clock       clock.Clock
}

// Workers is the product. Safe for concurrent use.
type Workers struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	host    host

	current  atomic.Pointer[table]
	previews previews
	discards discards
	tracing  sync.Map // keys of the units with traces that are declared

	lining sync.Mutex                 // held while units are brought in line; guards the field below
	lined  map[string]map[string]bool // keys of the units declared to the host, by account
}

var (
	_ product.Product   = (*Workers)(nil)
	_ product.Phaser    = (*Workers)(nil)
	_ product.Resourcer = (*Workers)(nil)
)

// New returns Workers that know no script until a snapshot is committed.
func New(o Options) *Workers {
	if o.PoP == "" {
		o.PoP = "LOCAL"
	}
	w := &Workers{o: o, log: o.Observe.Logger(), metrics: newMetrics(o.Observe), lined: map[string]map[string]bool{}, host: absent{}}
	if o.Host != nil {
		w.host = o.Host
	}
	w.current.Store(newTable(spec.NewSnapshot()))
	o.Tail.OnChange(w.watchChanged)
	return w
}

// Name returns "workers".
func (w *Workers) Name() string { return "workers" }

// Prepare makes the table of next; accounts whose Workers did not change keep their scripts.
func (w *Workers) Prepare(ctx context.Context, next *spec.Snapshot) (product.Change, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	old := w.current.Load()
	t, faults := w.with(old, next)
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return product.Commit(func() {
		// New units are declared before requests can be sent to them, old ones taken away after.
		stale := w.declare(old, t)
		w.current.Store(t)
		for _, key := range stale {
			w.host.Drop(key)
		}
		w.discards.note(old.from, next, w.o.Clock.Now().Add(discardAfter))
	}), nil
}

// declare tells the host of the units of accounts that changed, and returns the keys of those that
// are no longer there.
func (w *Workers) declare(old, t *table) (stale []string) {
	w.lining.Lock()
	defer w.lining.Unlock()
	for id := range old.accounts {
		if t.accounts[id] == nil {
			stale = append(stale, w.line(id, nil)...)
		}
	}
	for id, a := range t.accounts {
		if old.accounts[id] == a {
			continue
		}
		units, err := w.units(id, a.from)
		if err != nil {
			w.log.Error("not all Workers of an account can be run", "account", id, "error", err)
		}
		stale = append(stale, w.line(id, units)...)
	}
	return stale
}

// line declares an account's units and returns the keys of those it had and has no more.
func (w *Workers) line(accountID string, units map[string]isolate.Unit) (stale []string) {
	now := map[string]bool{}
	for key, u := range units {
		now[key] = true
		w.host.Set(u)
		if strings.HasSuffix(key, tracedSuffix) {
			w.tracing.Store(key, true)
		}
	}
	for _, key := range append(w.previews.forget(accountID), slices.Collect(maps.Keys(w.lined[accountID]))...) {
		if !now[key] {
			w.tracing.Delete(key)
			stale = append(stale, key)
		}
	}
	w.lined[accountID] = now
	return stale
}

// watchChanged brings an account in line when somebody begins or ceases to watch one of its scripts.
func (w *Workers) watchChanged(accountID, _ string, _ bool) {
	a := w.current.Load().accounts[accountID]
	if a == nil {
		return
	}
	w.lining.Lock()
	units, err := w.units(accountID, a.from)
	stale := w.line(accountID, units)
	w.lining.Unlock()
	if err != nil {
		w.log.Error("not all Workers of an account can be run", "account", accountID, "error", err)
	}
	for _, key := range stale {
		w.host.Drop(key)
	}
}

// Run fires cron triggers and sweeps code that nothing names any more, until ctx ends.
func (w *Workers) Run(ctx context.Context) error {
	g := supervise.New(ctx, w.log)
	g.Go("cron", w.runClock)
	g.Go("sweep", w.sweep)
	g.Go("objects", w.discardObjects)
	g.Wait()
	return nil
}

// Routes returns the API of Workers.
func (w *Workers) Routes() []product.Route {
	var all []product.Route
	for _, part := range [][]product.Route{
		w.scriptRoutes(), w.routeRoutes(), w.domainRoutes(), w.subdomainRoutes(), w.scheduleRoutes(), w.objectRoutes(), w.operatorRoutes(),
		w.o.Assets.Routes(), w.o.Tail.Routes(),
	} {
		all = append(all, part...)
	}
	return all
}
