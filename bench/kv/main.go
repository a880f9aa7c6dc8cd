// Command kv measures Workers KV on a node: from a Worker beside miniflare, by REST, and a namespace of a
// million keys beside Redis and etcd. bench/kv/run fetches what it needs and runs it.
package main

import (
	"embed"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"selvage/bench/rig"
)

// serverCPU runs what is measured, loadCPU its load.
const serverCPU, loadCPU = "0", "1"

//go:embed js
var scripts embed.FS

// bench is one run of this program.
type bench struct {
	dir     string
	results []rig.Result
}

func main() {
	log.SetFlags(0)
	only := flag.String("only", "worker,million", "parts to run, with commas between")
	flag.Parse()
	dir, err := os.MkdirTemp("", "bench-kv-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir}
	var failed []error
	for name, part := range map[string]func() error{"worker": b.worker, "million": b.million} {
		if !slices.Contains(strings.Split(*only, ","), name) {
			continue
		}
		if err := part(); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", name, err))
		}
	}
	if err := errors.Join(append(failed, rig.Save(b.results))...); err != nil {
		log.Print(err)
		os.RemoveAll(dir)
		os.Exit(1)
	}
}

// add keeps the median of runs.
func (b *bench) add(title, peer string, runs []map[string]float64) {
	r := rig.Result{Bench: "kv", Case: title, Peer: peer, Values: rig.Median(runs), Runs: len(runs)}
	b.results = append(b.results, r)
	line := fmt.Sprintf("%-42s %-10s", title, peer)
	for _, k := range rig.Keys(r.Values) {
		line += fmt.Sprintf("  %s %.4g", k, r.Values[k])
	}
	log.Print(line)
}

// load calls op with numbers from 0 up on some goroutines for some seconds, and returns the rate and
// quantiles of how long calls took.
func load(clients, seconds int, op func(client, i int) error) (map[string]float64, error) {
	var next atomic.Int64
	var mu sync.Mutex // guards the fields below
	var took []float64
	var failed error
	var all sync.WaitGroup
	began := time.Now()
	until := began.Add(time.Duration(seconds) * time.Second)
	for client := range clients {
		all.Go(func() {
			var mine []float64
			var err error
			for err == nil && time.Now().Before(until) {
				from := time.Now()
				err = op(client, int(next.Add(1)-1))
				mine = append(mine, float64(time.Since(from).Microseconds())/1000)
			}
			mu.Lock()
			defer mu.Unlock()
			took, failed = append(took, mine...), errors.Join(failed, err)
		})
	}
	all.Wait()
	seconds64 := time.Since(began).Seconds()
	return map[string]float64{"per s": float64(len(took)) / seconds64, "p50 ms": rig.Quantile(took, 0.5), "p99 ms": rig.Quantile(took, 0.99)}, failed
}
