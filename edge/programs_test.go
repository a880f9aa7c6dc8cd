package edge_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"selvage/edge"
)

// These tests put programs that nobody here wrote before and behind the edge: nginx, Node and
// Python as origins; curl, wrk and h2load as clients.

// program starts a server and waits until it listens at port.
func program(t *testing.T, port string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s is needed for this test (hack/packages.txt): %v", name, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			cmd.Process.Kill()
			<-done
		}
	})
	for range 500 {
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			c.Close()
			return
		}
		select {
		case err := <-done:
			done <- err
			t.Fatalf("%s ended: %v\n%s", name, err, out.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatalf("%s does not listen", name)
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

const pageText = "<h1>hello from the origin</h1>"

func startNginx(t *testing.T) edge.Target {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	os.Chmod(dir, 0o755)
	write(t, dir, "index.html", pageText)
	write(t, dir, "big.txt", strings.Repeat("0123456789abcdef", 64<<10))
	conf := write(t, dir, "nginx.conf", fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr crit; worker_rlimit_nofile 1024;
events { worker_connections 256; }
http { access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
  gzip on; gzip_types text/plain; gzip_min_length 1;
  server { listen 127.0.0.1:%[2]s; root %[1]s; } }`, dir, port))
	program(t, port, "nginx", "-c", conf, "-p", dir)
	return targetOf(t, "http://127.0.0.1:"+port)
}

func startNode(t *testing.T) edge.Target {
	t.Helper()
	port := freePort(t)
	script := write(t, t.TempDir(), "origin.js", `
const http = require('http');
http.createServer((req, res) => {
  let n = 0;
  req.on('data', d => n += d.length);
  req.on('end', () => {
    if (req.url === '/events') {
      res.writeHead(200, {'Content-Type': 'text/event-stream'});
      let i = 0;
      const timer = setInterval(() => { res.write('data: ' + i + '\n\n'); if (++i === 3) { clearInterval(timer); res.end(); } }, 20);
      return;
    }
    res.writeEarlyHints({link: '</a.css>; rel=preload'}, () => {
      res.end(JSON.stringify({method: req.method, url: req.url, host: req.headers.host, bytes: n, proto: req.headers['x-forwarded-proto'], ip: req.headers['cf-connecting-ip']}));
    });
  });
}).listen(`+port+`, '127.0.0.1');`)
	program(t, port, "node", script)
	return targetOf(t, "http://127.0.0.1:"+port)
}

func startPython(t *testing.T) edge.Target {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	write(t, dir, "index.html", pageText)
	program(t, port, "python3", "-m", "http.server", port, "--bind", "127.0.0.1", "--directory", dir)
	return targetOf(t, "http://127.0.0.1:"+port)
}

// curl runs curl against the front, as if names led there, and returns what it printed.
func curl(t *testing.T, f *front, args ...string) string {
	t.Helper()
	_, plain, _ := net.SplitHostPort(f.plain)
	_, secure, _ := net.SplitHostPort(f.secure)
	args = append([]string{"-sS", "-k", "--max-time", "20", "--connect-to", "example.com:80:127.0.0.1:" + plain, "--connect-to", "example.com:443:127.0.0.1:" + secure}, args...)
	out, err := exec.Command("curl", args...).CombinedOutput()
	if err != nil {
		t.Errorf("curl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestRealOriginsAndCurl(t *testing.T) {
	upload := write(t, t.TempDir(), "upload", strings.Repeat("u", 1<<20))
	for name, startOrigin := range map[string]func(*testing.T) edge.Target{"nginx": startNginx, "node": startNode, "python": startPython} {
		t.Run(name, func(t *testing.T) {
			f := start(t, edge.ServerOptions{Handler: edge.Compress(proxyTo(t, edge.OriginOptions{}, startOrigin(t)))})
			for _, version := range []string{"--http1.0", "--http1.1", "--http2"} {
				for _, url := range []string{"http://example.com/", "https://example.com/"} {
					option := version
					if version == "--http2" && strings.HasPrefix(url, "http:") {
						option = "--http2-prior-knowledge"
					}
					out := curl(t, f, option, "-i", "--compressed", url)
					want := pageText
					if name == "node" {
						want = `"host":"example.com","bytes":0,"proto":"` + strings.TrimSuffix(url, "://example.com/") + `","ip":"127.0.0.1"`
					}
					if !strings.Contains(out, want) || !strings.Contains(strings.ToLower(out), "cf-ray: ") {
						t.Errorf("%s %s: %s", version, url, out)
					}
				}
			}
			switch name {
			case "node":
				for _, version := range []string{"--http1.1", "--http2"} {
					if out := curl(t, f, version, "-T", upload, "https://example.com/put"); !strings.Contains(out, `"method":"PUT","url":"/put","host":"example.com","bytes":1048576`) {
						t.Errorf("upload: %s", out)
					}
					if out := curl(t, f, version, "-N", "https://example.com/events"); out != "data: 0\n\ndata: 1\n\ndata: 2\n\n" {
						t.Errorf("events: %q", out)
					}
				}
			case "nginx":
				if out := curl(t, f, "--http2", "--compressed", "https://example.com/big.txt"); len(out) != 1<<20 {
					t.Errorf("big file has %d bytes", len(out))
				}
				if out := curl(t, f, "-r", "10-13", "https://example.com/big.txt"); out != "abcd" {
					t.Errorf("range: %q", out)
				}
			}
		})
	}
}

func TestNoErrorUnderLoad(t *testing.T) {
	target := startNginx(t)
	f := start(t, edge.ServerOptions{Handler: edge.Compress(proxyTo(t, edge.OriginOptions{}, target))})
	for _, tt := range []struct{ name, scheme, addr string }{{"h1", "http", f.plain}, {"h1 tls", "https", f.secure}, {"h2 tls", "https", f.secure}} {
		args := []string{"-n", "3500", "-c", "8", "-m", "8", tt.scheme + "://" + tt.addr + "/"}
		if strings.HasPrefix(tt.name, "h1") {
			args = append([]string{"--h1"}, args...)
		}
		out := run(t, "h2load", args...)
		if !strings.Contains(out, "3500 succeeded, 0 failed, 0 errored, 0 timeout") || !strings.Contains(out, "3500 2xx") {
			t.Errorf("%s: %s", tt.name, out)
		}
	}
	out := run(t, "wrk", "-t1", "-c16", "-d2s", "http://"+f.plain+"/")
	if strings.Contains(out, "Socket errors") || strings.Contains(out, "Non-2xx") || !regexp.MustCompile(`\d+ requests in`).MatchString(out) {
		t.Errorf("wrk: %s", out)
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s (hack/packages.txt): %v\n%s", name, err, out)
	}
	return string(out)
}
