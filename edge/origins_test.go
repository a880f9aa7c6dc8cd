package edge_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"selvage/edge"
	"selvage/foundation/budget"
)

// rawOrigin accepts connections and hands each, numbered from 0, to serve, which closes it.
func rawOrigin(t testing.TB, serve func(n int, c net.Conn)) edge.Target {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for n := 0; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			group.Go(func() { serve(n, c) })
		}
	})
	t.Cleanup(func() { ln.Close() })
	return targetOf(t, "http://"+ln.Addr().String())
}

// answers reads one request's head and writes bytes, for each of parts in turn, then closes.
func answers(parts ...string) func(int, net.Conn) {
	return func(_ int, c net.Conn) {
		defer c.Close()
		r := bufio.NewReader(c)
		for _, p := range parts {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			io.WriteString(c, p)
		}
	}
}

// fetch sends one request straight through Origins.
func fetch(t testing.TB, o *edge.Origins, target edge.Target, edit func(*edge.Exchange)) (*edge.Exchange, *edge.Failure) {
	t.Helper()
	ex := &edge.Exchange{ID: "0123456789abcdef", Client: netip.MustParseAddrPort("198.51.100.7:9"), Target: target, Inform: func(int, *edge.Header) {},
		Request: edge.Request{Method: "GET", Scheme: "http", Host: "a.test", Path: "/"}}
	if edit != nil {
		edit(ex)
	}
	err := o.Fetch(t.Context(), ex)
	var f *edge.Failure
	if err != nil && !errors.As(err, &f) {
		t.Fatalf("Fetch = %v, which is no failure", err)
	}
	t.Cleanup(ex.Response.Close)
	return ex, f
}

func origins(t testing.TB, o edge.OriginOptions) *edge.Origins {
	t.Helper()
	or := edge.NewOrigins(o)
	t.Cleanup(or.Close)
	return or
}

func closedPort(t testing.TB) edge.Target {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return targetOf(t, "http://"+ln.Addr().String())
}

// deafPort accepts nothing: its queue is full.
func deafPort(t testing.TB) edge.Target {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, _ := syscall.Getsockname(fd)
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*syscall.SockaddrInet4).Port))
	for range 4 {
		if c, err := net.DialTimeout("tcp", addr.String(), 100*time.Millisecond); err == nil {
			t.Cleanup(func() { c.Close() })
		}
	}
	return targetOf(t, "http://"+addr.String())
}

