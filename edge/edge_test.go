package edge_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"testing"
	"time"

	"selvage/edge"
)

// front is a running server over plain and TLS listeners, with a client that trusts it.
type front struct {
	server *edge.Server
	plain  string // host:port
	secure string
	roots  *x509.CertPool
	ended  chan error
}

// start runs a server for the test's duration.
func start(t testing.TB, o edge.ServerOptions) *front {
	t.Helper()
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS() // for its certificate, which is valid for example.com and 127.0.0.1
	defer cert.Close()
	if o.TLS == nil {
		o.TLS = &tls.Config{Certificates: cert.TLS.Certificates, NextProtos: []string{"h2", "http/1.1", "http/1.0"}}
	}
	f := &front{server: edge.NewServer(o), ended: make(chan error, 2), roots: x509.NewCertPool()}
	f.roots.AddCert(cert.Certificate())
	f.plain = f.listen(t, false)
	f.secure = f.listen(t, true)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		f.server.Shutdown(ctx)
		for range 2 {
			if err := <-f.ended; err != nil {
				t.Errorf("Serve = %v", err)
			}
		}
	})
	return f
}

func (f *front) listen(t testing.TB, secure bool) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { f.ended <- f.server.Serve(ln, secure) }()
	return ln.Addr().String()
}

// client returns a client that speaks h2 or h1 over TLS and sends every name to the front.
func (f *front) client(t testing.TB, h2 bool) *http.Client {
	t.Helper()
	tr := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: f.roots, ServerName: "example.com"},
		ForceAttemptHTTP2: h2, DisableCompression: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			to := f.plain
			if _, port, _ := net.SplitHostPort(addr); port == "443" {
				to = f.secure
			}
			return new(net.Dialer).DialContext(ctx, network, to)
		},
	}
	if !h2 {
		tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// targetOf returns the target that an httptest server is.
func targetOf(t testing.TB, rawURL string) edge.Target {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	port, _ := strconv.Atoi(u.Port())
	return edge.Target{Scheme: u.Scheme, Addrs: []netip.Addr{netip.MustParseAddr(u.Hostname())}, Port: uint16(port), ServerName: "example.com", HTTP2: u.Scheme == "https"}
}

// origin starts an origin and returns its target.
func origin(t testing.TB, h http.HandlerFunc) edge.Target {
	t.Helper()
	o := httptest.NewServer(h)
	t.Cleanup(o.Close)
	return targetOf(t, o.URL)
}

// proxyTo is a handler that sends everything to target.
func proxyTo(t testing.TB, o edge.OriginOptions, target edge.Target) edge.Handler {
	t.Helper()
	origins := edge.NewOrigins(o)
	t.Cleanup(origins.Close)
	return func(ctx context.Context, ex *edge.Exchange) error {
		ex.Target = target
		return origins.Fetch(ctx, ex)
	}
}

// behind puts an origin behind a new front.
func behind(t testing.TB, h http.HandlerFunc) *front {
	t.Helper()
	return start(t, edge.ServerOptions{Handler: proxyTo(t, edge.OriginOptions{}, origin(t, h))})
}
