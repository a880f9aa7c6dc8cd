package outbound

import (
	"context"
	_ "embed" // of the binding's module
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"selvage/edge"
	"selvage/edge/socket"
	"selvage/foundation/budget"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/spec"
)

// RateLimitModule is the name of the module that makes a ratelimit binding of the Fetcher "fetcher",
// for isolate.Binding.Wrapper; its source, for isolate.Options.Modules, is RateLimitSource.
const RateLimitModule = "ratelimit"

// RateLimitSource is the source of RateLimitModule.
//
//go:embed js/ratelimit.js
var RateLimitSource string

// RateLimit returns the service behind one ratelimit binding. Counters belong to account, namespace,
// key and period: bindings of an account to the same namespace share them, whatever their limits. A
// window begins with its first request and lasts for the period.
func (o *Outbound) RateLimit(caller Caller, b *spec.WorkerBinding) (func(context.Context, net.Listener), error) {
	if b.Limit < 1 {
		return nil, fault.New(fault.Invalid, "The limit of a ratelimit binding is at least 1, not %d.", b.Limit).At("simple.limit")
	}
	if !goodPeriod(b.Period) {
		return nil, fault.New(fault.Invalid, "The period of a ratelimit binding is 10 or 60 seconds, not %d.", b.Period).At("simple.period")
	}
	own := limitRequest{Limit: float64(b.Limit), Period: b.Period}
	count := o.metrics.requests.WithLabelValues("ratelimit").Inc
	return o.serve(&socket.Server{Name: "ratelimit", Handle: func(_ context.Context, ex *edge.Exchange) error {
		count()
		return o.limit(ex, own, caller.AccountID+"/"+b.NamespaceID)
	}}), nil
}

func goodPeriod(seconds int) bool { return seconds == 10 || seconds == 60 }

// limitRequest is what the module asks; what it leaves out is as the binding says.
type limitRequest struct {
	Key    string  `json:"key"`
	Limit  float64 `json:"limit"`
	Period int     `json:"period"`
}

var (
	passed  = []byte(`{"success":true}`)
	limited = []byte(`{"success":false}`)
)

// limit counts one request in a namespace.
func (o *Outbound) limit(ex *edge.Exchange, in limitRequest, namespace string) error {
	q := &ex.Request
	if q.Method != http.MethodPost || q.Body == nil {
		return &edge.Failure{Status: http.StatusMethodNotAllowed, Reason: "bad_method", Detail: "Rate limits are asked by POST."}
	}
	body, err := io.ReadAll(budget.Reader("A rate limit's key", q.Body, 64<<10))
	if err != nil {
		return &edge.Failure{Status: http.StatusRequestEntityTooLarge, Reason: "body_too_large", Detail: "The key of a rate limit has at most 64 KiB.", Cause: err}
	}
	if err := json.Unmarshal(body, &in); err != nil || !goodPeriod(in.Period) {
		return &edge.Failure{Status: http.StatusBadRequest, Reason: "bad_request", Detail: "A rate limit needs a key, and a period of 10 or 60."}
	}
	answer := limited
	period := time.Duration(in.Period) * time.Second
	if o.limits.take(nameOf(namespace, in.Key, period), in.Limit, period) {
		answer = passed
	}
	ex.Respond(http.StatusOK, edge.NewHeader("Content-Type", "application/json"), answer)
	return nil
}

// counterName names a counter by two hashes: its memory has to be the same for keys of any length.
type counterName [2]uint64

func nameOf(namespace, key string, period time.Duration) counterName {
	var name counterName
	for i := range name {
		d := xxhash.NewWithSeed(uint64(i+1) * 0x9e3779b97f4a7c15)
		d.WriteString(strconv.Itoa(len(namespace)))
		d.WriteString(":")
		d.WriteString(namespace)
		d.WriteString(period.String())
		d.WriteString(":")
		d.WriteString(key)
		name[i] = d.Sum64()
	}
	return name
}

const (
	counterShards = 64
	perShard      = 16 << 10 // a million counters in all, some 64 MiB
)

// counters are those of the whole node, a bounded number of them.
type counters struct {
	clock     clock.Clock
	forgotten atomic.Uint64 // dropped while their window ran
	shards    [counterShards]counterShard
}

type counterShard struct {
	mu      sync.Mutex // guards windows
	windows map[counterName]window
}

// window is what was counted since it began.
type window struct {
	ends  time.Time
	count float64
}

func newCounters(c clock.Clock) *counters { return &counters{clock: c} }

// take counts one; false if limit was reached before.
func (c *counters) take(name counterName, limit float64, period time.Duration) bool {
	now := c.clock.Now()
	s := &c.shards[name[0]%counterShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok := s.windows[name]
	if !ok || !now.Before(w.ends) {
		if !ok && len(s.windows) >= perShard {
			c.forgotten.Add(s.room(now))
		}
		w = window{ends: now.Add(period)}
	}
	if w.count >= limit {
		return false
	}
	w.count++
	if s.windows == nil {
		s.windows = map[counterName]window{}
	}
	s.windows[name] = w
	return true
}

// room drops windows that are over, or, if there are none, some that are not: a flood of keys lets
// others through rather than take all memory.
func (s *counterShard) room(now time.Time) (dropped uint64) {
	for name, w := range s.windows {
		if !now.Before(w.ends) {
			delete(s.windows, name)
		}
	}
	for name := range s.windows {
		if len(s.windows) < perShard*7/8 {
			break
		}
		delete(s.windows, name)
		dropped++
	}
	return dropped
}
