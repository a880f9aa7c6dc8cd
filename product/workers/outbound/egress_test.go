package outbound_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"selvage/edge"
	"selvage/product/producttest"
	"selvage/product/workers/outbound"
	"selvage/spec"
)

// fetcher fetches what the query says and tells what came.
const fetcher = `
import { connect } from "cloudflare:sockets";
export default { async fetch(req, env, ctx) {
  const url = new URL(req.url);
  const to = url.searchParams.get("to");
  switch (url.pathname) {
  case "/get": {
    const r = await fetch(to, JSON.parse(url.searchParams.get("init") ?? "{}"));
    return new Response(r.status + " " + await r.text());
  }
  case "/pass": return fetch(new Request(to, req));
  case "/post": {
    const r = await fetch(to, { method: "POST", body: req.headers.get("x-stream") ? new Blob(["str", "eam"]).stream() : "body" });
    return new Response(r.status + " " + await r.text());
  }
  case "/many": {
    const all = await Promise.all([...Array(20)].map(async (_, i) => (await fetch(to + i)).text()));
    return new Response(all.join(","));
  }
  case "/abort": {
    try { await fetch(to, { signal: AbortSignal.timeout(100) }); return new Response("no abort"); } catch (e) { return new Response(e.name); }
  }
  case "/broken": {
    const r = await fetch(to);
    try { await r.text(); return new Response("whole"); } catch (e) { return new Response("broken"); }
  }
  case "/ws": {
    const r = await fetch(to, { headers: { Upgrade: "websocket" } });
    const ws = r.webSocket; ws.accept();
    const got = new Promise((ok) => ws.addEventListener("message", (e) => ok(e.data)));
    ws.send("ping");
    const text = await got; ws.close();
    return new Response(text);
  }
  case "/connect": try {
    const s = connect(to);
    await s.opened;
    const w = s.writable.getWriter();
    await w.write(new TextEncoder().encode("ping"));
    await w.close();
    return new Response(s.readable);
  } catch (e) { return new Response("rejected: " + e.message); }
  case "/loop": {
    let n = 0, r;
    do { r = await fetch(to); await r.text(); n++; } while (r.status == 200 && n < 50);
    return new Response(n + " " + r.status);
  }
  }
} }`

// address of a server without its scheme.
func hostOf(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }

