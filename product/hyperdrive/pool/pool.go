// Package pool lends connections to a server to many clients, one at a time each. It knows no
// protocol. Who waits is served in turn: first the clients of one source (a script, a client's
// address) after the other, then in the order they came.
package pool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Conn is a connection to the server.
type Conn interface {
	// Alive tells, without waiting, whether the server still holds an idle connection.
	Alive() bool
	Close() error
}

// Options say how a pool behaves. A field that is zero gets its default.
type Options struct {
	Dial    func(ctx context.Context) (Conn, error) // has to be given
	Limit   int                                     // connections at once; 20
	Wait    time.Duration                           // for a connection; 15 s
	Idle    time.Duration                           // after which an unused connection is closed; 5 min
	Life    time.Duration                           // after which a connection is closed; 1 h
	Waiting int                                     // clients that may wait; 10,000
	// Hopeless tells that dialling again will not help, as with a wrong password: all who wait are told.
	Hopeless func(error) bool
}

const (
	dialTime   = 10 * time.Second
	firstPause = 50 * time.Millisecond
	maxPause   = 2 * time.Second
)

// Errors of Get.
var (
	ErrClosed  = errors.New("the pool is closed")
	ErrTimeout = errors.New("timed out while waiting for an open slot in the pool")
	ErrCrowded = errors.New("too many clients wait for a connection")
)

// Lease is a connection that is lent. Give it back by Put.
type Lease struct {
	Conn Conn
	born time.Time
	used time.Time
}

// Pool lends connections. Safe for concurrent use.
type Pool struct {
	o     Options
	life  context.Context
	stop  context.CancelFunc
	dials sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	now      time.Time  // of the last sweep: exact enough for ages
	idle     []*Lease   // the one used last at the end
	open     int        // connections, those being dialled included
	dialling int
	failed   error     // of the last dial; nil if it went well
	failures int       // in a row
	nextDial time.Time // after failures
	queue    queue
	closed   bool
	stats    Stats
}

// Stats is what a pool has come to.
type Stats struct {
	Open, Idle, Waiting    int
	Dialled, Failed, Waits uint64
	Timeouts               uint64
	Waited                 time.Duration // in all
}

// New returns a pool. Sweep has to be called every now and then; Close ends it.
func New(o Options) *Pool {
	if o.Limit == 0 {
		o.Limit = 20
	}
	if o.Wait == 0 {
		o.Wait = 15 * time.Second
	}
	if o.Idle == 0 {
		o.Idle = 5 * time.Minute
	}
	if o.Life == 0 {
		o.Life = time.Hour
	}
	if o.Waiting == 0 {
		o.Waiting = 10_000
	}
	p := &Pool{o: o, now: time.Now()}
	p.life, p.stop = context.WithCancel(context.Background())
	return p
}

// Get waits for a connection. Without Sweep no wait ends before there is one, or ctx ends.
func (p *Pool) Get(ctx context.Context, w *Waiter) (*Lease, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	if p.queue.len == 0 {
		if l := p.pop(); l != nil {
			p.mu.Unlock()
			return l, nil
		}
	}
	if p.queue.len >= p.o.Waiting {
		p.mu.Unlock()
		return nil, ErrCrowded
	}
	since := time.Now()
	w.wait(since.Add(p.o.Wait))
	p.queue.push(w)
	p.stats.Waits++
	p.dialMore()
	p.mu.Unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
		p.giveUp(w, ctx.Err())
		<-w.done
	}
	return w.got()
}

// giveUp ends a wait, unless it has just ended well.
func (p *Pool) giveUp(w *Waiter, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.queue.remove(w) {
		p.end(w, nil, err)
	}
}

// end ends a wait that is not in the queue any more.
func (p *Pool) end(w *Waiter, l *Lease, err error) {
	p.stats.Waited += p.o.Wait - time.Until(w.until)
	w.lease, w.err = l, err
	w.done <- struct{}{} // has room
}

