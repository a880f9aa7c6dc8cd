// Package d1 is D1: SQL databases on SQLite that scripts bind to and the API asks. databases.go makes
// and lists them, run.go runs SQL, binding.go and query.go are the two ways to it, answer.go writes
// what comes out; transfers.go, export.go and import.go move whole databases, travel.go goes back in
// time, figures.go counts what is asked.
package d1

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"selvage/engine/isolate"
	"selvage/engine/sqlite"
	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/spec"
)

// Options is what D1 is made of. A field that is zero gets its default.
type Options struct {
	State   product.State
	DB      *state.Shared // of the node, keeps the figures of what was asked; nil: they go with the process
	Dir     string        // holds the databases and their history
	PoP     string        // name of this place, as results show it; "LOCAL"
	Observe observe.Observer
	Clock   clock.Clock

	MaxOpen int           // databases open at once; 256
	Limits  sqlite.Limits // of statements; D1's
}

// D1 is the product. Safe for concurrent use.
type D1 struct {
	o         Options
	engine    atomic.Pointer[sqlite.Store] // nil while the databases are with another process
	databases product.Quota
	bytes     product.Quota
	transfers *transfers
	graves    graves
	figures   *figures
	usage     usage
	room      room
	metrics   *metrics
}

// New returns D1 over what is stored already. It opens no database: another process may hold them.
func New(o Options) (*D1, error) {
	o.PoP = cmp.Or(o.PoP, "LOCAL")
	p := &D1{o: o, metrics: newMetrics(o.Observe, cmp.Or(o.Limits.Duration, 30*time.Second)), graves: graves{dir: filepath.Join(o.Dir, "graves")}}
	p.transfers = newTransfers(filepath.Join(o.Dir, "transfers"), o.Clock.Now)
	p.figures = newFigures(o.DB, o.Observe.Logger())
	p.databases = product.Quota{Name: "d1_databases", Summary: "D1 databases.", Default: 50_000, Used: p.count}
	p.bytes = product.Quota{Name: "d1_bytes", Summary: "Bytes of D1 databases, without their history.", Default: 1 << 40, Used: p.used}
	return p, p.open()
}

// open makes the engine. It opens no database yet.
func (p *D1) open() error {
	s, err := sqlite.Open(sqlite.Options{Dir: filepath.Join(p.o.Dir, "databases"), Observe: p.o.Observe, Clock: p.o.Clock, MaxOpen: p.o.MaxOpen, Limits: p.o.Limits})
	if err != nil {
		return err
	}
	p.engine.Store(s)
	return nil
}

// store returns the engine.
func (p *D1) store() (*sqlite.Store, error) {
	if s := p.engine.Load(); s != nil {
		return s, nil
	}
	return nil, fault.New(fault.Unavailable, "The node is handing over its databases to a new process: try again.")
}

// Name returns "d1".
func (p *D1) Name() string { return "d1" }

// Prepare takes a snapshot. D1 has nothing to prepare: it looks up in the state what it is asked for.
func (p *D1) Prepare(context.Context, *spec.Snapshot) (product.Change, error) {
	return product.Commit(func() {}), nil
}

// tidyEvery is how often what has expired is removed and figures are kept.
const tidyEvery = time.Minute

// Run removes what was deleted, keeps histories, and forgets what has expired, until ctx ends.
func (p *D1) Run(ctx context.Context) error {
	s, err := p.store()
	if err != nil {
		return err
	}
	if err := p.transfers.open(); err != nil {
		p.o.Observe.Logger().Error("folder for exports and imports cannot be used; databases do", "error", err)
	}
	p.sweep(ctx, s)
	done := make(chan error, 1)
	go func() { done <- s.Maintain(ctx) }()
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.figures.save(p.o.Clock.Now())
			return ignoreEnd(ctx, <-done)
		case <-tick.C:
			p.transfers.sweep()
			p.figures.save(p.o.Clock.Now())
		}
	}
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// Release closes all databases, for a process that takes over. Statements that run are ended.
func (p *D1) Release() {
	s := p.engine.Swap(nil)
	if s == nil {
		return
	}
	if err := s.Close(); err != nil {
		p.o.Observe.Logger().Error("databases did not close well", "error", err)
	}
	p.transfers.end()
	p.usage.forget()
}

