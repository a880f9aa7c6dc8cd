package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const calleeSource = `
import { WorkerEntrypoint } from "cloudflare:workers";
export default class extends WorkerEntrypoint {
	async fetch() { return new Response("VERSION"); }
	version() { return "VERSION"; }
	add(a, b) { return a + b; }
	async each(list, f) { const out = []; for (const v of list) out.push(await f(v)); return out; }
	shout(body) {
		const { readable, writable } = new IdentityTransformStream();
		this.ctx.waitUntil((async () => {
			const w = writable.getWriter(), from = new TextDecoder(), to = new TextEncoder();
			for await (const chunk of body) await w.write(to.encode(from.decode(chunk).toUpperCase()));
			await w.close();
		})());
		return readable;
	}
	fail() { throw new RangeError("too far"); }
}
export class Admin extends WorkerEntrypoint {
	who() { return this.ctx.props.role + " " + this.ctx.props.rights.join("+"); }
	async fetch(request) { return new Response("admin " + await request.text()); }
}`

const callerSource = `
export default {
	async fetch(request, env) {
		switch (new URL(request.url).pathname) {
		case "/version": return new Response(await env.CALLEE.version());
		case "/all":
			let sum = 0;
			const failed = await env.CALLEE.fail().catch(e => e.name + ": " + e.message);
			const each = await env.CALLEE.each([1, 2, 3], v => { sum += v; return v * v; });
			const loud = await env.CALLEE.shout(new Blob(["quiet ".repeat(50_000)]).stream());
			const text = await new Response(loud).text();
			return Response.json({
				added: await env.CALLEE.add(20, 22), each, sum, failed, text: text.length + text.slice(-7), who: await env.ADMIN.who(),
				admin: await (await env.ADMIN.fetch("http://x/", { method: "POST", body: "posted" })).text(),
			});
		}
		return env.CALLEE.fetch(request);
	},
};`

// TestBindingsFollowDeploys redeploys a callee while its caller calls: requests through the binding
// never fail and see what is in force at once. RPC never fails either, and follows when calls pause.
func TestBindingsFollowDeploys(t *testing.T) {
	t.Parallel()
	const deploys, silence = 10, 5 * time.Second
	callee := func(version string) script {
		return script{source: strings.ReplaceAll(calleeSource, "VERSION", version)}
	}
	p := up(t, t.TempDir())
	p.deploy("callee", callee("v0"))
	s := p.deploy("caller", script{source: callerSource, meta: `"bindings":[{"type":"service","name":"CALLEE","service":"callee"},
		{"type":"service","name":"ADMIN","service":"callee","entrypoint":"Admin","props":{"role":"boss","rights":["read","write"]}}]`})
	const all = `{"added":42,"each":[1,4,9],"sum":6,"failed":"RangeError: too far","text":"300000 QUIET ","who":"boss read+write","admin":"admin posted"}`
	s.expect("/all", 200, all)

	requests := askAll(s, 2, "v0")
	var calls sync.WaitGroup
	var done atomic.Bool
	var called, failed atomic.Int64
	calls.Go(func() {
		for !done.Load() {
			if a, err := s.do("GET", "/version", nil); called.Add(1) > 0 && (err != nil || a.status != 200) {
				failed.Add(1)
				t.Logf("an RPC call failed: %d %.100q %v", a.status, a.body, err)
			}
		}
	})
	for i := 1; i <= deploys; i++ {
		version := fmt.Sprint("v", i)
		requests.allow(version)
		if e, err := p.send("PUT", p.AccountID, "callee", callee(version)); err != nil || len(e.Messages) > 0 {
			t.Fatalf("deploy %d: %v %v", i, e.Messages, err)
		}
		s.expect("/", 200, version)
		requests.more(4)
	}
	done.Store(true)
	calls.Wait()
	newest := fmt.Sprint("v", deploys)
	time.Sleep(silence) // the runtime keeps its RPC session while calls come, and the node moves one that is silent
	s.expect("/version", 200, newest)
	requests.end()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of %d RPC calls failed", n, called.Load())
	}
	t.Logf("%d requests and %d RPC calls through %d deploys, %d of the latter failed", requests.n.Load(), called.Load(), deploys, failed.Load())
	s.expect("/all", 200, all)
}

