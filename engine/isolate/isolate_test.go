package isolate_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"iter"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"selvage/engine/isolate"
	"selvage/engine/isolate/sandbox"
)

func TestMain(m *testing.M) {
	if sandbox.Main() {
		return
	}
	if dir := os.Getenv("SELVAGE_TEST_NODE"); dir != "" {
		beKilled(dir)
	}
	os.Exit(m.Run())
}

// shelf holds code by digest.
type shelf struct {
	mu   sync.Mutex
	code map[string][]byte
}

func (s *shelf) put(code string) string {
	sum := sha256.Sum256([]byte(code))
	digest := hex.EncodeToString(sum[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.code == nil {
		s.code = map[string][]byte{}
	}
	s.code[digest] = []byte(code)
	return digest
}

func (s *shelf) get(_ context.Context, digest string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.code[digest]; ok {
		return b, nil
	}
	return nil, errors.New("no such code")
}

// house is a host that runs, for one test.
type house struct {
	*isolate.Host
	shelf
	t   testing.TB
	dir string
}

func start(t testing.TB, edit func(o *isolate.Options)) *house {
	t.Helper()
	path, err := isolate.FindRuntime(os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "iso") // t.TempDir() is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, dir: dir}
	o := isolate.Options{Runtime: path, RunDir: filepath.Join(dir, "r"), Code: h.get, Spares: -1}
	if edit != nil {
		edit(&o)
	}
	if h.Host, err = isolate.New(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if left, _ := filepath.Glob(filepath.Join(o.RunDir, "n*")); len(left) > 0 {
			t.Errorf("the host left %v", left)
		}
		os.RemoveAll(dir)
	})
	return h
}

// module returns a unit of one module.
func (h *house) module(key, code string) isolate.Unit {
	return isolate.Unit{Key: key, Tenant: "t1", Programs: []isolate.Program{{
		Name: "main", CompatibilityDate: "2026-01-01",
		Modules: []isolate.Module{{Name: "main.js", Type: "esm", Digest: h.put(code)}},
	}}}
}

func request(method, target, body string) *isolate.Request {
	r := &isolate.Request{Method: method, Scheme: "https", Host: "site.test", Target: target, Header: fields("accept", "*/*"), Again: method == "GET"}
	if body != "" {
		r.Body, r.Length = strings.NewReader(body), int64(len(body))
		r.Rewind = func() io.Reader { return strings.NewReader(body) }
	}
	return r
}

func fields(pairs ...string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for i := 0; i < len(pairs); i += 2 {
			if !yield(pairs[i], pairs[i+1]) {
				return
			}
		}
	}
}

// ask fetches and reads all.
func (h *house) ask(key string, r *isolate.Request) (int, string, error) {
	ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer cancel()
	resp, err := h.Fetch(ctx, isolate.Address{Unit: key, Program: "main"}, r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.Status, string(body), err
}

func (h *house) want(key, target, want string) {
	h.t.Helper()
	status, body, err := h.ask(key, request("GET", target, ""))
	if err != nil || status != 200 || body != want {
		h.t.Errorf("GET %s of %s: %d %q %v, want %q", target, key, status, body, err, want)
	}
}

func TestHello(t *testing.T) {
	h := start(t, nil)
	h.Set(h.module("u", `export default { async fetch(request, env, ctx) {
		return new Response([request.method, request.url, request.cf?.country, request.headers.get("cookie"), request.headers.get("host"), await request.text()].join(" "), {headers: {"x-a": "1"}});
	} }`))
	r := request("POST", "/p\"q?x=1", "body")
	r.Host, r.CF = "Site.TEST:443", []byte(`{"country":"Ö"}`)
	r.Header = fields("Cookie", "a=1", "x-selvage-cf", "forged", "Cookie", "b=2", "Connection", "close")
	resp, err := h.Fetch(t.Context(), isolate.Address{Unit: "u", Program: "main"}, r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	want := `POST https://site.test/p%22q?x=1 Ö a=1; b=2 site.test body`
	if string(body) != want || err != nil || resp.Exception || resp.Status != 200 {
		t.Errorf("got %d %q %v exception %v, want %q", resp.Status, body, err, resp.Exception, want)
	}
	if len(resp.Header) != 2 { // content-type, x-a
		t.Errorf("header %v, want two fields", resp.Header)
	}
}

func TestException(t *testing.T) {
	h := start(t, nil)
	h.Set(h.module("u", `export default { fetch() { throw new Error("boom") } }`))
	resp, err := h.Fetch(t.Context(), isolate.Address{Unit: "u", Program: "main"}, request("GET", "/", ""))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if !resp.Exception || resp.Status != 500 {
		t.Errorf("status %d, exception %v; want 500 and an exception", resp.Status, resp.Exception)
	}
}

func TestScriptThatThrowsAtStart(t *testing.T) {
	h := start(t, nil)
	h.Set(h.module("u", "export default {\n  fetch() {} }\nnope();"))
	err := h.Start(t.Context(), "u")
	var stopped *isolate.Stopped
	if !errors.As(err, &stopped) || stopped.Reason != isolate.ReasonStart {
		t.Fatalf("Start() = %v, want a *Stopped", err)
	}
	if want := "Uncaught ReferenceError: nope is not defined\n  at main.js:3:1"; stopped.Detail != want {
		t.Errorf("detail %q, want %q", stopped.Detail, want)
	}
}

func TestWebSocketEcho(t *testing.T) {
	h := start(t, nil)
	h.Set(h.module("u", `export default { fetch(request) {
		const [a, b] = Object.values(new WebSocketPair()); b.accept(); b.addEventListener("message", (m) => b.send("echo " + m.data));
		return new Response(null, {status: 101, webSocket: a});
	} }`))
	r := request("GET", "/", "")
	r.Upgrade = "websocket"
	r.Header = fields("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version", "13")
	resp, err := h.Fetch(t.Context(), isolate.Address{Unit: "u", Program: "main"}, r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Status != 101 || resp.Tunnel == nil {
		t.Fatalf("status %d, tunnel %v", resp.Status, resp.Tunnel)
	}
	defer resp.Tunnel.Close()
	resp.Tunnel.Write([]byte{0x81, 0x82, 0, 0, 0, 0, 'h', 'i'})
	got := make([]byte, 9)
	if _, err := io.ReadFull(resp.Tunnel, got); err != nil || string(got[2:]) != "echo hi" {
		t.Errorf("got %q %v, want the echo", got, err)
	}
}

func TestServicesOfTheNode(t *testing.T) {
	h := start(t, nil)
	u := h.module("u", `export default { async fetch(request, env) { return await env.NODE.fetch("https://there.test/x", request); } }`)
	u.Programs[0].Bindings = []isolate.Binding{{Name: "NODE", Kind: isolate.Fetcher, Service: "node"}}
	u.Services = []isolate.Service{{Name: "node", Serve: func(ctx context.Context, l net.Listener) {
		serveHTTP(ctx, l, func(method, host, target, proto string) string { return method + " " + proto + "://" + host + target })
	}}}
	h.Set(u)
	h.want("u", "/", "GET https://there.test/x")
}
