package isolate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"selvage/foundation/fault"
)

// unit is a declared unit and its children.
type unit struct {
	h        *Host
	key      string
	requests atomic.Uint64
	suspects chan struct{} // see turn
	kills    atomic.Uint64
	probing  bool // only to see what a program exports

	mu        sync.Mutex // guards the fields below
	content   *Unit
	print     string
	good      *Unit // the last content that started; nil before the first
	goodPrint string
	children  []*child
	starting  *starting
	held      chan struct{} // closed when a hand-over is done; nil if there is none
	succession
	setbacks
	gone   bool
	events bool      // something was dispatched to it: children get a dispatcher
	wake   time.Time // of its earliest alarm, known while it sleeps; zero if there is none
	unread bool      // alarms that an earlier node left were not looked for yet
}

// succession is what takes the place of a unit's content.
type succession struct {
	next      *Unit // as soon as the hand-over before it is done
	nextPrint string
	replacing bool
	renewing  bool          // see renew
	coming    chan struct{} // closed when a hand-over of objects that was asked for has begun; nil if none was
}

// setbacks are a unit's starts in a row that failed.
type setbacks struct {
	failures int
	retryAt  time.Time
	lastErr  error
}

// starting is a start that any number of requests wait for.
type starting struct {
	done chan struct{}
	err  error
}

func newUnit(h *Host, content *Unit, print string) *unit {
	return &unit{suspects: make(chan struct{}, 1), h: h, key: content.Key, content: content, print: print, unread: exclusive(content)}
}

func exclusive(u *Unit) bool { return u.Objects != "" }

var errGone = fault.New(fault.NotFound, "The unit was dropped.")

// acquire returns a call on the child that has least to do, after starting one if there is none.
// events asks for a child with a dispatcher. Whoever got the call finishes it.
func (u *unit) acquire(ctx context.Context, events bool) (*call, error) {
	for {
		u.mu.Lock()
		if u.gone {
			u.mu.Unlock()
			return nil, errGone
		}
		var start *starting
		wait := u.held
		if wait == nil {
			wait = u.coming
		}
		if wait == nil {
			if call := u.pick(events); call != nil {
				u.mu.Unlock()
				return call, nil
			}
			var err error
			if start, err = u.startLocked(events); err != nil {
				u.mu.Unlock()
				return nil, err
			}
			wait = start.done
		}
		u.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if start != nil && start.err != nil {
			return nil, start.err
		}
	}
}

// mostChildren bounds the children of a unit that is stuck again and again: from then on requests
// wait for the watchdog to end one.
const mostChildren = 8

// pick returns a call on a living child. u.mu is held.
func (u *unit) pick(events bool) *call {
	for {
		var best *child
		least := 0
		for _, c := range u.children {
			if events && c.host == nil {
				continue
			}
			if c.stuck.Load() && !exclusive(c.content) && len(u.children) < mostChildren {
				continue
			}
			if n := c.running(); n >= 0 && (best == nil || n < least) {
				best, least = c, n
			}
		}
		if best == nil {
			return nil
		}
		if call := best.begin(); call != nil {
			return call
		}
	}
}

// startLocked begins a start, or joins the one under way. u.mu is held.
func (u *unit) startLocked(events bool) (*starting, error) {
	if u.starting != nil {
		return u.starting, nil
	}
	if exclusive(u.content) && u.h.yielded.Load() {
		return nil, errYielded
	}
	if u.failures > 0 && u.h.o.Clock.Now().Before(u.retryAt) {
		return nil, u.lastErr
	}
	u.events = u.events || events || exclusive(u.content)
	s := &starting{done: make(chan struct{})}
	u.starting = s
	u.h.work.Go(func() { u.start(s) })
	return s, nil
}

// start starts one child. If new content does not start, the last that did is tried.
func (u *unit) start(s *starting) {
	for {
		u.mu.Lock()
		content, print, events := u.content, u.print, u.events
		u.mu.Unlock()
		c, err := u.bear(u.h.life, content, events)
		u.h.metrics.starts.WithLabelValues(result(err)).Inc()
		u.mu.Lock()
		if err != nil && u.fallBack(content, err) {
			u.mu.Unlock()
			continue
		}
		u.starting = nil
		if err == nil {
			u.children = append(u.children, c)
			u.good, u.goodPrint, u.failures = content, print, 0
		} else {
			u.failed(err)
		}
		u.mu.Unlock()
		s.err = err
		close(s.done)
		return
	}
}

// fallBack puts the last good content in the place of one that did not start. u.mu is held.
func (u *unit) fallBack(content *Unit, err error) bool {
	var stopped *Stopped
	if u.gone || u.good == nil || u.good == content || u.content != content || !errors.As(err, &stopped) || stopped.Reason != ReasonStart {
		return false
	}
	u.content, u.print = u.good, u.goodPrint
	u.report(content, stopped)
	return true
}

func (u *unit) report(content *Unit, why *Stopped) {
	u.h.log.Warn("unit did not start", "unit", u.key, "detail", why.Detail)
	if u.h.o.Failed != nil {
		u.h.work.Go(func() { u.h.o.Failed(content, why) })
	}
}

