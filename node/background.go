package node

import (
	"context"
	"log/slog"
	"sync"

	"selvage/foundation/supervise"
)

// background is the work that goes on beside requests: each product's Run, kept alive. It can be
// stopped and started again, as a takeover that fails needs it.
type background struct {
	log   *slog.Logger
	tasks []task

	mu     sync.Mutex // guards the fields below
	cancel context.CancelFunc
	group  *supervise.Group
}

type task struct {
	name string
	run  func(ctx context.Context) error
}

func newBackground(log *slog.Logger, tasks []task) *background {
	return &background{log: log, tasks: tasks}
}

// start starts every task. They end with ctx or with stop.
func (b *background) start(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ctx, b.cancel = context.WithCancel(ctx)
	b.group = supervise.New(ctx, b.log)
	for _, t := range b.tasks {
		b.group.Go(t.name, t.run)
	}
}

// stop ends every task and waits for them. Stopping what does not run does nothing.
func (b *background) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cancel == nil {
		return
	}
	b.cancel()
	b.group.Wait()
	b.cancel = nil
}
