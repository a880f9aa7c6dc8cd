package node_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"selvage/control/cli"
)

// program is the real binary, which every test of this package runs.
var program string

// programVariable tells processes that run a part of a test where the program is.
const programVariable = "NODE_TEST_PROGRAM"

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "selvage-node-test")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		if program = os.Getenv(programVariable); program != "" { // a part of a test that runs in a process of its own
			return m.Run()
		}
		program = filepath.Join(dir, "selvage")
		os.Setenv(programVariable, program)
		args := []string{"build", "-o", program}
		if raceEnabled {
			args = append(args, "-race")
		}
		build := exec.Command("go", append(args, "selvage/cmd/selvage")...)
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build selvage: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// process is a running `selvage up`.
type process struct {
	cli.NodeFile
	t     testing.TB
	dir   string
	token string
	log   *logBuffer
	work  string   // directory to start in; empty for the test's
	env   []string // beside the test's own
	cmd   *exec.Cmd
	ended chan error
}

// logBuffer is a buffer that processes write to while a test reads it.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var freePorts = []string{"--api", "127.0.0.1:0", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--s3", "127.0.0.1:0", "--hyperdrive-postgres", "127.0.0.1:0", "--hyperdrive-mysql", "127.0.0.1:0"}

// up starts a node on dir and waits until it is ready. The test's end kills it if it still runs.
func up(t testing.TB, dir string, args ...string) *process {
	t.Helper()
	before, _ := cli.ReadNodeFile(dir) // of a process that was killed
	p := launch(t, dir, append(append([]string{}, freePorts...), args...)...)
	p.awaitReady(before.PID)
	return p
}

// launch starts a node and does not wait.
func launch(t testing.TB, dir string, args ...string) *process {
	t.Helper()
	p := &process{t: t, dir: dir, log: &logBuffer{}, ended: make(chan error, 1)}
	if err := p.begin(args); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		if n, err := cli.ReadNodeFile(dir); err == nil {
			syscall.Kill(n.PID, syscall.SIGKILL) // a successor that a signal started
		}
		removeRunDir(dir)
		if strings.Contains(p.log.String(), "DATA RACE") {
			t.Errorf("the race detector found:\n%s", p.log)
		}
	})
	return p
}

// removeRunDir removes what a killed node leaves outside of its data: the sockets of its children. The
// next node on the same data would do it.
func removeRunDir(data string) {
	if abs, err := filepath.Abs(data); err == nil {
		data = abs
	}
	sum := sha256.Sum256([]byte(data))
	for _, base := range []string{"/run", os.TempDir()} {
		os.RemoveAll(filepath.Join(base, "selvage-"+hex.EncodeToString(sum[:4])))
	}
}

// begin starts the program.
func (p *process) begin(args []string) error {
	p.cmd = exec.Command(program, append([]string{"up", "--data", p.dir}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.Dir, p.cmd.Env = p.work, append(os.Environ(), p.env...)
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() { p.ended <- p.cmd.Wait() }()
	return nil
}

// awaitReady reads node.json as soon as it is there and of another process than old.
func (p *process) awaitReady(old int) {
	p.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		n, err := cli.ReadNodeFile(p.dir)
		if err == nil && n.PID != old {
			p.NodeFile = n
			break
		}
		if len(p.ended) > 0 || time.Now().After(deadline) {
			p.t.Fatalf("the node did not become ready:\n%s", p.log)
		}
	}
	var err error
	if p.token, err = p.Token(); err != nil {
		p.t.Fatal(err)
	}
}

// stop ends the node with a signal and returns what it ended with.
func (p *process) stop(sig syscall.Signal) error {
	p.cmd.Process.Signal(sig)
	return p.wait()
}

func (p *process) wait() error {
	p.t.Helper()
	select {
	case err := <-p.ended:
		p.ended <- err
		return err
	case <-time.After(45 * time.Second):
		p.t.Fatalf("the node did not end:\n%s", p.log)
		return nil
	}
}

// call makes an API request and decodes its result.
func (p *process) call(method, path, body string, result any) error {
	return callAPI(http.DefaultClient, p.API+path, method, p.token, body, result)
}

func callAPI(c *http.Client, url, method, token, body string, result any) error {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	var e struct {
		Success bool            `json:"success"`
		Result  json.RawMessage `json:"result"`
	}
	if err := json.Unmarshal(data, &e); err != nil || !e.Success {
		return fmt.Errorf("%s %s: status %d: %s", method, url, res.StatusCode, data)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(e.Result, result)
}

// addSite makes a zone whose apex is proxied to an origin on loopback, and returns its ID.
func (p *process) addSite(name string, origin *httptest.Server) string {
	p.t.Helper()
	var z struct{ ID string }
	if err := p.call("POST", "/zones", fmt.Sprintf(`{"name":%q,"account":{"id":%q}}`, name, p.AccountID), &z); err != nil {
		p.t.Fatal(err)
	}
	if err := p.call("POST", "/zones/"+z.ID+"/dns_records", fmt.Sprintf(`{"name":%q,"type":"A","content":"127.0.0.1","proxied":true,"ttl":1}`, name), nil); err != nil {
		p.t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(origin.Listener.Addr().String())
	rule := fmt.Sprintf(`{"rules":[{"expression":"true","action":"route","action_parameters":{"origin":{"port":%s}}}]}`, port)
	if err := p.call("PUT", "/zones/"+z.ID+"/rulesets/phases/http_request_origin/entrypoint", rule, nil); err != nil {
		p.t.Fatal(err)
	}
	return z.ID
}
