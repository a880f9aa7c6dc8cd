package main

import (
	"fmt"
	"slices"
	"strings"

	"selvage/bench/rig"
)

// colours of the programs, told apart without red and green.
var colours = map[string]string{"selvage": "#0b6e99", "nginx": "#b0b7bd", "nginx tuned": "#7d868c", "caddy": "#d9a441",
	"selvage, cache hit": "#8cc1d6", "workerd": "#b0b7bd", "workerd, flags of our children": "#7d868c", "node": "#d9a441", "deno": "#8a6d3b", "bun": "#e8cfa0"}

const (
	labelWidth, barsWidth = 190, 480
	barHeight, groupGap   = 13, 12
	top                   = 56
)

// charted returns the benchmark that the chart is of.
func charted(results []rig.Result) string {
	if slices.ContainsFunc(results, func(r rig.Result) bool { return r.Bench == "workers hello" }) {
		return "workers hello"
	}
	return "proxy"
}

// chart draws the CPU time for each request as bars, one group for each case.
func chart(results []rig.Result) string {
	var cases, peers []string
	longest, bench := 0.0, charted(results)
	for _, r := range results {
		if r.Bench != bench || r.Values == nil {
			continue
		}
		if !slices.Contains(cases, r.Case) {
			cases = append(cases, r.Case)
		}
		if !slices.Contains(peers, r.Peer) {
			peers = append(peers, r.Peer)
		}
		longest = max(longest, r.Values["CPU us/request"])
	}
	var b strings.Builder
	y := top
	for _, c := range cases {
		from := y
		for _, p := range peers {
			i := slices.IndexFunc(results, func(r rig.Result) bool { return r.Bench == bench && r.Case == c && r.Peer == p && r.Values != nil })
			if i < 0 {
				continue
			}
			v := results[i].Values["CPU us/request"]
			width := v / longest * barsWidth
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
<text x="%d" y="20" font-weight="bold">CPU microseconds for each request (shorter is better)</text>
%s</svg>
`, labelWidth+barsWidth+60, y, labelWidth, b.String())
}
