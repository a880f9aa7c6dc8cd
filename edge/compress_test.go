package edge_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"selvage/edge"
)

func decode(t *testing.T, coding string, body []byte) string {
	t.Helper()
	var r io.Reader = bytes.NewReader(body)
	switch coding {
	case "gzip":
		zr, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		r = zr
	case "br":
		r = brotli.NewReader(r)
	case "zstd":
		zr, err := zstd.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		defer zr.Close()
		r = zr
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

func TestCompressNegotiates(t *testing.T) {
	page := strings.Repeat("all work and no play ", 500)
	for _, tt := range []struct {
		name, accept, want, toOrigin string
		change                       func(*edge.Response)
	}{
		{"browser", "gzip, deflate, br, zstd", "zstd", "gzip, br", nil},
		{"older browser", "gzip, deflate, br", "br", "gzip, br", nil},
		{"weights", "gzip;q=1, br;q=0.5, zstd;q=0", "gzip", "gzip, br", nil},
		{"upper case", "GZIP", "gzip", "gzip", nil},
		{"anything", "*", "gzip", "gzip", nil},
		{"anything but", "*;q=0.5, gzip;q=0", "", "", nil},
		{"refused", "gzip;q=0", "", "", nil},
		{"broken weight", "gzip;q=high", "", "", nil},
		{"not asked", "", "", "", nil},
		{"only zstd", "zstd", "zstd", "", nil},
		{"small", "gzip", "", "gzip", func(r *edge.Response) { r.Length = 100 }},
		{"image", "gzip", "", "gzip", func(r *edge.Response) { r.Header.Set("content-type", "image/png") }},
		{"no type", "gzip", "", "gzip", func(r *edge.Response) { r.Header.Del("content-type") }},
		{"no-transform", "gzip", "", "gzip", func(r *edge.Response) { r.Header.Set("Cache-Control", "public, No-Transform") }},
		{"already", "gzip, br", "br", "gzip, br", func(r *edge.Response) { r.Header.Set("Content-Encoding", "br") }},
		{"partial", "gzip", "", "gzip", func(r *edge.Response) { r.Status = 206 }},
		{"svg", "gzip", "gzip", "gzip", func(r *edge.Response) { r.Header.Set("Content-Type", "image/svg+xml") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ex := &edge.Exchange{Request: edge.Request{Method: "GET"}}
			if tt.accept != "" {
				ex.Request.Header.Add("accept-encoding", tt.accept)
			}
			err := edge.Compress(func(_ context.Context, ex *edge.Exchange) error {
				if got := ex.Request.Header.Get("Accept-Encoding"); got != tt.toOrigin {
					t.Errorf("the origin is asked for %q, want %q", got, tt.toOrigin)
				}
				ex.Respond(200, edge.NewHeader("Content-Type", "text/html; charset=utf-8", "ETag", `"v1"`, "Accept-Ranges", "bytes"), []byte(page))
				if tt.change != nil {
					tt.change(&ex.Response)
				}
				return nil
			})(t.Context(), ex)
			if err != nil {
				t.Fatal(err)
			}
			res := &ex.Response
			if got := res.Header.Get("Content-Encoding"); got != tt.want {
				t.Fatalf("Content-Encoding %q, want %q", got, tt.want)
			}
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			res.Close()
			if res.Length != -1 {
				return // sent as it was
			}
			if got := decode(t, tt.want, body); got != page {
				t.Errorf("decoded body differs: %d bytes", len(got))
			}
			if len(body) > len(page)/10 {
				t.Errorf("%d bytes became %d", len(page), len(body))
			}
			if res.Header.Get("ETag") != `W/"v1"` || res.Header.Get("Vary") != "Accept-Encoding" || res.Header.Has("Accept-Ranges") {
				t.Errorf("head %v", res.Header.Fields())
			}
		})
	}
}

// TestCompressStreams sees each event before the next is sent.
func TestCompressStreams(t *testing.T) {
	next := make(chan struct{})
	f := start(t, edge.ServerOptions{Handler: edge.Compress(proxyTo(t, edge.OriginOptions{}, origin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		for range 3 {
			io.WriteString(w, "event\n")
			w.(http.Flusher).Flush()
			<-next
		}
	})))})
	eachProtocol(t, f, func(t *testing.T, c *http.Client, base string) {
		req, _ := http.NewRequest("GET", base, nil)
		req.Header.Set("Accept-Encoding", "gzip")
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		zr, err := gzip.NewReader(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			line := make([]byte, 6)
			if _, err := io.ReadFull(zr, line); err != nil || string(line) != "event\n" {
				t.Fatalf("read %q, %v", line, err)
			}
			next <- struct{}{}
		}
		if _, err := zr.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after the last event: %v", err)
		}
	})
}

func TestCompressKeepsErrors(t *testing.T) {
	broke := errors.New("broke")
	ex := &edge.Exchange{Request: edge.Request{Method: "GET", Header: edge.NewHeader("Accept-Encoding", "br")}}
	err := edge.Compress(func(_ context.Context, ex *edge.Exchange) error {
		ex.Response = edge.Response{Status: 200, Length: -1, Header: edge.NewHeader("Content-Type", "text/css"), Body: io.NopCloser(io.MultiReader(strings.NewReader("a{}"), failing{broke}))}
		return nil
	})(t.Context(), ex)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(ex.Response.Body); !errors.Is(err, broke) {
		t.Errorf("reading a body that broke off: %v", err)
	}
	ex.Response.Close()
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func BenchmarkCompress(b *testing.B) {
	page := []byte(strings.Repeat("<p>all work and no play makes jack a dull boy, said "+time.RFC1123+"</p>", 250))
	for _, coding := range []string{"gzip", "br", "zstd"} {
		b.Run(coding, func(b *testing.B) {
			h := edge.Compress(func(_ context.Context, ex *edge.Exchange) error {
				ex.Respond(200, edge.NewHeader("Content-Type", "text/html"), page)
				return nil
			})
			b.ReportAllocs()
			b.SetBytes(int64(len(page)))
			for b.Loop() {
				ex := &edge.Exchange{Request: edge.Request{Method: "GET", Header: edge.NewHeader("Accept-Encoding", coding)}}
				h(context.Background(), ex)
				io.Copy(io.Discard, ex.Response.Body)
				ex.Response.Close()
			}
		})
	}
}
