package socket_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"selvage/edge"
	"selvage/edge/socket"
)

// serve runs a server until the test ends, or the function it returns is called, and returns where.
func serve(t *testing.T, s *socket.Server) (path string, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "so")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s.Log = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { s.Serve(ctx, l) })
	stop = func() { cancel(); done.Wait() }
	t.Cleanup(func() { stop(); os.RemoveAll(dir) })
	return path, stop
}

// peer is the child's end of a connection.
type peer struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, path string) *peer {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &peer{t, c, bufio.NewReader(c)}
}

func (p *peer) send(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p, text); err != nil {
		p.t.Fatal(err)
	}
}

// want reads a response.
func (p *peer) want(status int, body string) {
	p.t.Helper()
	res, err := http.ReadResponse(p.in, nil)
	if err != nil {
		p.t.Fatalf("read response: %v", err)
	}
	got, err := io.ReadAll(res.Body)
	if res.StatusCode != status || string(got) != body || err != nil {
		p.t.Fatalf("got %d %q, %v, want %d %q", res.StatusCode, got, err, status, body)
	}
}

// ended checks that nothing more comes.
func (p *peer) ended() {
	p.t.Helper()
	if b, err := io.ReadAll(p.in); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") || len(b) > 0 {
		p.t.Errorf("connection goes on with %q, %v", b, err)
	}
}

func echo(ctx context.Context, ex *edge.Exchange) error {
	q := &ex.Request
	body := ""
	if q.Body != nil {
		b, err := io.ReadAll(q.Body)
		if err != nil {
			return err
		}
		body = string(b)
	}
	ex.Respond(200, edge.Header{}, []byte(fmt.Sprintf("%s %s://%s:%s%s %s %s %s", q.Method, q.Scheme, q.Host, q.Port, q.URI(), q.Header.Get("X-A"), socket.CF(ctx), body)))
	return nil
}

