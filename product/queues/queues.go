// Package queues is Queues: messages that are delivered at least once.
//
// It reads from here: Queues is the product, table.go what it knows of a snapshot, send.go how messages
// come in, pump.go and pumping.go how they go to Workers; binding.go is what scripts send with, and the
// API has a file for queues, one for consumers and one for messages. The messages themselves are kept by
// product/queues/backlog.
package queues

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"selvage/engine/isolate"
	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/product/queues/backlog"
	"selvage/spec"
)

// Prefix is how keys of queues in the node's store begin.
const Prefix = backlog.Prefix

// Deliver hands a batch to a Worker's queue handler and returns when that has ended. The error is a
// fault.NotFound if the Worker is not deployed.
type Deliver func(ctx context.Context, accountID, script string, batch isolate.QueueBatch) (isolate.Outcome, error)

// Options is what Queues is made of. A field that is zero gets its default.
type Options struct {
	State   product.State
	DB      *state.Shared // of the node; keys of queues begin with Prefix
	Deliver Deliver       // nil: Workers get no messages
	Observe observe.Observer
	Clock   clock.Clock

	BatchTimeout time.Duration // that a Worker has for a batch; 15 minutes
	Tick         time.Duration // between two looks for messages that are too old; 30 seconds
}

// Queues is the product. Safe for concurrent use.
type Queues struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	pumps   pumps
	current atomic.Pointer[table]

	opening sync.Mutex // held while opened is replaced
	opened  atomic.Pointer[opened]
}

// opened is the backlog in one opening of the node's store.
type opened struct {
	db    *state.DB
	store *backlog.Store
}

var (
	_ product.Resourcer = (*Queues)(nil)
	_ product.Binder    = (*Queues)(nil)
	_ product.Metered   = (*Queues)(nil)
)

// New returns Queues over what is stored already.
func New(o Options) (*Queues, error) {
	if o.BatchTimeout == 0 {
		o.BatchTimeout = 15 * time.Minute
	}
	if o.Tick == 0 {
		o.Tick = 30 * time.Second
	}
	p := &Queues{o: o, log: o.Observe.Logger()}
	p.metrics = newMetrics(o.Observe)
	p.pumps.init(p)
	p.current.Store(newTable(spec.NewSnapshot()))
	return p, nil
}

// Name returns "queues".
func (p *Queues) Name() string { return "queues" }

// Prepare makes the table of next; accounts whose storage did not change keep theirs.
func (p *Queues) Prepare(ctx context.Context, next *spec.Snapshot) (product.Change, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	old := p.current.Load()
	t := old.with(next)
	return product.Commit(func() {
		p.current.Store(t)
		p.pumps.reconsider() // a consumer may be new, a queue no longer paused, a script deployed
	}), nil
}

// Routes serves the API.
func (p *Queues) Routes() []product.Route {
	all := append(p.queueRoutes(), p.consumerRoutes()...)
	return append(append(all, p.messageRoutes()...), p.subscriptionRoutes()...)
}

// backlog returns the messages, if the node's store is open.
func (p *Queues) backlog() (*backlog.Store, error) {
	db, err := p.o.DB.DB()
	if err != nil {
		return nil, err
	}
	if o := p.opened.Load(); o != nil && o.db == db {
		return o.store, nil
	}
	p.opening.Lock()
	defer p.opening.Unlock()
	if o := p.opened.Load(); o != nil && o.db == db {
		return o.store, nil
	}
	s, err := backlog.Open(db, backlog.Options{Clock: p.o.Clock, Policy: p.policy, Signal: p.pumps.signal, Count: p.metrics.count})
	if err != nil {
		return nil, err
	}
	p.opened.Store(&opened{db, s})
	return s, nil
}

// policy says what becomes of a queue's messages whose delivery failed.
func (p *Queues) policy(accountID, queueID string) backlog.Policy {
	return p.current.Load().policy(accountID, queueID)
}

func (p *Queues) now() time.Time { return spec.Timestamp(p.o.Clock.Now()) }