func TestOriginFailures(t *testing.T) {
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	overTLS := func(target edge.Target, verify bool) edge.Target {
		target.Scheme, target.Verify = "https", verify
		return target
	}
	big := "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 200<<10) + "\r\n\r\n"
	for _, tt := range []struct {
		name   string
		target edge.Target
		status int
		reason string
	}{
		{"refuses", closedPort(t), 521, "origin_refused"},
		{"does not answer", deafPort(t), 522, "origin_connect_timeout"},
		{"says nothing", rawOrigin(t, func(int, net.Conn) {}), 524, "origin_read_timeout"},
		{"half a head", rawOrigin(t, func(_ int, c net.Conn) {
			http.ReadRequest(bufio.NewReader(c)) // what comes before the request is no answer to it
			io.WriteString(c, "HTTP/1.1 200 OK\r\nA: ")
		}), 524, "origin_read_timeout"},
		{"hangs up", rawOrigin(t, answers("")), 520, "origin_bad_response"},
		{"hangs up at once", rawOrigin(t, func(_ int, c net.Conn) { c.Close() }), 520, "origin_bad_response"},
		{"garbage", rawOrigin(t, answers("SSH-2.0-OpenSSH\r\n")), 520, "origin_bad_response"},
		{"bad field", rawOrigin(t, answers("HTTP/1.1 200 OK\r\nA: b\r\nnonsense\r\n\r\n")), 520, "origin_bad_response"},
		{"bad length", rawOrigin(t, answers("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n")), 520, "origin_bad_response"},
		{"two lengths", rawOrigin(t, answers("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")), 520, "origin_bad_response"},
		{"status 099", rawOrigin(t, answers("HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n")), 520, "origin_bad_response"},
		{"huge head", rawOrigin(t, answers(big)), 520, "origin_bad_response"},
		{"interim for ever", rawOrigin(t, answers(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 1000))), 520, "origin_interim_flood"},
		{"interim then nothing", rawOrigin(t, answers("HTTP/1.1 103 Early Hints\r\n\r\n")), 520, "origin_bad_response"},
		{"switches unasked", rawOrigin(t, answers("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")), 520, "origin_bad_response"},
		{"no tls there", overTLS(rawOrigin(t, answers("HTTP/1.1 400 Bad Request\r\n\r\n")), false), 525, "origin_tls"},
		{"certificate of nobody", overTLS(targetOf(t, secure.URL), true), 526, "origin_certificate"},
		{"no such name", edge.Target{Scheme: "http", Hostname: "missing.test", Port: 80}, 530, "origin_dns"},
		{"resolver fails", edge.Target{Scheme: "http", Hostname: "broken.test", Port: 80}, 530, "origin_dns"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := origins(t, edge.OriginOptions{ConnectTimeout: 3 * time.Second, ReadTimeout: time.Second, Resolver: book{}})
			_, f := fetch(t, o, tt.target, nil)
			if f == nil || f.Status != tt.status || f.Reason != tt.reason {
				t.Errorf("failure %+v, want %d %s", f, tt.status, tt.reason)
			}
		})
	}
	t.Run("certificate not verified", func(t *testing.T) {
		ex, f := fetch(t, origins(t, edge.OriginOptions{}), overTLS(targetOf(t, secure.URL), false), nil)
		if f != nil || ex.Response.Status != 404 {
			t.Errorf("%v, %d", f, ex.Response.Status)
		}
	})
	t.Run("certificate verified", func(t *testing.T) {
		roots := x509.NewCertPool()
		roots.AddCert(secure.Certificate())
		o := origins(t, edge.OriginOptions{Roots: roots})
		if _, f := fetch(t, o, overTLS(targetOf(t, secure.URL), true), nil); f != nil {
			t.Errorf("valid certificate: %v", f)
		}
		wrong := overTLS(targetOf(t, secure.URL), true)
		wrong.ServerName = "other.test"
		if _, f := fetch(t, o, wrong, nil); f == nil || f.Status != 526 {
			t.Errorf("certificate of another name: %v", f)
		}
	})
}

// book is a resolver that knows one name.
type book map[string][]netip.Addr

func (b book) Resolve(_ context.Context, host string) ([]netip.Addr, time.Duration, error) {
	if host == "broken.test" {
		return nil, 0, errors.New("server failure")
	}
	return b[host], time.Minute, nil
}

// TestBrokenBodiesNeverLookWhole: whatever the origin does in the middle of a body, the client sees
// an error, not an end.
func TestBrokenBodiesNeverLookWhole(t *testing.T) {
	stall := make(chan struct{})
	t.Cleanup(func() { close(stall) })
	for name, serve := range map[string]func(int, net.Conn){
		"short":         answers("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 50000)),
		"cut chunk":     answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhe"),
		"no last chunk": answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
		"bad chunk":     answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"),
		"stalls": func(_ int, c net.Conn) {
			http.ReadRequest(bufio.NewReader(c))
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
			<-stall
		},
		"resets": func(_ int, c net.Conn) {
			http.ReadRequest(bufio.NewReader(c))
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, edge.ServerOptions{Handler: edge.Compress(proxyTo(t, edge.OriginOptions{ReadTimeout: 300 * time.Millisecond}, rawOrigin(t, serve)))})
			eachProtocol(t, f, func(t *testing.T, c *http.Client, base string) {
				res, err := c.Get(base)
				if err != nil {
					return // cut before anything was sent on is as good
				}
				defer res.Body.Close()
				if body, err := io.ReadAll(res.Body); err == nil {
					t.Errorf("%d bytes came and looked whole", len(body))
				}
			})
		})
	}
}

