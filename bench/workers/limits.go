package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"selvage/bench/rig"
)

// The neighbour is asked so many times a second, whether it answers or not.
const neighbourRate = 200

// floodCPU is what a request may use where the time to recovery is measured, in milliseconds.
const floodCPU = 50

// limits measures what Workers that loop or flood memory do to a neighbour on another account, and
// how soon they answer again themselves.
func limits(b *bench) error {
	rounds, seconds := rig.Number("BENCH_KILLS", 20), rig.Number("BENCH_SECONDS", 3)
	s, err := b.startSite(bothCPUs)
	if err != nil {
		return err
	}
	defer s.Stop()
	next, err := s.neighbour("Neighbour")
	if err != nil {
		return err
	}
	if err := next.deploy("hello", script("hello.js"), nil); err != nil {
		return err
	}
	for name, more := range map[string]map[string]any{"flood": nil, "short": {"limits": map[string]any{"cpu_ms": floodCPU}}} {
		if err := s.deploy(name, script("floods.js"), more); err != nil {
			return err
		}
	}
	for _, f := range []struct{ name, path string }{
		{"endless loop", "/loop"}, {"heap flood", "/heap"}, {"ArrayBuffer flood", "/buffer"}, {"WASM memory flood", "/wasm"},
		{"new Array(1e9).fill(0)", "/array"}, {"JSON.parse of 80 MB", "/json"}, {"10,000 timers", "/timers"},
	} {
		if !strings.Contains("beside "+f.name, os.Getenv("BENCH_ONLY")) {
			continue
		}
		if err := b.besideFlood(s, next, f.name, f.path, time.Duration(2*seconds)*time.Second); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	for _, f := range []struct{ name, path string }{
		{fmt.Sprintf("endless loop, %d ms CPU allowed", floodCPU), "/loop"}, {"heap flood", "/heap"}, {"ArrayBuffer flood", "/buffer"},
	} {
		if !strings.Contains("recovery "+f.name, os.Getenv("BENCH_ONLY")) {
			continue
		}
		if err := b.recovery(s, f.name, f.path, rounds); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

// besideFlood asks a neighbour at a steady rate, first in peace, then beside a Worker that does the
// same bad thing again and again.
func (b *bench) besideFlood(s, next *site, name, path string, length time.Duration) error {
	if err := next.user.until(next.host("hello"), "/", "Hello World!", time.Millisecond); err != nil {
		return err
	}
	idle := next.paced("hello", length)
	over := make(chan struct{})
	var group sync.WaitGroup
	floods := 0
	group.Go(func() {
		culprit := newUser(s.user.addr)
		culprit.client.Timeout = length
		defer culprit.client.CloseIdleConnections()
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Millisecond):
				culprit.get(s.host("flood"), path) // what it answers is its own business
				floods++
			}
		}
	})
	time.Sleep(200 * time.Millisecond)
	beside := next.paced("hello", length)
	if err := s.sleep("flood"); err != nil { // the last one may have most of its 30 seconds before it
		return err
	}
	close(over)
	group.Wait()
	b.add(rig.Result{Bench: "workers neighbour", Case: name, Peer: "selvage", Runs: len(beside.latencies), Note: beside.first, Values: map[string]float64{
		"idle p50 ms": rig.Quantile(idle.latencies, 0.5), "idle p99 ms": rig.Quantile(idle.latencies, 0.99),
		"p50 ms": rig.Quantile(beside.latencies, 0.5), "p99 ms": rig.Quantile(beside.latencies, 0.99), "max ms": rig.Quantile(beside.latencies, 1),
		"errors": float64(beside.failed + idle.failed), "floods": float64(floods),
	}})
	b.target("Neighbour's p99 ms beside: "+name+"; limit: twice its idle p99", rig.Quantile(beside.latencies, 0.99), 2*rig.Quantile(idle.latencies, 0.99))
	b.target("Neighbour's errors beside: "+name+"; limit: none", float64(beside.failed), 0)
	return nil
}

// paced is what requests at a steady rate came to.
type paced struct {
	latencies []float64 // milliseconds from when each was due
	failed    int
	first     string
}

// paced asks a Worker at neighbourRate. A request that is late counts from when it was due.
func (s *site) paced(name string, length time.Duration) paced {
	var p paced
	var mu sync.Mutex
	var group sync.WaitGroup
	began := time.Now()
	for i := range int(length.Seconds() * neighbourRate) {
		due := began.Add(time.Duration(i) * time.Second / neighbourRate)
		time.Sleep(time.Until(due))
		group.Go(func() {
			err := s.user.want(s.host(name), "/", "Hello World!")
			took := milliseconds(time.Since(due))
			mu.Lock()
			defer mu.Unlock()
			p.latencies = append(p.latencies, took)
			if err != nil {
				if p.failed++; p.first == "" {
					p.first = err.Error()
				}
			}
		})
	}
	group.Wait()
	return p
}

// recovery measures from the answer to a request that was its Worker's end until the Worker answers
// again.
func (b *bench) recovery(s *site, name, path string, rounds int) error {
	var took, ended []float64
	statuses := map[int]bool{}
	for range rounds {
		if err := s.user.until(s.host("short"), "/", "Hello World!", time.Millisecond); err != nil {
			return err
		}
		began := time.Now()
		status, _, err := s.user.get(s.host("short"), path)
		if err != nil {
			return err
		}
		statuses[status] = true
		killed := time.Now()
		if err := s.user.until(s.host("short"), "/", "Hello World!", time.Millisecond); err != nil {
			return err
		}
		took, ended = append(took, milliseconds(time.Since(killed))), append(ended, milliseconds(killed.Sub(began)))
	}
	b.add(rig.Result{Bench: "workers recovery", Case: name, Peer: "selvage", Runs: rounds, Note: fmt.Sprintf("the %s was answered with %v", name, slices.Sorted(maps.Keys(statuses))), Values: map[string]float64{
		"p50 ms": rig.Quantile(took, 0.5), "p99 ms": rig.Quantile(took, 0.99), "until the end p50 ms": rig.Quantile(ended, 0.5),
	}})
	b.target("Recovery p99 ms after: "+name+"; limit: 100 ms", rig.Quantile(took, 0.99), 100)
	return nil
}
