// Package analytics is the Analytics Engine: scripts write data points through a binding, and
// whoever may read the account asks about them in SQL. point.go takes points in, store.go and
// writer.go keep them, rewrite.go, functions.go and aggregates.go make SQLite understand the SQL that
// Cloudflare documents, query.go runs it and format.go writes what comes out.
package analytics

import (
	"context"
	"os"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/edge"
	"selvage/engine/isolate"
	"selvage/foundation/budget"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/spec"
)

// Options is what Analytics are made of. A field that is zero gets its default.
type Options struct {
	Dir       string        // holds a database for each account; has to be given
	Retention time.Duration // of points; 90 days
	MaxBytes  int64         // of one account's database; what is written beyond is dropped; 1 GiB
	Timeout   time.Duration // of a query; 10 s
	Queries   int           // under way at once, others wait; 4
	Observe   observe.Observer
	Clock     clock.Clock
}

// Analytics is the product. Safe for concurrent use.
type Analytics struct {
	o        Options
	queue    *queue
	slots    budget.Slots
	turn     chan struct{} // of queries
	accounts atomic.Pointer[map[string]bool]
	metrics  *metrics
}

var (
	_ product.Product   = (*Analytics)(nil)
	_ product.Resourcer = (*Analytics)(nil)
	_ product.Binder    = (*Analytics)(nil)
)

type metrics struct {
	points  *prometheus.CounterVec
	queries *prometheus.CounterVec
	seconds prometheus.Histogram
}

// New returns analytics over what lies in o.Dir, which it makes.
func New(o Options) (*Analytics, error) {
	if o.Retention == 0 {
		o.Retention = 90 * 24 * time.Hour
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 30
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Queries == 0 {
		o.Queries = 4
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	m := &metrics{
		points:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_analytics_points_total", Help: "Data points of scripts, by what became of them: queued, then kept; dropped (the queue or the account's space is full); bad."}, []string{"outcome"}),
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_analytics_queries_total", Help: "SQL queries, by outcome: ok, refused, timeout."}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "selvage_analytics_query_seconds", Help: "Time that SQL queries took.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}),
	}
	o.Observe.Register(m.points, m.queries, m.seconds)
	a := &Analytics{o: o, metrics: m, queue: newQueue(), turn: make(chan struct{}, o.Queries)}
	a.slots.Limit = int64(16 * o.Queries)
	return a, nil
}

// Name returns "analytics".
func (a *Analytics) Name() string { return "analytics" }

// Prepare notes which accounts there are: the points of others are removed.
func (a *Analytics) Prepare(_ context.Context, next *spec.Snapshot) (product.Change, error) {
	accounts := make(map[string]bool, len(next.Accounts))
	for id := range next.Accounts {
		accounts[id] = true
	}
	return product.Commit(func() { a.accounts.Store(&accounts) }), nil
}

// Run writes points to disk and removes old ones until ctx ends; then it writes what has come.
func (a *Analytics) Run(ctx context.Context) error {
	w := newWriter(a)
	defer w.close()
	return w.run(ctx)
}

// datasetName is what may stand behind FROM. Names that SQLite keeps for itself are refused.
var datasetName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,99}$`)

func checkDataset(name string) error {
	if !datasetName.MatchString(name) || len(name) >= 7 && sqliteOwn(name) {
		return fault.New(fault.Invalid, "The dataset %.120q is not valid: it has 1 to 100 letters, digits, underscores and hyphens, does not begin with a digit, and not with sqlite_.", name).At("dataset")
	}
	return nil
}

// Bindings returns the binding type analytics_engine.
func (a *Analytics) Bindings() []product.BindingType {
	return []product.BindingType{{
		Type: "analytics_engine", Kind: isolate.Analytics,
		Check: func(_ context.Context, _ string, b *spec.WorkerBinding) error { return checkDataset(b.Dataset) },
		Handle: func(user product.BindingUser, b *spec.WorkerBinding) edge.Handler {
			return a.intake(user.AccountID, b.Dataset).handle
		},
	}}
}

// intake takes the points of one binding. The runtime is always told that all is well: writeDataPoint
// waits for nothing.
func (a *Analytics) intake(accountID, dataset string) *intake {
	return &intake{a: a, account: accountID, dataset: dataset, good: checkDataset(dataset) == nil}
}
