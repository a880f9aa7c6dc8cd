package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"selvage/bench/rig"
)

// host is the name that every program under test serves.
const host = "bench.test"

// loaded is what a load generator saw.
type loaded struct {
	requests  int
	latencies []float64 // microseconds
}

var (
	totals  = regexp.MustCompile(`requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout`)
	codes   = regexp.MustCompile(`status codes: (\d+) 2xx`)
	traffic = regexp.MustCompile(`\((\d+)\) data`)
)

// load runs h2load: 64 requests under way, over 64 connections in HTTP/1.1, over 8 in HTTP/2.
func load(dir string, p *peer, w workload, length time.Duration) (loaded, error) {
	file := filepath.Join(dir, "latencies")
	os.Remove(file)
	args := []string{"-c", loadCPU, "h2load", "-t1", "-D", fmt.Sprintf("%dms", length.Milliseconds()), "--log-file=" + file}
	addr, scheme := p.plain, "http"
	if w.proto != "h1" {
		addr, scheme = p.secure, "https"
	}
	if w.proto == "h2 TLS" {
		args = append(args, "-c8", "-m8", "--npn-list=h2")
	} else {
		args = append(args, "--h1", "-c64")
	}
	_, port, _ := strings.Cut(addr, ":")
	args = append(args, "--connect-to="+addr, scheme+"://"+host+":"+port+w.path)
	ctx, cancel := context.WithTimeout(context.Background(), length+20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "taskset", args...).CombinedOutput()
	if ctx.Err() != nil {
		log.Printf("%s, %s: h2load did not end, trying again", p.name, w.name)
		return loaded{}, nil
	}
	if err != nil {
		return loaded{}, fmt.Errorf("h2load: %w\n%s", err, out)
	}
	t, c, d := totals.FindSubmatch(out), codes.FindSubmatch(out), traffic.FindSubmatch(out)
	if t == nil || c == nil || d == nil {
		return loaded{}, fmt.Errorf("h2load said:\n%s", out)
	}
	got := loaded{requests: number(t[2])}
	if number(t[3])+number(t[4])+number(t[5]) > 0 || number(c[1]) < got.requests {
		return got, fmt.Errorf("not every request succeeded:\n%s", out)
	}
	if want := got.requests * w.bytes; number(d[1]) < want {
		return got, fmt.Errorf("%d answers of %d bytes are %d bytes, got %d", got.requests, w.bytes, want, number(d[1]))
	}
	got.latencies, err = latencies(file)
	return got, err
}

func number(b []byte) int {
	n, _ := strconv.Atoi(string(b))
	return n
}

// latencies reads h2load's log: start, status and microseconds of each request.
func latencies(file string) ([]float64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []float64
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[1] == "200" {
			us, err := strconv.ParseFloat(fields[2], 64)
			if err != nil {
				return nil, err
			}
			all = append(all, us)
		}
	}
	return all, nil
}

// check asks once for what the load will ask for, and looks whether the answer is right.
func check(p *peer, w workload) error {
	addr, scheme := p.plain, "http"
	if w.proto != "h1" {
		addr, scheme = p.secure, "https"
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: host},
		ForceAttemptHTTP2: w.proto == "h2 TLS",
	}}
	defer client.CloseIdleConnections()
	var status string
	for range 2 { // the first fills the cache
		req, err := http.NewRequest("GET", scheme+"://"+addr+w.path, nil)
		if err != nil {
			return err
		}
		_, port, _ := strings.Cut(addr, ":")
		req.Host = host + ":" + port
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || !bytes.Equal(body, content(w.bytes)) {
			return fmt.Errorf("the answer is wrong: %s, %d bytes, %v\n%.300s", resp.Status, len(body), err, body)
		}
		status = resp.Header.Get(p.statusField)
	}
	if w.hit != (status == "HIT") && p.statusField != "" {
		return fmt.Errorf("%s is %q", p.statusField, status)
	}
	return nil
}

// content is what the origin serves: text that no layer can shrink by accident, for no client here
// accepts an encoding.
func content(size int) []byte {
	line := []byte("Selvage: the edge of a fabric, woven so that it does not fray.\n\n")
	return bytes.Repeat(line, size/len(line)+1)[:size]
}

// startOrigin runs nginx with files of each size on the CPU of the load generator.
func startOrigin(dir string) (int, func(), error) {
	root := filepath.Join(dir, "origin")
	for _, w := range workloads() {
		file := filepath.Join(root, w.path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return 0, nil, err
		}
		if err := os.WriteFile(file, content(w.bytes), 0o644); err != nil {
			return 0, nil, err
		}
	}
	port := rig.FreePort()
	conf := fmt.Sprintf(`%s
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; default_type text/plain;
  open_file_cache max=100 inactive=1h; open_file_cache_valid 1h;
  server {
    listen 127.0.0.1:%d; root %s;
    location /hit/ { add_header Cache-Control "public, max-age=86400"; }
    location /pass/ { add_header Cache-Control "no-store"; }
  }
}`, nginxHead(dir, "origin"), port, root)
	program, err := startNginx(dir, "origin", loadCPU, conf)
	if err != nil {
		return 0, nil, err
	}
	if err := program.AwaitPort(fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
		return 0, nil, err
	}
	return port, program.Stop, nil
}
