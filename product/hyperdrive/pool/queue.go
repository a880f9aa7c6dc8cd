package pool

import (
	"slices"
	"time"
)

// Waiter is a client of pools, in one Get at a time.
type Waiter struct {
	source     string
	until      time.Time
	done       chan struct{} // nil until it has to wait; gets a value once lease or err is set
	lease      *Lease
	err        error
	prev, next *Waiter // in its line
	in         *line   // nil: it does not wait
}

// NewWaiter returns a client that belongs to source: a script, an address.
func NewWaiter(source string) *Waiter { return &Waiter{source: source} }

// wait makes w ready to wait.
func (w *Waiter) wait(until time.Time) {
	if w.done == nil {
		w.done = make(chan struct{}, 1)
	}
	w.until = until
}

// got returns what the wait came to, and keeps nothing of it.
func (w *Waiter) got() (*Lease, error) {
	l, err := w.lease, w.err
	w.lease, w.err = nil, nil
	return l, err
}

// queue holds waiters, a line for each source; the lines take turns. Nothing is allocated as long as
// there is one line.
type queue struct {
	lines map[string]*line
	order []*line // whose turn is first
	spare *line
	len   int
}

type line struct {
	source      string
	first, last *Waiter
}

func (q *queue) push(w *Waiter) {
	l := q.lines[w.source]
	if l == nil {
		l = q.open(w.source)
	}
	w.in, w.prev = l, l.last
	if l.last == nil {
		l.first = w
	} else {
		l.last.next = w
	}
	l.last = w
	q.len++
}

func (q *queue) open(source string) *line {
	l := q.spare
	if q.spare = nil; l == nil {
		l = &line{}
	}
	l.source = source
	if q.lines == nil {
		q.lines = map[string]*line{}
	}
	q.lines[source] = l
	q.order = append(q.order, l)
	return l
}

// pop takes the next one, or returns nil.
func (q *queue) pop() *Waiter {
	if q.len == 0 {
		return nil
	}
	l := q.order[0]
	w := l.first
	q.remove(w)
	if l.first != nil { // it is another one's turn
		q.order = append(slices.Delete(q.order, 0, 1), l)
	}
	return w
}

// remove takes w out; false if it is not there any more.
func (q *queue) remove(w *Waiter) bool {
	l := w.in
	if l == nil {
		return false
	}
	if w.prev == nil {
		l.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.in, w.prev, w.next = nil, nil, nil
	q.len--
	if l.first == nil {
		delete(q.lines, l.source)
		q.order = slices.DeleteFunc(q.order, func(o *line) bool { return o == l })
		q.spare = l
	}
	return true
}

// expired takes out those that have waited too long.
func (q *queue) expired(now time.Time) []*Waiter {
	var out []*Waiter
	for _, l := range slices.Clone(q.order) {
		for w := l.first; w != nil && w.until.Before(now); w = l.first {
			out = append(out, w)
			q.remove(w)
		}
	}
	return out
}