// pop returns an idle connection that lives, or nil.
func (p *Pool) pop() *Lease {
	for len(p.idle) > 0 {
		l := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if p.now.Sub(l.used) < time.Second || l.Conn.Alive() {
			return l
		}
		p.drop(l)
	}
	return nil
}

// drop closes a connection; one that waits may get another.
func (p *Pool) drop(l *Lease) {
	p.open--
	l.Conn.Close()
}

// Put gives a connection back. Without reuse it is closed.
func (p *Pool) Put(l *Lease, reuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !reuse || p.closed || p.open > p.o.Limit || p.now.Sub(l.born) > p.o.Life {
		p.drop(l)
		p.dialMore()
		return
	}
	p.offer(l)
}

// offer hands a connection to who waits, or keeps it.
func (p *Pool) offer(l *Lease) {
	l.used = p.now
	if w := p.queue.pop(); w != nil {
		p.end(w, l, nil)
		return
	}
	p.idle = append(p.idle, l)
}

// dialMore starts as many dials as there are clients that wait for one, within the limit. After a
// failure one at a time is tried.
func (p *Pool) dialMore() {
	for !p.closed && p.open < p.o.Limit && p.dialling < p.queue.len && (p.failures == 0 || p.dialling == 0) {
		p.open++
		p.dialling++
		pause := time.Duration(0)
		if p.failures > 0 {
			pause = time.Until(p.nextDial)
		}
		p.dials.Go(func() { p.dial(pause) })
	}
}

func (p *Pool) dial(pause time.Duration) {
	if pause > 0 {
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-p.life.Done():
			t.Stop()
		}
	}
	ctx, cancel := context.WithTimeout(p.life, dialTime)
	c, err := p.o.Dial(ctx)
	cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialling--
	if err != nil {
		p.open--
		p.missed(err)
		p.dialMore()
		return
	}
	p.failures, p.failed = 0, nil
	p.stats.Dialled++
	l := &Lease{Conn: c, born: time.Now()}
	if p.closed {
		p.drop(l)
		return
	}
	p.offer(l)
	p.dialMore()
}

// missed notes that a dial failed.
func (p *Pool) missed(err error) {
	p.failed = err
	p.stats.Failed++
	p.failures++
	p.nextDial = time.Now().Add(min(firstPause<<min(p.failures-1, 10), maxPause))
	if p.o.Hopeless != nil && p.o.Hopeless(err) {
		p.failures = 1 // the next client tries at once, or nearly
		for w := p.queue.pop(); w != nil; w = p.queue.pop() {
			p.end(w, nil, err)
		}
	}
}

// Sweep ends waits that took too long, and closes connections that were idle for too long, are too
// old or were closed by the server. Call it about four times a second.
func (p *Pool) Sweep(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	second := now.Unix() != p.now.Unix()
	p.now = now
	for _, w := range p.queue.expired(now) {
		err := ErrTimeout
		if p.failed != nil {
			err = fmt.Errorf("%w; the last attempt to connect failed: %w", ErrTimeout, p.failed)
		}
		p.stats.Timeouts++
		p.end(w, nil, err)
	}
	if !second {
		return
	}
	kept := p.idle[:0]
	for _, l := range p.idle {
		if now.Sub(l.used) > p.o.Idle || now.Sub(l.born) > p.o.Life || p.open > p.o.Limit || !l.Conn.Alive() {
			p.drop(l)
			continue
		}
		kept = append(kept, l)
	}
	clear(p.idle[len(kept):])
	p.idle = kept
}

// SetLimit changes how many connections there may be. Those beyond are closed when they come back.
func (p *Pool) SetLimit(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.o.Limit = n
	p.dialMore()
}

// Stats returns what there is now.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Open, s.Idle, s.Waiting = p.open-p.dialling, len(p.idle), p.queue.len
	return s
}

// Close closes idle connections, and others when they come back. Who waits is told ErrClosed.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.stop()
	for w := p.queue.pop(); w != nil; w = p.queue.pop() {
		p.end(w, nil, ErrClosed)
	}
	for _, l := range p.idle {
		p.drop(l)
	}
	p.idle = nil
	p.mu.Unlock()
	p.dials.Wait()
}
