// Package rollout brings what should be into effect: it prepares every product aside, commits them
// in one step, keeps a bad zone on its last good version while the others move on, and writes what
// is in effect to disk, so that a node can serve from it when its store cannot be read.
package rollout

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/spec"
)

// retryAfter is how long a zone that could not be prepared is left alone: its own next change is
// tried at once, but the changes of others must not pay for it each time.
const retryAfter = time.Minute

// Options say what to roll out to.
type Options struct {
	Products []product.Product // prepared and committed in this order
	Dir      string            // where the last good snapshot lies; made if missing
	Observe  observe.Observer
	Clock    clock.Clock
}

// ZoneStatus says which version of a zone is in effect, and why it is not the newest.
type ZoneStatus struct {
	Want     uint64    // version of the zone that should be; 0 if it should not be there
	InEffect uint64    // version that is in effect; 0 if none is
	Err      error     // why they differ; nil if they do not
	Since    time.Time // when Err first came up; zero without one
}

// Rollout brings snapshots into effect on one node. Safe for concurrent use.
type Rollout struct {
	products []product.Product
	log      *slog.Logger
	clock    clock.Clock
	disk     *disk
	metrics  metrics

	effective atomic.Pointer[spec.Snapshot]

	turn chan struct{} // holding its one slot is the right to prepare and commit

	mu      sync.Mutex       // guards the fields below
	next    *spec.Snapshot   // newest one asked for that no round has taken yet
	rolling *spec.Snapshot   // that of the round under way; nil between rounds
	want    *spec.Snapshot   // that of the last round
	result  error            // of that round
	held    map[string]fault // zones that are not as they should be, by ID
	failed  *fault           // why nothing of want is in effect; nil if it is
}

// fault is what keeps a zone back.
type fault struct {
	config *spec.ZoneConfig // that could not be prepared; nil if its absence could not
	err    error
	since  time.Time
	tried  time.Time
}

type metrics struct {
	seconds  prometheus.Histogram
	failures *prometheus.CounterVec
}

// New returns a rollout with the empty snapshot in effect.
func New(o Options) (*Rollout, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	r := &Rollout{products: o.Products, log: o.Observe.Logger(), clock: o.Clock, turn: make(chan struct{}, 1), want: spec.NewSnapshot(), held: map[string]fault{}}
	r.disk = newDisk(o.Dir, r.log)
	r.effective.Store(spec.NewSnapshot())
	r.metrics = metrics{
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "selvage_rollout_seconds", Help: "Time to prepare and commit a snapshot on this node.",
			Buckets: prometheus.ExponentialBuckets(100e-6, 2, 16),
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "selvage_rollout_prepare_failures_total", Help: "Snapshots that a product could not prepare.",
		}, []string{"product"}),
	}
	version := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "selvage_rollout_version", Help: "Version in effect on this node.",
	}, func() float64 { return float64(r.InEffect().Version) })
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "selvage_rollout_zones_held", Help: "Zones that are not in effect as they should be.",
	}, func() float64 {
		r.mu.Lock()
		defer r.mu.Unlock()
		return float64(len(r.held))
	})
	o.Observe.Register(r.metrics.seconds, r.metrics.failures, version, held)
	return r, nil
}

// InEffect returns the snapshot in effect. Its Version is that of the newest one rolled out; zones
// that are held back have an older one of their own.
func (r *Rollout) InEffect() *spec.Snapshot { return r.effective.Load() }

// LastGood returns what was in effect when it was last written to disk, or nil if nothing ever was.
// Only zones that are damaged in both copies are left out, and logged.
func (r *Rollout) LastGood() (*spec.Snapshot, error) { return r.disk.load() }

// Apply brings next into effect and returns when that is done. Of the snapshots that wait for their
// turn only the one with the highest version is prepared, for all of them. The error joins a
// product.ZoneError for each zone that was put back in this round; all others are in effect. Any
// other error means that nothing has changed.
func (r *Rollout) Apply(ctx context.Context, next *spec.Snapshot) error {
	r.ask(next)
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	want := r.take()
	if want == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.result
	}
	return r.roll(ctx, want, false)
}

// ask leaves next for a round to take, unless a newer one waits or is under way.
func (r *Rollout) ask(next *spec.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, other := range []*spec.Snapshot{r.next, r.rolling} {
		if other != nil && other.Version > next.Version {
			return
		}
	}
	r.next = next
}

