package workers

import (
	"context"
	"errors"
	"sync"
	"time"

	"selvage/engine/isolate"
	"selvage/foundation/fault"
)

const (
	cronLimit = 15 * time.Minute // a run may take, as at Cloudflare
	maxRuns   = 256              // cron runs under way on this node
)

// runClock fires the triggers of every deployed script at the beginning of each minute. Minutes in
// which no node ran are not made up for.
func (w *Workers) runClock(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, maxRuns)
	for {
		now := w.o.Clock.Now()
		next := now.Truncate(time.Minute).Add(time.Minute)
		timer := time.NewTimer(next.Sub(now))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		for _, d := range w.due(next) {
			select {
			case slots <- struct{}{}:
			default:
				w.metrics.cron.WithLabelValues("dropped").Inc()
				w.log.Error("cron trigger dropped: too many runs are under way", "script", d.script, "limit", maxRuns)
				continue
			}
			running.Go(func() {
				defer func() { <-slots }()
				if _, err := w.fire(ctx, d.destination, d.cron, next); err != nil && ctx.Err() == nil {
					w.log.Warn("cron trigger failed", "account", d.account, "script", d.script, "cron", d.cron, "error", err)
				}
			})
		}
	}
}

type dueTrigger struct {
	destination
	cron string
}

// due returns the triggers that fire in the minute of t.
func (w *Workers) due(t time.Time) []dueTrigger {
	var list []dueTrigger
	for account, a := range w.current.Load().accounts {
		for name, s := range a.scripts {
			for _, trigger := range s.worker.Schedules {
				if c, err := parseCron(trigger.Cron); err == nil && c.at(t) {
					list = append(list, dueTrigger{destination{account, name}, trigger.Cron})
				}
			}
		}
	}
	return list
}

// fire runs a script's scheduled handler once.
func (w *Workers) fire(ctx context.Context, d destination, trigger string, at time.Time) (isolate.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, cronLimit)
	defer cancel()
	s := w.current.Load().find(d.account, d.script)
	if s == nil || len(s.shares) == 0 {
		return isolate.Outcome{}, fault.New(fault.NotFound, "There is no deployed Worker %s.", d.script).WithCode(10007)
	}
	address := w.address(s.shares[0].version)
	out, err := w.host.Dispatch(ctx, address, isolate.Event{Scheduled: &isolate.Scheduled{Cron: trigger, Time: at}})
	var stopped *isolate.Stopped
	switch {
	case errors.As(err, &stopped):
		w.metrics.cron.WithLabelValues(string(stopped.Reason)).Inc()
	case err != nil:
		w.metrics.cron.WithLabelValues("error").Inc()
	default:
		w.metrics.cron.WithLabelValues(out.Outcome).Inc()
	}
	return out, err
}
