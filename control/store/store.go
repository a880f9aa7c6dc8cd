// Package store keeps what should be: the nouns of spec, each change durable, versioned and noted in
// the audit log, and the newest state as an immutable spec.Snapshot that anyone reads without locks.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/spec"
)

const (
	hookLimit = 30 * time.Second // for a change to come into effect, before its writer stops waiting
	slew      = time.Minute      // steps of the clock up to this are hidden from the audit log
)

// Options tune a Store. The zero value is right for a node.
type Options struct {
	Observe observe.Observer
	Clock   clock.Clock

	AuditAge     time.Duration // entries of the audit log are kept this long; default 30 days
	AuditEntries int           // and at most so many; default 100,000
}

// Store is the control plane's state. Safe for concurrent use. It does not close the DB below it.
type Store struct {
	db      *state.DB
	log     *slog.Logger
	clock   clock.Clock
	metrics metrics
	audit   auditLog

	current atomic.Pointer[spec.Snapshot] // the newest durable state

	turn    chan struct{}  // holding its one slot is the right to change what follows
	pending *spec.Snapshot // the newest state in the log, perhaps not durable yet
	nouns   shelves        // every noun of pending
	when    time.Time      // of the last change

	mu     sync.Mutex // guards the fields below, and current against going back
	moved  *sync.Cond // current or failed changed
	failed error      // what made a write fail for good

	applying sync.Mutex // held while the hooks run; guards the fields below
	applied  uint64     // newest version the hooks have seen
	hooks    []func(context.Context, *spec.Snapshot) error
}

var _ product.State = (*Store)(nil)

type metrics struct {
	updates  prometheus.Histogram
	refused  prometheus.Counter
	unrolled prometheus.Counter
}

// Open reads everything in db. A noun that cannot be read is an error that names it; ctx ends the
// reading.
func Open(ctx context.Context, db *state.DB, o Options) (*Store, error) {
	s := &Store{db: db, log: o.Observe.Logger(), clock: o.Clock, turn: make(chan struct{}, 1), nouns: shelves{}}
	s.moved = sync.NewCond(&s.mu)
	s.audit = newAuditLog(db, o)
	snapshot, err := s.load(ctx)
	if err != nil {
		return nil, err
	}
	s.pending = snapshot
	s.current.Store(snapshot)
	s.metrics = metrics{
		updates: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "selvage_store_update_seconds", Help: "Time of a change from the call until it was in effect on this node.",
			Buckets: prometheus.ExponentialBuckets(100e-6, 2, 16),
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "selvage_store_refused_total", Help: "Changes that the store could not write.",
		}),
		unrolled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "selvage_store_not_in_effect_total", Help: "Changes that are stored but did not come into effect.",
		}),
	}
	version := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "selvage_store_version", Help: "Version of the newest acknowledged state.",
	}, func() float64 { return float64(s.Snapshot().Version) })
	o.Observe.Register(s.metrics.updates, s.metrics.refused, s.metrics.unrolled, version)
	return s, nil
}

// Snapshot returns the newest acknowledged state.
func (s *Store) Snapshot() *spec.Snapshot { return s.current.Load() }

// OnCommit adds a function that brings a durable state into effect. Calls never overlap and come in
// the order of versions; under load a call stands for all versions since the last one. Its error is
// logged and does not undo the change, for it is durable: the zone's status tells its owner. A hook
// must not call Update, which would wait for it.
func (s *Store) OnCommit(hook func(context.Context, *spec.Snapshot) error) {
	s.applying.Lock()
	defer s.applying.Unlock()
	s.hooks = append(s.hooks, hook)
}

// Update runs fn alone and makes its changes durable, all or none, in one version. It returns when
// they are on disk and the hooks of OnCommit have run; an error of a hook is not an error of Update,
// since the change stands. Once the change is in the log, the end of ctx no longer stops it.
func (s *Store) Update(ctx context.Context, actor spec.Actor, fn func(tx product.Tx) error) error {
	began := time.Now()
	next, commit, err := s.write(ctx, actor, fn)
	if err != nil {
		return err
	}
	if commit == nil {
		return s.await(next.Version)
	}
	if err := commit.Wait(); err != nil {
		s.fail(err)
		return err
	}
	s.publish(next)
	s.apply(ctx, next.Version)
	s.metrics.updates.Observe(time.Since(began).Seconds())
	return nil
}

// write runs fn in its turn and appends what it changed to the log. The turn ends before the disk
// has it: the next one builds on this one, and both may be written with one sync. commit is nil if
// fn changed nothing.
func (s *Store) write(ctx context.Context, actor spec.Actor, fn func(tx product.Tx) error) (*spec.Snapshot, *state.Commit, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	t := &tx{base: s.pending, nouns: s.nouns, changed: map[spec.Key]*change{}}
	err := fn(t)
	t.over = true
	if err != nil {
		return nil, nil, err
	}
	changes := t.effective()
	if len(changes) == 0 {
		return s.pending, nil, nil
	}
	next := with(s.pending, s.pending.Version+1, changes)
	when := s.now()
	batch, err := s.encode(next, t, entryHead{When: when, Actor: actor})
	if err != nil {
		return nil, nil, err
	}
	commit, err := s.db.Apply(batch)
	if err != nil {
		s.metrics.refused.Inc()
		return nil, nil, err
	}
	s.nouns.merge(changes)
	s.pending, s.when = next, when
	s.audit.added(len(changes))
	return next, commit, nil
}

// now does not follow the clock's small steps back, so that the audit log is ordered by time and by
// version alike; a clock that was far ahead and was set right must not leave its mark on all that follows.
func (s *Store) now() time.Time {
	now := spec.Timestamp(s.clock.Now())
	if now.Before(s.when) && s.when.Sub(now) <= slew {
		return s.when
	}
	return now
}

// publish makes a durable state the current one, unless a later one is that already.
func (s *Store) publish(next *spec.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if next.Version > s.current.Load().Version {
		s.current.Store(next)
		s.moved.Broadcast()
	}
}

func (s *Store) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = err
	s.moved.Broadcast()
}

// await returns when version is durable: what a reading Update saw must not vanish afterwards.
func (s *Store) await(version uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.current.Load().Version < version {
		if s.failed != nil {
			return s.failed
		}
		s.moved.Wait()
	}
	return nil
}

// apply returns when the hooks have seen version or a later one. Whoever comes first runs them for
// all that wait; they must not suffer when its client goes away.
func (s *Store) apply(ctx context.Context, version uint64) {
	s.applying.Lock()
	defer s.applying.Unlock()
	if s.applied >= version {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hookLimit)
	defer cancel()
	snapshot := s.Snapshot()
	for _, hook := range s.hooks {
		if err := contain(ctx, hook, snapshot); err != nil {
			s.metrics.unrolled.Inc()
			s.log.Error("change is stored but not all of it is in effect", "version", snapshot.Version, "error", err)
		}
	}
	s.applied = snapshot.Version
}

func contain(ctx context.Context, hook func(context.Context, *spec.Snapshot) error, snapshot *spec.Snapshot) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return hook(ctx, snapshot)
}

// Run trims the audit log in the background until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	err := s.audit.run(ctx, s.clock)
	if errors.Is(err, context.Canceled) || fault.KindOf(err) == fault.Unavailable {
		return nil
	}
	return err
}
