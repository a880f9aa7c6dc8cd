// Command report makes a page of Markdown and a chart of what the benchmarks measured.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"selvage/bench/rig"
)

// titles are the sections of the page, in order.
var titles = []struct{ bench, title, about string }{
	{"proxy", "Proxy and cache", "The program under test alone on CPU 0; origin (nginx) and h2load on CPU 1; 64 requests under way; medians. " +
		"CPU is user and system time of the whole process tree for each completed request. Where CPU busy is well under 100 % the load generator was the limit, and requests/s says little: compare CPU."},
	{"profile", "Where Selvage's CPU time goes", "Microseconds for each request, from a CPU profile of one more load, by what the stack of a sample contains."},
	{"effect", "From the API's answer to the effect", "One client, one change after the other. Answer: until the API answered, on disk by then. Effect: from the answer until the new state was seen."},
	{"start", "Start and idle", "Ready: from exec until node.json was written and HTTP accepted."},
	{"dns", "DNS", "The program under test alone on CPU 0, dnsperf on CPU 1, the same zone."},
	{"workers targets", "What was aimed at", "What was measured, and the limit that the project had set itself before."},
	{"workers hello", "Hello world", "A Worker on a route of a zone, through the whole edge in plain HTTP/1.1, beside workerd alone and other runtimes as one starts them (one process; they keep no access log, Selvage does). " +
		"One CPU: the server alone on CPU 0, wrk on CPU 1. Two CPUs: server and wrk share both. wrk's latencies are corrected for requests held up by slow ones. Cache hit: the same node answers 1 KB from its cache, the edge's cost without a Worker."},
	{"workers profile", "Where the CPU time of a hello world goes", "Microseconds for each request: the child's by its process, the node's from a CPU profile of one more load."},
	{"workers deploy", "From a deployment to the first answer", "A client asks all the time. First answer: from the start of the command or call until an answer of the new version was there. Done: until the command or call ended."},
	{"workers switch", "Deployments under load", "One deployment after the other by the API. Old after new: answers of a version older than one whose deployment had been acknowledged before the request."},
	{"workers cold", "Cold starts", "First answers of Workers without a child, over a connection that was open. Every Worker has a child of its own."},
	{"workers neighbour", "A neighbour's misbehaviour", "A hello world of one account gets 200 requests a second, due at fixed times, while a Worker of another account does what the case says again and again; before that in peace (idle). Both CPUs, and the client among them."},
	{"workers recovery", "Recovery", "From the answer to the request that was the end of a child until the same Worker answers again."},
	{"workers objects", "Durable Objects", "A counter: each request reads and writes its count, which is on disk before the answer. Server on CPU 0, wrk on CPU 1."},
	{"workers memory", "Memory", "Workers that were all asked twice just before. PSS counts pages shared by processes in parts; the runtime's binary is shared by all children."},
	{"kv", "Workers KV", "From a Worker: the same Worker here and under miniflare, puts on disk before the answer here. A million keys: by the REST API here, beside Redis with appendfsync always and etcd with their own clients."},
	{"r2", "R2 by S3", "minio-go against one server after the other, each on CPU 0 with an empty disk, the load on CPU 1. Selvage and MinIO sync before they answer a put, versitygw does not."},
	{"d1", "D1", "The same Worker here and under miniflare, one statement after the other; a run() is on disk before the answer."},
	{"queues", "Queues", "The engine of Queues beside JetStream (one replica, sync always), both in one process, in turns; every message is on disk before its send returns."},
	{"hyperdrive targets", "Hyperdrive: what was aimed at", "What was measured, and the limit that the project had set itself before."},
	{"hyperdrive", "Hyperdrive", "pgbench, pool and database share both CPUs. CPU is the pool's for each transaction. Debian's PgBouncer cannot pool prepared statements in transaction mode."},
	{"workers start", "A node with many Workers", "Start with all deployed and none awake; then first answers of Workers picked at random."},
}

func main() {
	log.SetFlags(0)
	in := flag.String("in", "", "results, one JSON line each")
	out := flag.String("out", "", "path of the page without .md; the chart lies beside it")
	commit := flag.String("commit", "", "what was measured")
	began := flag.String("began", "", "when, HH:MM UTC")
	flag.Parse()
	results, err := read(*in)
	if err != nil {
		log.Fatal(err)
	}
	page := head(filepath.Base(*out), *commit, *began, results)
	for _, t := range titles {
		mine := slices.DeleteFunc(slices.Clone(results), func(r rig.Result) bool { return r.Bench != t.bench })
		page += section(t.title, t.about, mine)
	}
	if err := os.WriteFile(*out+".md", []byte(page), 0o644); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(*out+".svg", []byte(chart(results)), 0o644); err != nil {
		log.Fatal(err)
	}
}

func read(file string) ([]rig.Result, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var results []rig.Result
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r rig.Result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}

