package outbound

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"selvage/edge"
	"selvage/edge/socket"
	"selvage/engine/isolate"
	"selvage/foundation/budget"
	"selvage/foundation/fault"
)

// Host is what a relay needs of *isolate.Host.
type Host interface {
	// Fetch sends a request to a program, waking it if it sleeps.
	Fetch(ctx context.Context, a isolate.Address, r *isolate.Request) (*isolate.Response, error)
	// Dial opens a connection to a program, waking it if it sleeps, which speaks HTTP as to a proxy
	// and takes a CONNECT to isolate.RPCHost. The child lives at least until it is closed.
	Dial(ctx context.Context, a isolate.Address) (io.ReadWriteCloser, error)
}

// Bounds of one binding.
const (
	maxSessions = 256      // RPC sessions; the runtime keeps one for all calls
	maxCalls    = 4096     // requests under way
	callDepth   = maxDepth // scripts in line, by binding or fetch()
)

// relay leads from one binding to its callee.
type relay struct {
	*Outbound
	caller   Caller
	callee   string // for messages
	resolve  func(ctx context.Context) (isolate.Address, error)
	host     Host
	count    func()
	sessions budget.Slots
	calls    budget.Slots
}

// Relay returns the service behind one service binding of the caller. Requests go to host.Fetch of
// what resolve says then; an RPC session, which is a CONNECT and then not ours to read, is joined to
// host.Dial of that. The runtime keeps a session for all calls to come, so one whose callee is not
// what resolve says any more is ended once it is silent, and the next call opens another. A callee
// that is missing is an error page with status 404 and code 1042 for fetch(), a rejection for RPC.
//
// A circle of scripts ends at 16 where they pass requests on with their fields, by the account's
// count of nested requests where they do not (see loop.go). Calls inside of RPC sessions are not
// seen: a circle of those ends at the memory or the CPU time of the units.
func (o *Outbound) Relay(caller Caller, callee string, resolve func(ctx context.Context) (isolate.Address, error), host Host) func(context.Context, net.Listener) {
	r := &relay{
		Outbound: o, caller: caller, callee: callee, resolve: resolve, host: host, count: o.metrics.requests.WithLabelValues("binding").Inc,
		sessions: budget.Slots{Limit: maxSessions}, calls: budget.Slots{Limit: maxCalls},
	}
	return o.serve(&socket.Server{Name: "service binding", Handle: r.fetch, Connect: r.connect})
}

// fetch sends one request to the callee.
func (r *relay) fetch(ctx context.Context, ex *edge.Exchange) error {
	r.count()
	q := &ex.Request
	depth, _ := depthOf(&q.Header, r.o.LoopID)
	if depth++; depth > callDepth || !r.nested.enter(r.caller.AccountID, r.o.Running) {
		return r.refuse(looped("The account's Workers call each other in a circle."))
	}
	defer r.nested.leave(r.caller.AccountID)
	if !r.calls.Take() {
		return r.refuse(crowded())
	}
	defer r.calls.Free()
	setDepth(&q.Header, r.o.LoopID, depth)
	addr, err := r.resolve(ctx)
	if err != nil {
		return r.failure(err)
	}
	res, err := r.host.Fetch(ctx, addr, request(ctx, q))
	if err != nil {
		return r.failure(err)
	}
	ex.Response = edge.Response{Status: res.Status, Length: res.Length, Body: res.Body, Tunnel: res.Tunnel}
	if res.Exception {
		ex.Response.Close()
		ex.Response = edge.Response{}
		return &edge.Failure{Status: http.StatusInternalServerError, Code: 1101, Reason: "worker_exception", Detail: "The Worker " + r.callee + " threw an exception."}
	}
	ex.Response.Header.Grow(len(res.Header))
	for _, f := range res.Header {
		ex.Response.Header.Add(f.Name, f.Value)
	}
	return nil
}

func crowded() *edge.Failure {
	return &edge.Failure{Status: http.StatusServiceUnavailable, Reason: "binding_crowded", Detail: "Too many calls through this service binding are under way. Try again in a moment."}
}

// request makes of what the caller sent what the callee gets.
func request(ctx context.Context, q *edge.Request) *isolate.Request {
	host := q.Host
	if q.Port != "" {
		host = net.JoinHostPort(q.Host, q.Port)
	} else if a := net.ParseIP(host); a != nil && a.To4() == nil {
		host = "[" + host + "]"
	}
	r := &isolate.Request{
		Method: q.Method, Scheme: q.Scheme, Host: host, Target: q.URI(), Body: q.Body, Length: q.Length, Upgrade: q.Upgrade,
		Header: func(yield func(string, string) bool) {
			for _, f := range q.Header.Fields() {
				if !yield(f.Name, f.Value) {
					return
				}
			}
		},
		Again: q.Body == nil && q.Upgrade == "" && (q.Method == http.MethodGet || q.Method == http.MethodHead || q.Method == http.MethodOptions),
	}
	if cf := socket.CF(ctx); cf != "" {
		r.CF = []byte(cf)
	}
	return r
}

