package isolate

import (
	"context"
	"slices"
	"sync"
	"time"
)

// watchdog looks after the children that have something to do: whether they are stuck, what CPU
// their requests used, how much memory they take. One goroutine looks at all of them; while nothing
// is under way it sleeps.
type watchdog struct {
	bell chan struct{}

	mu      sync.Mutex // guards the fields below
	arrived []*child   // to be looked after, not yet noticed
}

func newWatchdog() *watchdog { return &watchdog{bell: make(chan struct{}, 1)} }

// add asks to look after c. It does not block.
func (w *watchdog) add(c *child) {
	w.mu.Lock()
	w.arrived = append(w.arrived, c)
	w.mu.Unlock()
	select {
	case w.bell <- struct{}{}:
	default:
	}
}

func (w *watchdog) take() []*child {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.arrived
	w.arrived = nil
	return all
}

// watch looks after children until ctx ends.
func (h *Host) watch(ctx context.Context) {
	var guards []*guard
	defer func() {
		for _, g := range guards {
			g.close()
		}
	}()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.watchdog.bell:
		case <-timer.C:
		}
		now := time.Now()
		for _, c := range h.watchdog.take() {
			guards = append(guards, newGuard(c, now))
		}
		next := now.Add(time.Hour)
		guards = slices.DeleteFunc(guards, func(g *guard) bool {
			if !now.Before(g.due) && !g.look(now) {
				g.close()
				return true
			}
			if g.due.Before(next) {
				next = g.due
			}
			return false
		})
		timer.Reset(max(0, time.Until(next)))
	}
}

// watch notes that there is something to do, so that somebody looks after the child. c.mu is held.
func (c *child) watch() {
	if !c.watched {
		c.watched = true
		c.u.h.watchdog.add(c)
	}
}

// unwatch ends that if there is nothing to do. An exclusive child stays watched, as its objects
// have alarms that nobody asks it for.
func (c *child) unwatch() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.calls) > 0 || len(c.tunnels) > 0 || exclusive(c.content) {
		return false
	}
	c.watched = false
	return true
}

// What the watchdog needs of a call beside what the call is.
type trial struct {
	readAt time.Time     // when the child was first seen to have read it; zero: not yet
	sole   time.Duration // CPU of the child while no other call could have used it
	shared time.Duration // its share of the CPU of the child while others could have
}

// used returns the CPU that is counted as the call's own. What may have been others' counts for
// half of the limit at most, so that nobody is to blame for what others did.
func (t *trial) used(limit time.Duration) time.Duration { return t.sole + min(t.shared, limit/2) }

// limit returns the CPU that a call may use.
func (call *call) limit() time.Duration {
	c := call.c
	c.mu.Lock()
	p := call.program
	c.mu.Unlock()
	if p == nil || p.CPU <= 0 {
		return c.u.h.o.CPU
	}
	return p.CPU
}

// cut ends the call alone, with its child going on.
func (call *call) cut(why *Stopped) {
	call.stopped.Store(why)
	call.progress.Abort()
}

// move lets the call be made again elsewhere, as its child is stuck. It must be one that does no harm
// if it is made twice.
func (call *call) move() {
	call.moved.Store(true)
	call.progress.Abort()
}

// turn is held by the one call of a unit that is made again as a suspect, until it is answered or
// its child is stuck over it: what then happens to the child is its doing.
type turn struct {
	of   chan struct{} // of the unit, with room for one; nil: nothing is held
	once sync.Once
}

// longestTurn bounds how long others wait.
const longestTurn = time.Second

// take waits for the unit's turn.
func (t *turn) take(ctx context.Context, of chan struct{}) error {
	timer := time.NewTimer(longestTurn)
	defer timer.Stop()
	select {
	case of <- struct{}{}:
		t.of = of
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// leave lets the next one have it. It may be called more than once.
func (t *turn) leave() {
	if t == nil {
		return
	}
	t.once.Do(func() {
		if t.of != nil {
			<-t.of
		}
	})
}
