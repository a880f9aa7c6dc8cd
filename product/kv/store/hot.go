package store

import (
	"hash/maphash"
	"sync"

	"github.com/maypok86/otter/v2"
)

const stripes = 256

// name is a key of a space.
type name struct {
	space Space
	key   string
}

// hot keeps in memory what is read often, and knows which keys have changes on their way to the disk.
// What it keeps is on disk and never older than the last change that was acknowledged: a change takes
// its key out before it is applied, readers of a key under way wait for the disk, and what a reader
// found is kept only if no change has come in between.
type hot struct {
	cache *otter.Cache[name, *Entry]
	seed  maphash.Seed
	parts [stripes]stripe
}

type stripe struct {
	mu      sync.Mutex // guards the fields below, and the cache's content of these keys
	changes uint64     // grows with every change of a key here
	flights map[name]*flight
}

func newHot(bytes int64) (*hot, error) {
	cache, err := otter.New(&otter.Options[name, *Entry]{
		MaximumWeight: uint64(bytes),
		Weigher: func(n name, e *Entry) uint32 {
			const overhead = 256 // of the cache and of the structures
			return uint32(overhead + len(n.key) + len(e.Metadata) + len(e.Data) + len(e.sums))
		},
	})
	if err != nil {
		return nil, err
	}
	h := &hot{cache: cache, seed: maphash.MakeSeed()}
	for i := range h.parts {
		h.parts[i].flights = map[name]*flight{}
	}
	return h, nil
}

func (h *hot) bytes() uint64 { return h.cache.WeightedSize() }

func (h *hot) stripe(n name) *stripe {
	return &h.parts[maphash.Comparable(h.seed, n)%stripes]
}

// get returns what is known of a key in memory.
func (h *hot) get(n name) (*Entry, bool) { return h.cache.GetIfPresent(n) }

// look tells a reader that is about to ask the disk what is going on with its key.
func (h *hot) look(n name) (changes uint64, f *flight) {
	p := h.stripe(n)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changes, p.flights[n]
}

// found keeps what a reader found, if nothing has changed since look. If a change is on its way, the
// reader may have seen it too early, and has to wait for it.
func (h *hot) found(n name, changes uint64, e *Entry) *flight {
	p := h.stripe(n)
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.flights[n]; f != nil {
		return f
	}
	if p.changes == changes {
		h.cache.Set(n, e)
	}
	return nil
}

// begin takes a key out that is about to change, and tells whether it was read often.
func (h *hot) begin(n name, f *flight) (kept bool) {
	p := h.stripe(n)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changes++
	p.flights[n] = f
	_, kept = h.cache.Invalidate(n)
	return kept
}

// end says that a change is over; e is what to keep, nil for nothing. A later change of the same key
// keeps its own.
func (h *hot) end(n name, f *flight, e *Entry) {
	p := h.stripe(n)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flights[n] != f {
		return
	}
	delete(p.flights, n)
	if e != nil {
		h.cache.Set(n, e)
	}
}
