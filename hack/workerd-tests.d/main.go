// Workerd-tests runs the tests that workerd has of its own API (its .wd-test files) in the children of
// engine/isolate, and beside that with `workerd test`, and says where they differ.
package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed" // for the driver
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"selvage/edge"
	"selvage/engine/isolate"
	"selvage/engine/isolate/sandbox"
	"selvage/product/cache"
	"selvage/product/workers/outbound"
)

//go:embed driver.js
var driver string

// date is the compatibility date of scripts that name none, in both runs.
const date = "2026-11-01"

// patience is how long a test, or a file under workerd itself, may take.
const patience = 40 * time.Second

// stage is what tests run on.
type stage struct {
	runtime string
	host    *isolate.Host
	out     *outbound.Outbound
	caller  outbound.Caller

	mu   sync.Mutex
	code map[string][]byte
}

// results are what came of tests, by "service:export": empty is a pass.
type results map[string]string

// outcome is what came of one file.
type outcome struct {
	name  string
	skip  string // why it was not run here
	notes []string
	bare  results
	ours  results
}

func main() {
	if sandbox.Main() {
		return
	}
	only := flag.String("only", "", "run files whose name has this in it")
	verbose := flag.Bool("v", false, "print the errors of tests that differ")
	flag.Parse()
	if flag.NArg() != 2 {
		log.Fatal("usage: workerd-tests PATH REVISION")
	}
	outcomes, err := run(flag.Arg(0), *only, *verbose)
	if err != nil {
		log.Fatal(err)
	}
	report(os.Stdout, flag.Arg(1), outcomes)
}

func run(root, only string, verbose bool) ([]*outcome, error) {
	files, err := find(root, only)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "wdt")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(context.Background())
	s, wait, err := open(ctx, dir)
	if err != nil {
		cancel()
		return nil, err
	}
	defer wait()
	defer cancel()
	var all []*outcome
	for i, path := range files {
		o := s.file(ctx, path, filepath.Join(dir, "o"), fmt.Sprint(i))
		o.name, _ = filepath.Rel(filepath.Join(root, "src/workerd/api"), path)
		all = append(all, o)
		pass, of := o.count()
		fmt.Fprintf(os.Stderr, "%d/%d %s: %d of %d %s\n", i+1, len(files), o.name, pass, of, o.skip)
		if verbose {
			for _, name := range o.differing() {
				fmt.Fprintf(os.Stderr, "    %s: %s\n", name, o.ours[name])
			}
		}
	}
	return all, nil
}

func find(root, only string) ([]string, error) {
	var files []string
	for _, sub := range []string{"tests", "node/tests"} {
		found, err := filepath.Glob(filepath.Join(root, "src/workerd/api", sub, "*.wd-test"))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	files = slices.DeleteFunc(files, func(f string) bool { return !strings.Contains(f, only) })
	if len(files) == 0 {
		return nil, errors.New("no .wd-test files there; PATH has to be a checkout of cloudflare/workerd")
	}
	return files, nil
}

// open starts a host, and what scripts reach through it.
func open(ctx context.Context, dir string) (*stage, func(), error) {
	s := &stage{code: map[string][]byte{}, caller: outbound.Caller{AccountID: tenant, Script: "test", Worker: "test.example"}}
	var err error
	if s.runtime, err = isolate.FindRuntime(os.Environ()); err != nil {
		return nil, nil, err
	}
	kept, err := cache.New(cache.Options{})
	if err != nil {
		return nil, nil, err
	}
	s.out = outbound.New(outbound.Options{Origins: edge.NewOrigins(edge.OriginOptions{}), Cache: kept.API()})
	walls := sandbox.Probe(ctx)
	if missing := walls.Missing(); missing != "" {
		fmt.Fprintln(os.Stderr, "without the walls", missing)
	}
	if s.host, err = isolate.New(isolate.Options{Runtime: s.runtime, RunDir: filepath.Join(dir, "r"), Code: s.get, Walls: walls}); err != nil {
		return nil, nil, err
	}
	var done sync.WaitGroup
	done.Go(func() { kept.Run(ctx) })
	done.Go(func() { s.host.Run(ctx) })
	return s, done.Wait, nil
}

// file runs one file both ways.
func (s *stage) file(ctx context.Context, path, objects, key string) *outcome {
	o := &outcome{}
	m := &maker{stage: s}
	var err error
	if m.config, err = readConfig(path); err == nil {
		err = m.make(key, filepath.Join(objects, key))
	}
	if err != nil {
		o.skip = err.Error()
		return o
	}
	o.notes = m.notes
	slices.Sort(o.notes)
	o.notes = slices.Compact(o.notes)
	if o.bare, err = s.bare(ctx, path, objects); err != nil {
		o.skip = err.Error()
		return o
	}
	for name := range o.bare {
		if service, _, _ := strings.Cut(name, ":"); slices.Contains(m.tails, service) {
			delete(o.bare, name)
		}
	}
	s.host.Set(m.unit)
	defer s.host.Drop(key)
	o.ours = s.ours(ctx, key, m.workers)
	return o
}

var verdict = regexp.MustCompile(`\[ (PASS|FAIL) \] (.+) \([0-9.]+[^)]*\)$`)

// bare runs the file with the runtime's own test command.
func (s *stage) bare(ctx context.Context, path, scratch string) (results, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	tmp, err := os.MkdirTemp(filepath.Dir(scratch), "b")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	cmd := exec.CommandContext(ctx, s.runtime, "test", "--predictable", "--experimental", "--compat-date="+date, "-dTEST_TMPDIR="+tmp, path)
	cmd.Dir = filepath.Dir(path)
	said, _ := cmd.CombinedOutput()
	out := results{}
	for lines := bufio.NewScanner(bytes.NewReader(said)); lines.Scan(); {
		if v := verdict.FindStringSubmatch(lines.Text()); v != nil {
			if out[v[2]] = ""; v[1] == "FAIL" {
				out[v[2]] = "failed"
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("workerd itself does not run it: %s", lastLine(said))
	}
	return out, nil
}

func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	slices.Reverse(lines)
	for _, l := range lines {
		if !strings.HasPrefix(l, "stack:") && l != "" {
			return l[:min(len(l), 160)]
		}
	}
	return "it says nothing"
}

// ours runs the tests of all Workers of a unit.
func (s *stage) ours(ctx context.Context, unit string, workers []string) results {
	out := results{}
	for _, w := range workers {
		var names []string
		if err := s.ask(ctx, unit, w, "", &names); err != nil {
			out[w+":"] = err.Error()
			continue
		}
		for _, name := range names {
			key := w
			if name != "default" {
				key += ":" + name
			}
			var failed string
			if err := s.ask(ctx, unit, w, name, &failed); err != nil {
				failed = err.Error()
			}
			out[key] = failed
		}
	}
	return out
}

func (s *stage) ask(ctx context.Context, unit, worker, test string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := s.host.Fetch(ctx, isolate.Address{Unit: unit, Program: worker, Entrypoint: tests}, &isolate.Request{
		Method: "GET", Scheme: "http", Host: "test.example", Target: "/?" + url.PathEscape(test), Header: func(func(string, string) bool) {},
	})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.Exception || resp.Status != 200 {
		return fmt.Errorf("the driver did not answer, but %d: %.200s", resp.Status, body)
	}
	return json.Unmarshal(body, into)
}
