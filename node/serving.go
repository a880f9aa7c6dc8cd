package node

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"selvage/edge"
)

// serving is everything that listens.
type serving struct {
	group  sync.WaitGroup
	api    *apiServer
	admin  *http.Server
	access *accessLog
	demo   *http.Server // nil unless asked for

	endLog context.CancelFunc
	endUDP context.CancelFunc // queries over UDP
	endTCP context.CancelFunc // connections of DNS over TCP
	// Listeners of R2 and Hyperdrive: they take no more connections, and those there are may finish what
	// they are at.
	endStorage context.CancelFunc
	s3Ended    chan struct{}  // closed when no S3 client is served any more
	pools      sync.WaitGroup // listeners of Hyperdrive: no longer than a drain may take, once they have to end
	dns        net.Listener
	edge       *edge.Server
	stopped    atomic.Bool
}

func newServing(n *Node) (*serving, error) {
	s := &serving{edge: n.parts.server, api: newAPIServer(withoutDeadlines(n.door)), s3Ended: make(chan struct{})}
	both := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		all := prometheus.Gatherers{n.observe.Metrics}
		if own := n.control.metrics.Load(); own != nil {
			all = append(all, own)
		}
		if data := n.parts.storage.data.Metrics(); data != nil {
			all = append(all, data)
		}
		return all.Gather()
	})
	s.admin = newAdmin(both, n.health, n.config.Pprof)
	if n.config.Demo {
		s.demo = newDemoOrigin()
	}
	var err error
	s.access, err = newAccessLog(n.config, n.observe, n.launch.Stdout)
	return s, err
}

// start serves on the node's sockets.
func (s *serving) start(n *Node) {
	var logging, packets, streams, storage context.Context
	logging, s.endLog = context.WithCancel(context.Background())
	packets, s.endUDP = context.WithCancel(n.life)
	streams, s.endTCP = context.WithCancel(n.life)
	storage, s.endStorage = context.WithCancel(n.life)
	s.dns = n.sockets["dns"].listener
	if s.access != nil {
		s.group.Go(func() { s.access.run(logging) })
	}
	serve := func(name string, f func(sock *socket) error) {
		sock := n.sockets[name]
		if sock == nil {
			return
		}
		s.group.Go(func() {
			err := f(sock)
			if err != nil && !s.stopped.Load() && !errors.Is(err, http.ErrServerClosed) {
				n.log.Error("listener failed", "listener", name, "error", err)
				n.health.set(name, "The listener failed: "+err.Error()+". Start the node again.", false)
			}
		})
	}
	serve("http", func(k *socket) error { return s.edge.Serve(k.listener, false) })
	serve("https", func(k *socket) error { return s.edge.Serve(k.listener, true) })
	serve("dns-udp", func(k *socket) error { return n.parts.dns.ServeUDP(packets, k.packets) })
	serve("dns", func(k *socket) error { return n.parts.dns.ServeTCP(streams, k.listener) })
	serve("api", func(k *socket) error { return s.api.Serve(k.listener) })
	serve("admin", func(k *socket) error { return s.admin.Serve(k.listener) })
	serve("s3", func(k *socket) error {
		defer close(s.s3Ended)
		return n.parts.storage.r2.ServeS3(storage, k.listener)
	})
	if n.sockets["s3"] == nil {
		close(s.s3Ended)
	}
	pool := func(name string, f func(context.Context, net.Listener) error) {
		if n.sockets[name] == nil {
			return
		}
		s.pools.Add(1)
		serve(name, func(k *socket) error {
			defer s.pools.Done()
			return f(storage, k.listener)
		})
	}
	pool("hyperdrive-postgres", n.parts.storage.hyperdrive.ServePostgres)
	pool("hyperdrive-mysql", n.parts.storage.hyperdrive.ServeMySQL)
	serve("demo", func(k *socket) error { return s.demo.Serve(k.listener) })
}

