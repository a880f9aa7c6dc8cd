package main

import (
	"fmt"
	"slices"
	"strings"

	"selvage/bench/rig"
)

// colours of the programs, told apart without red and green.
var colours = map[string]string{"selvage": "#0b6e99", "nginx": "#b0b7bd", "nginx tuned": "#7d868c", "caddy": "#d9a441",
	"selvage, cache hit": "#8cc1d6", "workerd": "#b0b7bd", "workerd, flags of our children": "#7d868c", "node": "#d9a441", "deno": "#8a6d3b", "bun": "#e8cfa0",
	"Selvage": "#0b6e99", "miniflare": "#b0b7bd", "redis": "#d9a441", "etcd": "#7d868c", "minio": "#d9a441", "versitygw": "#b0b7bd",
	"jetstream": "#d9a441", "PgBouncer": "#d9a441", "PostgreSQL": "#b0b7bd"}

const (
	labelWidth, barsWidth = 250, 480
	barHeight, groupGap   = 13, 12
	top                   = 56
)

// drawing says what a chart shows.
type drawing struct {
	benches []string
	title   string
	values  []string // the first of these that a result has
	apart   bool     // each case has a scale of its own
}

// drawingOf returns what is drawn of the results.
func drawingOf(results []rig.Result) drawing {
	of := func(bench string) bool {
		return slices.ContainsFunc(results, func(r rig.Result) bool { return r.Bench == bench })
	}
	const cpu = "CPU microseconds for each request (shorter is better)"
	storage := []string{"kv", "r2", "d1", "queues", "hyperdrive"}
	switch {
	case of("workers hello"):
		return drawing{benches: []string{"workers hello"}, title: cpu, values: []string{"CPU us/request"}}
	case slices.ContainsFunc(storage, of):
		return drawing{benches: storage, title: "Operations a second, each case on a scale of its own (longer is better)", apart: true,
			values: []string{"transactions/s", "queries/s", "keys/s", "per s"}}
	}
	return drawing{benches: []string{"proxy"}, title: cpu, values: []string{"CPU us/request"}}
}

// value returns what is drawn of a result, if anything.
func (d *drawing) value(r rig.Result) (float64, bool) {
	if !slices.Contains(d.benches, r.Bench) {
		return 0, false
	}
	for _, name := range d.values {
		if v, ok := r.Values[name]; ok {
			return v, true
		}
	}
	return 0, false
}

// chart draws bars, one group for each case that has more than one program.
func chart(results []rig.Result) string {
	d := drawingOf(results)
	var cases, peers []string
	longest, programs := map[string]float64{}, map[string]int{}
	for _, r := range results {
		v, ok := d.value(r)
		if !ok {
			continue
		}
		if !slices.Contains(cases, r.Case) {
			cases = append(cases, r.Case)
		}
		if !slices.Contains(peers, r.Peer) {
			peers = append(peers, r.Peer)
		}
		programs[r.Case]++
		longest[r.Case], longest[""] = max(longest[r.Case], v), max(longest[""], v)
	}
	cases = slices.DeleteFunc(cases, func(c string) bool { return d.apart && programs[c] < 2 })
	var b strings.Builder
	y := top
	for _, c := range cases {
		from := y
		for _, p := range peers {
			i := slices.IndexFunc(results, func(r rig.Result) bool {
				_, ok := d.value(r)
				return ok && r.Case == c && r.Peer == p
			})
			if i < 0 {
				continue
			}
			v, _ := d.value(results[i])
			scale := longest[""]
			if d.apart {
				scale = longest[c]
			}
			width := v / scale * barsWidth
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/><text x="%.1f" y="%d" class="v">%s</text>`+"\n",
				labelWidth, y, width, barHeight-2, colours[p], labelWidth+width+4, y+barHeight-4, digits(v))
			y += barHeight
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" class="c">%s</text>`+"\n", labelWidth-8, (from+y)/2+3, c)
		y += groupGap
	}
	x := 16
	for _, p := range peers {
		fmt.Fprintf(&b, `<rect x="%d" y="32" width="11" height="11" fill="%s"/><text x="%d" y="42">%s</text>`+"\n", x, colours[p], x+16, p)
		x += 28 + 6*len(p)
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">
<style>.c{text-anchor:end}.v{font-size:10px;fill:#555}</style>
<rect width="100%%" height="100%%" fill="#fff"/>
<text x="%d" y="20" font-weight="bold">%s</text>
%s</svg>
`, labelWidth+barsWidth+60, y, 16, d.title, b.String())
}