// Reclaim takes the databases back after a takeover that failed.
func (p *D1) Reclaim() {
	if err := p.open(); err != nil {
		p.o.Observe.Logger().Error("databases cannot be opened; D1 does not work, all else does", "error", err)
	}
}

// key is the database's name in the engine: no account can name another's.
func key(d *spec.Database) string { return d.AccountID + "/" + d.ID }

// Routes serves the API.
func (p *D1) Routes() []product.Route {
	const root, one = "/accounts/{account_id}/d1/database", "/accounts/{account_id}/d1/database/{database_id}"
	read, write := product.Permission{Group: "D1"}, product.Permission{Group: "D1", Write: true}
	return []product.Route{
		{Method: http.MethodGet, Path: root, Permission: read, Summary: "List an account's D1 databases.", Handle: p.list},
		{Method: http.MethodPost, Path: root, Permission: write, Summary: "Create a D1 database.", Handle: p.create},
		{Method: http.MethodGet, Path: one, Permission: read, Summary: "Get a D1 database with its size, by ID or name.", Handle: p.get},
		{Method: http.MethodPatch, Path: one, Permission: write, Summary: "Change what is set of a D1 database.", Handle: p.change},
		{Method: http.MethodPut, Path: one, Permission: write, Summary: "Change a D1 database; the same as PATCH.", Handle: p.change},
		{Method: http.MethodDelete, Path: one, Permission: write, Summary: "Delete a D1 database with its history.", Handle: p.remove},
		{Method: http.MethodPost, Path: one + "/query", Permission: write, Summary: "Run SQL on a D1 database; rows come as objects.", MaxBody: maxRequest, Handle: p.query},
		{Method: http.MethodPost, Path: one + "/raw", Permission: write, Summary: "Run SQL on a D1 database; rows come as arrays.", MaxBody: maxRequest, Handle: p.raw},
		{Method: http.MethodPost, Path: one + "/export", Permission: write, Summary: "Export a D1 database as SQL, and poll how far that is.", Handle: p.export},
		{Method: http.MethodPost, Path: one + "/import", Permission: write, Summary: "Import SQL into a D1 database: init, ingest, poll.", Handle: p.load},
		{Method: http.MethodGet, Path: one + "/time_travel/bookmark", Permission: read, Summary: "Get the bookmark of a D1 database now, or at a time.", Handle: p.getBookmark},
		{Method: http.MethodPost, Path: one + "/time_travel/restore", Permission: write, Summary: "Put a D1 database back to a bookmark or a time.", Handle: p.restore},
		{Method: http.MethodPut, Path: "/selvage/d1/uploads/{token}", Public: true, MaxBody: maxUpload, Summary: "Upload a file of SQL to the URL that an import gave.", Handle: p.transfers.receive},
		{Method: http.MethodGet, Path: "/selvage/d1/exports/{token}", Public: true, Summary: "Download an export at the URL that it gave.", Handle: p.transfers.send},
	}
}

// Bindings returns the binding type d1.
func (p *D1) Bindings() []product.BindingType {
	return []product.BindingType{{Type: "d1", Kind: isolate.Wrapped, Wrapper: "cloudflare-internal:d1-api", Check: p.check, Handle: p.bind, Refuse: refuseInstead}}
}

// Quotas returns what is counted of each account.
func (p *D1) Quotas() []product.Quota { return []product.Quota{p.bytes, p.databases} }

func (p *D1) count(_ context.Context, accountID string) (int64, error) {
	return int64(len(p.o.State.Snapshot().StorageOf(accountID).Databases)), nil
}

var (
	_ product.Resourcer = (*D1)(nil)
	_ product.Binder    = (*D1)(nil)
	_ product.Metered   = (*D1)(nil)
	_ product.Grapher   = (*D1)(nil)
)
