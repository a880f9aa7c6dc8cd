package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// node is a running `selvage up` with a data folder of its own; the test's end stops it.
type node struct {
	API       string `json:"api"`
	HTTP      string `json:"http"`
	HTTPS     string `json:"https"`
	DNS       string `json:"dns"`
	S3        string `json:"s3"`
	AccountID string `json:"account_id"`
	TokenFile string `json:"token_file"`
	CAFile    string `json:"ca_file"`

	Token string `json:"-"`
	dir   string
	cmd   *exec.Cmd
	log   *bytes.Buffer
}

// startNode runs the program named by SELVAGE_BIN with further arguments after the usual ones.
func startNode(t *testing.T, args ...string) *node {
	t.Helper()
	return startProgram(t, "SELVAGE_BIN", args...)
}

// startRaceNode runs the program that was built with the race detector; a race it finds fails the
// test at its end.
func startRaceNode(t *testing.T, args ...string) *node {
	t.Helper()
	n := startProgram(t, "SELVAGE_RACE_BIN", args...)
	t.Cleanup(func() {
		if strings.Contains(n.log.String(), "DATA RACE") {
			t.Errorf("the race detector found:\n%s", n.log)
		}
	})
	return n
}

func startProgram(t *testing.T, variable string, args ...string) *node {
	t.Helper()
	program := os.Getenv(variable)
	if program == "" {
		t.Fatalf("%s is not set: run these tests with make test-clients", variable)
	}
	n := &node{dir: t.TempDir(), log: new(bytes.Buffer)}
	all := append([]string{"up", "--data", n.dir, "--api", "127.0.0.1:0", "--http", "127.0.0.1:0",
		"--https", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--s3", "127.0.0.1:0", "--hyperdrive-postgres", "127.0.0.1:0", "--hyperdrive-mysql", "127.0.0.1:0"}, args...)
	n.cmd = exec.Command(program, all...)
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.stop(t) })
	n.awaitReady(t)
	return n
}

func (n *node) awaitReady(t *testing.T) {
	t.Helper()
	exited := make(chan struct{})
	go func() { n.cmd.Wait(); close(exited) }()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		data, err := os.ReadFile(filepath.Join(n.dir, "node.json"))
		if err == nil {
			if err := json.Unmarshal(data, n); err != nil {
				t.Fatalf("node.json: %v", err)
			}
			break
		}
		select {
		case <-exited:
			t.Fatalf("selvage up ended before it was ready:\n%s", n.log)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("selvage up was not ready within 30 seconds")
		}
	}
	token, err := os.ReadFile(n.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	n.Token = strings.TrimSpace(string(token))
}

func (n *node) stop(t *testing.T) {
	n.cmd.Process.Signal(syscall.SIGTERM)
	for deadline := time.Now().Add(30 * time.Second); n.cmd.ProcessState == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.cmd.Process.Kill()
			t.Errorf("selvage up did not end within 30 seconds of SIGTERM")
			return
		}
	}
	if code := n.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("selvage up ended with exit code %d:\n%s", code, n.log)
	}
}

// call sends a JSON request to the API and returns the result, failing the test on an error.
func (n *node) call(t *testing.T, method, path string, body any) map[string]any {
	t.Helper()
	status, envelope := n.try(t, method, path, body)
	if status >= 300 || envelope["success"] != true {
		t.Fatalf("%s %s = %d %v", method, path, status, envelope)
	}
	result, _ := envelope["result"].(map[string]any)
	return result
}

func (n *node) try(t *testing.T, method, path string, body any) (int, map[string]any) {
	t.Helper()
	var sent io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		sent = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, n.API+path, sent)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+n.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var envelope map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&envelope); err != nil {
		t.Fatalf("%s %s answered %d with no JSON: %v", method, path, resp.StatusCode, err)
	}
	return resp.StatusCode, envelope
}

// addSite makes a zone whose apex and www are proxied to an origin on loopback, and returns its ID.
func (n *node) addSite(t *testing.T, zone string, originPort int) string {
	t.Helper()
	id := n.call(t, "POST", "/zones", map[string]any{"name": zone, "account": map[string]any{"id": n.AccountID}})["id"].(string)
	for _, name := range []string{zone, "www." + zone} {
		n.call(t, "POST", "/zones/"+id+"/dns_records", map[string]any{"type": "A", "name": name, "content": "127.0.0.1", "proxied": true, "ttl": 1})
	}
	n.originPort(t, id, originPort)
	return id
}

// originPort sends a zone's requests to another port than 80 and 443 with an origin rule.
func (n *node) originPort(t *testing.T, zoneID string, port int) {
	t.Helper()
	n.call(t, "PUT", "/zones/"+zoneID+"/rulesets/phases/http_request_origin/entrypoint", map[string]any{
		"rules": []any{map[string]any{
			"expression": "true", "action": "route",
			"action_parameters": map[string]any{"origin": map[string]any{"port": port}},
		}},
	})
}

// cacheEverything makes every response of a zone eligible for the cache.
func (n *node) cacheEverything(t *testing.T, zoneID string) {
	t.Helper()
	n.call(t, "PUT", "/zones/"+zoneID+"/rulesets/phases/http_request_cache_settings/entrypoint", map[string]any{
		"rules": []any{map[string]any{
			"expression": "true", "action": "set_cache_settings",
			"action_parameters": map[string]any{"cache": true},
		}},
	})
}

// port returns the port of a URL or address of the node.
func port(t *testing.T, address string) string {
	t.Helper()
	if _, rest, ok := strings.Cut(address, "://"); ok {
		address, _, _ = strings.Cut(rest, "/")
	}
	_, p, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// curl runs curl against a host of the node's HTTP or HTTPS listener and returns what it printed.
func (n *node) curl(t *testing.T, base, host, path string, args ...string) string {
	t.Helper()
	scheme, _, _ := strings.Cut(base, "://")
	p := port(t, base)
	all := append([]string{"-sS", "--max-time", "20", "--cacert", n.CAFile,
		"--resolve", host + ":" + p + ":127.0.0.1"}, args...)
	return run(t, nil, "curl", append(all, fmt.Sprintf("%s://%s:%s%s", scheme, host, p, path))...)
}

// run runs a program of somebody else to its end and returns its output; it fails the test when
// the program is missing or fails.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	out, err := try(t, env, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func try(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is not installed: run make test-setup", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// origin serves handler on a loopback port and returns the port.
func origin(t *testing.T, handler http.Handler) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: handler}
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	return ln.Addr().(*net.TCPAddr).Port
}
