package workers

import (
	"context"

	"selvage/engine/isolate"
	"selvage/foundation/fault"
)

// ConsumeQueue hands a batch of messages to the queue handler of a script's version in force, or of one
// of them by its share, and returns when that has ended. The error is a fault.NotFound if the script is
// not deployed.
func (w *Workers) ConsumeQueue(ctx context.Context, accountID, script string, batch isolate.QueueBatch) (isolate.Outcome, error) {
	s := w.current.Load().find(accountID, script)
	if s == nil || len(s.shares) == 0 {
		return isolate.Outcome{}, fault.New(fault.NotFound, "There is no deployed Worker %.80s.", script).WithCode(10007)
	}
	return w.host.Dispatch(ctx, w.address(s.pick(nil).version), isolate.Event{Queue: &batch})
}
