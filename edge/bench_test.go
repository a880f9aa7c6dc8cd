package edge_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"selvage/edge"
)

// browser is a request as a browser sends it.
const browser = "GET /assets/app.css?v=3 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101\r\n" +
	"Accept: text/css,*/*;q=0.1\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\n" +
	"Referer: https://example.com/\r\nCookie: session=0123456789abcdef; theme=dark\r\nSec-Fetch-Dest: style\r\nSec-Fetch-Mode: no-cors\r\n\r\n"

// exchangeLoop sends the same request over one connection again and again.
func exchangeLoop(b *testing.B, addr string) {
	b.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	b.ReportAllocs()
	for b.Loop() {
		io.WriteString(c, browser)
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			b.Fatal(err)
		}
		if res.StatusCode != 200 {
			b.Fatalf("status %d", res.StatusCode)
		}
		io.Copy(io.Discard, res.Body)
	}
}

// BenchmarkServer is the whole way of a request but for the origin: socket, conversion, four empty
// phases, response, metrics. The client's share is in it: see BenchmarkNetHTTP.
func BenchmarkServer(b *testing.B) {
	body := []byte(strings.Repeat("x", 1024))
	pass := func(ctx context.Context, ex *edge.Exchange, next edge.Handler) error { return next(ctx, ex) }
	steps := []edge.Step{{Phase: edge.Phase{Name: "a", Handle: pass}}, {Phase: edge.Phase{Name: "b", Handle: pass}}, {Phase: edge.Phase{Name: "c", Handle: pass}}, {Phase: edge.Phase{Name: "d", Handle: pass}}}
	h := edge.Chain(slog.New(slog.DiscardHandler), steps, func(_ context.Context, ex *edge.Exchange) error {
		ex.Respond(200, edge.NewHeader("Content-Type", "image/png", "Cache-Control", "max-age=60"), body)
		return nil
	})
	f := start(b, edge.ServerOptions{Handler: edge.Compress(h)})
	exchangeLoop(b, f.plain)
}

// BenchmarkNetHTTP is the same with nothing of ours: what net/http itself and the client cost.
func BenchmarkNetHTTP(b *testing.B) {
	body := []byte(strings.Repeat("x", 1024))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = []string{"image/png"}
		w.Header()["Cache-Control"] = []string{"max-age=60"}
		w.Header()["Content-Length"] = []string{"1024"}
		w.Write(body)
	}))
	defer s.Close()
	exchangeLoop(b, strings.TrimPrefix(s.URL, "http://"))
}

// BenchmarkProxy adds an origin on a kept connection.
func BenchmarkProxy(b *testing.B) {
	body := []byte(strings.Repeat("x", 1024))
	f := behind(b, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = []string{"image/png"}
		w.Write(body)
	})
	exchangeLoop(b, f.plain)
}
