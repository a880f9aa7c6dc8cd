package tail

import (
	"context"
	"sync"
	"time"

	"selvage/foundation/supervise"
)

// laneIdle is how long a lane stays open without anything in it.
const laneIdle = 10 * time.Second

// lanes are bounded queues, one for each script, so that none waits for another. Each is worked off by
// a goroutine of its own, which ends when there is nothing to do.
type lanes[T any] struct {
	name  string // of the tasks, for the log
	group *supervise.Group
	size  func(T) int // bytes
	work  func(ctx context.Context, of script, v T)

	mu     sync.Mutex // guards the fields below
	open   map[script]*lane[T]
	closed bool
}

type lane[T any] struct {
	queue chan T
	bytes int // in the queue; guarded by lanes.mu
}

func newLanes[T any](name string, g *supervise.Group, size func(T) int, work func(context.Context, script, T)) *lanes[T] {
	return &lanes[T]{name: name, group: g, size: size, work: work, open: map[script]*lane[T]{}}
}

// push queues v, or returns false if there is no room.
func (l *lanes[T]) push(of script, v T) bool {
	size := l.size(v)
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.open[of]
	if ln == nil {
		if l.closed || len(l.open) >= maxLanes {
			return false
		}
		ln = &lane[T]{queue: make(chan T, maxBatches)}
		l.open[of] = ln
		l.group.Go(l.name, func(ctx context.Context) error { return l.run(ctx, of, ln) })
	}
	if l.closed || ln.bytes > 0 && ln.bytes+size > maxWaiting {
		return false
	}
	select {
	case ln.queue <- v:
		ln.bytes += size
		return true
	default:
		return false
	}
}

func (l *lanes[T]) run(ctx context.Context, of script, ln *lane[T]) error {
	idle := time.NewTimer(laneIdle)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case v := <-ln.queue:
			l.work(ctx, of, v)
			l.took(ln, l.size(v))
			idle.Reset(laneIdle)
		case <-idle.C:
			if l.leave(of, ln) {
				return nil
			}
			idle.Reset(laneIdle)
		}
	}
}

// took gives room back after the work: what is worked on is in memory too.
func (l *lanes[T]) took(ln *lane[T], size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln.bytes -= size
}

// leave closes a lane unless something has just come.
func (l *lanes[T]) leave(of script, ln *lane[T]) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(ln.queue) > 0 {
		return false
	}
	delete(l.open, of)
	return true
}

// close refuses everything from now on. The group's end ends the lanes.
func (l *lanes[T]) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}
