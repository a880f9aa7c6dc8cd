package pool

import (
	"slices"
	"time"
)

// waiter is a client that waits. done is closed once lease or err is set.
type waiter struct {
	source string
	until  time.Time
	done   chan struct{}
	lease  *Lease
	err    error
}

// queue holds waiters, a line for each source; the lines take turns.
type queue struct {
	lines map[string]*line
	order []*line // whose turn is first
	len   int
}

type line struct {
	source  string
	waiters []*waiter
}

func (q *queue) push(w *waiter) {
	l := q.lines[w.source]
	if l == nil {
		if q.lines == nil {
			q.lines = map[string]*line{}
		}
		l = &line{source: w.source}
		q.lines[w.source] = l
		q.order = append(q.order, l)
	}
	l.waiters = append(l.waiters, w)
	q.len++
}

// pop takes the next one, or returns nil.
func (q *queue) pop() *waiter {
	if q.len == 0 {
		return nil
	}
	l := q.order[0]
	w := l.waiters[0]
	l.waiters[0] = nil
	l.waiters = l.waiters[1:]
	q.len--
	q.order = q.order[1:]
	if len(l.waiters) == 0 {
		delete(q.lines, l.source)
	} else {
		q.order = append(q.order, l)
	}
	return w
}

// remove takes w out; false if it is not there any more.
func (q *queue) remove(w *waiter) bool {
	l := q.lines[w.source]
	if l == nil {
		return false
	}
	i := slices.Index(l.waiters, w)
	if i < 0 {
		return false
	}
	l.waiters = slices.Delete(l.waiters, i, i+1)
	q.len--
	if len(l.waiters) == 0 {
		delete(q.lines, l.source)
		q.order = slices.DeleteFunc(q.order, func(o *line) bool { return o == l })
	}
	return true
}

// expired takes out those that have waited too long.
func (q *queue) expired(now time.Time) []*waiter {
	var out []*waiter
	for _, l := range slices.Clone(q.order) {
		for len(l.waiters) > 0 && l.waiters[0].until.Before(now) {
			w := l.waiters[0]
			out = append(out, w)
			q.remove(w)
		}
	}
	return out
}
