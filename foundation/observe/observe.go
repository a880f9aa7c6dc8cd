// Package observe is how the house is seen: a structured log, Prometheus metrics, and one event
// per request or query that goes to whoever watches. Everything is passed in, nothing is global.
package observe

import (
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Observer is what a part of the node is given to be seen by. The zero value drops everything
// but is safe to use; tests use it.
type Observer struct {
	Log     *slog.Logger         // nil drops
	Metrics *prometheus.Registry // nil keeps metrics unregistered
	Events  *Events              // nil drops
}

// Logger returns the log, never nil.
func (o Observer) Logger() *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	return o.Log
}

// Register registers collectors; each name may be registered once per node.
func (o Observer) Register(collectors ...prometheus.Collector) {
	if o.Metrics != nil {
		o.Metrics.MustRegister(collectors...)
	}
}

// Event is one thing that happened, written once at its end: a request, a DNS query, an API call.
type Event struct {
	Kind    string    // "request", "query", "api"
	Time    time.Time // when it ended; Publish sets it if it is zero
	Account string    // account ID, for filters; empty if none
	Zone    string    // zone name; empty if none
	Attrs   []slog.Attr
}

// Events is a bounded queue with any number of watchers. Publish never blocks: a slow watcher
// loses events, and the loss is counted.
type Events struct {
	watchers atomic.Pointer[[]*Watcher]
	dropped  atomic.Uint64
}

// Watcher receives events until closed.
type Watcher struct {
	C      chan Event
	kinds  []string // empty for all
	events *Events
	lost   atomic.Uint64
}

// Watched tells whether anybody watches events of one of kinds, so that publishers can save the
// work. Without kinds it tells whether anybody watches at all.
func (e *Events) Watched(kinds ...string) bool {
	if e == nil {
		return false
	}
	ws := e.watchers.Load()
	if ws == nil {
		return false
	}
	if len(kinds) == 0 {
		return len(*ws) > 0
	}
	for _, w := range *ws {
		if slices.ContainsFunc(kinds, w.wants) {
			return true
		}
	}
	return false
}

// Watch adds a watcher with room for size events of kinds, or of all kinds if none is named: a
// flood of queries must not cost a watcher of requests its room. Close it when done.
func (e *Events) Watch(size int, kinds ...string) *Watcher {
	w := &Watcher{C: make(chan Event, size), kinds: kinds, events: e}
	e.change(func(ws []*Watcher) []*Watcher { return append(ws, w) })
	return w
}

// Close ends the watch. It does not close C, for a publisher may be writing.
func (w *Watcher) Close() {
	w.events.change(func(ws []*Watcher) []*Watcher {
		kept := ws[:0]
		for _, other := range ws {
			if other != w {
				kept = append(kept, other)
			}
		}
		return kept
	})
}

// Lost returns how many events this watcher was too slow for.
func (w *Watcher) Lost() uint64 { return w.lost.Load() }

func (w *Watcher) wants(kind string) bool {
	return len(w.kinds) == 0 || slices.Contains(w.kinds, kind)
}

// Publish hands the event to every watcher of its kind that has room.
func (e *Events) Publish(ev Event) {
	if e == nil {
		return
	}
	ws := e.watchers.Load()
	if ws == nil {
		return
	}
	if ev.Time.IsZero() {
		ev.Time = time.Now()
	}
	for _, w := range *ws {
		if !w.wants(ev.Kind) {
			continue
		}
		select {
		case w.C <- ev:
		default:
			w.lost.Add(1)
			e.dropped.Add(1)
		}
	}
}

// Dropped returns how many events were lost to slow watchers in all.
func (e *Events) Dropped() uint64 { return e.dropped.Load() }

func (e *Events) change(edit func([]*Watcher) []*Watcher) {
	for {
		old := e.watchers.Load()
		var ws []*Watcher
		if old != nil {
			ws = append(ws, *old...)
		}
		ws = edit(ws)
		if e.watchers.CompareAndSwap(old, &ws) {
			return
		}
	}
}
