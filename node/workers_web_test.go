package node_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const webSource = `
const page = "<!DOCTYPE html><title>old</title><a href='/x'>link</a>";
export default {
	async fetch(request, env) {
		const url = new URL(request.url), cache = caches.default, key = "http://cache.test/kept";
		switch (url.pathname) {
		case "/none": return new Response(null, { status: 204, headers: { "X-Is": "none" } });
		case "/etag":
			if (request.headers.get("If-None-Match") === '"one"') return new Response(null, { status: 304, headers: { ETag: '"one"' } });
			return new Response("one", { headers: { ETag: '"one"' } });
		case "/cookies":
			const headers = new Headers();
			for (const c of ["a=1; Path=/", "b=2; Expires=Thu, 01 Jan 2037 00:00:00 GMT", "a=3; HttpOnly"]) headers.append("Set-Cookie", c);
			return new Response("cookies", { headers });
		case "/gzip":
			const packed = new Blob(["packed ".repeat(1000)]).stream().pipeThrough(new CompressionStream("gzip"));
			return new Response(packed, { encodeBody: "manual", headers: { "Content-Encoding": "gzip", "Content-Type": "text/plain" } });
		case "/moved": return Response.redirect(url.origin + "/there", 308);
		case "/follow": { const r = await fetch(env.ORIGIN + "/moved"); return Response.json([r.status, r.redirected, await r.text()]); }
		case "/manual": { const r = await fetch(env.ORIGIN + "/moved", { redirect: "manual" }); return Response.json([r.status, r.headers.get("Location")]); }
		case "/rewrite":
			return new HTMLRewriter().on("title", { element(e) { e.setInnerContent("new <title>"); } }).on("a", { element(e) { e.setAttribute("href", "/y"); } })
				.transform(new Response(page, { headers: { "Content-Type": "text/html" } }));
		case "/put": await cache.put(key, new Response("kept", { headers: { "Cache-Control": "max-age=600", ETag: '"k"' } })); return new Response("put");
		case "/match": { const hit = await cache.match(key); return new Response(hit ? "hit " + await hit.text() + hit.headers.get("ETag") : "miss"); }
		case "/delete": return new Response("deleted " + await cache.delete(key));
		case "/digest":
			return new Response(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode("selvage"))).toHex());
		case "/who":
			return Response.json({ ip: request.headers.get("CF-Connecting-IP"), ray: !!request.headers.get("CF-Ray"), cf: typeof request.cf, protocol: request.cf?.httpProtocol });
		case "/method": return new Response(request.method + " " + await request.text() + url.search);
		}
		return new Response("not here", { status: 404 });
	},
};`

// TestWorkersSpeakHTTP looks at what a Worker says in HTTP's special forms, and what it has to say it with.
func TestWorkersSpeakHTTP(t *testing.T) {
	t.Parallel()
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/there", http.StatusFound)
			return
		}
		io.WriteString(w, "there")
	}))
	defer origin.Close()
	p := up(t, t.TempDir(), "--workers-allow", "127.0.0.0/8")
	s := p.deploy("web", script{source: webSource, meta: fmt.Sprintf(`"bindings":[{"type":"plain_text","name":"ORIGIN","text":%q}]`, origin.URL)})
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

	for _, c := range []struct {
		path, text string
		status     int
		fields     []string
	}{
		{"/none", "", 204, nil}, {"/etag", "one", 200, nil}, {"/etag", "", 304, []string{"If-None-Match", `"one"`}}, {"/cookies", "cookies", 200, nil},
		{"/moved", "", 308, nil}, {"/follow", `[200,true,"there"]`, 200, nil}, {"/manual", `[302,"/there"]`, 200, nil},
		{"/rewrite", "<!DOCTYPE html><title>new &lt;title&gt;</title><a href=\"/y\">link</a>", 200, nil},
		{"/match", "miss", 200, nil}, {"/put", "put", 200, nil}, {"/match", `hit kept"k"`, 200, nil}, {"/delete", "deleted true", 200, nil}, {"/match", "miss", 200, nil}, {"/delete", "deleted false", 200, nil},
		{"/digest", "8bec149f98e53c509ee1b898206cdecb93be46986021e2ebdf72dce6bdf275b6", 200, nil},
		{"/who", `{"ip":"127.0.0.1","ray":true,"cf":"object","protocol":"HTTP/1.1"}`, 200, []string{"CF-Connecting-IP", "203.0.113.9"}},
		{"/method?q=%20", "GET ?q=%20", 200, nil}, {"/elsewhere", "not here", 404, nil},
	} {
		a := s.expect(c.path, c.status, c.text, c.fields...)
		if (c.status == 204 || c.status == 304) && (a.body != "" || a.header.Get("Content-Length") > "0") {
			t.Errorf("%s: status %d with a body: %q %v", c.path, c.status, a.body, a.header)
		}
	}
	if a := s.get("/etag", "If-None-Match", `"one"`); a.header.Get("ETag") != `"one"` {
		t.Errorf("304 without its ETag: %v", a.header)
	}
	if got, want := s.get("/cookies").header["Set-Cookie"], []string{"a=1; Path=/", "b=2; Expires=Thu, 01 Jan 2037 00:00:00 GMT", "a=3; HttpOnly"}; !slices.Equal(got, want) {
		t.Errorf("cookies %q, want %q", got, want)
	}
	if got := s.get("/moved").header.Get("Location"); got != "http://"+s.host+"/there" && !strings.HasSuffix(got, "/there") {
		t.Errorf("redirected to %q", got)
	}
	head, err := s.do("HEAD", "/etag", nil)
	if err != nil || head.status != 200 || head.body != "" || head.header.Get("ETag") != `"one"` {
		t.Errorf("HEAD: %+v %v", head, err)
	}
	for _, method := range []string{"PUT", "PATCH", "DELETE", "POST"} {
		if a, err := s.do(method, "/method", strings.NewReader("body")); err != nil || a.body != method+" body" {
			t.Errorf("%s: %+v %v", method, a, err)
		}
	}
	packed := s.get("/gzip", "Accept-Encoding", "gzip")
	r, err := gzip.NewReader(strings.NewReader(packed.body))
	if err != nil || packed.header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("gzip: %v %v %.40q", err, packed.header, packed.body)
	}
	if text, err := io.ReadAll(r); err != nil || string(text) != strings.Repeat("packed ", 1000) {
		t.Errorf("unpacked: %.40q %v", text, err)
	}
}

