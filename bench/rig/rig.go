// Package rig is what the benchmarks share: it runs programs on chosen CPUs, talks to a node's API,
// reads what a process costs, and keeps results.
package rig

import (
	"bytes"
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
	"time"
)

// Program is a running program.
type Program struct {
	cmd    *exec.Cmd
	output bytes.Buffer
	exited chan struct{}
}

// Start runs a program on the CPUs that cpus lists ("0", "1", "0,1").
func Start(cpus, name string, args ...string) (*Program, error) {
	p := &Program{exited: make(chan struct{})}
	p.cmd = exec.Command("taskset", append([]string{"-c", cpus, name}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // nothing outlives a benchmark that is killed
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.cmd.Wait(); close(p.exited) }()
	return p, nil
}

// PID returns the process ID of the program; taskset has become it.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Ended returns what the program wrote if it has ended.
func (p *Program) Ended() (output string, ended bool) {
	select {
	case <-p.exited:
		return p.output.String(), true
	default:
		return "", false
	}
}

// Stop ends the program with SIGTERM and waits for it.
func (p *Program) Stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(30 * time.Second):
		p.cmd.Process.Kill()
		<-p.exited
	}
}

// AwaitPort waits until something accepts connections at addr.
func (p *Program) AwaitPort(addr string) error {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended before it listened:\n%s", p.cmd.Args[3], p.output.String())
		default:
		}
	}
	return fmt.Errorf("%s does not listen on %s", p.cmd.Args[3], addr)
}

// FreePort returns a port of loopback that nothing listens on.
func FreePort() int {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// Node is a running `selvage up`.
type Node struct {
	*Program
	API       string `json:"api"`
	HTTP      string `json:"http"`
	HTTPS     string `json:"https"`
	DNS       string `json:"dns"`
	AccountID string `json:"account_id"`

	S3                 string `json:"s3"`
	HyperdrivePostgres string `json:"hyperdrive_postgres"`

	TokenFile string `json:"token_file"`
	CAFile    string `json:"ca_file"`

	Ready time.Duration // from the start of the process until node.json was there and HTTP answered
	token string
}

// StartNode runs the program that SELVAGE_BIN names, on loopback ports, with its data in dir.
func StartNode(cpus, dir string, args ...string) (*Node, error) {
	bin := os.Getenv("SELVAGE_BIN")
	if bin == "" {
		return nil, fmt.Errorf("SELVAGE_BIN has to name the program; bench/run sets it")
	}
	began := time.Now()
	p, err := Start(cpus, bin, append([]string{"up", "--data", dir, "--api", "127.0.0.1:0", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0",
		"--dns", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--s3", "127.0.0.1:0", "--hyperdrive-postgres", "127.0.0.1:0", "--hyperdrive-mysql", "127.0.0.1:0"}, args...)...)
	if err != nil {
		return nil, err
	}
	n := &Node{Program: p}
	file := filepath.Join(dir, "node.json")
	for {
		data, err := os.ReadFile(file)
		if err == nil && json.Unmarshal(data, n) == nil {
			break
		}
		select {
		case <-p.exited:
			return nil, fmt.Errorf("selvage up ended before it was ready:\n%s", p.output.String())
		case <-time.After(time.Millisecond):
		}
		if time.Since(began) > 30*time.Second {
			p.Stop()
			return nil, fmt.Errorf("selvage up was not ready within 30 seconds:\n%s", p.output.String())
		}
	}
	if err := p.AwaitPort(Addr(n.HTTP)); err != nil {
		return nil, err
	}
	n.Ready = time.Since(began)
	token, err := os.ReadFile(n.TokenFile)
	n.token = strings.TrimSpace(string(token))
	return n, err
}

// Token returns the token that the node made for its first user.
func (n *Node) Token() string { return n.token }

// Addr returns host:port of a URL, or of what is one already.
func Addr(url string) string {
	if _, rest, ok := strings.Cut(url, "://"); ok {
		url, _, _ = strings.Cut(rest, "/")
	}
	return url
}

// Call sends a request to the API and returns the result.
func (n *Node) Call(method, path string, body any) (map[string]any, error) {
	var sent io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(data)
	}
	return n.Send(method, path, "application/json", sent)
}

// Send is Call with a body of any type.
func (n *Node) Send(method, path, contentType string, body io.Reader) (map[string]any, error) {
	req, err := http.NewRequest(method, n.API+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+n.token)
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var envelope struct {
		Success bool            `json:"success"`
		Errors  json.RawMessage `json:"errors"`
		Result  json.RawMessage `json:"result"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&envelope); err != nil {
		return nil, fmt.Errorf("%s %s: %d: %w", method, path, resp.StatusCode, err)
	}
	if !envelope.Success {
		return nil, fmt.Errorf("%s %s: %d: %s", method, path, resp.StatusCode, envelope.Errors)
	}
	var result map[string]any
	json.Unmarshal(envelope.Result, &result) // lists stay nil, nobody here reads one
	return result, nil
}

// AddSite makes a zone whose apex is proxied to port of loopback in plain HTTP, with everything
// below /hit/ eligible for the cache, and returns the zone's ID.
func (n *Node) AddSite(name string, port int) (string, error) {
	zone, err := n.Call("POST", "/zones", map[string]any{"name": name, "account": map[string]any{"id": n.AccountID}})
	if err != nil {
		return "", err
	}
	id := zone["id"].(string)
	phase := func(name, expression, action string, parameters map[string]any) map[string]any {
		return map[string]any{"rules": []any{map[string]any{"expression": expression, "action": action, "action_parameters": parameters}}}
	}
	for _, step := range []struct {
		method, path string
		body         any
	}{
		{"POST", "/dns_records", map[string]any{"type": "A", "name": name, "content": "127.0.0.1", "proxied": true, "ttl": 1}},
		{"PATCH", "/settings/ssl", map[string]any{"value": "flexible"}},
		{"PUT", "/rulesets/phases/http_request_origin/entrypoint", phase("http_request_origin", "true", "route",
			map[string]any{"origin": map[string]any{"port": port}})},
		{"PUT", "/rulesets/phases/http_request_cache_settings/entrypoint", phase("http_request_cache_settings",
			`starts_with(http.request.uri.path, "/hit/")`, "set_cache_settings", map[string]any{"cache": true})},
	} {
		if _, err := n.Call(step.method, "/zones/"+id+step.path, step.body); err != nil {
			return "", err
		}
	}
	return id, nil
}