// failure says what became of a call that got no answer.
func (r *relay) failure(err error) error {
	var stopped *isolate.Stopped
	var own *edge.Failure
	switch {
	case errors.As(err, &own):
		return own
	case fault.KindOf(err) == fault.NotFound:
		return r.refuse(&edge.Failure{Status: http.StatusNotFound, Code: 1042, Reason: "no_worker", Detail: "The Worker " + r.callee + ", which this service binding leads to, is not deployed.", Cause: err})
	case errors.As(err, &stopped) && (stopped.Reason == isolate.ReasonCPU || stopped.Reason == isolate.ReasonMemory):
		return &edge.Failure{Status: http.StatusServiceUnavailable, Code: 1102, Reason: "worker_limits", Detail: "The Worker " + r.callee + " used more than it may.", Cause: err}
	}
	return &edge.Failure{Status: http.StatusServiceUnavailable, Code: 1101, Reason: "worker_stopped", Detail: "The Worker " + r.callee + " could not answer.", Cause: err}
}

// connect joins an RPC session, or what the caller's connect() asks of the callee's handler.
func (r *relay) connect(ctx context.Context, target string) (*socket.Other, error) {
	if !r.sessions.Take() {
		return nil, r.refuse(crowded())
	}
	addr, err := r.resolve(ctx)
	if err != nil {
		r.sessions.Free()
		return nil, r.failure(err)
	}
	c, err := r.host.Dial(ctx, addr)
	if err != nil {
		r.sessions.Free()
		return nil, r.failure(err)
	}
	r.metrics.requests.WithLabelValues("session").Inc()
	r.metrics.sockets.Inc()
	free := sync.OnceFunc(func() { r.sessions.Free(); r.metrics.sockets.Dec() })
	other := &socket.Other{Early: "CONNECT " + target + " HTTP/1.1\r\n\r\n", Silent: true}
	if target != isolate.RPCHost {
		other.ReadWriteCloser, other.Idle = &counted{c, free}, socketIdle
		return other, nil
	}
	ctx = context.WithoutCancel(ctx)
	other.ReadWriteCloser = newSession(&counted{c, free}, func() bool { return r.leadsTo(ctx, addr.Unit) })
	return other, nil
}

const (
	sessionTick = 2 * time.Second // between two looks at what a session leads to

	// maxStale is how many looks a session that is never silent may go on after its callee was
	// replaced: then it is cut, with the calls under way, as the callee's child is when it makes room.
	maxStale = 4
	samples  = 16 // of resolve, which throws dice between the versions of a gradual deployment
)

// leadsTo tells whether a unit is among what resolve says.
func (r *relay) leadsTo(ctx context.Context, unit string) bool {
	for range samples {
		if a, err := r.resolve(ctx); err == nil && a.Unit == unit {
			return true
		}
	}
	return false
}

// session is the callee's end of an RPC session. It closes itself when it is silent and leads to
// what is not in force any more.
type session struct {
	*counted
	current func() bool
	moved   atomic.Int64 // reads and writes

	mu    sync.Mutex // guards timer against its own goroutine
	timer *time.Timer
	seen  int64 // of moved, at the last look
	stale int   // looks in a row at which it led to what is no longer in force; only look uses it
}

func newSession(c *counted, current func() bool) *session {
	s := &session{counted: c, current: current}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(sessionTick, s.look)
	return s
}

func (s *session) look() {
	silent := false
	s.mu.Lock()
	silent, s.seen = s.seen == s.moved.Load(), s.moved.Load()
	s.mu.Unlock()
	if s.current() {
		s.stale = 0
	} else if s.stale++; silent || s.stale > maxStale {
		s.Close()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Reset(sessionTick)
	}
}

// Read reads from the callee.
func (s *session) Read(p []byte) (int, error) {
	n, err := s.counted.Read(p)
	s.moved.Add(1)
	return n, err
}

// Write writes to the callee.
func (s *session) Write(p []byte) (int, error) {
	s.moved.Add(1)
	return s.counted.Write(p)
}

// Close ends the session.
func (s *session) Close() error {
	s.mu.Lock()
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	s.mu.Unlock()
	return s.counted.Close()
}
