package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"selvage/bench/rig"
)

// peer is a server of hello worlds.
type peer struct {
	name       string
	program    *rig.Program
	addr       string
	host, path string
	body       string
	admin      string // where Selvage can be profiled; empty for others
}

// childFlags are the V8 flags that the node gives its children; see engine/isolate.
const childFlags = `"--max-heap-size=128", "--max-semi-space-size=2"`

// startWorkerd serves scripts by workerd alone, on consecutive ports from the one returned.
func (b *bench) startWorkerd(cpus, name, config string) (*rig.Program, error) {
	file := filepath.Join(b.dir, name+".capnp")
	if err := os.WriteFile(file, []byte("using Workerd = import \"/workerd/workerd.capnp\";\n"+config), 0o600); err != nil {
		return nil, err
	}
	return rig.Start(cpus, os.Getenv("WORKERD_BIN"), "serve", file)
}

// workerdHello is the configuration of a hello world at addr.
func workerdHello(addr, flags string) string {
	return fmt.Sprintf(`const config :Workerd.Config = (
  v8Flags = [%s],
  services = [(name = "hello", worker = (modules = [(name = "index.js", esModule = %q)], compatibilityDate = %q))],
  sockets = [(name = "http", address = %q, http = (), service = "hello")]
);
`, flags, script("hello.js"), compatibilityDate, addr)
}

// startHellos starts every server of hello worlds. What it started comes back even with an error.
func (b *bench) startHellos(cpus string) ([]*peer, error) {
	var peers []*peer
	for _, start := range []func(string) ([]*peer, error){b.helloSelvage, b.helloWorkerd, b.helloRuntimes} {
		got, err := start(cpus)
		peers = append(peers, got...)
		if err != nil {
			return peers, err
		}
	}
	for _, p := range peers {
		if err := p.program.AwaitPort(p.addr); err != nil {
			return peers, err
		}
	}
	return peers, nil
}

// chosen tells whether a server is to be measured.
func chosen(name string) bool {
	only := os.Getenv("BENCH_PEERS")
	return only == "" || slices.Contains(strings.Split(only, ","), name)
}

// edgeAlone is the name of the node's answers without a Worker: what its hop costs.
const edgeAlone = "selvage, cache hit"

// helloSelvage is a node with a Worker on a route of a zone. The same zone has a page in the cache.
func (b *bench) helloSelvage(cpus string) ([]*peer, error) {
	if !chosen("selvage") {
		return nil, nil
	}
	const zone = "bench.test"
	admin := fmt.Sprintf("127.0.0.1:%d", rig.FreePort())
	s, err := b.startSite(cpus, "--pprof", "--admin", admin)
	if err != nil {
		return nil, err
	}
	peers := []*peer{{name: "selvage", path: "/hello/", body: "Hello World!", admin: admin}, {name: edgeAlone, path: "/hit/page", body: page}}
	for _, p := range peers {
		p.program, p.addr, p.host = s.Program, rig.Addr(s.HTTP), zone
	}
	port, err := startOrigin()
	if err != nil {
		return peers, err
	}
	id, err := s.AddSite(zone, port)
	if err != nil {
		return peers, err
	}
	if err := s.put("hello", script("hello.js"), nil); err != nil {
		return peers, err
	}
	_, err = s.Call("POST", "/zones/"+id+"/workers/routes", map[string]any{"pattern": zone + "/hello/*", "script": "hello"})
	return peers, err
}

// page is what the origin serves: 1 KB.
var page = strings.Repeat("Selvage: the edge of a fabric, woven so that it does not fray.\n\n", 16)

// startOrigin serves page on loopback as long as this program runs.
func startOrigin() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=86400")
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprint(w, page)
	}))
	return ln.Addr().(*net.TCPAddr).Port, nil
}

const (
	plainWorkerd = "workerd"
	tunedWorkerd = "workerd, flags of our children"
)

func (b *bench) helloWorkerd(cpus string) ([]*peer, error) {
	var peers []*peer
	for i, c := range []struct{ name, flags string }{{plainWorkerd, ""}, {tunedWorkerd, childFlags}} {
		if !chosen("workerd") {
			continue
		}
		addr := fmt.Sprintf("127.0.0.1:%d", rig.FreePort())
		program, err := b.startWorkerd(cpus, fmt.Sprintf("hello%d", i), workerdHello(addr, c.flags))
		if err != nil {
			return peers, err
		}
		peers = append(peers, &peer{name: c.name, program: program, addr: addr, host: "bench.test", path: "/", body: "Hello World!"})
	}
	return peers, nil
}

// helloRuntimes are Node.js, Deno and Bun as one starts them: one process, no access log.
func (b *bench) helloRuntimes(cpus string) ([]*peer, error) {
	var peers []*peer
	for _, c := range []struct {
		name, bin, file string
		args            []string
	}{
		{"node", "NODE_BIN", "hello-node.mjs", nil},
		{"deno", "DENO_BIN", "hello-deno.js", []string{"run", "--no-config", "--allow-net", "--allow-env=PORT"}},
		{"bun", "BUN_BIN", "hello-bun.js", nil},
	} {
		bin := os.Getenv(c.bin)
		if bin == "" || !chosen(c.name) {
			continue
		}
		file := filepath.Join(b.dir, c.file)
		if err := os.WriteFile(file, []byte(script(c.file)), 0o600); err != nil {
			return peers, err
		}
		port := rig.FreePort()
		program, err := rig.Start(cpus, "env", append([]string{fmt.Sprintf("PORT=%d", port), "DENO_NO_UPDATE_CHECK=1", bin}, append(c.args, file)...)...)
		if err != nil {
			return peers, err
		}
		peers = append(peers, &peer{name: c.name, program: program, addr: fmt.Sprintf("127.0.0.1:%d", port), host: "bench.test", path: "/", body: "Hello World!"})
	}
	return peers, nil
}

// check asks once for what the load will ask for.
func (p *peer) check() error {
	u := newUser(p.addr)
	u.client.Timeout = 10 * time.Second
	defer u.client.CloseIdleConnections()
	return u.want(p.host, p.path, p.body)
}
