package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"selvage/bench/rig"
)

// versioned is a Worker that says which version it is.
func versioned(i int) (code, answer string) {
	answer = fmt.Sprintf("version %d", i)
	return fmt.Sprintf("export default { fetch() { return new Response(%q); } };\n", answer), answer
}

// deployments measures the time from a deployment's start to the first answer of the new version: by
// one PUT of the API, and by `wrangler deploy` with all it does before and after.
func deployments(b *bench) error {
	rounds := rig.Number("BENCH_DEPLOYS", 20)
	s, err := b.startSite(bothCPUs)
	if err != nil {
		return err
	}
	defer s.Stop()
	err = b.deployRounds("one PUT of the API", s, "put", rounds, func(_ int, code string) error { return s.put("put", code, nil) })
	if os.Getenv("WRANGLER") == "" {
		return err
	}
	return errors.Join(err, b.deployRounds("wrangler deploy", s, "wrangler", rounds, func(_ int, code string) error { return b.wrangler(s, "wrangler", code) }))
}

// deployRounds deploys new versions of a Worker, and asks for it all the time meanwhile.
func (b *bench) deployRounds(name string, s *site, worker string, rounds int, deploy func(i int, code string) error) error {
	code, answer := versioned(0)
	if err := s.deploy(worker, code, nil); err != nil {
		return err
	}
	if err := s.user.until(s.host(worker), "/", answer, 10*time.Millisecond); err != nil {
		return err
	}
	var done, seen []float64
	for i := 1; i <= rounds; i++ {
		code, answer := versioned(i)
		began := time.Now()
		first := make(chan error, 1)
		var effect time.Duration
		go func() {
			err := s.user.until(s.host(worker), "/", answer, time.Millisecond)
			effect = time.Since(began)
			first <- err
		}()
		if err := deploy(i, code); err != nil {
			return err
		}
		done = append(done, milliseconds(time.Since(began)))
		if err := <-first; err != nil {
			return err
		}
		seen = append(seen, milliseconds(effect))
	}
	b.add(rig.Result{Bench: "workers deploy", Case: name, Peer: "selvage", Runs: rounds, Values: map[string]float64{
		"first answer p50 ms": rig.Quantile(seen, 0.5), "first answer p99 ms": rig.Quantile(seen, 0.99),
		"done p50 ms": rig.Quantile(done, 0.5), "done p99 ms": rig.Quantile(done, 0.99),
	}})
	return nil
}

// wrangler deploys as a developer does.
func (b *bench) wrangler(s *site, name, code string) error {
	dir := filepath.Join(b.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	config := fmt.Sprintf(`{"name": %q, "main": "index.js", "compatibility_date": %q, "workers_dev": true}`, name, compatibilityDate)
	for file, text := range map[string]string{"wrangler.json": config, "index.js": code} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Getenv("NODE_BIN"), os.Getenv("WRANGLER"), "deploy")
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "CLOUDFLARE_API_BASE_URL=" + s.API, "CLOUDFLARE_API_TOKEN=" + s.Token(), "CLOUDFLARE_ACCOUNT_ID=" + s.account,
		"WRANGLER_SEND_METRICS=false", "WRANGLER_SEND_ERROR_REPORTS=false", "DO_NOT_TRACK=1", "WRANGLER_HIDE_BANNER=true", "WRANGLER_NO_SKILLS_UPDATE_PROMPTS=true",
		"CLOUDFLARE_CF_FETCH_ENABLED=false", "CI=1"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("wrangler deploy: %w\n%s", err, out)
	}
	return nil
}

// switches deploys versions under load and counts what failed: nothing may.
func switches(b *bench) error {
	const connections = 8
	rounds := rig.Number("BENCH_SWITCHES", 50)
	s, err := b.startSite(bothCPUs)
	if err != nil {
		return err
	}
	defer s.Stop()
	code, answer := versioned(0)
	if err := s.deploy("switched", code, nil); err != nil {
		return err
	}
	if err := s.user.until(s.host("switched"), "/", answer, 10*time.Millisecond); err != nil {
		return err
	}
	w := &watcher{s: s}
	var group sync.WaitGroup
	began := time.Now()
	for range connections {
		group.Go(w.watch)
	}
	var took []float64
	for i := 1; i <= rounds && err == nil; i++ {
		code, _ := versioned(i)
		start := time.Now()
		err = s.put("switched", code, nil)
		took = append(took, milliseconds(time.Since(start)))
		w.deployed.Store(int64(i))
	}
	w.over.Store(true)
	group.Wait()
	if err != nil {
		return err
	}
	b.add(rig.Result{Bench: "workers switch", Case: fmt.Sprintf("%d deployments, %d connections", rounds, connections), Peer: "selvage", Runs: rounds, Values: map[string]float64{
		"requests": float64(len(w.latencies)), "failed": float64(w.failed), "old after new": float64(w.back), "requests/s": float64(len(w.latencies)) / time.Since(began).Seconds(),
		"p50 ms": rig.Quantile(w.latencies, 0.5), "p99 ms": rig.Quantile(w.latencies, 0.99), "deployment p50 ms": rig.Quantile(took, 0.5),
	}, Note: w.first})
	b.target("Failed requests, 50 deployments under load; limit: none", float64(w.failed), 0)
	return nil
}

// watcher asks for a Worker while it is deployed again and again.
type watcher struct {
	s        *site
	over     atomic.Bool
	deployed atomic.Int64 // the newest version whose deployment was acknowledged

	mu        sync.Mutex // guards the fields below
	latencies []float64
	failed    int
	back      int    // answers of a version older than one that was acknowledged before the request
	first     string // what failed first
}

func (w *watcher) watch() {
	u := newUser(w.s.user.addr)
	for !w.over.Load() {
		began, oldest := time.Now(), int(w.deployed.Load())
		status, body, err := u.get(w.s.host("switched"), "/")
		took := milliseconds(time.Since(began))
		version := -1
		if err == nil && status == 200 {
			fmt.Sscanf(body, "version %d", &version)
		}
		w.mu.Lock()
		w.latencies = append(w.latencies, took)
		switch {
		case version < 0:
			if w.failed++; w.first == "" {
				w.first = fmt.Sprintf("the first failure was %d, %v, %.100q", status, err, body)
			}
		case version < oldest:
			w.back++
		}
		w.mu.Unlock()
	}
}