// counting is an origin that closes its kept connection without a word when the second request
// comes, having read it.
func counting(requests *atomic.Int32) func(int, net.Conn) {
	return func(n int, c net.Conn) {
		defer c.Close()
		r := bufio.NewReader(c)
		for i := 0; ; i++ {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			requests.Add(1)
			if n == 0 && i == 1 {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}
}

func drain(ex *edge.Exchange) {
	if ex.Response.Body != nil {
		io.Copy(io.Discard, ex.Response.Body)
	}
	ex.Response.Close()
}

func TestStaleConnections(t *testing.T) {
	for _, tt := range []struct {
		method, body string
		status       int // of the failure; 0 for none
		requests     int32
	}{
		{"GET", "", 0, 3},        // sent again
		{"POST", "data", 520, 2}, // may have had its effect
		{"DELETE", "", 520, 2},   // idempotent, but nobody knows about the second effect: not sent again
		{"PUT", "data", 520, 2},
	} {
		var requests atomic.Int32
		target := rawOrigin(t, counting(&requests))
		o := origins(t, edge.OriginOptions{})
		ex, f := fetch(t, o, target, nil)
		if f != nil {
			t.Fatal(f)
		}
		drain(ex)
		ex, f = fetch(t, o, target, func(ex *edge.Exchange) {
			ex.Request.Method = tt.method
			if tt.body != "" {
				ex.Request.Body, ex.Request.Length = strings.NewReader(tt.body), int64(len(tt.body))
			}
		})
		got := 0
		if f != nil {
			got = f.Status
		}
		if got != tt.status || requests.Load() != tt.requests {
			t.Errorf("%s on a stale connection: failure %d after %d requests, want %d after %d", tt.method, got, requests.Load(), tt.status, tt.requests)
		}
		drain(ex)
	}
}

func TestFailover(t *testing.T) {
	live := origin(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	target := live
	target.Addrs = []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3"), live.Addrs[0]}
	o := origins(t, edge.OriginOptions{})
	for _, body := range []string{"", "hello"} {
		ex, f := fetch(t, o, target, func(ex *edge.Exchange) {
			if body != "" {
				ex.Request.Method, ex.Request.Body, ex.Request.Length = "POST", strings.NewReader(body), int64(len(body))
			}
		})
		if f != nil || !strings.HasPrefix(ex.Note.OriginAddr, "127.0.0.1:") {
			t.Fatalf("%v by way of %s", f, ex.Note.OriginAddr)
		}
		got := ""
		if ex.Response.Body != nil {
			b, _ := io.ReadAll(ex.Response.Body)
			got = string(b)
		}
		if got != body {
			t.Errorf("echoed %q, want %q", got, body)
		}
		ex.Response.Close()
	}
	deaf := deafPort(t)
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", deaf.Port))
	if err != nil {
		t.Fatal(err)
	}
	beside := httptest.NewUnstartedServer(http.NotFoundHandler())
	beside.Listener.Close()
	beside.Listener = ln
	beside.Start()
	t.Cleanup(beside.Close)
	half := origins(t, edge.OriginOptions{ConnectTimeout: 300 * time.Millisecond})
	deaf.Addrs = append(deaf.Addrs, netip.MustParseAddr("127.0.0.2"))
	for range 2 { // the second time it is known which one is deaf
		if ex, f := fetch(t, half, deaf, nil); f != nil || !strings.HasPrefix(ex.Note.OriginAddr, "127.0.0.2:") {
			t.Errorf("one of two addresses is deaf: %v by way of %s", f, ex.Note.OriginAddr)
		}
	}
	byName := edge.Target{Scheme: "http", Hostname: "origin.test", Port: live.Port}
	if _, f := fetch(t, origins(t, edge.OriginOptions{Resolver: book{"origin.test": target.Addrs}}), byName, nil); f != nil {
		t.Errorf("by name: %v", f)
	}
}

func TestConnectionsAreSharedButNotTooWidely(t *testing.T) {
	var opened atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.TLS.ServerName+" "+r.Proto)
	}))
	server.EnableHTTP2 = true
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	o := origins(t, edge.OriginOptions{Roots: roots})
	ask := func(edit func(*edge.Target)) string {
		target := targetOf(t, server.URL)
		edit(&target)
		ex, f := fetch(t, o, target, nil)
		if f != nil {
			t.Fatal(f)
		}
		body, _ := io.ReadAll(ex.Response.Body)
		ex.Response.Close()
		return string(body)
	}
	for _, tt := range []struct {
		edit func(*edge.Target)
		want string
	}{
		{func(t *edge.Target) { t.HTTP2 = true }, "example.com HTTP/2.0"},
		{func(t *edge.Target) { t.HTTP2 = false }, "example.com HTTP/1.1"},
		{func(t *edge.Target) { t.Verify = true }, "example.com HTTP/2.0"},
		{func(t *edge.Target) { t.ServerName = "www.example.com" }, "www.example.com HTTP/2.0"},
	} {
		before := opened.Load()
		for range 3 {
			if got := ask(tt.edit); got != tt.want {
				t.Errorf("origin saw %q, want %q", got, tt.want)
			}
		}
		if n := opened.Load() - before; n != 1 {
			t.Errorf("%s: three requests of a new kind opened %d connections, want 1", tt.want, n)
		}
	}
}