const (
	firstPause  = 100 * time.Millisecond
	longestStop = 30 * time.Second
	manyFails   = 5
)

// failed notes a start that failed: the more in a row, the longer until the next. u.mu is held.
func (u *unit) failed(err error) {
	u.failures++
	u.lastErr = err
	pause := min(firstPause<<min(u.failures-1, 16), longestStop)
	u.retryAt = u.h.o.Clock.Now().Add(pause)
	var stopped *Stopped
	if u.failures == manyFails && errors.As(err, &stopped) {
		u.report(u.content, stopped)
	}
}

// left hears that a child has ended.
func (u *unit) left(c *child) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.children = slices.DeleteFunc(u.children, func(other *child) bool { return other == c })
	const early = 2 * time.Second
	if c.stopped.Reason == ReasonCrash {
		u.h.log.Warn("child crashed", "unit", u.key, "detail", c.stopped.Detail)
		if u.h.o.Clock.Now().Sub(c.began) < early {
			u.failed(c.stopped)
		}
	}
}

// living returns the children.
func (u *unit) living() []*child {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.children)
}

// replace gives the unit new content.
func (u *unit) replace(content *Unit, print string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.gone {
		return
	}
	if !u.replacing && print == u.print {
		u.content = content // its functions may be new
		return
	}
	u.next, u.nextPrint = content, print
	if u.coming == nil && (exclusive(u.content) || exclusive(content)) {
		u.coming = make(chan struct{}) // who asks from here on is answered by the new content
	}
	if !u.replacing {
		u.replacing = true
		u.h.work.Go(u.handOver)
	}
}

// handOver lets the next content take the place of the present one, until there is none left.
func (u *unit) handOver() {
	for {
		u.mu.Lock()
		wait := u.held // somebody looks for alarms
		if u.starting != nil {
			wait = u.starting.done
		}
		if wait != nil {
			u.mu.Unlock()
			<-wait
			continue
		}
		if u.next == nil || u.gone {
			u.replacing = false
			u.came()
			u.mu.Unlock()
			return
		}
		old, content, print := u.children, u.next, u.nextPrint
		u.next, u.failures = nil, 0
		if len(old) == 0 {
			u.content, u.print = content, print
			u.came()
			u.mu.Unlock()
			continue
		}
		if exclusive(u.content) || exclusive(content) {
			u.content, u.print = content, print
			held := make(chan struct{})
			u.held = held
			u.came()
			u.mu.Unlock()
			u.after(old, held)
			continue
		}
		events := u.events
		u.mu.Unlock()
		u.beside(content, print, events)
	}
}

// came lets those go on who wait for a hand-over to begin. u.mu is held.
func (u *unit) came() {
	if u.coming != nil {
		close(u.coming)
		u.coming = nil
	}
}

// after ends the old children, and only then starts anew. Requests wait until held is closed.
func (u *unit) after(old []*child, held chan struct{}) {
	retireAll(old, u.h.o.HandOver)
	u.mu.Lock()
	u.held = nil
	var s *starting
	if !u.gone && u.next == nil {
		s, _ = u.startLocked(true)
	}
	u.mu.Unlock()
	close(held)
	if s != nil {
		<-s.done
	}
}

// beside starts a child of the new content while the old ones go on, then retires them.
func (u *unit) beside(content *Unit, print string, events bool) {
	c, err := u.bear(u.h.life, content, events)
	u.h.metrics.starts.WithLabelValues(result(err)).Inc()
	u.mu.Lock()
	if err != nil {
		var stopped *Stopped
		if !errors.As(err, &stopped) {
			stopped = &Stopped{Reason: ReasonStart, Detail: err.Error()}
		}
		if !u.gone {
			u.report(content, stopped)
		}
		u.mu.Unlock()
		return
	}
	old := u.children
	u.children = []*child{c}
	u.content, u.print, u.good, u.goodPrint = content, print, content, print
	gone := u.gone
	u.mu.Unlock()
	if gone {
		old = append(slices.Clone(old), c)
	}
	u.h.work.Go(func() { retireAll(old, u.h.grace(content)) })
}

// drop retires the unit for good; at once if the host ends.
func (u *unit) drop() {
	u.mu.Lock()
	u.gone = true
	s, content := u.starting, u.content
	u.mu.Unlock()
	if s != nil {
		<-s.done
	}
	retireAll(u.living(), u.h.grace(content))
}

func result(err error) string {
	if err != nil {
		return "failed"
	}
	return "ok"
}

func retireAll(children []*child, limit time.Duration) {
	var work sync.WaitGroup
	for _, c := range children {
		work.Go(func() { c.retire(limit) })
	}
	work.Wait()
}

// lockObjects makes sure that no child of another node process lives on the same objects. The
// child inherits the lock, so that it holds until both it and this process are gone.
func lockObjects(ctx context.Context, dir string) (*os.File, error) {
	if dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of objects: %w", err)
	}
	for {
		f, err := flock(lockPath(dir))
		if err == nil {
			return f, nil
		}
		select {
		case <-ctx.Done():
			return nil, fault.Wrap(err, fault.Unavailable, "The objects are in use by another process of this node; try again.")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func lockPath(dir string) string { return filepath.Clean(dir) + ".lock" }
