package outbound

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"selvage/edge"
)

// defaultSubrequests is how many requests of its own a request may make, and how many operations on
// what the script is bound to.
const defaultSubrequests = 1000

// refill is how often a unit gets the allowance of one more request, for what it is woken by that
// nobody counts: alarms, messages on WebSockets.
const refill = 10 * time.Second

// operationsRefill is that for operations on stored data by scripts with Durable Objects: each message
// on a WebSocket may bring some.
const operationsRefill = time.Second

// allowance limits the subrequests of a unit. Which of the requests under way one belongs to cannot
// be told, so they share: each that begins brings its limit, and no more than the limits of those
// under way can be saved up. A request that is alone gets exactly its limit; it is never refused
// unless some request made more than its own.
type allowance struct {
	limit  int
	refill time.Duration
	load   func() (begun uint64, running int)

	mu    sync.Mutex // guards the fields below
	begun uint64
	since time.Time
	left  int
}

func newAllowance(caller *Caller, refill time.Duration) *allowance {
	a := &allowance{limit: caller.Subrequests, refill: refill, load: caller.Load}
	if a.limit == 0 {
		a.limit = defaultSubrequests
	}
	return a
}

// Operations returns what makes handlers of bindings refuse what a script asks beyond its allowance,
// which they share.
func (o *Outbound) Operations(caller Caller) func(edge.Handler) edge.Handler {
	every := refill
	if caller.Objects {
		every = operationsRefill
	}
	a := newAllowance(&caller, every)
	return func(handle edge.Handler) edge.Handler {
		return func(ctx context.Context, ex *edge.Exchange) error {
			if !a.take(ex.Start) {
				return o.refuse(&edge.Failure{Status: http.StatusTooManyRequests, Reason: "too_many_operations", Detail: fmt.Sprintf(
					"Too many API requests by single Worker invocation: the limit is %d operations on what the Worker is bound to. Do several in one, as batch() and bulk reads do, spread the work with a queue, or raise limits.subrequests.", a.limit)})
			}
			return handle(ctx, ex)
		}
	}
}

// take takes one subrequest; false if none is left.
func (a *allowance) take(now time.Time) bool {
	if a.load == nil {
		return true
	}
	begun, running := a.load()
	a.mu.Lock()
	defer a.mu.Unlock()
	fresh := begun - a.begun
	if begun < a.begun { // the unit was started anew
		fresh = begun
	}
	if now.Sub(a.since) > a.refill {
		fresh, a.since = fresh+1, now
	}
	a.begun = begun
	most := a.limit * max(running, 1)
	a.left = min(a.left+a.limit*int(min(fresh, uint64(max(running, 1)))), most)
	if a.left <= 0 {
		return false
	}
	a.left--
	return true
}
