package main

import (
	"fmt"
	"os"
	"path/filepath"

	"selvage/bench/rig"
)

// manyObjects is how many Durable Objects the load goes over in the second half.
const manyObjects = 100

// objects loads a counter that puts its count on disk for each request: on one Durable Object, and
// on many.
func objects(b *bench) error {
	runs, seconds := rig.Number("BENCH_RUNS", 5), rig.Number("BENCH_SECONDS", 3)
	peers, err := b.startCounters()
	for _, p := range peers {
		defer p.program.Stop()
	}
	if err != nil {
		return err
	}
	type load struct{ objects, connections int }
	name := func(l load) string { return fmt.Sprintf("%d objects, %d connections", l.objects, l.connections) }
	measured := map[string][]map[string]float64{}
	cases := []load{{1, 1}, {1, 32}, {manyObjects, 1}, {manyObjects, 32}}
	for i := range runs {
		for _, l := range cases {
			for k := range peers {
				p := peers[(k+i)%len(peers)]
				values, err := b.countersOnce(p, l.objects, l.connections, seconds)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", p.name, name(l), err)
				}
				measured[name(l)+"|"+p.name] = append(measured[name(l)+"|"+p.name], values)
			}
		}
	}
	for _, l := range cases {
		for _, p := range peers {
			all := measured[name(l)+"|"+p.name]
			b.add(rig.Result{Bench: "workers objects", Case: name(l), Peer: p.name, Values: rig.Median(all), Runs: len(all)})
		}
	}
	return nil
}

func (b *bench) countersOnce(p *peer, objects, connections, seconds int) (map[string]float64, error) {
	if _, err := b.wrk(loadCPU, p.addr, p.host, "/0", connections, 1, objects); err != nil {
		return nil, err
	}
	pid := p.program.PID()
	before := rig.CPU(pid)
	got, err := b.wrk(loadCPU, p.addr, p.host, "/0", connections, seconds, objects)
	if err != nil {
		return nil, err
	}
	return map[string]float64{
		"requests/s": float64(got.Requests) / got.Micros * 1e6, "CPU us/request": float64((rig.CPU(pid) - before).Microseconds()) / float64(got.Requests),
		"p50 ms": got.P50 / 1000, "p99 ms": got.P99 / 1000,
	}, nil
}

// startCounters starts a node and workerd alone, both on one CPU, with the same Worker.
func (b *bench) startCounters() ([]*peer, error) {
	s, err := b.startSite(firstCPU)
	if err != nil {
		return nil, err
	}
	peers := []*peer{{name: "selvage", program: s.Program, addr: rig.Addr(s.HTTP), host: s.host("counter")}}
	err = s.deploy("counter", script("counter.js"), map[string]any{
		"bindings":   []any{map[string]any{"type": "durable_object_namespace", "name": "COUNTER", "class_name": "Counter"}},
		"migrations": map[string]any{"new_tag": "v1", "steps": []any{map[string]any{"new_sqlite_classes": []any{"Counter"}}}},
	})
	if err != nil {
		return peers, err
	}
	data, addr := filepath.Join(b.dir, "objects"), fmt.Sprintf("127.0.0.1:%d", rig.FreePort())
	if err := os.Mkdir(data, 0o700); err != nil {
		return peers, err
	}
	program, err := b.startWorkerd(firstCPU, "counter", fmt.Sprintf(`const config :Workerd.Config = (
  services = [
    (name = "counter", worker = (modules = [(name = "index.js", esModule = %q)], compatibilityDate = %q,
      bindings = [(name = "COUNTER", durableObjectNamespace = "Counter")],
      durableObjectNamespaces = [(className = "Counter", uniqueKey = "counter", enableSql = true)],
      durableObjectStorage = (localDisk = "data"))),
    (name = "data", disk = (path = %q, writable = true))
  ],
  sockets = [(name = "http", address = %q, http = (), service = "counter")]
);
`, script("counter.js"), compatibilityDate, data, addr))
	if err != nil {
		return peers, err
	}
	peers = append(peers, &peer{name: plainWorkerd, program: program, addr: addr, host: "counter.test"})
	return peers, program.AwaitPort(addr)
}
