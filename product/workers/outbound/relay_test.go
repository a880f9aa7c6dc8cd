package outbound_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"selvage/engine/isolate"
	"selvage/engine/isolate/wire"
	"selvage/foundation/fault"
	"selvage/product/workers/outbound"
)

// host stands for isolate.Host: its one program is a child of the test.
type host struct {
	wire.Client
	dials atomic.Int64
}

func (h *host) Fetch(ctx context.Context, _ isolate.Address, r *isolate.Request) (*isolate.Response, error) {
	res, err := h.Do(ctx, &wire.Request{Method: r.Method, Scheme: r.Scheme, Host: r.Host, Target: r.Target, Header: r.Header, Body: r.Body, Length: r.Length, CF: r.CF, Upgrade: r.Upgrade})
	if err != nil {
		return nil, err
	}
	return &isolate.Response{Status: res.Status, Header: res.Header, Length: res.Length, Body: res.Body, Tunnel: res.Tunnel}, nil
}

func (h *host) Dial(ctx context.Context, _ isolate.Address) (io.ReadWriteCloser, error) {
	h.dials.Add(1)
	return new(net.Dialer).DialContext(ctx, "unix", h.Path)
}

func hostOfChild(t *testing.T, c *child) *host {
	h := &host{}
	h.Path, h.CFHeader = c.socket, isolate.CFHeader
	t.Cleanup(h.Close)
	return h
}

const callee = `
import { WorkerEntrypoint, RpcTarget } from "cloudflare:workers";
class Counter extends RpcTarget { n = 0; up() { return ++this.n; } }
export default class extends WorkerEntrypoint {
  async fetch(req) {
    if (req.headers.get("upgrade")) {
      const [a, b] = Object.values(new WebSocketPair());
      b.accept(); b.addEventListener("message", (e) => b.send("echo " + e.data));
      return new Response(null, { status: 101, webSocket: a });
    }
    return new Response([req.method, req.url, JSON.stringify(req.cf ?? null), req.headers.get("cdn-loop"), await req.text()].join(" "), { status: 201, headers: { "X-From": "b" } });
  }
  add(a, b) { return a + b; }
  async call(f) { return "called " + await f(7); }
  counter() { return new Counter(); }
  stream() { return new Blob(["streamed"]).stream(); }
  fail() { throw new TypeError("on purpose"); }
}`

const rpcCaller = `
export default { async fetch(req, env) {
  const url = new URL(req.url), b = env.callee;
  try {
    switch (url.pathname) {
    case "/fetch": {
      const r = await b.fetch("https://b.test/p?q", { method: "POST", body: "hi", cf: { a: 1 } });
      return new Response([r.status, r.headers.get("x-from"), await r.text()].join(" "));
    }
    case "/pass": return b.fetch(req);
    case "/ws": {
      const r = await b.fetch("http://b.test/", { headers: { Upgrade: "websocket" } });
      const ws = r.webSocket; ws.accept();
      const got = new Promise((ok) => ws.addEventListener("message", (e) => ok(e.data)));
      ws.send("x"); const text = await got; ws.close();
      return new Response(text);
    }
    case "/add": return new Response(String(await b.add(1, 2)));
    case "/callback": return new Response(await b.call((n) => n * 6));
    case "/target": { using c = await b.counter(); await c.up(); return new Response(String(await c.up())); }
    case "/pipelined": return new Response(String(await b.counter().up()));
    case "/stream": return new Response(await b.stream());
    case "/fail": await b.fail(); return new Response("no");
    }
  } catch (e) { return new Response(e.name + ": " + e.message); }
} }`

func TestRelay(t *testing.T) {
	b := start(t, script{source: callee})
	o := world(t, nil, nil)
	h := hostOfChild(t, b)
	var missing atomic.Bool
	resolve := func(context.Context) (isolate.Address, error) {
		if missing.Load() {
			return isolate.Address{}, fault.New(fault.NotFound, "gone")
		}
		return isolate.Address{Unit: "b"}, nil
	}
	a := start(t, script{source: rpcCaller, services: map[string]serve{"callee": o.Relay(outbound.Caller{AccountID: "acc"}, "b", resolve, h)}})
	a.want("/fetch", `201 b POST https://b.test/p?q {"a":1} selvage; loops=1 hi`)
	a.want("/ws", "echo x")
	for range 3 {
		a.want("/add", "3")
		a.want("/callback", "called 42")
		a.want("/target", "2")
		a.want("/pipelined", "1")
		a.want("/stream", "streamed")
		a.want("/fail", "TypeError: on purpose")
	}
	if n := h.dials.Load(); n != 1 {
		t.Errorf("%d RPC sessions for one binding, want 1", n)
	}
	if status, got := a.get("/pass", "CDN-Loop", "selvage; loops=16"); status != 508 || !strings.HasPrefix(got, "error 1019") {
		t.Errorf("17th script: %d %q", status, got)
	}
	missing.Store(true)
	if _, got := a.get("/fetch"); !strings.Contains(got, "1042") {
		t.Errorf("missing callee: %q", got)
	}
	a.want("/add", "3") // the session that is open goes on
}

func TestRelayOfMissingCalleeRejectsRPC(t *testing.T) {
	o := world(t, nil, nil)
	resolve := func(context.Context) (isolate.Address, error) {
		return isolate.Address{}, fault.New(fault.NotFound, "gone")
	}
	a := start(t, script{source: rpcCaller, services: map[string]serve{"callee": o.Relay(outbound.Caller{AccountID: "acc"}, "b", resolve, nil)}})
	if _, got := a.get("/add"); !strings.HasPrefix(got, "Error:") {
		t.Errorf("RPC to a missing callee: %q", got)
	}
}

func TestSessionFollowsADeploy(t *testing.T) {
	version := func(n string) *host {
		return hostOfChild(t, start(t, script{source: `import { WorkerEntrypoint } from "cloudflare:workers";
export default class extends WorkerEntrypoint { add() { return "v` + n + `"; } }`}))
	}
	both := &pair{versions: map[string]*host{"1": version("1"), "2": version("2")}}
	both.current.Store("1")
	o := world(t, nil, nil)
	resolve := func(context.Context) (isolate.Address, error) {
		return isolate.Address{Unit: both.current.Load().(string)}, nil
	}
	a := start(t, script{source: rpcCaller, services: map[string]serve{"callee": o.Relay(outbound.Caller{AccountID: "acc"}, "b", resolve, both)}})
	a.want("/add", "v1")
	both.current.Store("2")
	a.want("/add", "v1") // what is open goes on while it is used
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Second) {
		if _, got := a.get("/add"); got == "v2" {
			break
		} else if got != "v1" || time.Now().After(end) {
			t.Fatalf("after the deploy: %q", got)
		}
	}
}

// pair is a host with two versions.
type pair struct {
	versions map[string]*host
	current  atomic.Value
}

func (p *pair) Fetch(ctx context.Context, a isolate.Address, r *isolate.Request) (*isolate.Response, error) {
	return p.versions[a.Unit].Fetch(ctx, a, r)
}

func (p *pair) Dial(ctx context.Context, a isolate.Address) (io.ReadWriteCloser, error) {
	return p.versions[a.Unit].Dial(ctx, a)
}