// stop stops listening and returns when nothing is under way any more, or ctx ends. The admin
// address answers until end.
func (s *serving) stop(ctx context.Context) error {
	s.stopped.Store(true)
	s.endUDP()
	s.endStorage()
	s.dns.Close()
	faults := make(chan error, 2)
	go func() { faults <- s.edge.Shutdown(ctx) }()
	go func() { faults <- s.api.drain(ctx) }()
	err := errors.Join(<-faults, <-faults)
	select {
	case <-s.s3Ended:
	case <-ctx.Done():
	}
	// Those took a moment, in which clients that had just connected could send their query.
	s.endTCP()
	if s.demo != nil {
		err = errors.Join(err, s.demo.Shutdown(ctx))
	}
	s.pools.Wait()
	return err
}

// end closes what is left and waits for it. Call it after stop, when the node's life has ended.
func (s *serving) end() {
	s.admin.Close()
	if s.endLog != nil {
		s.endLog()
	}
	s.group.Wait()
}

// apiServer is net/http's server with a shutdown that does not close idle connections at once, for
// a request may be on its way on one of them.
type apiServer struct {
	http.Server
	open     atomic.Int64
	draining atomic.Bool
	mu       sync.Mutex // guards the field below
	listener net.Listener
}

func newAPIServer(h http.Handler) *apiServer {
	s := &apiServer{}
	s.Server = http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if s.draining.Load() {
				w.Header().Set("Connection", "close")
			}
			h.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       2 * time.Minute,
		WriteTimeout:      5 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ConnState:         s.count,
	}
	return s
}

func (s *apiServer) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.open.Add(-1)
	}
}

// Serve serves on l until drain.
func (s *apiServer) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listener = l
	s.mu.Unlock()
	return s.Server.Serve(l)
}

func (s *apiServer) drain(ctx context.Context) error {
	const patience, step = time.Second, 20 * time.Millisecond
	s.draining.Store(true)
	s.mu.Lock()
	if s.listener != nil {
		s.listener.Close()
	}
	s.mu.Unlock()
	for waited := time.Duration(0); waited < patience && s.open.Load() > 0 && ctx.Err() == nil; waited += step {
		time.Sleep(step)
	}
	if err := s.Shutdown(ctx); err != nil {
		s.Close()
		return err
	}
	return nil
}

// addresses returns what the configuration wants bound.
func (c Config) addresses() map[string]string {
	a := map[string]string{"api": c.API, "http": c.HTTP, "https": c.HTTPS, "dns": c.DNS, "dns-udp": c.DNS, "admin": c.Admin}
	if c.Demo {
		a["demo"] = "127.0.0.1:0"
	}
	for name, address := range map[string]string{"s3": c.Storage.S3, "hyperdrive-postgres": c.Storage.HyperdrivePostgres, "hyperdrive-mysql": c.Storage.HyperdriveMySQL} {
		if address != "" {
			a[name] = address
		}
	}
	return a
}

// publicAddresses returns what proxied records answer with: what the configuration says, or where
// HTTP listens, or, if that is everywhere, the addresses from which this machine reaches others.
func publicAddresses(c Config, http net.Addr) []netip.Addr {
	var list []netip.Addr
	for _, s := range c.Advertise {
		list = append(list, netip.MustParseAddr(s))
	}
	if len(list) > 0 {
		return list
	}
	if ap, err := netip.ParseAddrPort(http.String()); err == nil && !ap.Addr().IsUnspecified() {
		return []netip.Addr{ap.Addr().Unmap()}
	}
	// Dialling UDP sends nothing; it only asks the routing table for a source address.
	for _, target := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		conn, err := net.Dial("udp", target)
		if err != nil {
			continue
		}
		ap := netip.MustParseAddrPort(conn.LocalAddr().String())
		list = append(list, ap.Addr().WithZone(""))
		conn.Close()
	}
	if len(list) == 0 {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	}
	return list
}

func (s *socket) url(scheme string) string { return scheme + "://" + s.host() }
