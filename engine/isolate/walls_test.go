package isolate_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"selvage/engine/isolate"
	"selvage/engine/isolate/sandbox"
)

func TestBehindWalls(t *testing.T) {
	h := start(t, func(o *isolate.Options) {
		o.Walls = sandbox.Probe(t.Context())
		o.Spares = 1
		o.IdleAfter = 200 * time.Millisecond
	})
	u := h.module("u", `export default { async fetch(request, env) { return await env.NODE.fetch("https://there.test/x", request); } }`)
	u.Programs[0].Bindings = []isolate.Binding{{Name: "NODE", Kind: isolate.Fetcher, Service: "node"}}
	u.Services = []isolate.Service{{Name: "node", Serve: func(ctx context.Context, l net.Listener) {
		serveHTTP(ctx, l, func(method, host, target, proto string) string { return method + " " + proto + "://" + host + target })
	}}}
	h.Set(u)
	h.want("u", "/", "GET https://there.test/x")
	h.Set(h.counter("v1"))
	h.want("o", "/", "v1 1")
	h.asleep("o")
	h.want("o", "/", "v1 2")
	if files, _ := filepath.Glob(filepath.Join(h.dir, "objects", "*", "*.sqlite")); len(files) == 0 {
		t.Error("the objects are not in their directory")
	}
}

func TestTraces(t *testing.T) {
	h := start(t, nil)
	u := h.module("u", `export default { fetch(r) { console.log("hello", {a: 1}); return new Response("ok") } }`)
	traces := make(chan string, 10)
	u.Programs[0].Trace, u.Programs[0].Version = "traces", "v7"
	u.Services = []isolate.Service{{Name: "traces", Serve: func(ctx context.Context, l net.Listener) {
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			traces <- string(b)
		})}
		defer context.AfterFunc(ctx, func() { server.Close() })()
		server.Serve(l)
	}}}
	h.Set(u)
	h.want("u", "/", "ok")
	select {
	case got := <-traces:
		for _, want := range []string{`"scriptName":"main"`, `"scriptVersion":{"id":"v7"}`, `["hello",{"a":1}]`, `"outcome":"ok"`} {
			if !strings.Contains(got, want) {
				t.Errorf("trace %s lacks %s", got, want)
			}
		}
	case <-time.After(10 * time.Second):
		t.Error("no trace came")
	}
}

// TestRPCBetweenChildren joins two children by a relay that knows nothing of what it carries.
func TestRPCBetweenChildren(t *testing.T) {
	h := start(t, nil)
	callee := h.module("callee", `import { WorkerEntrypoint } from "cloudflare:workers";
export class Api extends WorkerEntrypoint { add(a, b) { return a + b } fetch(r) { return new Response("fetched " + [...r.headers.keys()], {headers: {"x-seen": "1"}}) } who() { return this.ctx.props.who } }
export default {}`)
	callee.Programs[0].Entrypoints = []string{"Api"}
	callee.Programs[0].Doors = []isolate.Door{{Name: "for caller", Entrypoint: "Api", Props: []byte(`{"who":"caller"}`)}}
	h.Set(callee)
	caller := h.module("caller", `export default { async fetch(r, env) {
  const res = await env.API.fetch("http://api/x");
  return new Response([await env.API.add(1, 2), await env.API.who(), await res.text(), [...res.headers.keys()]].join(" "));
} }`)
	caller.Programs[0].CompatibilityDate = "2026-01-01"
	caller.Programs[0].Bindings = []isolate.Binding{{Name: "API", Kind: isolate.Fetcher, Service: "api"}}
	caller.Services = []isolate.Service{{Name: "api", Proxy: true, RPC: true, Serve: func(ctx context.Context, l net.Listener) {
		defer context.AfterFunc(ctx, func() { l.Close() })()
		var wg sync.WaitGroup
		defer wg.Wait()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { h.splice(ctx, c) })
		}
	}}}
	h.Set(caller)
	h.want("caller", "/", "3 caller fetched  content-length,content-type,x-seen")
}

func (h *house) splice(ctx context.Context, c net.Conn) {
	defer context.AfterFunc(ctx, func() { c.Close() })()
	defer c.Close()
	other, err := h.Dial(ctx, isolate.Address{Unit: "callee", Program: "main", Entrypoint: "for caller"})
	if err != nil {
		h.t.Error(err)
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(other, c)
		other.Close()
	}()
	io.Copy(c, other)
	c.Close()
	<-done
}

func TestBusyUnitGetsHelp(t *testing.T) {
	h := start(t, func(o *isolate.Options) { o.Replicas = 2 })
	h.Set(h.module("u", `export default { fetch() { for (let i = 0, x = 0; i < 3e6; i++) x += i; return new Response("ok") } }`))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				h.want("u", "/", "ok")
			}
		})
	}
	for h.Usage()[0].Children < 2 && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	if ctx.Err() != nil {
		t.Error("nobody helped")
	}
	cancel()
	wg.Wait()
}

func BenchmarkWake(b *testing.B) {
	for _, c := range []struct {
		name   string
		spares int
		walls  bool
	}{{"cold", -1, false}, {"spare", 1, false}, {"cold behind walls", -1, true}, {"spare behind walls", 1, true}} {
		b.Run(c.name, func(b *testing.B) {
			h := start(b, func(o *isolate.Options) {
				o.Spares = c.spares
				if c.walls {
					o.Walls = sandbox.Probe(b.Context())
				}
			})
			h.Set(h.module("u", `export default { fetch() { return new Response("ok") } }`))
			var took []time.Duration
			for b.Loop() {
				b.StopTimer()
				time.Sleep(150 * time.Millisecond) // the spare is ready by then
				b.StartTimer()
				began := time.Now()
				h.want("u", "/", "ok")
				took = append(took, time.Since(began))
				b.StopTimer()
				h.Kill("u", "benchmark")
				h.asleep("u")
				b.StartTimer()
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
		})
	}
}

func BenchmarkFetch(b *testing.B) {
	h := start(b, nil)
	h.Set(h.module("u", `export default { fetch() { return new Response("ok") } }`))
	h.want("u", "/", "ok")
	buf := make([]byte, 1024)
	ctx, at := b.Context(), isolate.Address{Unit: "u", Program: "main"}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			resp, err := h.Fetch(ctx, at, request("GET", "/", ""))
			if err != nil {
				b.Error(err)
				return
			}
			for err == nil {
				_, err = resp.Body.Read(buf)
			}
			resp.Body.Close()
		}
	})
}