func TestInterimResponsesPass(t *testing.T) {
	f := start(t, edge.ServerOptions{Handler: proxyTo(t, edge.OriginOptions{}, rawOrigin(t, answers(
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))})
	eachProtocol(t, f, func(t *testing.T, c *http.Client, base string) {
		var hints []string
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
			hints = append(hints, h.Get("Link"))
			return nil
		}})
		req, _ := http.NewRequestWithContext(ctx, "GET", base, nil)
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if len(hints) != 1 || hints[0] != "</a.css>; rel=preload" || res.Header.Get("Link") != "" {
			t.Errorf("hints %q, final Link %q", hints, res.Header.Get("Link"))
		}
	})
}

func TestContinueOnlyWhenTheOriginWantsTheBody(t *testing.T) {
	f := behind(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		w.WriteHeader(int(200 + n))
	})
	for path, want := range map[string][]string{"/no": {"HTTP/1.1 403"}, "/yes": {"HTTP/1.1 100", "HTTP/1.1 203"}} {
		c, err := net.Dial("tcp", f.plain)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
		r := bufio.NewReader(c)
		for _, status := range want {
			line, err := r.ReadString('\n')
			for err == nil && !strings.HasPrefix(line, "HTTP/") {
				line, err = r.ReadString('\n')
			}
			if !strings.HasPrefix(line, status) {
				t.Fatalf("%s: %q, %v, want %q", path, line, err, status)
			}
			if strings.HasSuffix(status, "100") {
				io.WriteString(c, "abc")
			}
		}
	}
}

func TestClientGoneEndsTheOriginRequest(t *testing.T) {
	arrived, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	f := behind(t, func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	})
	eachProtocol(t, f, func(t *testing.T, c *http.Client, base string) {
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "GET", base, nil)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if res, err := c.Do(req); err == nil {
				res.Body.Close()
			}
		}()
		<-arrived
		cancel()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Error("the origin goes on working for nobody")
		}
		<-done
	})
}

// TestDuplexStream sends and receives in turns over one request.
func TestDuplexStream(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			w.Write(bytes.ToUpper(buf[:n]))
			http.NewResponseController(w).Flush()
			if err != nil {
				return
			}
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	f := start(t, edge.ServerOptions{Handler: edge.Compress(proxyTo(t, edge.OriginOptions{}, targetOf(t, server.URL)))})
	eachProtocol(t, f, func(t *testing.T, c *http.Client, base string) {
		pr, pw := io.Pipe()
		req, _ := http.NewRequest("POST", base, pr)
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		buf := make([]byte, 5)
		for range 3 {
			io.WriteString(pw, "hello")
			if _, err := io.ReadFull(res.Body, buf); err != nil || string(buf) != "HELLO" {
				t.Fatalf("got %q, %v", buf, err)
			}
		}
		pw.Close()
		if rest, err := io.ReadAll(res.Body); err != nil || len(rest) != 0 {
			t.Errorf("at the end: %q, %v", rest, err)
		}
	})
}

func TestBodyTooLargeOnTheWay(t *testing.T) {
	h := proxyTo(t, edge.OriginOptions{}, origin(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	f := start(t, edge.ServerOptions{Handler: func(ctx context.Context, ex *edge.Exchange) error {
		ex.Request.Body = limited(ex.Request.Body, 1000)
		return h(ctx, ex)
	}})
	eachProtocol(t, f, func(t *testing.T, c *http.Client, base string) {
		res, err := c.Post(base, "text/plain", io.LimitReader(endless{}, 100_000))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("status %d, want 413", res.StatusCode)
		}
	})
}

func TestH1OriginOverTLSOfOldVersion(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}
	server.StartTLS()
	t.Cleanup(server.Close)
	if _, f := fetch(t, origins(t, edge.OriginOptions{}), targetOf(t, server.URL), nil); f != nil {
		t.Errorf("an origin that only speaks TLS 1.0: %v", f)
	}
}

func limited(r io.Reader, n int64) io.Reader { return budget.Reader("The body", r, n) }
