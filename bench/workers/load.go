package main

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
	"strconv"
	"time"
)

// loaded is what wrk saw. Its latencies are corrected for requests that waited for slow ones before
// they were sent.
type loaded struct {
	Requests int     `json:"requests"`
	Micros   float64 `json:"us"`
	Failed   int     `json:"failed"`
	P50      float64 `json:"p50"` // microseconds
	P99      float64 `json:"p99"`
}

// wrk loads addr from one thread on cpus for whole seconds, over paths /0 to /objects-1 if there is
// more than one.
func (b *bench) wrk(cpus, addr, host, path string, connections, seconds, objects int) (loaded, error) {
	report := filepath.Join(b.dir, "report.lua")
	if err := os.WriteFile(report, []byte(script("report.lua")), 0o600); err != nil {
		return loaded{}, err
	}
	cmd := exec.Command("taskset", "-c", cpus, "wrk", "-t1", "-c"+strconv.Itoa(connections), "-d"+strconv.Itoa(seconds)+"s", "--timeout=10s",
		"-H", "Host: "+host, "-s", report, "http://"+addr+path)
	cmd.Env = append(os.Environ(), "OBJECTS="+strconv.Itoa(objects))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return loaded{}, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	var got loaded
	_, line, _ := bytes.Cut(out, []byte("RESULT "))
	if err := json.Unmarshal(line, &got); err != nil {
		return loaded{}, fmt.Errorf("wrk said:\n%s", out)
	}
	if got.Failed > 0 || got.Requests == 0 {
		return got, fmt.Errorf("not every request succeeded:\n%s", out)
	}
	return got, nil
}

// user asks a server for pages of one host, over kept connections.
type user struct {
	client *http.Client
	addr   string
}

func newUser(addr string) *user {
	return &user{addr: addr, client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}}
}

// newUnixUser asks a server at a unix socket.
func newUnixUser(socket string) *user {
	u := newUser("unix")
	u.client.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return u
}

// get returns status and body of a page.
func (u *user) get(host, path string) (int, string, error) {
	req, err := http.NewRequest("GET", "http://"+u.addr+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = host
	resp, err := u.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// want asks for a page and fails unless it is what it should be.
func (u *user) want(host, path, body string) error {
	status, got, err := u.get(host, path)
	if err != nil {
		return err
	}
	if status != 200 || got != body {
		return fmt.Errorf("%s%s answers %d, %.200q instead of %q", host, path, status, got, body)
	}
	return nil
}

// until asks for a page until it is what it should be, or for 20 seconds; pause lies between.
func (u *user) until(host, path, body string, pause time.Duration) error {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(pause) {
		if err := u.want(host, path, body); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
