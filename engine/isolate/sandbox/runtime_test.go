package sandbox_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"selvage/engine/isolate/sandbox"
)

const script = `
import { DurableObject } from "cloudflare:workers";
import crypto from "node:crypto";
import wasm from "./add.wasm";
export class Counter extends DurableObject {
  fetch() {
    const sql = this.ctx.storage.sql;
    sql.exec("create table if not exists t(n)");
    sql.exec("insert into t values(1)");
    return new Response("rows " + sql.exec("select count(*) c from t").one().c);
  }
}
export default { async fetch(request, env) {
  switch (new URL(request.url).pathname) {
  case "/objects": return env.C.get(env.C.idFromName("a")).fetch(request);
  case "/wasm": return new Response("sum " + new WebAssembly.Instance(wasm).exports.add(2, 3));
  case "/node": return new Response("digest " + crypto.createHash("sha256").update(crypto.randomBytes(8)).digest("hex").length);
  case "/timer": await new Promise((f) => setTimeout(f, 5)); return new Response("waited");
  case "/date": return new Response(new Date(0).toString());
  case "/buffers": try { const all = []; for (;;) all.push(new Uint8Array(1 << 24).fill(1)); } catch (e) { return new Response(e.name); }
  case "/heap": { const all = []; for (;;) all.push(new Array(1000).fill({})); }
  }
  return new Response("hello");
} };`

const settings = `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [ (name = "main", worker = .main), (name = "objects", disk = (path = "OBJECTS", writable = true)), (name = "internet", network = (allow = [])) ],
  sockets = [ (name = "http", http = (), service = "main") ],
);
const main :Workerd.Worker = (
  modules = [ (name = "main.js", esModule = embed "main.js"), (name = "add.wasm", wasm = embed "add.wasm") ],
  compatibilityDate = "2026-01-01", compatibilityFlags = ["nodejs_compat"],
  durableObjectNamespaces = [ (className = "Counter", uniqueKey = "0123456789abcdef0123456789abcdef", enableSql = true) ],
  durableObjectStorage = (localDisk = "objects"), bindings = [ (name = "C", durableObjectNamespace = "Counter") ],
);`

// add is a WebAssembly module with one function, add(i32, i32).
var add = []byte("\x00asm\x01\x00\x00\x00\x01\x07\x01\x60\x02\x7f\x7f\x01\x7f\x03\x02\x01\x00\x07\x07\x01\x03add\x00\x00\x0a\x09\x01\x07\x00\x20\x00\x20\x01\x6a\x0b")

func runtimePath() string {
	if path := os.Getenv("SELVAGE_WORKERD"); path != "" {
		return path
	}
	return "../../../bin/workerd" // where make engines puts it
}

// served is a runtime that answers behind walls.
type served struct {
	client *http.Client
	ended  chan error
	stderr *bytes.Buffer
}

// serve starts the real runtime behind walls, with a socket as file descriptor 3.
func serve(t *testing.T, walls sandbox.Report, memory int64) *served {
	t.Helper()
	runtime := runtimePath()
	dir := shortDir(t)
	spec := sandbox.Spec{Runtime: runtime, RunDir: filepath.Join(dir, "run"), Objects: filepath.Join(dir, "objects"), Tenant: "tenant", Walls: walls, MemoryBytes: memory}
	for _, d := range []string{spec.RunDir, spec.Objects} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	run, objects := spec.Paths()
	for name, content := range map[string]string{"main.js": script, "add.wasm": string(add), "config.capnp": strings.Replace(settings, "OBJECTS", objects, 1)} {
		if err := os.WriteFile(filepath.Join(spec.RunDir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	defer l.Close()
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	spec.ExtraFiles = []*os.File{file}
	spec.Args = []string{"serve", "--socket-fd", "http=3", filepath.Join(run, "config.capnp")}
	ctx, cancel := context.WithCancel(t.Context())
	cmd, err := sandbox.Command(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	s := &served{ended: make(chan error, 1), stderr: &bytes.Buffer{}}
	cmd.Stderr = s.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { s.ended <- cmd.Wait(); sandbox.Release(cmd); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	s.client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	return s
}

func (s *served) get(path string) (string, error) {
	answer, err := s.client.Get("http://worker.test" + path)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return string(body), err
}

func (s *served) want(t *testing.T, path, want string) {
	t.Helper()
	got, err := s.get(path)
	if err != nil {
		var status error
		select {
		case status = <-s.ended:
			t.Fatalf("GET %s: %v; the runtime ended: %v: %s", path, err, status, s.stderr.String())
		default:
			t.Fatalf("GET %s: %v", path, err)
		}
	}
	if got != want {
		t.Errorf("GET %s = %q, want %q", path, got, want)
	}
}

// hello sees the runtime do what it must behind walls.
func hello(t *testing.T, walls sandbox.Report) {
	t.Helper()
	s := serve(t, walls, 0)
	s.want(t, "/", "hello")
	s.want(t, "/objects", "rows 1")
	s.want(t, "/wasm", "sum 5")
}

func TestRuntimeServes(t *testing.T) {
	s := serve(t, need(t), 256<<20)
	for path, want := range map[string]string{
		"/": "hello", "/objects": "rows 1", "/wasm": "sum 5", "/node": "digest 64", "/timer": "waited",
		"/date": "Thu Jan 01 1970 00:00:00 GMT+0000 (Coordinated Universal Time)",
	} {
		s.want(t, path, want)
	}
	// The limit of memory is felt by the script, not by the process.
	s.want(t, "/buffers", "RangeError")
	s.want(t, "/", "hello")
}

// A runtime that runs out of memory must end and say so, although it is the first process of its
// namespace, which signals of its own do not end.
func TestRuntimeEndsOutOfMemory(t *testing.T) {
	s := serve(t, need(t), 256<<20)
	s.want(t, "/", "hello")
	if got, err := s.get("/heap"); err == nil {
		t.Errorf("GET /heap = %q", got)
	}
	err := <-s.ended
	said := s.stderr.String()
	if err == nil || !strings.Contains(said, "out of memory") && !strings.Contains(said, "allocation failed") {
		t.Errorf("it ended: %v, and said %s", err, said)
	}
	s.ended <- err
}
