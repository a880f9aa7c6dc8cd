// Package dns is the authoritative name server for the zones of the control plane, and the v4
// API's dns_records. See README.md.
package dns

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"

	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/spec"
)

// Options configure a Server.
type Options struct {
	// State is where records are read and changed; without it there are no API routes.
	State product.State
	// Addresses returns the edge's addresses, which proxied names answer with; nil means none. It
	// is asked again every few seconds.
	Addresses func() []netip.Addr
	// ALPN are the protocols that HTTPS records of proxied names offer, such as "h2". Empty means
	// no such records: they make browsers insist on TLS at port 443.
	ALPN []string
	// Upstreams are resolvers, as host:port, for the targets of flattened CNAMEs; empty means those
	// of /etc/resolv.conf.
	Upstreams []string
	// AnswersPerSecond is the response-rate limit over UDP for one name and client network. 0 means
	// 100; below 0 there is none.
	AnswersPerSecond int
	// Connections is the most TCP connections at once; 0 means 1000.
	Connections int
	// CookieSecret makes DNS cookies; servers that share addresses share it. All zeroes mean a
	// random one.
	CookieSecret [16]byte
	Observe      observe.Observer
	Clock        clock.Clock
}

// Server answers DNS queries from the committed snapshot. Use New.
type Server struct {
	options     Options
	table       atomic.Pointer[table]
	cookies     cookieJar
	limiter     *limiter
	outside     *outside
	meter       *meter
	connections *connections
}

var (
	_ product.Product   = (*Server)(nil)
	_ product.Resourcer = (*Server)(nil)
)

// New returns a server without zones.
func New(o Options) *Server {
	o.AnswersPerSecond = cmp.Or(o.AnswersPerSecond, 100)
	o.Connections = cmp.Or(o.Connections, 1000)
	if o.Addresses == nil {
		o.Addresses = func() []netip.Addr { return nil }
	}
	if o.CookieSecret == ([16]byte{}) {
		rand.Read(o.CookieSecret[:])
	}
	if len(o.Upstreams) == 0 {
		o.Upstreams = systemResolvers()
	}
	conns := newConnections(o.Connections)
	m := newMeter(o.Observe, conns)
	s := &Server{
		options:     o,
		cookies:     newCookieJar(o.CookieSecret),
		limiter:     newLimiter(o.AnswersPerSecond),
		outside:     newOutside(o.Upstreams, o.Observe.Logger(), m),
		meter:       m,
		connections: conns,
	}
	t := newTable()
	t.edge = newEdgeSets(o.Addresses(), o.ALPN)
	s.table.Store(t)
	return s
}

// systemResolvers returns the resolvers of /etc/resolv.conf; none if it cannot be read.
func systemResolvers() []string {
	conf, err := mdns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	var all []string
	for _, s := range conf.Servers {
		all = append(all, net.JoinHostPort(s, conf.Port))
	}
	return all
}

// Name returns "dns".
func (s *Server) Name() string { return "dns" }

// Prepare compiles the zones that changed.
func (s *Server) Prepare(ctx context.Context, next *spec.Snapshot) (product.Change, error) {
	old := s.table.Load()
	e := old.edit()
	var faults []error
	for id, config := range next.Changed(old.from) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		before := old.byID.Get(id)
		if config == nil {
			e.remove(before)
			continue
		}
		z, err := compile(before, config)
		if err != nil {
			faults = append(faults, &product.ZoneError{ZoneID: id, Err: err})
			continue
		}
		if other := e.zones.Get(z.name); other != nil && other.config.Zone.ID != id {
			faults = append(faults, doubleZone(other, z))
			continue
		}
		if before != nil {
			e.remove(before)
		}
		e.add(z)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	t := *old
	t.from, t.deepest = next, e.deepest
	t.zones, t.byID, t.flat = e.zones.Map(), e.byID.Map(), e.flat.Map()
	t.edge = newEdgeSets(s.options.Addresses(), s.options.ALPN)
	return product.Commit(func() { s.commit(&t) }), nil
}

// doubleZone blames the younger of two zones of the same name.
func doubleZone(a, b *zone) error {
	if a.config.Zone.CreatedOn.After(b.config.Zone.CreatedOn) {
		a, b = b, a
	}
	return &product.ZoneError{ZoneID: b.config.Zone.ID, Err: fmt.Errorf("zone %s is served already, as %s", b.config.Zone.Name, a.config.Zone.ID)}
}

func (s *Server) commit(t *table) {
	s.table.Store(t)
	s.meter.zones.Store(int64(t.zones.Len()))
	s.outside.want(t.outsideNames())
}

// addressCheck is how often the edge's addresses are asked for.
const addressCheck = 5 * time.Second

// Run resolves flattened CNAMEs and follows the edge's addresses until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() { defer close(done); s.outside.run(ctx) }()
	tick := time.NewTicker(addressCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			<-done
			return nil
		case <-tick.C:
			s.followAddresses()
		}
	}
}

// followAddresses replaces the edge's records if its addresses have changed. A commit at the same
// moment has asked for the addresses itself.
func (s *Server) followAddresses() {
	t := s.table.Load()
	addrs := s.options.Addresses()
	if slices.Equal(addrs, t.edge.addrs) {
		return
	}
	next := *t
	next.edge = newEdgeSets(addrs, s.options.ALPN)
	s.table.CompareAndSwap(t, &next)
}