// TestCirclesOfBindings has two scripts call each other without an end.
func TestCirclesOfBindings(t *testing.T) {
	t.Parallel()
	const ring = `
import { WorkerEntrypoint } from "cloudflare:workers";
export default class extends WorkerEntrypoint {
	async fetch(request) {
		switch (new URL(request.url).pathname) {
		case "/anew": return this.env.NEXT.fetch("http://x/anew");
		case "/well": return new Response("well");
		}
		return this.env.NEXT.fetch(request);
	}
}`
	next := func(name string) script {
		return script{source: ring, meta: fmt.Sprintf(`"bindings":[{"type":"service","name":"NEXT","service":%q}]`, name)}
	}
	p := up(t, t.TempDir())
	p.deploy("ring-a", says("alone"))
	p.deploy("ring-b", next("ring-a"))
	s := p.deploy("ring-a", next("ring-b"))
	for _, path := range []string{"/pass", "/anew"} {
		began := time.Now()
		s.expect(path, 508, "1019")
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s ended after %v", path, took)
		}
		s.expect("/well", 200, "well")
	}
}

// TestWorkerSockets speaks with a Worker over WebSockets, and through one with an origin.
func TestWorkerSockets(t *testing.T) {
	t.Parallel()
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo"}})
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(-1)
		for {
			kind, data, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if c.Write(r.Context(), kind, data) != nil {
				return
			}
		}
	}))
	defer origin.Close()
	p := up(t, t.TempDir(), "--workers-allow", "127.0.0.0/8")
	s := p.deploy("sockets", script{source: `
export default {
	async fetch(request, env) {
		const { pathname } = new URL(request.url);
		if (request.headers.get("Upgrade") !== "websocket") return new Response("no socket", { status: 426 });
		if (pathname === "/proxy") return fetch(env.ORIGIN, request);
		const { 0: client, 1: server } = new WebSocketPair();
		server.accept();
		server.binaryType = "arraybuffer";
		server.addEventListener("message", e => e.data === "bye" ? server.close(4001, "as you wish") : server.send(e.data));
		return new Response(null, { status: 101, webSocket: client });
	},
};`, meta: fmt.Sprintf(`"bindings":[{"type":"plain_text","name":"ORIGIN","text":%q}]`, origin.URL+"/")})
	s.expect("/", 426, "no socket")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, path := range []string{"/echo", "/proxy"} {
		c := s.dial(path)
		c.SetReadLimit(-1)
		for _, size := range []int{0, 1, 125, 65_536, 1_000_000, 8 << 20} {
			for _, kind := range []websocket.MessageType{websocket.MessageText, websocket.MessageBinary} {
				sent := strings.Repeat("x", size)
				wrote := make(chan error, 1)
				go func() { wrote <- c.Write(ctx, kind, []byte(sent)) }()
				got, data, err := c.Read(ctx)
				if err := errors.Join(err, <-wrote); err != nil || got != kind || string(data) != sent {
					t.Fatalf("%s: %d bytes as %v: %d bytes as %v, %v\n%s", path, size, kind, len(data), got, err, p.log)
				}
			}
		}
		if path == "/echo" {
			err := c.Write(ctx, websocket.MessageText, []byte("bye"))
			if _, _, closed := c.Read(ctx); err != nil || websocket.CloseStatus(closed) != 4001 {
				t.Errorf("%s closed with %v %v", path, err, closed)
			}
		}
	}
}

const streamSize = 64 << 20

