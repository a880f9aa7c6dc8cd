// Package tail shows what Workers do while they do it: traces become Cloudflare's tail messages, with
// stacks that lead to the sources, and go to whoever watches (wrangler tail, over a WebSocket that
// speaks trace-v1) and to the tail consumers of a script.
//
// It reads from here: Hub takes traces in, message.go and stack.go make messages of them, session.go
// and filter.go are those who watch, socket.go and frame.go the WebSocket, routes.go the API,
// service.go where the runtime delivers.
package tail

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/foundation/observe"
	"selvage/foundation/supervise"
)

// Options say what a Hub stands on. All may be left out.
type Options struct {
	// Exists tells whether an account has a script; sessions of others are refused. nil: all exist.
	Exists func(accountID, script string) bool
	// Version returns the tag and message that a version was uploaded with. nil: none.
	Version func(accountID, versionID string) (tag, message string)
	// SourceMap returns the source map of a module of a version, or nil if it has none; it may read
	// from disk. nil: stacks stay as they are.
	SourceMap func(ctx context.Context, accountID, versionID, module string) ([]byte, error)
	// SourceMapBytes bounds the memory for source maps read. Default: 64 MiB.
	SourceMapBytes int

	// Consumers names the scripts of the account that get the traces of a script; it is asked for
	// each batch and has to be quick. nil: none.
	Consumers func(accountID, script string) []string
	// Deliver hands a JSON array of messages to the tail handler of a consumer. An error counts them
	// as lost. nil: they are.
	Deliver func(ctx context.Context, accountID, consumer string, items json.RawMessage) error

	// Lifetime is when a session ends whatever happens. Default: 6 hours.
	Lifetime time.Duration
	// Grace is when a session ends that nobody is connected to. Default: 1 minute.
	Grace time.Duration

	Observe observe.Observer
	Clock   clock.Clock
}

// Limits of what is kept in memory.
const (
	maxSessionsScript  = 10
	maxSessionsAccount = 100
	maxAccept          = 4 << 20 // bytes that Accept takes
	maxItem            = 2 << 20 // bytes of a trace from the runtime; it keeps 256 KB of logs
	batchBytes         = 1 << 20 // of traces from the runtime that are handed on at once
	batchItems         = 500
	maxWaiting         = 16 << 20 // bytes of batches that wait for their turn, a script
	maxBatches         = 256      // that wait, a script
	maxLanes           = 4096     // scripts, and consumers, with something to do at a time
	deliverTime        = 30 * time.Second
	keepEvery          = 5 * time.Second
)

// script names a script, or a consumer, of an account.
type script struct{ account, name string }

// batch is what came in at once.
type batch struct {
	version string
	items   []json.RawMessage
}

// Hub is where traces come in and those who want them are. Safe for concurrent use.
type Hub struct {
	o         Options
	metrics   *metrics
	maps      *maps
	group     *supervise.Group
	stop      context.CancelFunc
	wake      chan struct{} // the keeper has something to tell
	incoming  *lanes[batch]
	consuming *lanes[[]json.RawMessage]
	onChange  atomic.Pointer[func(accountID, script string, watched bool)]

	mu       sync.RWMutex // guards the fields below
	closed   bool
	sessions map[script][]*session
	changed  map[script]bool // the keeper has to look at
}

// New returns a Hub. Close it.
func New(o Options) *Hub {
	if o.Lifetime == 0 {
		o.Lifetime = 6 * time.Hour
	}
	if o.Grace == 0 {
		o.Grace = time.Minute
	}
	if o.SourceMapBytes == 0 {
		o.SourceMapBytes = 64 << 20
	}
	ctx, stop := context.WithCancel(context.Background())
	h := &Hub{
		o: o, metrics: newMetrics(o.Observe), group: supervise.New(ctx, o.Observe.Logger()), stop: stop,
		wake: make(chan struct{}, 1), sessions: map[script][]*session{}, changed: map[script]bool{},
	}
	h.maps = &maps{load: o.SourceMap, limit: o.SourceMapBytes, turns: make(chan struct{}, mapsAtOnce), entries: map[mapKey]*mapEntry{}}
	h.incoming = newLanes("tail", h.group, func(b batch) int { return sizeOf(b.items) }, h.process)
	h.consuming = newLanes("tail consumer", h.group, sizeOf, h.deliver)
	h.group.Go("tail sessions", h.keep)
	return h
}

// Close ends all sessions, telling those who watch that the node goes away, and waits for what the
// Hub has begun.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	var all []*session
	for _, list := range h.sessions {
		all = append(all, list...)
	}
	h.sessions = map[script][]*session{}
	h.mu.Unlock()
	for _, s := range all {
		s.end(closeGoingAway, "the node is going away")
	}
	for _, s := range all {
		s.served.Wait()
	}
	h.incoming.close()
	h.consuming.close()
	h.stop()
	h.group.Wait()
}

// OnChange has f called when Watched changes because of a session: soon after, and from one goroutine.
// When consumers change, whoever changes them knows. Call it before there are sessions.
func (h *Hub) OnChange(f func(accountID, script string, watched bool)) { h.onChange.Store(&f) }

