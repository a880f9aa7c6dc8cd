// Package outbound is what a child of engine/isolate reaches through the node: the internet and
// the sites of this node (Egress), the Cache API (Cache), rate limit counters (RateLimit) and the
// scripts that it is bound to (Relay). Each is a function for isolate.Service.Serve, made for one
// caller: who connects is known by the socket, and nothing that a child sends is believed about it.
//
// It reads from here: egress.go is fetch() and connect(), subrequest.go what the rest of a request's
// way is told about it, loop.go and allowance.go where circles and floods end, wish.go the cf options
// of fetch(); cache.go, ratelimit.go and relay.go are the other capabilities. edge/socket speaks HTTP
// with the runtime.
package outbound

import (
	"context"
	"log/slog"
	"net"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/edge"
	"selvage/edge/socket"
	"selvage/engine/isolate"
	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/spec"
)

// Options is what an Outbound is made of.
type Options struct {
	Origins *edge.Origins // fetches from the internet; has to be given
	Guard   edge.Guard    // which addresses may be dialled

	// Allowed returns the networks that the operator opened for an account beside the public
	// internet; nil opens none.
	Allowed func(accountID string) []netip.Prefix
	// Local tells whether a host is served by this node; such requests take Pipeline instead of the
	// network. Nil knows none.
	Local    func(host string) bool
	Pipeline edge.Handler

	// Cached fetches through the cache on behalf of ex.Zone, for requests to hosts elsewhere whose
	// cf options ask for it: the cache's phase around Origins.Fetch. Nil ignores those options.
	Cached edge.Handler
	Cache  Keeper // behind the Cache API; nil finds and keeps nothing

	// Running returns how many requests are under way in an account's units; nil leaves circles of
	// scripts to a limit that holds for any load.
	Running func(accountID string) int

	PoP     string // name of this place; "LOCAL"
	LoopID  string // this node's name in CDN-Loop, as in edge.OriginOptions; "selvage"
	Observe observe.Observer
	Clock   clock.Clock
}

// Caller says for whom a capability is served. What is not constant is a function that may be
// called for each request.
type Caller struct {
	AccountID string
	Script    string
	Version   string

	// Worker is what CF-Worker says: the name of the zone that routes to the script, or the workers
	// domain.
	Worker string
	// Zone returns a zone that routes to the script: what it fetches from elsewhere and asks to be
	// cached is kept there, and so is the Cache API's. Nil, or a nil zone, if there is none.
	Zone func() *spec.ZoneConfig
	// ZoneOf returns the zone that a host belongs to if it is the account's, nil if not.
	ZoneOf func(host string) *spec.ZoneConfig

	// Subrequests is how many requests of its own each request may make, and how many operations on
	// what the script is bound to; 0 is 1,000 each.
	Subrequests int
	// Objects says that Durable Objects may run in the unit, which messages on WebSockets wake.
	Objects bool
	// Load returns how many requests the unit was ever sent, and how many are under way; nil sets no
	// limit on subrequests.
	Load func() (begun uint64, running int)
}

// Outbound makes capabilities. Safe for concurrent use.
type Outbound struct {
	o       Options
	log     *slog.Logger
	nested  nesting
	limits  *counters
	metrics *metrics
}

type metrics struct {
	requests *prometheus.CounterVec
	refused  *prometheus.CounterVec
	sockets  prometheus.Gauge
}

// New returns an Outbound.
func New(o Options) *Outbound {
	if o.PoP == "" {
		o.PoP = "LOCAL"
	}
	if o.LoopID == "" {
		o.LoopID = edge.LoopName
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_outbound_requests_total", Help: "Requests of scripts, by where they went: local, internet, connect, cache, ratelimit, binding, session."}, []string{"to"}),
		refused:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_outbound_refused_total", Help: "Requests of scripts that were refused, by reason."}, []string{"reason"}),
		sockets:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "selvage_outbound_tunnels", Help: "TCP sockets and RPC sessions of scripts that are open."}),
	}
	ob := &Outbound{o: o, log: o.Observe.Logger(), limits: newCounters(o.Clock), metrics: m}
	ob.nested.running = map[string]int{}
	evicted := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "selvage_outbound_ratelimit_forgotten_total", Help: "Counters of rate limits that were dropped in use because there were too many."},
		func() float64 { return float64(ob.limits.forgotten.Load()) })
	o.Observe.Register(m.requests, m.refused, m.sockets, evicted)
	return ob
}

// serve returns a function for isolate.Service.Serve.
func (o *Outbound) serve(s *socket.Server) func(context.Context, net.Listener) {
	s.Log, s.PoP, s.CFField, s.ProtoField = o.log, o.o.PoP, isolate.CFHeader, isolate.ProtoHeader
	return s.Serve
}

// refuse counts a refusal.
func (o *Outbound) refuse(f *edge.Failure) *edge.Failure {
	o.metrics.refused.WithLabelValues(f.Reason).Inc()
	return f
}