// TestWorkersStream sends much through a Worker in either direction: neither the node nor the child
// holds it, and what is made slowly arrives as it is made.
func TestWorkersStream(t *testing.T) {
	t.Parallel()
	opened := make(chan struct{}, 1) // the gate of what comes slowly
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/big":
			w.Header().Set("Content-Length", strconv.Itoa(streamSize))
			io.CopyN(w, zeros{}, streamSize)
		case "/slow":
			io.WriteString(w, "first,")
			w.(http.Flusher).Flush()
			fallthrough
		case "/gate":
			select {
			case <-opened:
			case <-r.Context().Done():
			}
			io.WriteString(w, "last")
		}
	}))
	defer origin.Close()
	p := up(t, t.TempDir(), "--workers-allow", "127.0.0.0/8")
	s := p.deploy("streams", script{source: `
export default {
	async fetch(request, env, ctx) {
		const { pathname } = new URL(request.url);
		if (pathname === "/count") {
			let n = 0;
			for await (const chunk of request.body) n += chunk.byteLength;
			return new Response(String(n));
		}
		if (pathname === "/made") {
			const { readable, writable } = new TransformStream();
			ctx.waitUntil((async () => {
				const w = writable.getWriter(), to = new TextEncoder();
				await w.write(to.encode("first,"));
				await w.write(to.encode(await (await fetch(env.ORIGIN + "/gate")).text()));
				await w.close();
			})());
			return new Response(readable);
		}
		return pathname === "/well" ? new Response("well") : fetch(env.ORIGIN + pathname);
	},
};`, meta: fmt.Sprintf(`"bindings":[{"type":"plain_text","name":"ORIGIN","text":%q}]`, origin.URL)})
	s.expect("/well", 200, "well")

	held := watchMemory(t, p)
	a, err := s.do("POST", "/count", io.LimitReader(zeros{}, streamSize))
	if err != nil || a.body != strconv.Itoa(streamSize) {
		t.Errorf("upload: %d %.200q %v", a.status, a.body, err)
	}
	held("an upload")
	held = watchMemory(t, p)
	res := s.open(t.Context(), "/big", nil)
	if n, err := io.Copy(io.Discard, res.Body); err != nil || n != streamSize {
		t.Errorf("response: %d bytes, %v", n, err)
	}
	res.Body.Close()
	held("a response")

	for _, path := range []string{"/slow", "/made"} {
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		res := s.open(ctx, path, nil)
		first := make([]byte, len("first,"))
		if _, err := io.ReadFull(res.Body, first); err != nil || string(first) != "first," {
			t.Errorf("%s: %q %v before the rest was made", path, first, err)
		}
		opened <- struct{}{}
		if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "last" {
			t.Errorf("%s: then %q %v", path, rest, err)
		}
		res.Body.Close()
		cancel()
	}
	for range 5 {
		s.abort(t)
		s.expect("/well", 200, "well")
	}
}

// abort leaves a response and an upload in their middle.
func (s *site) abort(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	res := s.open(ctx, "/big", nil)
	io.CopyN(io.Discard, res.Body, 1<<20)
	cancel()
	res.Body.Close()
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	body := &halting{after: 1 << 20, halt: cancel}
	req, err := http.NewRequestWithContext(ctx, "POST", s.node.Load().HTTP+"/count", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = s.host
	if res, err := s.client.Do(req); err == nil {
		res.Body.Close()
		t.Errorf("an upload that was left had the answer %d", res.StatusCode)
	}
}

// open sends a GET and returns the response as soon as its head is there.
func (s *site) open(ctx context.Context, path string, body io.Reader) *http.Response {
	s.t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", s.node.Load().HTTP+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Host = s.host
	res, err := s.client.Do(req)
	if err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
	return res
}

// zeros is a body without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// halting is a body whose request is left after some bytes.
type halting struct {
	zeros
	after int
	halt  func()
}

func (h *halting) Read(p []byte) (int, error) {
	if h.after -= len(p); h.after < 0 {
		h.halt()
		return 0, context.Canceled
	}
	return h.zeros.Read(p)
}

// watchMemory looks at the memory of a node and its children until the returned function is called,
// which fails the test if the node grew by as much as was streamed, or a child by much more.
func watchMemory(t testing.TB, p *process) (held func(what string)) {
	t.Helper()
	before, most := map[int]int64{p.PID: residentOf(p.PID)}, map[int]int64{}
	for _, c := range childrenOf(t, p.PID) {
		before[c.pid] = residentOf(c.pid)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			for pid := range before {
				most[pid] = max(most[pid], residentOf(pid))
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	return func(what string) {
		t.Helper()
		close(stop)
		<-stopped
		for pid, m := range most {
			if grew := m - before[pid]; grew >= streamSize && pid == p.PID || grew >= 2*streamSize { // V8 frees chunks late
				t.Errorf("%s of %d MB made process %d (the node: %v) grow by %d MB", what, streamSize>>20, pid, pid == p.PID, grew>>20)
			} else {
				t.Logf("%s: process %d (the node: %v) grew by %d MB", what, pid, pid == p.PID, grew>>20)
			}
		}
	}
}

// residentOf returns how many bytes of memory a process has, 0 if there is none.
func residentOf(pid int) int64 {
	f := statFields(pid)
	if len(f) < 22 {
		return 0
	}
	pages, _ := strconv.ParseInt(f[21], 10, 64)
	return pages * int64(os.Getpagesize())
}
