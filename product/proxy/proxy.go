// Package proxy is the first phase of a request: it finds the zone that the host belongs to and
// the origin behind it, and turns away what must not go further.
package proxy

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/edge"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/spec"
)

// Options is what a Proxy is made of. Every field may be left out.
type Options struct {
	// Ports returns the ports that clients reach this node at, for redirects of clients that named a
	// port; nil means 80 and 443.
	Ports   func() (plain, secure uint16)
	LoopID  string                         // this node's name in CDN-Loop, as in edge.OriginOptions; "selvage"
	Country func(client netip.Addr) string // two letters for CF-IPCountry, empty if unknown; nil knows none
	Observe observe.Observer
}

// Proxy is the product. Safe for concurrent use.
type Proxy struct {
	o       Options
	current atomic.Pointer[table]
	hosts   prometheus.Gauge
	refused *prometheus.CounterVec
}

var (
	_ product.Product = (*Proxy)(nil)
	_ product.Phaser  = (*Proxy)(nil)
	_ product.Ruler   = (*Proxy)(nil)
)

// New returns a proxy that knows no host until a snapshot is committed.
func New(o Options) *Proxy {
	if o.LoopID == "" {
		o.LoopID = edge.LoopName
	}
	p := &Proxy{
		o:       o,
		hosts:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "selvage_proxy_hosts", Help: "Names with a proxied record in zones that are served."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_proxy_refused_total", Help: "Requests that did not get past the host table, by reason."}, []string{"reason"}),
	}
	p.current.Store(&table{from: spec.NewSnapshot()})
	o.Observe.Register(p.hosts, p.refused)
	return p
}

// Name returns "proxy".
func (p *Proxy) Name() string { return "proxy" }

// Prepare makes the host table of next out of the one in use: only names whose records changed are
// built anew.
func (p *Proxy) Prepare(ctx context.Context, next *spec.Snapshot) (product.Change, error) {
	t, faults := p.current.Load().with(ctx, next)
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return product.Commit(func() {
		p.current.Store(t)
		p.hosts.Set(float64(t.hosts))
	}), nil
}

// Run has nothing to do in the background.
func (p *Proxy) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Serves tells whether requests for a host are for a site of this node.
func (p *Proxy) Serves(host string) bool {
	s := p.current.Load().find(host)
	if s == nil || !s.serving {
		return false
	}
	n := s.lookup(host)
	return n != nil && n.proxied
}

// Phase returns the phase. Without it a request has neither zone nor origin: it has to stand first,
// and requests are refused if it breaks.
func (p *Proxy) Phase() edge.Phase { return edge.Phase{Name: "proxy", Handle: p.handle} }
