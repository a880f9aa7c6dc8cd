package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
)

// Handler gives an exchange its response. An error means that there is none: it becomes an error
// page at the outermost layer, unless a phase on the way (the cache) has something better.
// ctx ends when the client is gone.
type Handler func(ctx context.Context, ex *Exchange) error

// Phase is one step of a request's way. Handle may look at and change the request, then either
// give the response itself or call next exactly once, and look at and change the response after.
// It may also call next for an exchange of its own, on a goroutine that goes on after Handle has
// returned, as a cache does to validate what it has already served.
type Phase struct {
	Name   string // "cache"; a label in logs and metrics
	Handle func(ctx context.Context, ex *Exchange, next Handler) error
}

// OnBreak says what happens to a request when a phase panics or fails by itself.
type OnBreak uint8

const (
	// Skip goes on without the phase: no bot score beats no site.
	Skip OnBreak = iota
	// Refuse answers with an error page: never let in by accident.
	Refuse
)

// Step is a phase in its place in the pipeline.
type Step struct {
	Phase   Phase
	OnBreak OnBreak
}

// ErrBroken marks an error page that is the fault of a phase of ours.
var ErrBroken = errors.New("phase broken")

// Chain makes one handler of steps in order, ending in last. A step that panics or returns an
// error of its own (not one that came from next) is contained as its OnBreak says and reported
// to log; the request goes on.
func Chain(log *slog.Logger, steps []Step, last Handler) Handler {
	h := last
	for i := len(steps) - 1; i >= 0; i-- {
		h = contain(log, steps[i], h)
	}
	return h
}

// contain wraps one step. The call to next is watched, so that an error from further down passes
// through and a step that broke after next had answered does not run the rest twice.
func contain(log *slog.Logger, s Step, next Handler) Handler {
	return func(ctx context.Context, ex *Exchange) error {
		w := watch{next: next}
		err := w.run(ctx, ex, s.Phase)
		if err == nil || !w.broken && isVerdict(err) {
			return err
		}
		called, passed := w.outcome()
		if called && err == passed {
			return err
		}
		log.Error("phase broken", "phase", s.Phase.Name, "ray", ex.ID, "error", err)
		ex.Note.Broken = append(ex.Note.Broken, s.Phase.Name)
		if s.OnBreak == Refuse {
			ex.Response.Close()
			ex.Response = Response{}
			return fmt.Errorf("%w: %s", ErrBroken, s.Phase.Name)
		}
		if !called {
			return next(ctx, ex)
		}
		if passed == nil && ex.Response.Status != 0 {
			return nil
		}
		return errors.Join(passed, fmt.Errorf("%w: %s", ErrBroken, s.Phase.Name))
	}
}

type watch struct {
	next   Handler
	broken bool

	mu     sync.Mutex // guards the fields below: next may run on a goroutine that outlives Handle
	called bool
	err    error
}

func (w *watch) run(ctx context.Context, ex *Exchange, p Phase) (err error) {
	defer func() {
		if r := recover(); r != nil {
			w.broken = true
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return p.Handle(ctx, ex, w.call)
}

func (w *watch) call(ctx context.Context, ex *Exchange) error {
	w.mu.Lock()
	w.called = true
	w.mu.Unlock()
	err := w.next(ctx, ex)
	w.mu.Lock()
	w.err = err
	w.mu.Unlock()
	return err
}

// outcome tells whether next was called, and what it said if it has.
func (w *watch) outcome() (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.called, w.err
}