func TestRequests(t *testing.T) {
	path, _ := serve(t, &socket.Server{Handle: echo, CFField: "x-cf", ProtoField: "x-proto"})
	p := dial(t, path)
	p.send("GET https://Ex.test:8443/a%20b?c=%26 HTTP/1.1\r\nx-a: 1\r\nx-cf: {\"a\":1}\r\nConnection: keep-alive\r\n\r\n")
	p.want(200, `GET https://ex.test:8443/a%20b?c=%26 1 {"a":1} `)
	p.send("POST http://ex.test HTTP/1.1\r\nHost: other.test\r\nContent-Length: 4\r\n\r\nbody")
	p.want(200, "POST http://ex.test:/   body")
	p.send("POST /x HTTP/1.1\r\nHost: ex.test\r\nx-proto: https\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
	p.want(200, "POST https://ex.test:/x   abcde")
	// Two at once are answered in turn.
	p.send("GET http://a.test/1 HTTP/1.1\r\n\r\nGET http://a.test/2 HTTP/1.1\r\n\r\n")
	p.want(200, "GET http://a.test:/1   ")
	p.want(200, "GET http://a.test:/2   ")
	p.send("PURGE http://[::1]:80/ HTTP/1.1\r\n\r\n")
	p.want(200, "PURGE http://::1:80/   ")
}

func TestBadRequests(t *testing.T) {
	path, _ := serve(t, &socket.Server{Handle: echo})
	for _, c := range []struct {
		text   string
		status int
	}{
		{"nonsense\r\n\r\n", 400},
		{"GET ftp://a.test/ HTTP/1.1\r\n\r\n", 400},
		{"GET http://u:p@a.test/ HTTP/1.1\r\n\r\n", 400},
		{"GET http://a_b!.test/ HTTP/1.1\r\n\r\n", 400},
		{"GET http://a.test/ HTTP/1.0\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n\r\n", 400},
		{"GET http://a.test/ HTTP/1.1\r\nbad header\r\n\r\n", 400},
		{"POST http://a.test/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
		{"GET http://a.test/ HTTP/1.1\r\nx: " + strings.Repeat("y", 300<<10) + "\r\n\r\n", 431},
	} {
		p := dial(t, path)
		go io.WriteString(p, c.text)
		p.want(c.status, "")
		p.ended()
	}
	p := dial(t, path)
	p.send("CONNECT a.test:1 HTTP/1.1\r\n\r\n")
	res, err := http.ReadResponse(p.in, &http.Request{Method: "CONNECT"})
	if err != nil || res.StatusCode != 405 {
		t.Errorf("CONNECT where there is none: %v, %v", res, err)
	}
}

func TestHangUpEndsTheRequest(t *testing.T) {
	ended := make(chan error, 1)
	waits := make(chan struct{})
	path, _ := serve(t, &socket.Server{Handle: func(ctx context.Context, ex *edge.Exchange) error {
		if ex.Request.Body != nil {
			io.Copy(io.Discard, ex.Request.Body)
		}
		waits <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}})
	for _, text := range []string{"GET http://a.test/ HTTP/1.1\r\n\r\n", "POST http://a.test/ HTTP/1.1\r\nContent-Length: 1\r\n\r\nx"} {
		p := dial(t, path)
		p.send(text)
		<-waits
		p.Close()
		if err := <-ended; err == nil {
			t.Error("ctx did not end")
		}
	}
	// So does the end of Serve.
	path, stop := serve(t, &socket.Server{Handle: func(ctx context.Context, _ *edge.Exchange) error {
		waits <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}})
	p := dial(t, path)
	p.send("GET http://a.test/ HTTP/1.1\r\n\r\n")
	<-waits
	stop()
	if _, err := io.ReadAll(p.in); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection goes on")
	}
}

func TestUnreadBodies(t *testing.T) {
	path, _ := serve(t, &socket.Server{Handle: func(_ context.Context, ex *edge.Exchange) error {
		ex.Respond(200, edge.Header{}, []byte("early"))
		return nil
	}})
	p := dial(t, path)
	p.send("POST http://a.test/ HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody")
	p.want(200, "early")
	p.send("GET http://a.test/ HTTP/1.1\r\n\r\n") // a short rest is read over
	p.want(200, "early")
	p.send("POST http://a.test/ HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 300<<10))
	p.want(200, "early")
	p.ended()
}

func TestBrokenResponsesNeverLookWhole(t *testing.T) {
	path, _ := serve(t, &socket.Server{Handle: func(_ context.Context, ex *edge.Exchange) error {
		length := int64(-1)
		if ex.Request.Path == "/length" {
			length = 100
		}
		ex.Response = edge.Response{Status: 200, Length: length, Body: io.NopCloser(io.MultiReader(strings.NewReader("half"), broken{}))}
		return nil
	}})
	for _, target := range []string{"/length", "/chunks"} {
		p := dial(t, path)
		p.send("GET http://a.test" + target + " HTTP/1.1\r\n\r\n")
		res, err := http.ReadResponse(p.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("%s: a body that broke off reads as %q", target, got)
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("broken") }

func TestFailuresAndPanics(t *testing.T) {
	path, _ := serve(t, &socket.Server{PoP: "X", Handle: func(_ context.Context, ex *edge.Exchange) error {
		switch ex.Request.Path {
		case "/panic":
			panic("on purpose")
		case "/none":
			return nil
		}
		return &edge.Failure{Status: 403, Code: 1003, Reason: "address_refused", Detail: "No."}
	}})
	p := dial(t, path)
	for target, status := range map[string]int{"/": 403, "/panic": 500, "/none": 500} {
		p.send("GET http://a.test" + target + " HTTP/1.1\r\n\r\n")
		res, err := http.ReadResponse(p.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode != status || !strings.HasPrefix(string(body), "error ") {
			t.Errorf("%s: got %d %q, want %d", target, res.StatusCode, body, status)
		}
	}
}

func TestConnect(t *testing.T) {
	path, stop := serve(t, &socket.Server{Connect: func(_ context.Context, target string) (*socket.Other, error) {
		if target != "db.test:5432" {
			return nil, &edge.Failure{Status: 403, Reason: "address_refused"}
		}
		a, b := net.Pipe()
		go func() { io.Copy(b, b); b.Close() }()
		return &socket.Other{ReadWriteCloser: a, Early: "hello "}, nil
	}})
	p := dial(t, path)
	p.send("CONNECT db.test:5432 HTTP/1.1\r\n\r\nright behind")
	res, err := http.ReadResponse(p.in, &http.Request{Method: "CONNECT"})
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("CONNECT = %v, %v", res, err)
	}
	got := make([]byte, len("hello right behind"))
	if _, err := io.ReadFull(p.in, got); err != nil || string(got) != "hello right behind" {
		t.Errorf("got %q, %v", got, err)
	}
	stop()
	p.ended()
}