// take returns what is asked for, or nil if an earlier round took it.
func (r *Rollout) take() *spec.Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.next
	r.next, r.rolling = nil, next
	return next
}

// roll is one round; it needs the turn. With retry, zones that failed a moment ago are tried too.
func (r *Rollout) roll(ctx context.Context, want *spec.Snapshot, retry bool) error {
	began := time.Now()
	r.setRolling(want)
	defer r.setRolling(nil)
	if old := r.InEffect().Version; want.Version < old {
		r.log.Warn("configuration goes back to an older version", "from", old, "to", want.Version)
	}
	p := &plan{r: r, want: want, good: r.InEffect(), held: map[string]fault{}}
	p.start(r.recent(retry))
	changes, err := p.prepare(ctx)
	if ctx.Err() != nil && err != nil {
		r.ask(want) // not its fault: the next one in turn tries again
		return ctx.Err()
	}
	if err == nil {
		r.commit(changes)
		r.effective.Store(p.next)
		r.disk.save(p.next)
		r.metrics.seconds.Observe(time.Since(began).Seconds())
	}
	return r.conclude(p, err)
}

func (r *Rollout) setRolling(s *spec.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rolling = s
}

// recent returns the zones that failed a moment ago: a round leaves them as they are.
func (r *Rollout) recent(retry bool) map[string]fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	recent := map[string]fault{}
	for id, f := range r.held {
		if !retry && r.clock.Now().Sub(f.tried) < retryAfter {
			recent[id] = f
		}
	}
	return recent
}

func (r *Rollout) commit(changes []prepared) {
	for _, c := range changes {
		c.finish(r.log, "commit", c.change.Commit)
	}
}

// conclude notes how a round went.
func (r *Rollout) conclude(p *plan, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.want, r.result = p.want, err
	now := r.clock.Now()
	if err != nil {
		f := fault{err: err, since: now, tried: now}
		if r.failed != nil {
			f.since = r.failed.since
		}
		r.failed = &f
		return err
	}
	r.failed = nil
	var fresh []error
	for id, f := range p.held {
		before, was := r.held[id]
		if was && before.config == f.config {
			f.since = before.since
		}
		if f.tried.IsZero() {
			f.tried = now
			fresh = append(fresh, &product.ZoneError{ZoneID: id, Err: f.err})
		}
		if f.since.IsZero() {
			f.since = now
		}
		p.held[id] = f
	}
	r.held = p.held
	r.result = errors.Join(fresh...)
	return r.result
}

// Zone tells how a zone stands.
func (r *Rollout) Zone(id string) ZoneStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	want, is := r.want.Zones[id], r.InEffect().Zones[id]
	var s ZoneStatus
	if want != nil {
		s.Want = want.Version
	}
	if is != nil {
		s.InEffect = is.Version
	}
	if f, ok := r.held[id]; ok {
		s.Err, s.Since = f.err, f.since
	}
	if r.failed != nil && want != is {
		s.Err, s.Since = r.failed.err, r.failed.since
	}
	return s
}

// Run writes what comes into effect to disk, and tries zones again that could not be prepared. When
// ctx ends it writes what is not on disk yet.
func (r *Rollout) Run(ctx context.Context) error {
	retry := time.NewTicker(retryAfter)
	defer retry.Stop()
	took := time.Duration(0) // by the last write
	for {
		select {
		case <-ctx.Done():
			return r.disk.flush()
		case <-r.disk.dirty:
		case <-retry.C:
			r.again(ctx)
			continue
		}
		select {
		case <-ctx.Done():
			return r.disk.flush()
		case <-time.After(delay(took)):
		}
		began := time.Now()
		err := r.disk.flush()
		took = time.Since(began)
		if err != nil {
			r.log.Error("last good snapshot is not on disk, will try again", "error", err)
			r.disk.again(ctx)
		}
	}
}

// again is a round for what failed before.
func (r *Rollout) again(ctx context.Context) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return
	}
	want := r.take()
	r.mu.Lock()
	troubled := len(r.held) > 0 || r.failed != nil
	if want == nil && troubled {
		want = r.want
	}
	r.mu.Unlock()
	if want == nil {
		return
	}
	if err := r.roll(ctx, want, true); err != nil {
		r.log.Warn("configuration is still not in effect as a whole", "error", err)
	}
}