// TestWorkersAreWatched has another Worker, and the command, see what a Worker did.
func TestWorkersAreWatched(t *testing.T) {
	t.Parallel()
	traces := make(chan string, 100)
	origin := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		select {
		case traces <- string(body):
		default:
		}
	}))
	defer origin.Close()
	p := up(t, t.TempDir(), "--workers-allow", "127.0.0.0/8")
	p.deploy("watcher", script{source: `
export default {
	async tail(events, env) { await fetch(env.ORIGIN, { method: "POST", body: JSON.stringify(events) }); },
	fetch() { return new Response("watching"); },
};`, meta: fmt.Sprintf(`"bindings":[{"type":"plain_text","name":"ORIGIN","text":%q}]`, origin.URL)})
	s := p.deploy("watched", script{source: `
export default { async fetch(request) {
	console.log("asked for", { path: new URL(request.url).pathname });
	if (request.url.endsWith("/throw")) throw new RangeError("the reason");
	return new Response("well");
} };`, meta: `"tail_consumers":[{"service":"watcher"}]`})
	s.expect("/calm", 200, "well")
	s.expect("/throw", 500, "1101")
	awaitText(t, "the tail handler", func() string {
		select {
		case text := <-traces:
			return text
		case <-time.After(50 * time.Millisecond):
			return ""
		}
	}, `"scriptName":"watched"`, "/calm", `"asked for"`, "/throw", `"the reason"`, `"exception"`)

	var out logBuffer
	watch := exec.Command(program, "worker", "logs", "watched", "--json", "--data", p.dir)
	watch.Stdout, watch.Stderr = &out, &out
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	defer watch.Process.Kill()
	awaitText(t, "selvage worker logs", func() string {
		s.expect("/throw", 500, "1101") // events from before it listens are not repeated
		time.Sleep(50 * time.Millisecond)
		return out.String()
	}, `"asked for"`, `"RangeError"`, `"the reason"`, "/throw")
	watch.Process.Signal(syscall.SIGTERM)
	watch.Wait()
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "{") && !json.Valid([]byte(line)) {
			t.Errorf("not a line of JSON: %.300q", line)
		}
	}
}

// TestManyWorkers deploys a hundred scripts on one node.
func TestManyWorkers(t *testing.T) {
	t.Parallel()
	const scripts = 100
	p := up(t, t.TempDir())
	var next atomic.Int64
	sites := make([]*site, scripts)
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for i := next.Add(1) - 1; i < scripts; i = next.Add(1) - 1 {
				name := fmt.Sprint("many-", i)
				if _, err := p.send("PUT", p.AccountID, name, says("I am "+name)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for i := range sites {
		sites[i] = siteOf(t, p, fmt.Sprint("many-", i))
	}
	for range 2 {
		for i, s := range sites {
			if a := s.get("/"); a.status != 200 || a.body != fmt.Sprint("I am many-", i) {
				t.Errorf("%s answers %d %.200q", s.host, a.status, a.body)
			}
		}
	}
}

// awaitText reads until everything was told.
func awaitText(t testing.TB, what string, read func() string, want ...string) {
	t.Helper()
	var all bytes.Buffer
	for deadline := time.Now().Add(15 * time.Second); ; {
		all.WriteString(read())
		missing := slices.DeleteFunc(slices.Clone(want), func(w string) bool { return strings.Contains(all.String(), w) })
		if len(missing) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s does not tell of %q: %.2000s", what, missing, all.String())
			return
		}
	}
}