func TestEgressReachesTheInternet(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/hello", http.StatusFound)
		case "/echo":
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s", r.Method, body)
		case "/fields":
			fmt.Fprintf(w, "%s|%s|%s|%s", r.Header.Get("CF-Worker"), r.Header.Get("CDN-Loop"), r.Header.Get("CF-Connecting-IP"), r.Header.Get("X-Forwarded-For"))
		case "/slow":
			<-r.Context().Done()
		case "/broken":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "half")
		case "/brokenchunks":
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "/stream":
			for i := range 5 {
				fmt.Fprintf(w, "%d", i)
				w.(http.Flusher).Flush()
			}
		case "/large":
			io.CopyN(w, zeros{}, 5<<20)
		default:
			fmt.Fprintf(w, "hello %s%s", r.Host, r.RequestURI)
		}
	}))
	t.Cleanup(origin.Close)
	_, port, _ := net.SplitHostPort(hostOf(origin))
	base := "http://site.test:" + port
	o := world(t, nil, names{"site.test": "127.0.0.1"})
	c := start(t, script{source: fetcher, services: map[string]serve{"egress": o.Egress(outbound.Caller{AccountID: "open", Worker: "mine.test"})}})
	c.want("/get?to="+base+"/a%2520b?x=%26y", "200 hello site.test:"+port+"/a%20b?x=&y")
	c.want("/get?to="+base+"/redirect", "200 hello site.test:"+port+"/hello")
	c.want("/post?to="+base+"/echo", "200 POST body")
	if _, got := c.get("/post?to="+base+"/echo", "X-Stream", "1"); got != "200 POST stream" {
		t.Errorf("streamed body: %q", got)
	}
	c.want("/get?to="+base+"/stream", "200 01234")
	c.want("/abort?to="+base+"/slow", "TimeoutError")
	c.want("/broken?to="+base+"/broken", "broken")
	c.want("/broken?to="+base+"/brokenchunks", "broken")
	c.want("/broken?to="+base+"/large", "whole")
	c.want("/get?to="+base+"/fields", "200 mine.test|selvage|2a06:98c0:3600::103|2a06:98c0:3600::103")
	if _, got := c.get("/many?to=" + base + "/n"); strings.Count(got, "hello") != 20 {
		t.Errorf("20 at once: %q", got)
	}
	// What the node tells a script of its client goes out again, once; what the script makes up of the
	// edge's own does not.
	_, got := c.get("/pass?to="+base+"/fields", "CF-Connecting-IP", "198.51.100.7", "X-Real-IP", "198.51.100.7", "X-Forwarded-For", "192.0.2.1, 198.51.100.7", "CF-Worker", "forged", "CDN-Loop", "other; v=1")
	if got != "mine.test|other; v=1, selvage|198.51.100.7|192.0.2.1, 198.51.100.7" {
		t.Errorf("fields passed on: %q", got)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestEgressRefusesTheInside(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/to" {
			http.Redirect(w, r, r.URL.Query().Get("u"), http.StatusFound)
			return
		}
		io.WriteString(w, "inside")
	}))
	t.Cleanup(origin.Close)
	_, port, _ := net.SplitHostPort(hostOf(origin))
	hosts := names{"rebind.test": "127.0.0.1", "meta.test": "169.254.169.254", "six.test": "::1", "nat.test": "64:ff9b::7f00:1", "public.test": "127.0.0.1"}
	o := world(t, nil, hosts)
	c := start(t, script{source: fetcher, services: map[string]serve{"egress": o.Egress(outbound.Caller{AccountID: "closed"})}})
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "rebind.test", "meta.test", "six.test", "nat.test", "169.254.169.254", "[fd00:ec2::254]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0", "10.0.0.1", "100.64.0.1", "[64:ff9b::7f00:1]"} {
		_, got := c.get("/get?to=http://" + host + ":" + port + "/")
		if !strings.HasPrefix(got, "403 error 1003") && !strings.HasPrefix(got, "530 error 1016") {
			t.Errorf("fetch of %s = %q, want 1003", host, got)
		}
	}
	for _, host := range []string{"127.0.0.1", "rebind.test", "six.test", "[::1]"} {
		if _, got := c.get("/connect?to=" + host + ":" + port); !strings.HasPrefix(got, "rejected") {
			t.Errorf("connect to %s = %q", host, got)
		}
	}
	// A redirect from where it may go leads nowhere else.
	mixed := world(t, func(o *outbound.Options) {
		o.Guard = edge.Guard{Own: edge.Listeners(origin.Listener.Addr())}
	}, hosts)
	hop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, origin.URL, http.StatusFound)
	}))
	t.Cleanup(hop.Close)
	c = start(t, script{source: fetcher, services: map[string]serve{"egress": mixed.Egress(outbound.Caller{AccountID: "open"})}})
	if _, got := c.get("/get?to=" + hop.URL); !strings.HasPrefix(got, "403 error 1003") {
		t.Errorf("redirect to the node itself = %q, want 1003", got)
	}
}

func TestSocketsAndWebSockets(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				all, _ := io.ReadAll(c) // until the script ends its direction
				fmt.Fprintf(c, "got %s", all)
			}()
		}
	}()
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		_, text, err := ws.Read(r.Context())
		if err == nil {
			ws.Write(r.Context(), websocket.MessageText, append([]byte("re: "), text...))
			ws.Read(r.Context())
		}
		ws.CloseNow()
	}))
	t.Cleanup(origin.Close)
	o := world(t, nil, names{"db.test": "127.0.0.1"})
	c := start(t, script{source: fetcher, services: map[string]serve{"egress": o.Egress(outbound.Caller{AccountID: "open"})}})
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	c.want("/connect?to=db.test:"+port, "got ping")
	if _, got := c.get("/connect?to=db.test:25"); !strings.HasPrefix(got, "rejected") {
		t.Errorf("connect to port 25 = %q", got)
	}
	c.want("/ws?to="+origin.URL, "re: ping")
}

