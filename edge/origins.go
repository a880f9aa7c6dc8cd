package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/foundation/observe"
)

// OriginOptions is what Origins are made of. A field that is zero gets its default.
type OriginOptions struct {
	Resolver Resolver       // for targets with a host name; SystemResolver
	Roots    *x509.CertPool // who may sign the certificates of origins; nil means the system's
	// Revoked tells of a valid certificate that it is not to be trusted any more; nil trusts all.
	Revoked        func(leaf *x509.Certificate) bool
	ConnectTimeout time.Duration // for connection and TLS handshake; 10 s
	ReadTimeout    time.Duration // to the first byte, and between two pieces, where the target says nothing; 100 s
	WriteIdle      time.Duration // an origin may take to accept the next piece of a request; 60 s
	IdleTimeout    time.Duration // a connection is kept unused; 60 s
	IdleConns      int           // kept unused in all; 8,192
	IdlePerOrigin  int           // kept unused for one origin; 512
	Header         int64         // bytes of a response's head; 128 KiB
	PoP            string        // as in ServerOptions
	LoopID         string        // this node's name in CDN-Loop; "selvage"
	Observe        observe.Observer
}

// Origins fetches from origins over one pool of connections for the whole process. Safe for
// concurrent use.
type Origins struct {
	o         OriginOptions
	names     *resolveCache
	dialer    *dialer
	transport *http.Transport
	metrics   *originMetrics
}

type originMetrics struct {
	requests *prometheus.CounterVec
	reused   prometheus.Counter
	opened   prometheus.Counter
	open     prometheus.Gauge
	failures *prometheus.CounterVec
	seconds  prometheus.Histogram
}

// NewOrigins returns a client for origins. Close it at the end.
func NewOrigins(o OriginOptions) *Origins {
	o.ConnectTimeout = orTime(o.ConnectTimeout, 10*time.Second)
	o.ReadTimeout = orTime(o.ReadTimeout, 100*time.Second)
	o.WriteIdle = orTime(o.WriteIdle, time.Minute)
	o.IdleTimeout = orTime(o.IdleTimeout, time.Minute)
	o.IdleConns = orInt(o.IdleConns, 8192)
	o.IdlePerOrigin = orInt(o.IdlePerOrigin, 512)
	if o.Header == 0 {
		o.Header = 128 << 10
	}
	if o.PoP == "" {
		o.PoP = "LOCAL"
	}
	if o.LoopID == "" {
		o.LoopID = LoopName
	}
	if o.Resolver == nil {
		o.Resolver = SystemResolver{}
	}
	m := newOriginMetrics(o.Observe)
	d := &dialer{writeIdle: o.WriteIdle, roots: o.Roots, revoked: o.Revoked, sessions: tls.NewLRUClientSessionCache(4096), metrics: m}
	return &Origins{o: o, names: newResolveCache(o.Resolver), dialer: d, metrics: m, transport: &http.Transport{
		DialContext:            d.dial,
		DialTLSContext:         d.dial,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConns:           o.IdleConns,
		MaxIdleConnsPerHost:    o.IdlePerOrigin,
		IdleConnTimeout:        o.IdleTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: o.Header,
		WriteBufferSize:        8 << 10,
		ReadBufferSize:         16 << 10,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second, WriteByteTimeout: o.WriteIdle},
	}}
}

func newOriginMetrics(o observe.Observer) *originMetrics {
	m := &originMetrics{
		reused:   prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_origin_connections_reused_total", Help: "Requests to origins that found an open connection."}),
		opened:   prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_origin_connections_opened_total", Help: "Connections made to origins."}),
		open:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "selvage_origin_connections", Help: "Connections to origins that are open."}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_origin_requests_total", Help: "Requests to origins that were answered, by class of status."}, []string{"class"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_origin_failures_total", Help: "Requests to origins that got no answer, by reason."}, []string{"reason"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "selvage_origin_first_byte_seconds", Help: "Time to the first byte of an origin's response.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 100}}),
	}
	o.Register(m.reused, m.opened, m.open, m.requests, m.failures, m.seconds)
	return m
}

// Close gives up the connections that nobody uses.
func (o *Origins) Close() { o.transport.CloseIdleConnections() }

// Fetch asks the origin that ex.Target names and gives ex its response. It is the pipeline's last
// handler. The response's body is still coming when Fetch returns; it ends with an error if the
// origin breaks off or pauses for too long, or if ctx ends.
func (o *Origins) Fetch(ctx context.Context, ex *Exchange) error {
	err := o.fetch(ctx, ex)
	if err == nil {
		return nil
	}
	var f *Failure
	if errors.As(err, &f) {
		o.metrics.failures.WithLabelValues(f.Reason).Inc()
	}
	return err
}

func (o *Origins) fetch(ctx context.Context, ex *Exchange) error {
	t := &ex.Target
	addrs := t.Addrs
	if len(addrs) == 0 {
		var err error
		if addrs, err = o.lookup(ctx, t.Hostname); err != nil {
			return err
		}
	}
	if t.Permit != nil {
		var err error
		if addrs, err = t.permitted(addrs); err != nil {
			return err
		}
	}
	var body *originBody
	if ex.Request.Body != nil {
		body = newOriginBody(&ex.Request)
	}
	if len(addrs) == 1 {
		return o.try(ctx, ex, call{netip.AddrPortFrom(addrs[0], t.Port), o.o.ConnectTimeout, body})
	}
	var failed error
	order := o.order(addrs, t.Port)
	for i, addr := range order {
		patience := o.o.ConnectTimeout
		if i < len(order)-1 {
			patience = min(patience, nextAddress)
		}
		failed = o.try(ctx, ex, call{addr, patience, body})
		if failed == nil || !mayTryNext(ctx, failed, body) {
			break
		}
	}
	return failed
}

const (
	maxTries    = 3               // of an origin's addresses that one request may wait for
	nextAddress = 2 * time.Second // to connect, where there is another address to try
)

// order returns the addresses to try: those that failed lately come last.
func (o *Origins) order(addrs []netip.Addr, port uint16) []netip.AddrPort {
	good := make([]netip.AddrPort, 0, len(addrs))
	var bad []netip.AddrPort
	for _, a := range addrs {
		addr := netip.AddrPortFrom(a, port)
		if o.dialer.failed.recent(addr) {
			bad = append(bad, addr)
		} else {
			good = append(good, addr)
		}
	}
	good = append(good, bad...)
	return good[:min(len(good), maxTries)]
}

// mayTryNext tells whether the next address may be tried: only if nothing was sent to this one.
func mayTryNext(ctx context.Context, err error, body *originBody) bool {
	var de *dialError
	return errors.As(err, &de) && ctx.Err() == nil && (body == nil || !body.touched())
}

// lookup resolves the target's host name.
func (o *Origins) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	addrs, err := o.names.Lookup(ctx, host)
	if err == nil && len(addrs) > 0 {
		return addrs, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, &Failure{Status: 530, Code: 1016, Reason: "origin_dns", Cause: err,
		Detail: "The origin's host name cannot be resolved. Check the DNS record that names it."}
}
