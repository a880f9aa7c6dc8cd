// Command workers measures Workers on a node: a hello world through the whole edge beside workerd,
// Node.js, Deno and Bun, deployments, cold starts, memory, limits and Durable Objects.
// bench/workers/run fetches what it needs and runs it.
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

	"selvage/bench/rig"
)

// firstCPU runs what is measured alone, loadCPU its load; bothCPUs run all that has no CPU of its own.
const firstCPU, loadCPU, bothCPUs = "0", "1", "0,1"

//go:embed js
var scripts embed.FS

// script returns a file of js.
func script(name string) string {
	data, err := scripts.ReadFile("js/" + name)
	if err != nil {
		panic(err) // a name in this program is wrong
	}
	return string(data)
}

// bench is one run of this program.
type bench struct {
	dir     string
	node    *rig.Program // started last
	results []rig.Result
	targets []rig.Result
}

func main() {
	log.SetFlags(0)
	parts := []struct {
		name string
		run  func(*bench) error
	}{
		{"hello", hello}, {"deploy", deployments}, {"switch", switches}, {"cold", coldStarts},
		{"limits", limits}, {"objects", objects}, {"memory", memory},
	}
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	only := flag.String("only", strings.Join(names, ","), "parts to run, with commas between")
	flag.Parse()
	chosen := strings.Split(*only, ",")
	for _, c := range chosen {
		if !slices.Contains(names, c) {
			log.Fatalf("there is no part %q; there are %s", c, strings.Join(names, ", "))
		}
	}
	b := &bench{}
	var failed []error
	for _, p := range parts {
		if !slices.Contains(chosen, p.name) {
			continue
		}
		log.Printf("--- %s", p.name)
		if err := b.part(p.run); err != nil {
			log.Printf("%s: %v", p.name, err)
			failed = append(failed, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	for _, t := range b.targets {
		log.Printf("target  %-70s measured %10.4g  limit %10.4g", t.Case, t.Values["measured"], t.Values["limit"])
	}
	if err := errors.Join(append(failed, rig.Save(append(b.targets, b.results...)))...); err != nil {
		log.Fatal(err)
	}
}

// part runs one part in a folder of its own. What it measured before it failed counts.
func (b *bench) part(run func(*bench) error) error {
	dir, err := os.MkdirTemp("", "selvage-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b.dir, b.node = dir, nil
	err = run(b)
	if err == nil || b.node == nil {
		return err
	}
	if output, ended := b.node.Ended(); ended {
		err = fmt.Errorf("%w; the node said:\n%s", err, output[max(0, len(output)-8<<10):])
	}
	return err
}

// add keeps a result and says it.
func (b *bench) add(r rig.Result) {
	line := fmt.Sprintf("%-46s %-24s", r.Case, r.Peer)
	for _, name := range rig.Keys(r.Values) {
		line += fmt.Sprintf("  %s %.4g", name, r.Values[name])
	}
	log.Print(line)
	b.results = append(b.results, r)
}

// target keeps what was measured of something that has a limit set.
func (b *bench) target(what string, measured, limit float64) {
	b.targets = append(b.targets, rig.Result{Bench: "workers targets", Case: what, Peer: "selvage", Values: map[string]float64{"measured": measured, "limit": limit}, Runs: 1})
}