func TestOwnSitesTakeThePipeline(t *testing.T) {
	snap := producttest.Snapshot(1, "zone.test")
	zone := snap.ZoneByName("zone.test")
	type seen struct {
		Sub           outbound.Subrequest
		OK            bool
		Host, URI     string
		Client, Loop  string
		Worker, Proto string
		Wish          *edge.CacheWish
	}
	pipeline := func(ctx context.Context, ex *edge.Exchange) error {
		if ex.Request.Path == "/fails" {
			return &edge.Failure{Status: 521, Reason: "origin_refused", Detail: "down"}
		}
		if ex.Request.Path == "/panics" {
			panic("broken")
		}
		sub, ok := outbound.From(ctx)
		h := &ex.Request.Header
		body, _ := json.Marshal(seen{sub, ok, ex.Request.Host, ex.Request.URI(), ex.Client.Addr().String(), h.Get("CDN-Loop"), h.Get("CF-Worker"), ex.Request.Scheme, ex.Wish})
		ex.Respond(200, edge.NewHeader("Content-Type", "application/json"), body)
		return nil
	}
	o := world(t, func(o *outbound.Options) {
		o.Pipeline = pipeline
		o.Local = func(host string) bool { return strings.HasSuffix(host, "zone.test") || host == "foreign.test" }
	}, nil)
	caller := outbound.Caller{AccountID: "acc", Script: "s", Version: "v", Worker: "zone.test", ZoneOf: func(host string) *spec.ZoneConfig {
		if strings.HasSuffix(host, "zone.test") {
			return zone
		}
		return nil
	}}
	c := start(t, script{source: fetcher, services: map[string]serve{"egress": o.Egress(caller)}})
	ask := func(to string, fields ...string) (s seen) {
		t.Helper()
		_, got := c.get("/pass?to="+to, fields...)
		if err := json.Unmarshal([]byte(got), &s); err != nil {
			t.Fatalf("%s: %q", to, got)
		}
		return s
	}
	got := ask("https://www.zone.test/x?y=z", "X-Real-IP", "198.51.100.7")
	want := seen{Sub: outbound.Subrequest{Account: "acc", Script: "s", Version: "v", Depth: 1}, OK: true, Host: "www.zone.test", URI: "/x?y=z", Client: "198.51.100.7", Loop: "selvage; loops=1", Worker: "zone.test", Proto: "https"}
	if got != want {
		t.Errorf("own zone: got %+v, want %+v", got, want)
	}
	if got := ask("http://foreign.test/", "X-Real-IP", "198.51.100.7"); got.Client != "2a06:98c0:3600::103" {
		t.Errorf("another account's site is told the client %s", got.Client)
	}
	if got := ask("http://zone.test/", "CDN-Loop", "other, selvage; loops=3"); got.Sub.Depth != 4 || got.Loop != "other, selvage; loops=4" {
		t.Errorf("depth %d, CDN-Loop %q", got.Sub.Depth, got.Loop)
	}
	if status, got := c.get("/pass?to=http://zone.test/", "CDN-Loop", "selvage; loops=16"); status != 508 || !strings.HasPrefix(got, "error 1019") {
		t.Errorf("17th script: %d %q", status, got)
	}
	if status, got := c.get("/pass?to=http://zone.test/fails"); status != 521 || !strings.Contains(got, "down") {
		t.Errorf("failing origin: %d %q", status, got)
	}
	if status, _ := c.get("/pass?to=http://zone.test/panics"); status != 500 {
		t.Errorf("panic: %d", status)
	}
	_, text := c.get("/get?to=http://zone.test/w&init=" + url.QueryEscape(`{"cf":{"cacheTtl":5,"cacheKey":"k","cacheTags":["a"],"cacheTtlByStatus":{"404":-1,"200-299":60}}}`))
	var w seen
	json.Unmarshal([]byte(strings.TrimPrefix(text, "200 ")), &w)
	if w.Wish == nil || !w.Wish.Forced || w.Wish.TTL != 5*time.Second || w.Wish.Key != "k" || len(w.Wish.Tags) != 1 || len(w.Wish.ByStatus) != 2 || !w.Wish.Everything {
		t.Errorf("wish = %+v of %s", w.Wish, text)
	}
	_, text = c.get("/get?to=http://zone.test/w&init=" + url.QueryEscape(`{"cache":"no-store"}`))
	w = seen{}
	json.Unmarshal([]byte(strings.TrimPrefix(text, "200 ")), &w)
	if w.Wish == nil || !w.Wish.Never {
		t.Errorf("wish of no-store = %+v of %s", w.Wish, text)
	}
}

