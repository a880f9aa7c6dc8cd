package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"selvage/foundation/budget"
	"selvage/foundation/observe"
)

// Limits bounds what clients may take. A field that is zero gets its default.
type Limits struct {
	Connections int           // client connections at once; half of the files this process may open, at most 50,000
	Header      int           // bytes of a request's head; 32 KiB
	HeaderTime  time.Duration // to receive a request's head, and for a TLS handshake; 10 s
	KeepAlive   time.Duration // a connection may idle between requests; 75 s
	BodyIdle    time.Duration // a client may pause while sending a body; 60 s
	WriteIdle   time.Duration // a client may take to accept the next piece of a response; 60 s
	TunnelIdle  time.Duration // a WebSocket may be silent both ways; 5 min
	Streams     int           // HTTP/2 requests at once on one connection; 128
}

func (l Limits) withDefaults() Limits {
	l.Connections = orInt(l.Connections, halfOfFiles(50_000))
	l.Header = orInt(l.Header, 32<<10)
	l.HeaderTime = orTime(l.HeaderTime, 10*time.Second)
	l.KeepAlive = orTime(l.KeepAlive, 75*time.Second)
	l.BodyIdle = orTime(l.BodyIdle, time.Minute)
	l.WriteIdle = orTime(l.WriteIdle, time.Minute)
	l.TunnelIdle = orTime(l.TunnelIdle, 5*time.Minute)
	l.Streams = orInt(l.Streams, 128)
	return l
}

// halfOfFiles leaves the other half of the open files to origins, the cache and everything else: a
// process without files cannot serve those it has let in.
func halfOfFiles(most int) int {
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) != nil || files.Cur/2 > uint64(most) {
		return most
	}
	return max(int(files.Cur/2), 1)
}

// ServerOptions is what a Server is made of.
type ServerOptions struct {
	Handler Handler
	TLS     *tls.Config // certificates and protocols for Serve with secure; nil if there is none
	PoP     string      // name of this place, the second half of CF-Ray; "LOCAL"
	Limits  Limits
	Observe observe.Observer
}

// Server answers HTTP/1.1 and HTTP/2 clients: it makes an Exchange of each request, has the
// handler fill in the response, and sends that. Safe for concurrent use.
type Server struct {
	handler  Handler
	pop      string
	limits   Limits
	observe  observe.Observer
	log      *slog.Logger
	metrics  *serverMetrics
	slots    budget.Slots
	http     *http.Server
	draining atomic.Bool

	mu        sync.Mutex // guards the fields below
	listeners map[net.Listener]struct{}
	tunnels   map[*tunnel]struct{}
	tunnelled sync.WaitGroup
}

// NewServer returns a server. It listens nowhere until Serve is called.
func NewServer(o ServerOptions) *Server {
	s := &Server{
		handler: o.Handler, pop: o.PoP, limits: o.Limits.withDefaults(), observe: o.Observe, log: o.Observe.Logger(),
		metrics: newServerMetrics(o.Observe), listeners: map[net.Listener]struct{}{}, tunnels: map[*tunnel]struct{}{},
	}
	if s.pop == "" {
		s.pop = "LOCAL"
	}
	s.slots.Limit = int64(s.limits.Connections)
	s.metrics.watchConnections(o.Observe, &s.slots)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler:   http.HandlerFunc(s.serveHTTP),
		TLSConfig: o.TLS.Clone(),
		Protocols: protocols,
		// Without this net/http would answer "OPTIONS *" by itself.
		DisableGeneralOptionsHandler: true,

		ReadHeaderTimeout: s.limits.HeaderTime,
		IdleTimeout:       s.limits.KeepAlive,
		MaxHeaderBytes:    max(s.limits.Header-4096, 1), // net/http allows 4 KiB on top
		ConnContext:       s.connContext,
		ErrorLog:          slog.NewLogLogger(quiet{s.log.Handler()}, slog.LevelDebug),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: s.limits.Streams,
			SendPingTimeout:      s.limits.KeepAlive,
			WriteByteTimeout:     s.limits.WriteIdle,
		},
	}
	return s
}

// Serve answers the clients that connect to ln, over TLS if secure, until Shutdown; then it returns
// nil. It closes ln.
func (s *Server) Serve(ln net.Listener, secure bool) error {
	s.mu.Lock()
	if s.draining.Load() {
		s.mu.Unlock()
		ln.Close()
		return nil
	}
	s.listeners[ln] = struct{}{}
	s.mu.Unlock()
	counted := &listener{Listener: ln, slots: &s.slots, refused: s.metrics.refused.Inc}
	var err error
	if secure {
		err = s.http.ServeTLS(counted, "", "")
	} else {
		err = s.http.Serve(counted)
	}
	if s.draining.Load() || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops listening, lets what is under way finish and tells clients to go elsewhere
// (GOAWAY, Connection: close). Idle connections get a moment to send the request that may be on
// its way. When ctx ends, what is left is cut and ctx's error returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining.Store(true)
	for ln := range s.listeners {
		ln.Close()
	}
	s.mu.Unlock()
	s.linger(ctx)
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	done := make(chan struct{})
	go func() { s.tunnelled.Wait(); close(done) }()
	select {
	case <-done:
		return err
	case <-ctx.Done():
	}
	s.mu.Lock()
	for t := range s.tunnels {
		t.Close()
	}
	s.mu.Unlock()
	<-done
	return ctx.Err()
}

// linger waits until no connection is left, but not long: an idle client gives no sign.
func (s *Server) linger(ctx context.Context) {
	const patience, step = time.Second, 20 * time.Millisecond
	for waited := time.Duration(0); waited < patience && s.slots.Used() > 0; waited += step {
		select {
		case <-ctx.Done():
			return
		case <-time.After(step):
		}
	}
}

// connContext is called once for each connection, before its first request.
func (s *Server) connContext(ctx context.Context, c net.Conn) context.Context {
	_, secure := c.(*tls.Conn)
	return context.WithValue(ctx, connInfoKey{}, newConnInfo(c, secure))
}

// quiet keeps what clients do wrong out of the log: net/http reports every broken handshake.
type quiet struct{ slog.Handler }

// Handle drops the noise and passes on the rest.
func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "TLS handshake error") || strings.Contains(r.Message, "http2:") || !q.Enabled(ctx, r.Level) {
		return nil
	}
	return q.Handler.Handle(ctx, r)
}

func orInt(v, def int) int {
	if v == 0 {
		return def
	}
	return v
}

func orTime(v, def time.Duration) time.Duration {
	if v == 0 {
		return def
	}
	return v
}