// Watched tells whether anybody wants the traces of a script: a session or a consumer.
func (h *Hub) Watched(accountID, name string) bool {
	return h.hasSession(script{accountID, name}) || len(h.consumers(accountID, name)) > 0
}

func (h *Hub) hasSession(of script) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.sessions[of]) > 0
}

func (h *Hub) consumers(accountID, name string) []string {
	if h.o.Consumers == nil {
		return nil
	}
	return h.o.Consumers(accountID, name)
}

// Accept takes traces in: a JSON array of items as the runtime's tail handlers get them. It does not
// wait for anybody: what comes faster than it can be handed on is dropped, and those who watch are
// told. An error means that items is no array within the limits. The Hub keeps items.
func (h *Hub) Accept(accountID, name, versionID string, items json.RawMessage) error {
	if len(items) > maxAccept {
		return fault.New(fault.TooMuch, "The traces have %d bytes, the limit is %d.", len(items), maxAccept)
	}
	if !h.Watched(accountID, name) {
		return nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(items, &list); err != nil {
		return fault.New(fault.Invalid, "Traces come as a JSON array: %v.", err)
	}
	h.accept(script{accountID, name}, batch{versionID, list})
	return nil
}

func (h *Hub) accept(of script, b batch) {
	if len(b.items) > 0 && !h.incoming.push(of, b) {
		h.lose(of, len(b.items), h.metrics.lostBehind)
	}
}

// lose tells those who watch a script that n traces were dropped.
func (h *Hub) lose(of script, n int, counter interface{ Add(float64) }) {
	counter.Add(float64(n))
	for _, s := range h.watchers(of) {
		s.lose(n)
	}
}

// watchers returns the sessions of a script. The list is not changed any more.
func (h *Hub) watchers(of script) []*session {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.sessions[of]
}

// process makes messages of a batch and hands them on.
func (h *Hub) process(ctx context.Context, of script, b batch) {
	watchers, consumers := h.watchers(of), h.consumers(of.account, of.name)
	if len(watchers) == 0 && len(consumers) == 0 {
		return
	}
	m := maker{hub: h, script: of, version: b.version}
	var forConsumers []json.RawMessage
	bad := m.each(ctx, b.items, func(v *view) {
		h.metrics.items.Inc()
		for _, s := range watchers {
			if s.wants(v) {
				s.push(v.encoded)
			}
		}
		// A consumer that watches a consumer would hear of itself for ever.
		if len(consumers) > 0 && !v.isTail() {
			forConsumers = append(forConsumers, v.encoded)
		}
	})
	if bad > 0 {
		h.metrics.lostBroken.Add(float64(bad))
	}
	if len(forConsumers) == 0 {
		return
	}
	for _, c := range consumers {
		if !h.consuming.push(script{of.account, c}, forConsumers) {
			h.metrics.lostConsumer.Add(float64(len(forConsumers)))
		}
	}
}

// deliver hands a batch to a consumer.
func (h *Hub) deliver(ctx context.Context, to script, items []json.RawMessage) {
	if h.o.Deliver == nil {
		h.metrics.lostConsumer.Add(float64(len(items)))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, deliverTime)
	defer cancel()
	if err := h.o.Deliver(ctx, to.account, to.name, joined(items)); err != nil {
		h.metrics.lostConsumer.Add(float64(len(items)))
		h.o.Observe.Logger().Debug("tail consumer did not take traces", "account", to.account, "script", to.name, "items", len(items), "error", err)
		return
	}
	h.metrics.delivered.Add(float64(len(items)))
}

func joined(items []json.RawMessage) json.RawMessage {
	all := make([]byte, 0, sizeOf(items)+len(items)+2)
	all = append(all, '[')
	for i, item := range items {
		if i > 0 {
			all = append(all, ',')
		}
		all = append(all, item...)
	}
	return append(all, ']')
}

func sizeOf(items []json.RawMessage) int {
	n := 0
	for _, item := range items {
		n += len(item)
	}
	return n
}

// keep ends sessions in time and tells of changes.
func (h *Hub) keep(ctx context.Context) error {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	told := map[script]bool{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			h.expire()
		case <-h.wake:
		}
		for of := range h.takeChanged() {
			watched := h.hasSession(of)
			if watched == told[of] {
				continue
			}
			if told[of] = watched; !watched {
				delete(told, of)
			}
			// Where a consumer watches anyway, a session changes nothing.
			if f := h.onChange.Load(); f != nil && len(h.consumers(of.account, of.name)) == 0 {
				(*f)(of.account, of.name, watched)
			}
		}
	}
}

func (h *Hub) expire() {
	now := h.o.Clock.Now()
	h.mu.RLock()
	var over []*session
	for _, list := range h.sessions {
		for _, s := range list {
			if s.over(now) {
				over = append(over, s)
			}
		}
	}
	h.mu.RUnlock()
	for _, s := range over {
		h.remove(s, "the session has expired")
	}
}

func (h *Hub) takeChanged() map[script]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.changed
	h.changed = map[script]bool{}
	return c
}

// touched notes, with h.mu held, that the keeper has to look at a script.
func (h *Hub) touched(of script) {
	h.changed[of] = true
	select {
	case h.wake <- struct{}{}:
	default:
	}
}