func TestCirclesEnd(t *testing.T) {
	var o *outbound.Outbound
	var c *child
	var deepest atomic.Int64
	o = world(t, func(o *outbound.Options) {
		o.Local = func(string) bool { return true }
		o.Running = func(string) int { return int(deepest.Load()) + 1 }
		o.Pipeline = func(ctx context.Context, ex *edge.Exchange) error {
			deepest.Add(1)
			defer deepest.Add(-1)
			status, got := c.get("/get?to=http://zone.test/again") // a script that drops all fields
			ex.Respond(status, edge.Header{}, []byte(got))
			return nil
		}
	}, nil)
	c = start(t, script{source: fetcher, services: map[string]serve{"egress": o.Egress(outbound.Caller{AccountID: "acc"})}})
	if _, got := c.get("/get?to=http://zone.test/"); !strings.Contains(got, "508 error 1019") {
		t.Errorf("circle ended with %.200q", got)
	}
}

func TestSubrequestLimit(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	t.Cleanup(origin.Close)
	o := world(t, nil, nil)
	var begun atomic.Uint64
	c := start(t, script{source: fetcher, services: map[string]serve{"egress": o.Egress(outbound.Caller{
		AccountID: "open", Subrequests: 10, Load: func() (uint64, int) { return begun.Load(), 1 },
	})}})
	for range 2 {
		begun.Add(1)
		c.want("/loop?to="+origin.URL, "11 429")
	}
}

// A fetch to a host elsewhere is cached only where its cf options ask for it, with the script's zone.
func TestElsewhereIsCachedOnRequest(t *testing.T) {
	var asked atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "answer %d", asked.Add(1))
	}))
	t.Cleanup(origin.Close)
	kept := newCache(t)
	snap := producttest.Snapshot(1, "zone.test")
	change, err := kept.Prepare(t.Context(), snap)
	if err != nil {
		t.Fatal(err)
	}
	change.Commit()
	phase := kept.Phase()
	o := world(t, func(o *outbound.Options) {
		o.Cached = func(ctx context.Context, ex *edge.Exchange) error { return phase.Handle(ctx, ex, o.Origins.Fetch) }
	}, nil)
	zone := snap.ZoneByName("zone.test")
	of := func(account string, zone *spec.ZoneConfig) *child {
		return start(t, script{source: fetcher, services: map[string]serve{"egress": o.Egress(outbound.Caller{AccountID: account, Zone: func() *spec.ZoneConfig { return zone }})}})
	}
	c := of("open", zone)
	cached := "/get?to=" + origin.URL + "/page&init=" + url.QueryEscape(`{"cf":{"cacheTtl":60}}`)
	c.want("/get?to="+origin.URL+"/page", "200 answer 1")
	c.want("/get?to="+origin.URL+"/page", "200 answer 2")
	c.want(cached, "200 answer 3")
	c.want(cached, "200 answer 3")
	of("open", nil).want(cached, "200 answer 4") // a script without a zone has nowhere to keep it
	// What others may reach is no way around the guard.
	if _, got := of("closed", zone).get("/get?to=" + origin.URL + "/other&init=" + url.QueryEscape(`{"cf":{"cacheTtl":60}}`)); !strings.HasPrefix(got, "403 error 1003") {
		t.Errorf("refused address through the cache: %q", got)
	}
}

// TestOperationsLimit asks more of a binding than one request may: the client throws what it is told.
func TestOperationsLimit(t *testing.T) {
	o := world(t, nil, nil)
	var begun atomic.Uint64
	counted := o.Operations(outbound.Caller{Subrequests: 10, Load: func() (uint64, int) { return begun.Load(), 1 }})
	one, other := counted(func(_ context.Context, ex *edge.Exchange) error {
		ex.Respond(200, edge.Header{}, nil)
		return nil
	}), counted(func(context.Context, *edge.Exchange) error { return io.ErrUnexpectedEOF })
	now := time.Unix(1000, 0)
	ask := func(h edge.Handler) error { return h(t.Context(), &edge.Exchange{Start: now}) }
	for range 2 {
		begun.Add(1)
		for i := range 5 {
			if err := errors.Join(ask(one), ask(other)); !errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "too_many") {
				t.Fatalf("operations %d and %d: %v", 2*i, 2*i+1, err)
			}
		}
		for _, h := range []edge.Handler{one, other} {
			var f *edge.Failure
			if err := ask(h); !errors.As(err, &f) || f.Status != 429 || !strings.Contains(f.Detail, "Too many API requests by single Worker invocation: the limit is 10 operations") {
				t.Errorf("beyond the limit: %v", err)
			}
		}
		now = now.Add(time.Second)
	}
}
