package outbound_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"selvage/edge"
	"selvage/engine/isolate"
	"selvage/product/workers/outbound"
)

// ask sends requests as the runtime does over one connection, without the runtime.
func ask(b *testing.B, s serve, url string) {
	path := filepath.Join(shortDir(b), "s")
	listen(b, path, s)
	c, err := net.Dial("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	req := []byte("GET " + url + " HTTP/1.1\r\naccept: */*\r\nuser-agent: bench\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(req); err != nil {
			b.Fatal(err)
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		if res.StatusCode != 200 {
			b.Fatal(res.Status)
		}
	}
}

// BenchmarkLocal is the hop alone: a request that the pipeline answers at once. What the client in
// the benchmark allocates is counted too.
func BenchmarkLocal(b *testing.B) {
	body := []byte("hello")
	o := world(b, func(o *outbound.Options) {
		o.Local = func(string) bool { return true }
		o.Pipeline = func(_ context.Context, ex *edge.Exchange) error {
			ex.Respond(200, edge.NewHeader("Content-Type", "text/plain"), body)
			return nil
		}
	}, nil)
	ask(b, o.Egress(outbound.Caller{AccountID: "open", Script: "s"}), "https://zone.test/")
}

// BenchmarkInternet is a request to an HTTP server on this machine.
func BenchmarkInternet(b *testing.B) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	b.Cleanup(origin.Close)
	ask(b, world(b, nil, nil).Egress(outbound.Caller{AccountID: "open", Script: "s"}), origin.URL+"/")
}

// instant is a host whose programs answer at once.
type instant struct{}

func (instant) Fetch(context.Context, isolate.Address, *isolate.Request) (*isolate.Response, error) {
	return &isolate.Response{Status: 200, Length: 0}, nil
}

func (instant) Dial(context.Context, isolate.Address) (io.ReadWriteCloser, error) { return nil, io.EOF }

// BenchmarkRelay is the relay of a service binding, with a callee that costs nothing.
func BenchmarkRelay(b *testing.B) {
	resolve := func(context.Context) (isolate.Address, error) { return isolate.Address{}, nil }
	ask(b, world(b, nil, nil).Relay(outbound.Caller{AccountID: "open", Script: "s"}, "b", resolve, instant{}), "https://b.test/")
}