func head(name, commit, began string, results []rig.Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Measured: %s\n\n", name)
	fmt.Fprintf(&b, "Commit %s, begun %s UTC. %s, %d CPUs, %s, Linux %s, %s.\n\n", commit, began, cpu(), runtime.NumCPU(), memory(), output("uname", "-r"), runtime.Version())
	of := func(bench string) bool {
		return slices.ContainsFunc(results, func(r rig.Result) bool { return r.Bench == bench && r.Values != nil })
	}
	drawing := drawingOf(results)
	switch {
	case of("kv") || of("r2") || of("d1") || of("queues") || of("hyperdrive"):
		fmt.Fprintf(&b, "Peers: %s; %s; %s; %s; what `bench/r2/run`, `bench/queues/go.mod` and `clients/npm/package.json` pin.\n\n", output("redis-server", "--version"),
			output("etcd", "--version"), output("pgbouncer", "--version"), output("psql", "--version"))
	case of("workers hello") || of("workers objects"):
		fmt.Fprintf(&b, "Peers: %s; Node.js %s; %s; Bun %s. Load: %s.\n\n", output(os.Getenv("WORKERD_BIN"), "--version"), output(os.Getenv("NODE_BIN"), "--version"),
			output(os.Getenv("DENO_BIN"), "--version"), output(os.Getenv("BUN_BIN"), "--version"), wrkVersion())
	default:
		fmt.Fprintf(&b, "Peers: %s; Caddy %s; %s. Load: %s.\n\n", strings.TrimPrefix(output("nginx", "-v"), "nginx version: "),
			output("go", "list", "-C", "peers", "-m", "-f", "{{.Version}}", "github.com/caddyserver/caddy/v2"), output("knotd", "-V"), output("h2load", "--version"))
	}
	fmt.Fprintf(&b, "Made by `make bench`. Every program with its access log on; Selvage is a whole `selvage up`, metrics on, configured through the API.\n")
	if slices.ContainsFunc(drawing.benches, of) {
		fmt.Fprintf(&b, "\n![%s](%s.svg)\n", drawing.title, name)
	}
	return b.String()
}

// wrkVersion returns wrk's first line, which it ends with status 1 behind.
func wrkVersion() string {
	out, _ := exec.Command("wrk", "-v").CombinedOutput()
	line, _, _ := strings.Cut(string(out), " Copyright")
	return strings.TrimSpace(line)
}

// section is a table: cases and peers down, what was measured across.
func section(title, about string, results []rig.Result) string {
	if len(results) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", title, about)
	columns := columnsOf(results)
	fmt.Fprintf(&b, "| Case | Program | %s | runs |\n|---|---|%s---:|\n", strings.Join(columns, " | "), strings.Repeat("---:|", len(columns)))
	for _, r := range results {
		if r.Values == nil {
			fmt.Fprintf(&b, "| %s | %s |%s |\n", r.Case, r.Peer, strings.Repeat(" - |", len(columns)))
			continue
		}
		fmt.Fprintf(&b, "| %s | %s |", r.Case, r.Peer)
		for _, c := range columns {
			if v, ok := r.Values[c]; ok {
				fmt.Fprintf(&b, " %s |", digits(v))
			} else {
				b.WriteString(" |")
			}
		}
		fmt.Fprintf(&b, " %d |\n", r.Runs)
	}
	for _, note := range notes(results) {
		fmt.Fprintf(&b, "\nNote: %s.\n", note)
	}
	return b.String()
}

func columnsOf(results []rig.Result) []string {
	order := []string{"requests/s", "transactions/s", "per s", "keys/s", "queries/s", "CPU us", "CPU us/request", "of it node us", "CPU us/query", "CPU busy %", "answer p50 ms", "answer p99 ms", "effect p50 ms", "effect p99 ms",
		"measured", "limit", "first answer p50 ms", "first answer p99 ms", "ready ms", "idle p50 ms", "idle p99 ms", "p50 ms", "p99 ms", "RSS MB", "RSS MiB", "MiB", "idle RSS MB", "idle CPU %"}
	var columns []string
	for _, r := range results {
		for key := range r.Values {
			if !slices.Contains(columns, key) {
				columns = append(columns, key)
			}
		}
	}
	place := func(c string) int {
		if i := slices.Index(order, c); i >= 0 {
			return i
		}
		return len(order)
	}
	slices.SortFunc(columns, func(a, b string) int {
		if d := place(a) - place(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return columns
}

func notes(results []rig.Result) []string {
	var all []string
	for _, r := range results {
		if r.Note != "" && !slices.Contains(all, r.Note) {
			all = append(all, r.Note)
		}
	}
	return all
}

// digits prints three significant digits or all before the point.
func digits(f float64) string {
	switch {
	case f == math.Trunc(f):
		return fmt.Sprintf("%.0f", f)
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	case f >= 1:
		return fmt.Sprintf("%.2f", f)
	}
	return fmt.Sprintf("%.3f", f)
}

func cpu() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func memory() string {
	data, _ := os.ReadFile("/proc/meminfo")
	var kb int
	fmt.Sscanf(string(data), "MemTotal: %d kB", &kb)
	return fmt.Sprintf("%d GB memory", (kb+1<<19)>>20)
}

// output returns the first line that a program prints, a dash if it cannot run.
func output(name string, args ...string) string {
	out, err := exec.Command(name, args...).CombinedOutput()
	line, _, _ := strings.Cut(string(out), "\n")
	if err != nil || line == "" {
		return "-"
	}
	return strings.TrimSpace(line)
}
