// Package supervise runs background work: each task is restarted with a growing pause when it
// fails or panics, and all are waited for when the context ends.
package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

const (
	firstPause = 50 * time.Millisecond
	maxPause   = 10 * time.Second
	calm       = time.Minute // a task that ran this long starts over at firstPause
)

// Group runs tasks until its context ends. Use New; safe for concurrent use.
type Group struct {
	ctx context.Context
	log *slog.Logger
	wg  sync.WaitGroup
}

// New returns a group whose tasks live at most as long as ctx.
func New(ctx context.Context, log *slog.Logger) *Group {
	return &Group{ctx: ctx, log: log}
}

// Go runs task under its own goroutine. A task that returns nil is finished; one that returns an
// error or panics is logged and run again, until the group's context ends.
func (g *Group) Go(name string, task func(ctx context.Context) error) {
	g.wg.Go(func() {
		pause := firstPause
		for g.ctx.Err() == nil {
			began := time.Now()
			err := g.once(task)
			if err == nil || g.ctx.Err() != nil {
				return
			}
			if time.Since(began) > calm {
				pause = firstPause
			}
			g.log.Error("background task failed, will restart", "task", name, "pause", pause, "error", err)
			select {
			case <-g.ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, maxPause)
		}
	})
}

// Wait blocks until every task has returned.
func (g *Group) Wait() { g.wg.Wait() }

func (g *Group) once(task func(ctx context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return task(g.ctx)
}
