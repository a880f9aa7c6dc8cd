// Command d1 measures queries of a Worker to D1, one after the other, beside miniflare with the same
// Worker and a database on the same disk. bench/d1/run fetches what it needs and runs it.
package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"time"

	"selvage/bench/rig"
)

const bothCPUs = "0,1"

//go:embed js/loop.js
var loop string

// peer answers loop.js.
type peer struct {
	name, url, host string
	runs            map[string][]map[string]float64 // by what was measured
}

func main() {
	log.SetFlags(0)
	if err := measure(); err != nil {
		log.Fatal(err)
	}
}

func measure() error {
	dir, err := os.MkdirTemp("", "selvage-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	n, err := rig.StartNode(bothCPUs, filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	defer n.Stop()
	ours, err := deploy(n)
	if err != nil {
		return err
	}
	theirs, stop, err := miniflare(dir)
	if err != nil {
		return err
	}
	defer stop()
	peers := []*peer{ours, theirs}
	for _, p := range peers {
		if text, err := p.ask("/setup"); err != nil || text != "ready" {
			return fmt.Errorf("%s: setup: %s %w", p.name, text, err)
		}
	}
	for range rig.Number("BENCH_RUNS", 3) {
		for _, what := range []string{"first", "run"} {
			for _, p := range peers {
				if err := p.measure(what); err != nil {
					return err
				}
			}
		}
	}
	return report(peers)
}

func report(peers []*peer) error {
	var results []rig.Result
	medians := map[string]float64{}
	for _, what := range []string{"first", "run"} {
		for _, p := range peers {
			r := rig.Result{Bench: "d1", Case: what + "() from a Worker", Peer: p.name, Values: rig.Median(p.runs[what]), Runs: len(p.runs[what])}
			medians[p.name+what] = r.Values["queries/s"]
			log.Printf("%-24s %-10s %8.0f queries/s", r.Case, r.Peer, r.Values["queries/s"])
			results = append(results, r)
		}
		log.Printf("%-24s %8.1f times miniflare; the target is 10", what+"()", medians[peers[0].name+what]/medians[peers[1].name+what])
	}
	return rig.Save(results)
}

func (p *peer) measure(what string) error {
	text, err := p.ask(fmt.Sprintf("/%s?ms=%d", what, 1000*rig.Number("BENCH_SECONDS", 3)))
	var got struct{ N, MS float64 }
	if err == nil {
		err = json.Unmarshal([]byte(text), &got)
	}
	if err != nil || got.N == 0 {
		return fmt.Errorf("%s: %s: %.300s %w", p.name, what, text, err)
	}
	p.runs[what] = append(p.runs[what], map[string]float64{"queries/s": got.N / got.MS * 1000})
	return nil
}

func (p *peer) ask(path string) (string, error) {
	req, err := http.NewRequest("GET", p.url+path, nil)
	if err != nil {
		return "", err
	}
	req.Host = p.host
	res, err := (&http.Client{Timeout: time.Minute}).Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return string(text), err
}

// deploy makes a database and a Worker bound to it.
func deploy(n *rig.Node) (*peer, error) {
	account := "/accounts/" + n.AccountID
	made, err := n.Call("POST", account+"/d1/database", map[string]any{"name": "bench"})
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	metadata := fmt.Sprintf(`{"main_module":"index.js","compatibility_date":"2026-11-01","bindings":[{"type":"d1","name":"DB","id":%q}]}`, made["uuid"])
	for _, part := range [][3]string{{"metadata", "application/json", metadata}, {"index.js", "application/javascript+module", loop}} {
		p, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf("form-data; name=%q; filename=%q", part[0], part[0])}, "Content-Type": {part[1]}})
		if err != nil {
			return nil, err
		}
		io.WriteString(p, part[2])
	}
	w.Close()
	if _, err := n.Send("PUT", account+"/workers/scripts/bench", w.FormDataContentType(), &body); err != nil {
		return nil, err
	}
	if _, err := n.Call("POST", account+"/workers/scripts/bench/subdomain", map[string]any{"enabled": true}); err != nil {
		return nil, err
	}
	sub, err := n.Call("GET", account+"/workers/subdomain", nil)
	if err != nil {
		return nil, err
	}
	return &peer{name: "selvage", url: strings.TrimSuffix(n.HTTP, "/"), host: fmt.Sprintf("bench.%s.%s", sub["subdomain"], sub["domain"]), runs: map[string][]map[string]float64{}}, nil
}

// miniflare runs the same Worker, with its database in dir.
func miniflare(dir string) (*peer, func(), error) {
	node, npm := os.Getenv("NODE_BIN"), filepath.Join(filepath.Dir(os.Getenv("WRANGLER")), "..", "..")
	if node == "" || os.Getenv("WRANGLER") == "" {
		return nil, nil, fmt.Errorf("miniflare needs NODE_BIN and WRANGLER: run bench/d1/run")
	}
	file := filepath.Join(dir, "loop.js")
	if err := os.WriteFile(file, []byte(loop), 0o600); err != nil {
		return nil, nil, err
	}
	// Modules are found from where the script lies.
	here, err := filepath.Abs("bench/d1/js/miniflare.mjs")
	if err != nil {
		return nil, nil, err
	}
	text, err := os.ReadFile(here)
	if err != nil {
		return nil, nil, err
	}
	if err := os.Symlink(npm, filepath.Join(dir, "node_modules")); err != nil {
		return nil, nil, err
	}
	server := filepath.Join(dir, "miniflare.mjs")
	if err := os.WriteFile(server, text, 0o600); err != nil {
		return nil, nil, err
	}
	port := rig.FreePort()
	p, err := rig.Start(bothCPUs, node, server, file, filepath.Join(dir, "miniflare"), fmt.Sprint(port))
	if err != nil {
		return nil, nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	for tries := 0; ; tries++ { // it starts slowly on a busy machine
		err := p.AwaitPort(addr)
		if err == nil {
			break
		}
		if _, ended := p.Ended(); ended || tries == 2 {
			p.Stop()
			return nil, nil, err
		}
	}
	return &peer{name: "miniflare", url: "http://" + addr, host: addr, runs: map[string][]map[string]float64{}}, p.Stop, nil
}
