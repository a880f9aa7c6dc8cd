package outbound_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"selvage/edge"
	"selvage/engine/isolate"
	"selvage/product/workers/outbound"
)

// serve is what isolate.Service.Serve is.
type serve func(ctx context.Context, l net.Listener)

// child is a workerd process with one script.
type child struct {
	t      testing.TB
	socket string
	client *http.Client
}

// script is what a child runs.
type script struct {
	source   string
	services map[string]serve // "egress" and "cache" are the script's; others are bound as env.NAME
	wrapped  []string         // names of services that ratelimit bindings wrap
}

// shortDir returns a directory whose path leaves room for the names of sockets.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ob")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// listen serves s at a socket until the test ends.
func listen(t testing.TB, path string, s serve) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { s(ctx, l) })
	t.Cleanup(func() { cancel(); done.Wait() })
}

// start runs a script in the real runtime.
func start(t testing.TB, s script) *child {
	t.Helper()
	runtime, err := isolate.FindRuntime(os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	dir := shortDir(t)
	c := &child{t: t, socket: filepath.Join(dir, "http")}
	for name, f := range s.services {
		listen(t, filepath.Join(dir, name), f)
	}
	files := map[string]string{"main.js": s.source, "ratelimit.js": outbound.RateLimitSource, "c.capnp": s.config(dir)}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(runtime, "serve", "--experimental", filepath.Join(dir, "c.capnp"))
	cmd.Stderr = log{t}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	tr := &http.Transport{DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", c.socket)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	c.client = &http.Client{Transport: tr, Timeout: time.Minute}
	c.wait()
	return c
}

// wait waits until the runtime answers.
func (c *child) wait() {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("unix", c.socket)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(end) {
			c.t.Fatalf("runtime does not start: %v", err)
		}
	}
}

func (s *script) config(dir string) string {
	var services, bindings strings.Builder
	worker := ""
	for name := range s.services {
		fmt.Fprintf(&services, `(name = %q, external = (address = "unix:%s/%s", http = (style = proxy, cfBlobHeader = %q, capnpConnectHost = %q))),`+"\n", name, dir, name, isolate.CFHeader, isolate.RPCHost)
		switch name {
		case "egress":
			worker += `globalOutbound = "egress", `
		case "cache":
			worker += `cacheApiOutbound = "cache", `
		default:
			if !strings.HasPrefix(name, "rl") {
				fmt.Fprintf(&bindings, "(name = %q, service = %q),", name, name)
			}
		}
	}
	for _, name := range s.wrapped {
		fmt.Fprintf(&bindings, `(name = %q, wrapped = (moduleName = "selvage-internal:ratelimit", innerBindings = [(name = "fetcher", service = %q)])),`, strings.ToUpper(name), name)
	}
	return fmt.Sprintf(`using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "internet", network = (allow = [])),
    %s
    (name = "main", worker = (modules = [(name = "main.js", esModule = embed "main.js")], compatibilityDate = "2026-08-01", %s bindings = [%s]))],
  sockets = [(name = "http", address = "unix:%s/http", http = (style = proxy, cfBlobHeader = %q, capnpConnectHost = %q), service = "main")],
  extensions = [(modules = [(name = "selvage-internal:ratelimit", internal = true, esModule = embed "ratelimit.js")])]);
`, services.String(), worker, bindings.String(), dir, isolate.CFHeader, isolate.RPCHost)
}

type log struct{ t testing.TB }

func (l log) Write(p []byte) (int, error) {
	l.t.Logf("runtime: %s", p)
	return len(p), nil
}

// get asks the script for a path.
func (c *child) get(path string, fields ...string) (int, string) {
	c.t.Helper()
	req, err := http.NewRequest("GET", "http://script.test"+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.URL.Opaque = "//script.test" + req.URL.Path // the runtime wants the whole URL
	req.URL.RawQuery = unsafe.Replace(req.URL.RawQuery)
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	res, err := c.client.Do(req)
	if err != nil {
		c.t.Fatalf("GET %s: %v", path, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatalf("GET %s: %v", path, err)
	}
	return res.StatusCode, string(body)
}

// unsafe are the characters in tests' queries that a URL cannot have.
var unsafe = strings.NewReplacer(`"`, "%22", "{", "%7B", "}", "%7D", `\`, "%5C", " ", "%20")

// want checks what the script answers.
func (c *child) want(path, body string) {
	c.t.Helper()
	if status, got := c.get(path); status != 200 || got != body {
		c.t.Errorf("GET %s = %d %q, want %q", path, status, got, body)
	}
}

// names is a resolver that answers from a map.
type names map[string]string

func (n names) Resolve(_ context.Context, host string) ([]netip.Addr, time.Duration, error) {
	if a, err := netip.ParseAddr(n[host]); err == nil {
		return []netip.Addr{a}, time.Minute, nil
	}
	return nil, time.Minute, nil
}

// world is an Outbound whose account "open" may reach this machine.
func world(t testing.TB, edit func(o *outbound.Options), hosts names) *outbound.Outbound {
	t.Helper()
	origins := edge.NewOrigins(edge.OriginOptions{Resolver: hosts})
	t.Cleanup(origins.Close)
	o := outbound.Options{Origins: origins, Allowed: func(account string) []netip.Prefix {
		if account == "open" {
			return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}
		return nil
	}}
	if edit != nil {
		edit(&o)
	}
	return outbound.New(o)
}
