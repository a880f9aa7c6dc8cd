package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"selvage/bench/rig"
)

// hello loads every server of hello worlds: on one CPU with wrk on the other, and on both CPUs with
// wrk among them.
func hello(b *bench) error {
	return errors.Join(b.helloOn("one CPU", firstCPU, loadCPU), b.helloOn("two CPUs", bothCPUs, bothCPUs))
}

func (b *bench) helloOn(place, cpus, load string) error {
	runs, seconds := rig.Number("BENCH_RUNS", 5), rig.Number("BENCH_SECONDS", 3)
	if err := os.RemoveAll(filepath.Join(b.dir, "data")); err != nil { // of the node of the place before
		return err
	}
	peers, err := b.startHellos(cpus)
	for _, p := range peers {
		if p.name != edgeAlone { // it is a node that is among the peers already
			defer p.program.Stop()
		}
	}
	if err != nil {
		return err
	}
	measured := map[string][]map[string]float64{}
	for i := range runs {
		for _, connections := range loads {
			for k := range peers {
				p := peers[(k+i)%len(peers)] // each run begins with another peer
				values, err := b.helloOnce(p, load, connections, seconds)
				if err != nil {
					return fmt.Errorf("%s, %s, %d connections: %w", p.name, place, connections, err)
				}
				log.Printf("run %d/%d  %-8s %3d connections  %-30s %8.0f req/s  %6.1f CPU us  p50 %6.2f ms  p99 %6.2f ms", i+1, runs, place, connections, p.name,
					values["requests/s"], values["CPU us/request"], values["p50 ms"], values["p99 ms"])
				key := helloCase(connections, place) + "|" + p.name
				measured[key] = append(measured[key], values)
			}
		}
	}
	medians := map[string]map[string]float64{}
	for _, connections := range loads {
		for _, p := range peers {
			name := helloCase(connections, place)
			all := measured[name+"|"+p.name]
			medians[name+"|"+p.name] = rig.Median(all)
			b.results = append(b.results, rig.Result{Bench: "workers hello", Case: name, Peer: p.name, Values: rig.Median(all), Runs: len(all)})
		}
	}
	if !chosen("selvage") {
		return nil
	}
	if chosen("workerd") {
		b.helloTargets(place, medians)
	}
	if cpus == firstCPU {
		return b.helloProfile(peers[0], load, seconds+2, medians[helloCase(32, place)+"|selvage"]["CPU us/request"])
	}
	return nil
}

// loads are the numbers of connections.
var loads = []int{1, 32, 256}

func helloCase(connections int, place string) string {
	return fmt.Sprintf("%d connections, %s", connections, place)
}

func (b *bench) helloOnce(p *peer, load string, connections, seconds int) (map[string]float64, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if _, err := b.wrk(load, p.addr, p.host, p.path, connections, 1, 1); err != nil { // warms up
		return nil, err
	}
	pid := p.program.PID()
	began, before, own := time.Now(), rig.CPU(pid), rig.OwnCPU(pid)
	got, err := b.wrk(load, p.addr, p.host, p.path, connections, seconds, 1)
	if err != nil {
		return nil, err
	}
	cpu, own, wall := rig.CPU(pid)-before, rig.OwnCPU(pid)-own, time.Since(began)
	values := map[string]float64{
		"requests/s":     float64(got.Requests) / got.Micros * 1e6,
		"CPU us/request": float64(cpu.Microseconds()) / float64(got.Requests),
		"CPU busy %":     100 * cpu.Seconds() / wall.Seconds(),
		"p50 ms":         got.P50 / 1000,
		"p99 ms":         got.P99 / 1000,
		"RSS MB":         float64(rig.RSS(pid)) / (1 << 20),
	}
	if p.admin != "" {
		values["of it node us"] = float64(own.Microseconds()) / float64(got.Requests)
	}
	return values, nil
}

// helloTargets compares with what was aimed at.
func (b *bench) helloTargets(place string, medians map[string]map[string]float64) {
	of := func(connections int, name, value string) float64 {
		return medians[helloCase(connections, place)+"|"+name][value]
	}
	if place == "two CPUs" {
		b.target("Requests/s, 32 connections, two CPUs; limit: at least 1.6 of one bare workerd", of(32, "selvage", "requests/s"), 1.6*of(32, plainWorkerd, "requests/s"))
		return
	}
	for _, connections := range loads {
		sum := of(connections, plainWorkerd, "CPU us/request") + of(connections, edgeAlone, "CPU us/request")
		b.target(fmt.Sprintf("CPU us/request, %d connections; limit: 1.2 of bare workerd + edge alone", connections), of(connections, "selvage", "CPU us/request"), 1.2*sum)
		sum += of(connections, tunedWorkerd, "CPU us/request") - of(connections, plainWorkerd, "CPU us/request")
		b.target(fmt.Sprintf("The same beside workerd with our flags, %d connections", connections), of(connections, "selvage", "CPU us/request"), 1.2*sum)
	}
	b.target("p99 ms, 32 connections, one CPU; limit: a fifth of bare workerd's", of(32, "selvage", "p99 ms"), of(32, plainWorkerd, "p99 ms")/5)
	b.target("p99 ms, 32 connections, one CPU; limit: a fifth of 110 ms", of(32, "selvage", "p99 ms"), 22)
}

// parts says what the node's own samples are counted as; the children are not in its profile.
var parts = []rig.Part{
	{Name: "garbage collection", Words: []string{"runtime.gcBgMarkWorker", "runtime.gcAssistAlloc", "runtime.bgsweep", "runtime.gcStart", "runtime.deductSweepCredit"}},
	{Name: "access log", Words: []string{"selvage/node.(*accessLog)", "selvage/edge.accessEvent", "selvage/edge.(*Server).observeRequest"}},
	{Name: "system calls to the child", Words: []string{"selvage/engine/isolate+syscall."}},
	{Name: "system calls to client", Words: []string{"syscall.write", "syscall.read", "syscall.sendfile", "syscall.Read", "syscall.Write"}},
	{Name: "scheduler, timers, contexts", Words: []string{"runtime.schedule", "runtime.findRunnable", "runtime.mcall", "runtime.goready", "runtime.netpoll", "runtime.sysmon", "runtime.chansend", "runtime.selectgo", " time.", "context."}},
	{Name: "engine: request to the child", Words: []string{"selvage/engine/isolate"}},
	{Name: "product/workers", Words: []string{"selvage/product/workers"}},
	{Name: "edge and phases", Words: []string{"selvage/"}},
	{Name: "net/http to client", Words: []string{"net/http."}},
}

// helloProfile tells where the node's CPU time goes, in microseconds a request.
func (b *bench) helloProfile(p *peer, load string, seconds int, perRequest float64) error {
	pid := p.program.PID()
	before, own := rig.CPU(pid), rig.OwnCPU(pid)
	shares, err := rig.Profile(b.dir, p.admin, seconds, parts, func() error {
		_, err := b.wrk(load, p.addr, p.host, p.path, 32, seconds+2, 1)
		return err
	})
	if err != nil {
		return err
	}
	node := perRequest * (rig.OwnCPU(pid) - own).Seconds() / (rig.CPU(pid) - before).Seconds()
	r := rig.Result{Bench: "workers profile", Case: helloCase(32, "one CPU"), Peer: "selvage", Values: map[string]float64{"child": perRequest - node}, Runs: 1}
	for name, share := range shares {
		r.Values[name] = node * share
	}
	b.add(r)
	return nil
}
