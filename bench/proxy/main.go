// Command proxy measures proxying and cache hits of Selvage, nginx and Caddy: the program under
// test alone on CPU 0, origin and load generator on CPU 1, the same work for all, interleaved.
// bench/proxy/run builds what it needs and runs it.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"log"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"selvage/bench/rig"
)

// testCPU runs the program under test and nothing else; loadCPU everything else.
const testCPU, loadCPU = "0", "1"

// workload is what clients ask for.
type workload struct {
	name  string
	path  string
	bytes int
	hit   bool
	proto string // h1, h1 TLS, h2 TLS
}

func workloads() []workload {
	var all []workload
	for _, hit := range []bool{false, true} {
		for _, size := range []struct {
			name  string
			bytes int
		}{{"1 KB", 1 << 10}, {"100 KB", 100 << 10}} {
			for _, proto := range []string{"h1", "h1 TLS", "h2 TLS"} {
				kind, dir := "proxy", "/pass/"
				if hit {
					kind, dir = "hit", "/hit/"
				}
				all = append(all, workload{fmt.Sprintf("%s %s, %s", kind, size.name, proto), dir + strings.ReplaceAll(size.name, " ", ""), size.bytes, hit, proto})
			}
		}
	}
	return all
}

func main() {
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "selvage-bench-proxy-")
	if err != nil {
		log.Fatal(err)
	}
	os.Chmod(dir, 0o755) // nginx's workers run as another user
	err = run(dir)
	os.RemoveAll(dir)
	if err != nil {
		log.Fatal(err)
	}
}

func run(dir string) error {
	runs, seconds := rig.Number("BENCH_RUNS", 5), rig.Number("BENCH_SECONDS", 3)
	originPort, stopOrigin, err := startOrigin(dir)
	if err != nil {
		return err
	}
	defer stopOrigin()
	peers, err := startPeers(dir, originPort)
	for _, p := range peers {
		defer p.program.Stop()
	}
	if err != nil {
		return err
	}
	measured := map[string][]map[string]float64{}
	for i := range runs {
		for _, w := range workloads() {
			if only := os.Getenv("BENCH_ONLY"); only != "" && !strings.Contains(w.name, only) {
				continue
			}
			// Each run begins with another peer, so that none always goes first.
			for k := range peers {
				p := peers[(k+i)%len(peers)]
				if w.hit && !p.caches {
					continue
				}
				values, err := measure(dir, p, w, seconds)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", p.name, w.name, err)
				}
				key := w.name + "|" + p.name
				measured[key] = append(measured[key], values)
				log.Printf("run %d/%d  %-22s %-14s %8.0f req/s  %6.1f CPU us  p50 %5.2f ms  p99 %6.2f ms  RSS %4.0f MB", i+1, runs, w.name, p.name,
					values["requests/s"], values["CPU us/request"], values["p50 ms"], values["p99 ms"], values["RSS MB"])
			}
		}
	}
	var results []rig.Result
	for _, w := range workloads() {
		for _, p := range peers {
			if all := measured[w.name+"|"+p.name]; all != nil {
				results = append(results, rig.Result{Bench: "proxy", Case: w.name, Peer: p.name, Values: rig.Median(all), Runs: len(all)})
			} else if w.hit && !p.caches && os.Getenv("BENCH_ONLY") == "" {
				results = append(results, rig.Result{Bench: "proxy", Case: w.name, Peer: p.name, Note: cmp.Or(p.note, "no cache")})
			}
		}
	}
	for _, p := range peers {
		for _, w := range workloads() {
			r, at := rig.Result{}, slices.IndexFunc(results, func(r rig.Result) bool { return r.Case == w.name && r.Peer == p.name && r.Values != nil })
			if p.admin == "" || w.bytes > 1<<10 || at < 0 {
				continue
			}
			if r, err = profile(dir, p, w, seconds+2, results[at].Values["CPU us/request"]); err != nil {
				return err
			}
			for _, name := range slices.Sorted(maps.Keys(r.Values)) {
				log.Printf("profile  %-22s %-28s %5.1f us", w.name, name, r.Values[name])
			}
			results = append(results, r)
		}
	}
	return rig.Save(results)
}

// measure checks one answer, warms up, then loads the peer for some seconds.
func measure(dir string, p *peer, w workload, seconds int) (map[string]float64, error) {
	if err := check(p, w); err != nil {
		return nil, err
	}
	if _, err := load(dir, p, w, 500*time.Millisecond); err != nil {
		return nil, err
	}
	pid := p.program.PID()
	var got loaded
	var before, cpu, wall time.Duration
	for attempt := 0; got.requests == 0; attempt++ {
		began := time.Now()
		before = rig.CPU(pid)
		var err error
		if got, err = load(dir, p, w, time.Duration(seconds)*time.Second); err != nil {
			return nil, err
		}
		cpu, wall = rig.CPU(pid)-before, time.Since(began)
		if got.requests == 0 && attempt == 2 {
			return nil, errors.New("not one request ended in three loads; is the machine busy with something else?")
		}
	}
	return map[string]float64{
		"requests/s":     float64(got.requests) / float64(seconds),
		"CPU us/request": float64(cpu.Microseconds()) / float64(got.requests),
		"CPU busy %":     100 * cpu.Seconds() / wall.Seconds(),
		"p50 ms":         rig.Quantile(got.latencies, 0.50) / 1000,
		"p99 ms":         rig.Quantile(got.latencies, 0.99) / 1000,
		"RSS MB":         float64(rig.RSS(pid)) / (1 << 20),
	}, nil
}
