// Command dns measures DNS queries over UDP: Selvage and Knot DNS with the same zone, exported from
// the one and loaded into the other.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"selvage/bench/rig"
)

const zone = "bench.test"

func main() {
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "selvage-bench-dns-")
	if err != nil {
		log.Fatal(err)
	}
	err = run(dir)
	os.RemoveAll(dir)
	if err != nil {
		log.Fatal(err)
	}
}

// peer is a name server under test.
type peer struct {
	name string
	addr string
	pid  int
	runs map[string][]map[string]float64 // by case
}

func run(dir string) error {
	records := rig.Number("BENCH_RECORDS", 10000)
	runs, seconds := rig.Number("BENCH_RUNS", 5), rig.Number("BENCH_SECONDS", 3)
	n, err := rig.StartNode("0", filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	defer n.Stop()
	export, err := fill(n, records)
	if err != nil {
		return err
	}
	knot, addr, err := startKnot(dir, export)
	if err != nil {
		return err
	}
	defer knot.Stop()
	peers := []*peer{{name: "selvage", addr: rig.Addr(n.DNS), pid: n.PID()}, {name: "knot", addr: addr, pid: knot.PID()}}
	cases, err := queries(dir, records)
	if err != nil {
		return err
	}
	for range runs {
		for _, c := range cases {
			for _, p := range peers {
				values, err := load(p, c.file, seconds)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", p.name, c.name, err)
				}
				if p.runs == nil {
					p.runs = map[string][]map[string]float64{}
				}
				p.runs[c.name] = append(p.runs[c.name], values)
			}
		}
	}
	var results []rig.Result
	for _, c := range cases {
		for _, p := range peers {
			r := rig.Result{Bench: "dns", Case: c.name, Peer: p.name, Values: rig.Median(p.runs[c.name]), Runs: runs}
			fmt.Printf("%-34s %-8s %8.0f queries/s  %5.2f us CPU a query  RSS %5.1f MB\n", r.Case, r.Peer, r.Values["queries/s"], r.Values["CPU us/query"], r.Values["RSS MB"])
			results = append(results, r)
		}
	}
	return rig.Save(results)
}

// fill makes the zone through the API and returns its export.
func fill(n *rig.Node, records int) (string, error) {
	made, err := n.Call("POST", "/zones", map[string]any{"name": zone, "account": map[string]any{"id": n.AccountID}})
	if err != nil {
		return "", err
	}
	path := "/zones/" + made["id"].(string) + "/dns_records"
	var posts []any
	for i := range records {
		posts = append(posts, map[string]any{"type": "A", "name": host(i), "content": fmt.Sprintf("10.0.%d.%d", i>>8&255, i&255), "ttl": 300})
	}
	if _, err := n.Call("POST", path+"/batch", map[string]any{"posts": posts}); err != nil {
		return "", err
	}
	token, err := os.ReadFile(n.TokenFile)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequest("GET", n.API+path+"/export", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

func host(i int) string { return fmt.Sprintf("host%d.%s", i, zone) }

// startKnot serves the zone with one UDP worker on CPU 0, as Selvage has it.
func startKnot(dir, export string) (*rig.Program, string, error) {
	port := rig.FreePort()
	file, conf := filepath.Join(dir, "zone.txt"), filepath.Join(dir, "knot.conf")
	text := fmt.Sprintf("server:\n  listen: 127.0.0.1@%d\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n  rundir: %s\ndatabase:\n  storage: %s\nlog:\n- target: stderr\n  any: warning\nzone:\n- domain: %s\n  file: %s\n", port, dir, dir, zone, file)
	if err := os.WriteFile(file, []byte(export), 0o600); err != nil {
		return nil, "", err
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, "", err
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	p, err := rig.Start("0", "knotd", "-c", conf)
	if err != nil {
		return nil, "", err
	}
	if err := p.AwaitPort(addr); err != nil {
		p.Stop()
		return nil, "", err
	}
	return p, addr, nil
}

// workload is one case: a file of queries for dnsperf.
type workload struct{ name, file string }

func queries(dir string, records int) ([]workload, error) {
	var hits, misses strings.Builder
	for i := range records {
		// An odd stride goes through all names in no order that memory likes.
		fmt.Fprintf(&hits, "%s A\n", host(i*7919%records))
		fmt.Fprintf(&misses, "none%d.%s A\n", i, zone)
	}
	cases := []workload{
		{fmt.Sprintf("%d names, A, UDP", records), filepath.Join(dir, "hits")},
		{fmt.Sprintf("%d names that do not exist, UDP", records), filepath.Join(dir, "misses")},
	}
	for i, text := range []string{hits.String(), misses.String()} {
		if err := os.WriteFile(cases[i].file, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return cases, nil
}

var (
	perSecond = regexp.MustCompile(`Queries per second:\s+([0-9.]+)`)
	completed = regexp.MustCompile(`Queries completed:\s+([0-9]+)`)
	lost      = regexp.MustCompile(`Queries lost:\s+([0-9]+)`)
	codes     = regexp.MustCompile(`Response codes:\s+(.*)`)
)

// load runs dnsperf against p from CPU 1.
func load(p *peer, file string, seconds int) (map[string]float64, error) {
	server, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		return nil, err
	}
	before := rig.CPU(p.pid)
	out, err := exec.Command("taskset", "-c", "1", "dnsperf", "-s", server, "-p", port, "-d", file, "-l", strconv.Itoa(seconds), "-c", "16", "-e").CombinedOutput()
	used := rig.CPU(p.pid) - before
	if err != nil {
		return nil, fmt.Errorf("dnsperf: %w\n%s", err, out)
	}
	done, rate := figure(completed, out), figure(perSecond, out)
	if done == 0 || figure(lost, out) > done/1000 || strings.Contains(codes.FindString(string(out)), "REFUSED") || strings.Contains(codes.FindString(string(out)), "SERVFAIL") {
		return nil, fmt.Errorf("dnsperf lost queries or got errors:\n%s", out)
	}
	return map[string]float64{
		"queries/s":    rate,
		"CPU us/query": float64(used) / float64(time.Microsecond) / done,
		"CPU busy %":   100 * used.Seconds() / float64(seconds),
		"RSS MB":       float64(rig.RSS(p.pid)) / (1 << 20),
	}, nil
}

func figure(r *regexp.Regexp, out []byte) float64 {
	m := r.FindSubmatch(out)
	if m == nil {
		return 0
	}
	f, _ := strconv.ParseFloat(string(m[1]), 64)
	return f
}
