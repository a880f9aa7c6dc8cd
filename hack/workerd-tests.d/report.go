package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// differing returns the tests that workerd itself passes and we do not.
func (o *outcome) differing() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(o.bare)) {
		if why, ran := o.ours[name]; o.bare[name] == "" && (!ran || why != "") {
			names = append(names, name)
		}
	}
	return names
}

// count returns how many tests pass here, of those that workerd itself passes.
func (o *outcome) count() (pass, of int) {
	for _, why := range o.bare {
		if why == "" {
			of++
		}
	}
	return of - len(o.differing()), of
}

func report(w io.Writer, revision string, all []*outcome) {
	whole, part, pass, of, skipped := 0, 0, 0, 0, map[string]int{}
	for _, o := range all {
		if o.skip != "" {
			skipped[o.skip]++
			continue
		}
		p, n := o.count()
		pass, of = pass+p, of+n
		if part++; p == n {
			whole++
		}
	}
	fmt.Fprintf(w, "# workerd's own tests\n\n")
	fmt.Fprintf(w, "workerd's tests of its API, run in Selvage's children (sandbox, services of the node, configuration as of any\nWorker) by `hack/workerd-tests PATH`, beside `workerd test` with the same binary and compatibility date (%s).\n", date)
	fmt.Fprintf(w, "A test counts if `workerd test` passes it with that binary: tests of another revision may not.\n\n")
	fmt.Fprintf(w, "Tests: cloudflare/workerd at %s. Run: %s.\n\n", revision, time.Now().UTC().Format(time.DateOnly))
	fmt.Fprintf(w, "| | |\n|---|---:|\n| files | %d |\n| files run both ways | %d |\n| of these, without a difference | %d |\n| tests that `workerd test` passes | %d |\n| of these, pass in Selvage | %d |\n\n", len(all), part, whole, of, pass)
	fmt.Fprintf(w, "## Where Selvage differs\n\n| tests | of these files | why |\n|---:|---|---|\n")
	files, tests := map[string][]string{}, map[string]int{}
	for _, o := range all {
		for _, name := range o.differing() {
			why := o.reason(name)
			if tests[why]++; !slices.Contains(files[why], o.name) {
				files[why] = append(files[why], o.name)
			}
		}
	}
	for _, why := range byCount(tests) {
		fmt.Fprintf(w, "| %d | %s | %s |\n", tests[why], strings.Join(files[why], ", "), why)
	}
	fmt.Fprintf(w, "\n## Files that were not run\n\n| files | they need |\n|---:|---|\n")
	for _, why := range byCount(skipped) {
		fmt.Fprintf(w, "| %d | %s |\n", skipped[why], cell(why))
	}
}

func cell(s string) string { return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s) }

// byCount returns the keys, those with the highest counts first.
func byCount(counts map[string]int) []string {
	return slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(counts[b]-counts[a], strings.Compare(a, b))
	})
}
