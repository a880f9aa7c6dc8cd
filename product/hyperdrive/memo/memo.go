// Package memo remembers answers to queries for a while, within a bound of bytes. It knows no
// protocol. Of many who ask for the same at once one fetches, and the others wait for it.
package memo

import (
	"container/list"
	"sync"
	"time"
)

// Policy says how long answers are good.
type Policy struct {
	MaxAge time.Duration // fresh
	Stale  time.Duration // after that: good while one asks again in the background
}

// Memo is the memory. Safe for concurrent use.
type Memo struct {
	max int64

	mu      sync.Mutex // guards the fields below
	bytes   int64
	entries map[string]*entry
	order   list.List // of *entry, the one used last in front
}

type entry struct {
	key        string
	body       []byte
	at         time.Time
	refreshing bool
	flight     *Flight // being fetched for the first time
	place      *list.Element
}

// overhead is what an entry takes beside key and body, about.
const overhead = 256

func (e *entry) size() int64 { return int64(len(e.key)+len(e.body)) + overhead }

// Flight is a fetch under way. Who got it as its leader calls Done exactly once.
type Flight struct {
	m    *Memo
	key  string
	done chan struct{}
	body []byte
}

// New returns a memory of at most max bytes.
func New(max int64) *Memo { return &Memo{max: max, entries: map[string]*entry{}} }

// Found is what there is of a key.
type Found struct {
	Body    []byte  // the answer; never changed
	Refresh *Flight // with Body: it is stale, and the caller should fetch it in the background
	Lead    *Flight // without Body: the caller fetches it
	Wait    *Flight // without Body: another caller fetches it
}

// Find looks a key up.
func (m *Memo) Find(key []byte, p Policy, now time.Time) Found {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[string(key)]
	if e == nil {
		f := &Flight{m: m, key: string(key), done: make(chan struct{})}
		m.add(&entry{key: f.key, flight: f})
		return Found{Lead: f}
	}
	if e.flight != nil {
		return Found{Wait: e.flight}
	}
	m.order.MoveToFront(e.place)
	age := now.Sub(e.at)
	switch {
	case age < p.MaxAge:
		return Found{Body: e.body}
	case age < p.MaxAge+p.Stale:
		f := Found{Body: e.body}
		if !e.refreshing {
			e.refreshing = true
			f.Refresh = &Flight{m: m, key: e.key, done: make(chan struct{})}
		}
		return f
	}
	m.remove(e)
	f := &Flight{m: m, key: e.key, done: make(chan struct{})}
	m.add(&entry{key: f.key, flight: f})
	return Found{Lead: f}
}

func (m *Memo) add(e *entry) {
	m.entries[e.key] = e
	e.place = m.order.PushFront(e)
	m.bytes += e.size()
	for m.bytes > m.max && m.order.Len() > 1 {
		m.remove(m.order.Back().Value.(*entry))
	}
}

func (m *Memo) remove(e *entry) {
	delete(m.entries, e.key)
	m.order.Remove(e.place)
	m.bytes -= e.size()
}

// Has tells whether there is anything about key.
func (m *Memo) Has(key []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.entries[string(key)] != nil
}

// Done ends a flight with the answer, or with nil if there is none to remember. body is kept.
func (f *Flight) Done(body []byte, now time.Time) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.body = body
	close(f.done)
	e := f.m.entries[f.key]
	if e != nil && e.refreshing && body == nil {
		e.refreshing = false // what is stale stays as long as it may
		return
	}
	if e != nil && (e.flight == f || body != nil) {
		f.m.remove(e)
	}
	if body != nil {
		f.m.add(&entry{key: f.key, body: body, at: now})
	}
}

// Landed is closed when the flight has ended; then Body returns the answer, or nil.
func (f *Flight) Landed() <-chan struct{} { return f.done }

// Body returns the answer of a flight that has ended.
func (f *Flight) Body() []byte { return f.body }

// Bytes returns how much is in use.
func (m *Memo) Bytes() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes
}
