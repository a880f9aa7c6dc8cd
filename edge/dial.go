package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// lane is what an origin connection is good for. Requests share a connection only if every part is
// the same: another name in the handshake or another demand on the certificate is another lane.
type lane struct {
	addr       netip.AddrPort
	secure     bool
	serverName string
	verify     bool
	http2      bool

	patience time.Duration // to connect; no part of what makes a lane
}

// key is the lane as a host name, for the pool below: unambiguous, and of characters that no layer
// rewrites.
func (l *lane) key() string {
	b := make([]byte, 0, 96)
	flag := func(on bool, c byte) {
		if on {
			b = append(b, c)
		}
	}
	b = append(b, 'o')
	flag(l.secure, 's')
	flag(l.verify, 'v')
	flag(l.http2, 'h')
	b = append(b, '-')
	a16 := l.addr.Addr().As16()
	const digits = "0123456789abcdef"
	for _, c := range a16 {
		b = append(b, digits[c>>4], digits[c&15])
	}
	for shift := 12; shift >= 0; shift -= 4 {
		b = append(b, digits[l.addr.Port()>>shift&15])
	}
	b = append(b, '.')
	b = append(b, l.serverName...)
	b = append(b, ".origin"...)
	return string(b)
}

type laneKey struct{}

// dialError is a connection that did not come about. Nothing was sent.
type dialError struct {
	tls   bool // the handshake failed, not the connection
	cause error
}

// Error says what failed.
func (e *dialError) Error() string {
	if e.tls {
		return "tls handshake with origin: " + e.cause.Error()
	}
	return "connect to origin: " + e.cause.Error()
}

// Unwrap returns the cause.
func (e *dialError) Unwrap() error { return e.cause }

// dialer makes connections to origins.
type dialer struct {
	writeIdle time.Duration
	roots     *x509.CertPool
	revoked   func(leaf *x509.Certificate) bool // nil if none is
	sessions  tls.ClientSessionCache
	metrics   *originMetrics
	failed    failures
}

// dial connects the lane that travels in ctx.
func (d *dialer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	l, ok := ctx.Value(laneKey{}).(*lane)
	if !ok {
		return nil, errors.New("no lane")
	}
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	nd := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4}}
	c, err := nd.DialContext(ctx, "tcp", l.addr.String())
	if err != nil {
		if ctx.Err() != context.Canceled {
			d.failed.add(l.addr)
		}
		return nil, &dialError{cause: err}
	}
	d.metrics.opened.Inc()
	d.metrics.open.Inc()
	oc := &originConn{TCPConn: c.(*net.TCPConn), writeIdle: d.writeIdle, closed: sync.OnceFunc(d.metrics.open.Dec)}
	if !l.secure {
		return oc, nil
	}
	return d.handshake(ctx, l, oc)
}

func (d *dialer) handshake(ctx context.Context, l *lane, c net.Conn) (net.Conn, error) {
	cfg := &tls.Config{
		ServerName: l.serverName, RootCAs: d.roots, InsecureSkipVerify: !l.verify,
		ClientSessionCache: &laneSessions{d.sessions, l.key()},
		NextProtos:         []string{"http/1.1"},
	}
	if l.http2 {
		cfg.NextProtos = []string{"h2", "http/1.1"}
	}
	if !l.verify {
		cfg.MinVersion = tls.VersionTLS10 // an old origin is still better encrypted than not
	}
	if l.verify && d.revoked != nil {
		cfg.VerifyConnection = d.refuseRevoked
	}
	if cfg.ServerName == "" {
		cfg.ServerName = l.addr.Addr().String()
	}
	tc := tls.Client(c, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, &dialError{tls: true, cause: err}
	}
	return tc, nil
}

// refuseRevoked looks at every handshake, resumed ones too: a session outlives a revocation.
func (d *dialer) refuseRevoked(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) > 0 && d.revoked(cs.PeerCertificates[0]) {
		return &tls.CertificateVerificationError{UnverifiedCertificates: cs.PeerCertificates, Err: errors.New("the certificate is revoked")}
	}
	return nil
}

// laneSessions keeps the TLS sessions of lanes apart in one bounded cache.
type laneSessions struct {
	tls.ClientSessionCache
	key string
}

// Get returns the lane's session; crypto/tls's own key knows nothing of lanes.
func (s *laneSessions) Get(string) (*tls.ClientSessionState, bool) {
	return s.ClientSessionCache.Get(s.key)
}

// Put keeps the lane's session.
func (s *laneSessions) Put(_ string, cs *tls.ClientSessionState) { s.ClientSessionCache.Put(s.key, cs) }

// originConn is a connection to an origin that does not wait for ever for it to read.
type originConn struct {
	*net.TCPConn
	writeIdle time.Duration
	closed    func()
	allowed   atomic.Int64 // unix seconds until which writes are allowed
}

// Write writes within the limit. The deadline is moved rarely: setting it costs.
func (c *originConn) Write(p []byte) (int, error) {
	now := time.Now()
	if time.Unix(c.allowed.Load(), 0).Sub(now) < c.writeIdle {
		until := now.Add(c.writeIdle + c.writeIdle/4)
		c.allowed.Store(until.Unix())
		c.TCPConn.SetWriteDeadline(until)
	}
	return c.TCPConn.Write(p)
}

// Close closes the connection and counts it once.
func (c *originConn) Close() error { c.closed(); return c.TCPConn.Close() }

// failures remembers addresses that could not be reached lately, so that requests try the others
// first.
type failures struct {
	mu   sync.Mutex // guards when
	when map[netip.AddrPort]time.Time
	some atomic.Bool // whether when may hold anything: the usual case takes no lock
}

const (
	failureMemory = 30 * time.Second
	maxFailures   = 4096
)

func (f *failures) add(a netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.when == nil || len(f.when) >= maxFailures {
		f.when = map[netip.AddrPort]time.Time{}
	}
	f.when[a] = time.Now()
	f.some.Store(true)
}

func (f *failures) recent(a netip.AddrPort) bool {
	if !f.some.Load() {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	at, ok := f.when[a]
	if ok && time.Since(at) > failureMemory {
		delete(f.when, a)
		f.some.Store(len(f.when) > 0)
		ok = false
	}
	return ok
}

// dialFailure says what kind of page a failed connection becomes.
func dialFailure(err *dialError, addr netip.AddrPort) *Failure {
	f := &Failure{Cause: fmt.Errorf("%s: %w", addr, err)}
	var cert *tls.CertificateVerificationError
	var netErr net.Error
	switch {
	case errors.As(err, &cert):
		f.Status, f.Reason, f.Detail = 526, "origin_certificate", "The origin's certificate is not valid for this site. Install one that is, or set the zone's SSL mode to full."
	case err.tls:
		f.Status, f.Reason, f.Detail = 525, "origin_tls", "The TLS handshake with the origin failed. Check that it speaks TLS on this port, or set the zone's SSL mode to flexible."
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		f.Status, f.Reason, f.Detail = 521, "origin_refused", "The origin refuses connections. Check that the web server runs and listens on the port that the zone's SSL mode asks for."
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		f.Status, f.Reason, f.Detail = 522, "origin_connect_timeout", "The origin did not answer the attempt to connect. Check its address and its firewall."
	default:
		f.Status, f.Reason, f.Detail = 523, "origin_unreachable", "There is no way to the origin's address. Check the DNS record and the network."
	}
	return f
}
