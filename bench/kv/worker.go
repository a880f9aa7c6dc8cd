package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"time"

	"selvage/bench/rig"
)

// peer is a place where the Worker answers.
type peer struct {
	name, addr, host string
	program          *rig.Program
}

// do has the Worker do n operations and returns how many it did in a second.
func (p *peer) do(op string, n, c, from int) (float64, error) {
	req, err := http.NewRequest("GET", fmt.Sprintf("http://%s/?op=%s&n=%d&c=%d&from=%d", p.addr, op, n, c, from), nil)
	if err != nil {
		return 0, err
	}
	req.Host = p.host
	began := time.Now()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err != nil || string(text) != "done" {
		return 0, fmt.Errorf("%s of the Worker at %s: %d %.300s %w", op, p.name, res.StatusCode, text, err)
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// worker measures operations of one Worker, one after the other and some at once, here and there.
func (b *bench) worker() error {
	n, peers, err := b.startBoth()
	for _, p := range peers {
		defer p.program.Stop()
	}
	if err != nil {
		return err
	}
	runs, seconds := rig.Number("BENCH_RUNS", 5), rig.Number("BENCH_SECONDS", 3)
	cases := []struct {
		op string
		c  int
	}{{"put", 1}, {"put", 6}, {"get", 1}, {"get", 6}, {"none", 1}, {"list", 1}, {"large", 1}, {"getlarge", 1}}
	for _, c := range cases {
		measured := map[string][]map[string]float64{}
		for i := range runs {
			for k := range peers {
				p := peers[(k+i)%len(peers)]
				rate, err := p.do(c.op, 20, c.c, 0) // how many are a second's work
				if err != nil {
					return err
				}
				// A request may have 1,000 operations.
				ops := min(900, max(20, int(rate)*seconds))
				var sum float64
				rounds := max(1, int(rate)*seconds/ops)
				for r := range rounds {
					rate, err := p.do(c.op, ops, c.c, r*ops)
					if err != nil {
						return err
					}
					sum += 1 / rate
				}
				measured[p.name] = append(measured[p.name], map[string]float64{"per s": float64(rounds) / sum})
			}
		}
		for _, p := range peers {
			b.add(fmt.Sprintf("Worker: %s, %d at once", c.op, c.c), p.name, measured[p.name])
		}
	}
	return b.rest(n, "REST", peers[0], runs, seconds)
}

// startBoth runs a node and miniflare with the same Worker.
func (b *bench) startBoth() (*rig.Node, []*peer, error) {
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 128
	code, err := scripts.ReadFile("js/worker.js")
	if err != nil {
		return nil, nil, err
	}
	n, err := rig.StartNode(serverCPU, filepath.Join(b.dir, "node"), "--access-log", "off")
	if err != nil {
		return nil, nil, err
	}
	peers := []*peer{{name: "selvage", addr: rig.Addr(n.HTTP), program: n.Program}}
	id, err := namespace(n)
	if err != nil {
		return n, peers, err
	}
	if peers[0].host, err = deploy(n, code, id); err != nil {
		return n, peers, err
	}
	file, main := filepath.Join(b.dir, "worker.js"), filepath.Join(b.dir, "miniflare.mjs")
	script, err := scripts.ReadFile("js/miniflare.mjs")
	if err != nil {
		return n, peers, err
	}
	if err := os.WriteFile(file, code, 0o600); err != nil {
		return n, peers, err
	}
	if err := os.WriteFile(main, script, 0o600); err != nil {
		return n, peers, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", rig.FreePort())
	program, err := rig.Start(serverCPU, os.Getenv("NODE_BIN"), main, file, filepath.Join(b.dir, "miniflare"), addr[len("127.0.0.1:"):])
	if err != nil {
		return n, peers, err
	}
	peers = append(peers, &peer{name: "miniflare", addr: addr, program: program})
	return n, peers, program.AwaitPort(addr)
}

func spaces(n *rig.Node) string { return "/accounts/" + n.AccountID + "/storage/kv/namespaces" }

func namespace(n *rig.Node) (id string, err error) {
	made, err := n.Call("POST", spaces(n), map[string]any{"title": fmt.Sprint("bench ", time.Now().UnixNano())})
	if err != nil {
		return "", err
	}
	return made["id"].(string), nil
}

// deploy deploys the Worker and returns where it answers.
func deploy(n *rig.Node, code []byte, namespace string) (host string, err error) {
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	head, err := json.Marshal(map[string]any{"main_module": "index.js", "compatibility_date": "2026-11-01", "bindings": []any{
		map[string]any{"type": "kv_namespace", "name": "KV", "namespace_id": namespace}}})
	if err != nil {
		return "", err
	}
	for _, part := range []struct {
		disposition, media string
		data               []byte
	}{{`form-data; name="metadata"`, "application/json", head}, {`form-data; name="index.js"; filename="index.js"`, "application/javascript+module", code}} {
		p, err := w.CreatePart(textproto.MIMEHeader{"Content-Type": {part.media}, "Content-Disposition": {part.disposition}})
		if err != nil {
			return "", err
		}
		p.Write(part.data)
	}
	w.Close()
	workers := "/accounts/" + n.AccountID + "/workers"
	if _, err := n.Send("PUT", workers+"/scripts/kv", w.FormDataContentType(), &body); err != nil {
		return "", err
	}
	if _, err := n.Call("POST", workers+"/scripts/kv/subdomain", map[string]any{"enabled": true}); err != nil {
		return "", err
	}
	sub, err := n.Call("GET", workers+"/subdomain", nil)
	return fmt.Sprintf("kv.%s.%s", sub["subdomain"], sub["domain"]), err
}

// rest measures puts and gets by REST.
func (b *bench) rest(n *rig.Node, title string, p *peer, runs, seconds int) error {
	id, err := namespace(n)
	if err != nil {
		return err
	}
	return b.values(title, p.name, runs, seconds, restStore{n, spaces(n) + "/" + id + "/values/"})
}

// values measures puts and gets of small values with 1 and 64 clients.
func (b *bench) values(title, peer string, runs, seconds int, s keyed) error {
	for _, clients := range []int{1, 64} {
		for _, kind := range []string{"put", "get"} {
			var all []map[string]float64
			for range runs {
				got, err := load(clients, seconds, func(client, i int) error {
					key := fmt.Sprintf("key%07d", i*7919%100_000)
					if kind == "put" {
						return s.put(client, key, small)
					}
					return s.get(client, key)
				})
				if err != nil {
					return err
				}
				all = append(all, got)
			}
			b.add(fmt.Sprintf("%s: %s, %d clients", title, kind, clients), peer, all)
		}
	}
	return nil
}

// small is a value of Cloudflare's median size.
var small = bytes.Repeat([]byte("v"), 288)

// keyed is a store under load.
type keyed interface {
	put(client int, key string, value []byte) error
	get(client int, key string) error
}

type restStore struct {
	n    *rig.Node
	path string
}

func (s restStore) send(method, key string, body io.Reader) error {
	req, err := http.NewRequest(method, s.n.API+s.path+key, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.n.Token())
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != 200 && !(method == "GET" && res.StatusCode == 404) {
		return fmt.Errorf("%s %s: %d", method, key, res.StatusCode)
	}
	return nil
}

func (s restStore) put(_ int, key string, value []byte) error {
	return s.send("PUT", key, bytes.NewReader(value))
}

func (s restStore) get(_ int, key string) error { return s.send("GET", key, nil) }
