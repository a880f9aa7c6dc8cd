package outbound

import (
	"net/http"
	"sync"
	"time"

	"selvage/edge"
)

// defaultSubrequests is how many requests of its own a request may make.
const defaultSubrequests = 1000

// refill is how often a unit gets the allowance of one more request, for what it is woken by that
// nobody counts: alarms, messages on WebSockets.
const refill = 10 * time.Second

// allowance limits the subrequests of a unit. Which of the requests under way one belongs to cannot
// be told, so they share: each that begins brings its limit, and no more than the limits of those
// under way can be saved up. A request that is alone gets exactly its limit; it is never refused
// unless some request made more than its own.
type allowance struct {
	limit int
	load  func() (begun uint64, running int)

	mu    sync.Mutex // guards the fields below
	begun uint64
	since time.Time
	left  int
}

// take takes one subrequest.
func (a *allowance) take(now time.Time) *edge.Failure {
	if a.load == nil {
		return nil
	}
	begun, running := a.load()
	a.mu.Lock()
	defer a.mu.Unlock()
	fresh := begun - a.begun
	if begun < a.begun { // the unit was started anew
		fresh = begun
	}
	if now.Sub(a.since) > refill {
		fresh, a.since = fresh+1, now
	}
	a.begun = begun
	most := a.limit * max(running, 1)
	a.left = min(a.left+a.limit*int(min(fresh, uint64(max(running, 1)))), most)
	if a.left <= 0 {
		return &edge.Failure{Status: http.StatusTooManyRequests, Reason: "too_many_subrequests",
			Detail: "Too many subrequests: the Worker has made all that its requests under way may make."}
	}
	a.left--
	return nil
}
