package main

import (
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"selvage/bench/rig"
)

// memory measures what 1, 100 and 1,000 Workers hold while all are awake, beside one workerd that
// has as many, and then a node's start with all of them deployed and asleep.
func memory(b *bench) error {
	most := rig.Number("BENCH_WORKERS", 1000)
	counts := slices.DeleteFunc([]int{1, 100, most}, func(n int) bool { return n > most })
	counts = slices.Compact(counts)
	s, err := b.startSite(bothCPUs)
	if err != nil {
		return err
	}
	have := 0
	for _, count := range counts {
		if need := int64(count-have) * (12 << 20); available() < need {
			err = fmt.Errorf("%d Workers awake may need %d MB, %d are free", count, need>>20, available()>>20)
			break
		}
		began := time.Now()
		if err = s.deployMany(have, count); err == nil {
			log.Printf("%d Workers deployed in %.1f s", count-have, time.Since(began).Seconds())
			err = b.awake(s, count)
		}
		if have = count; err != nil {
			break
		}
	}
	s.Stop()
	if err != nil {
		return err
	}
	for _, count := range counts {
		if err := b.staticWorkers(count); err != nil {
			return err
		}
	}
	return b.startAsleep(have)
}

// writers deploy and ask at once.
const writers = 4

// together runs do for from to below to, and returns the first error.
func together(from, to int, do func(i int) error) error {
	var next, failed atomic.Int64
	next.Store(int64(from))
	var first error
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < to && failed.Load() == 0; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil && failed.Add(1) == 1 {
					first = err
				}
			}
		})
	}
	group.Wait()
	return first
}

func one(i int) string { return fmt.Sprintf("w%d", i) }

func (s *site) deployMany(from, to int) error {
	return together(from, to, func(i int) error {
		code, _ := versioned(i)
		return s.deploy(one(i), code, nil)
	})
}

func (s *site) askAll(count int) error {
	return together(0, count, func(i int) error {
		_, answer := versioned(i)
		return s.user.want(s.host(one(i)), "/", answer)
	})
}

// awake asks all Workers twice, so that all have a child, and weighs node and children. On a slow
// machine the first may sleep again before the last has answered: the number of processes says so.
func (b *bench) awake(s *site, count int) error {
	began := time.Now()
	for range 2 {
		if err := s.askAll(count); err != nil {
			return err
		}
	}
	took := time.Since(began)
	children := s.children()
	b.weigh("selvage: node", count, count, 0, s.PID())
	b.weigh("selvage: children", count, min(count, len(children)), took, children...)
	return nil
}

// weigh adds up processes; awake Workers share what they hold.
func (b *bench) weigh(peer string, count, awake int, took time.Duration, pids ...int) {
	m := rig.MemoryOf(pids...)
	mb := func(bytes int64) float64 { return float64(bytes) / (1 << 20) }
	values := map[string]float64{"RSS MB": mb(m.RSS), "PSS MB": mb(m.PSS), "private dirty MB": mb(m.PrivateDirty), "PSS MB/Worker": mb(m.PSS) / float64(awake), "processes": float64(len(pids))}
	if took > 0 {
		values["all asked twice s"] = took.Seconds()
	}
	b.add(rig.Result{Bench: "workers memory", Case: fmt.Sprintf("%d Workers awake", count), Peer: peer, Values: values, Runs: 1})
}

// staticWorkers is one workerd with as many Workers, each of which was asked twice.
func (b *bench) staticWorkers(count int) error {
	var services, sockets strings.Builder
	paths := make([]string, count)
	for i := range count {
		code, _ := versioned(i)
		paths[i] = filepath.Join(b.dir, one(i)+".sock")
		os.Remove(paths[i]) // workerd leaves them
		fmt.Fprintf(&services, "    (name = %q, worker = (modules = [(name = \"index.js\", esModule = %q)], compatibilityDate = %q)),\n", one(i), code, compatibilityDate)
		fmt.Fprintf(&sockets, "    (name = %q, address = %q, http = (), service = %q),\n", one(i), "unix:"+paths[i], one(i))
	}
	began := time.Now()
	p, err := b.startWorkerd(bothCPUs, "static", fmt.Sprintf("const config :Workerd.Config = (\n  services = [\n%s  ],\n  sockets = [\n%s  ]\n);\n", &services, &sockets))
	if err != nil {
		return err
	}
	defer p.Stop()
	for range 2 {
		err := together(0, count, func(i int) error {
			_, answer := versioned(i)
			u := newUnixUser(paths[i])
			defer u.client.CloseIdleConnections()
			return u.until("static.test", "/", answer, 5*time.Millisecond)
		})
		if err != nil {
			return err
		}
	}
	b.weigh("one workerd", count, count, time.Since(began), p.PID())
	return nil
}

// startAsleep starts the node again: with all Workers deployed and nobody asking.
func (b *bench) startAsleep(count int) error {
	s, err := b.startSite(bothCPUs)
	if err != nil {
		return err
	}
	defer s.Stop()
	time.Sleep(time.Second)
	m := rig.MemoryOf(s.PID())
	if err := s.user.until(s.host(one(0)), "/", "version 0", time.Millisecond); err != nil {
		return err
	}
	var took []float64
	for _, i := range rand.Perm(count)[:min(50, count)] {
		time.Sleep(settled)
		_, answer := versioned(i)
		began := time.Now()
		if err := s.user.want(s.host(one(i)), "/", answer); err != nil {
			return err
		}
		took = append(took, milliseconds(time.Since(began)))
	}
	b.add(rig.Result{Bench: "workers start", Case: fmt.Sprintf("%d Workers deployed and asleep", count), Peer: "selvage", Runs: len(took), Values: map[string]float64{
		"ready ms": milliseconds(s.Ready), "RSS MB": float64(m.RSS) / (1 << 20), "private dirty MB": float64(m.PrivateDirty) / (1 << 20),
		"first answer p50 ms": rig.Quantile(took, 0.5), "first answer p99 ms": rig.Quantile(took, 0.99),
	}})
	return nil
}

// available is the memory in bytes that the kernel would give without swapping.
func available() int64 {
	data, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}
