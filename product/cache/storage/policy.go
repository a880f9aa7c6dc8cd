package storage

import "sync/atomic"

// policy decides what is evicted: S3-FIFO (Yang and others, SOSP 2023). New entries go through a
// small queue, and only those used there again reach the main one, so that a scan over many things
// wanted once does not push out what is wanted often. A hit is one atomic write, no list is
// touched. Not safe for concurrent use, except touch.
type policy[T any] struct {
	limit     int64 // bytes
	used      int64
	smallUsed int64
	small     queue[T]
	main      queue[T]
	ghosts    ghosts
	evict     func(*entry[T]) // told of each entry that has to go; it is off the queues already
}

// entry is one thing kept. value belongs to the owner.
type entry[T any] struct {
	value      T
	id         uint64 // hash, for the ghosts
	cost       int64
	freq       atomic.Int32
	prev, next *entry[T]
	in         *queue[T] // nil once it is out
}

// touch notes a use.
func (e *entry[T]) touch() {
	if f := e.freq.Load(); f < 3 {
		e.freq.CompareAndSwap(f, f+1)
	}
}

// add puts an entry in and evicts until the limit holds; e itself may be what has to go.
func (p *policy[T]) add(e *entry[T]) {
	p.used += e.cost
	if p.ghosts.take(e.id) {
		p.main.push(e)
	} else {
		p.small.push(e)
		p.smallUsed += e.cost
	}
	p.shrink()
}

// resize sets the limit and evicts until it holds.
func (p *policy[T]) resize(limit int64) {
	p.limit = limit
	p.shrink()
}

func (p *policy[T]) shrink() {
	for p.used > p.limit && p.used > 0 {
		if p.smallUsed > p.limit/10 || p.main.head == nil {
			p.shrinkSmall()
		} else {
			p.shrinkMain()
		}
	}
}

// remove takes an entry out without telling evict. Calling it again does nothing.
func (p *policy[T]) remove(e *entry[T]) {
	if e.in == nil {
		return
	}
	if e.in == &p.small {
		p.smallUsed -= e.cost
	}
	e.in.unlink(e)
	p.used -= e.cost
}

func (p *policy[T]) shrinkSmall() {
	e := p.small.tail
	if e == nil {
		p.shrinkMain()
		return
	}
	if e.freq.Load() > 0 {
		p.small.unlink(e)
		p.smallUsed -= e.cost
		e.freq.Store(0)
		p.main.push(e)
		return
	}
	p.remove(e)
	p.ghosts.add(e.id)
	p.evict(e)
}

func (p *policy[T]) shrinkMain() {
	e := p.main.tail
	if e == nil {
		return
	}
	if f := e.freq.Load(); f > 0 {
		e.freq.Store(f - 1)
		p.main.unlink(e)
		p.main.push(e)
		return
	}
	p.remove(e)
	p.evict(e)
}

// queue is a doubly linked list: pushed at the head, taken from the tail.
type queue[T any] struct {
	head, tail *entry[T]
	n          int
}

func (q *queue[T]) push(e *entry[T]) {
	e.in, e.prev, e.next = q, nil, q.head
	if q.head != nil {
		q.head.prev = e
	} else {
		q.tail = e
	}
	q.head = e
	q.n++
}

func (q *queue[T]) unlink(e *entry[T]) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		q.head = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		q.tail = e.prev
	}
	e.in, e.prev, e.next = nil, nil, nil
	q.n--
}

// ghosts remembers what was evicted from the small queue of late.
type ghosts struct {
	set  map[uint64]struct{}
	ring []uint64
	next int
}

const maxGhosts = 8192

func (g *ghosts) add(id uint64) {
	if g.set == nil {
		g.set = map[uint64]struct{}{}
	}
	if len(g.ring) < maxGhosts {
		g.ring = append(g.ring, id)
	} else {
		delete(g.set, g.ring[g.next])
		g.ring[g.next] = id
		g.next = (g.next + 1) % maxGhosts
	}
	g.set[id] = struct{}{}
}

func (g *ghosts) take(id uint64) bool {
	_, ok := g.set[id]
	delete(g.set, id)
	return ok
}
