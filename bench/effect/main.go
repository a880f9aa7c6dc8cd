// Command effect measures how long after the API's answer a change is in effect on this node: a TXT
// record in DNS, an origin in HTTP, a purged response, new records made by one and by eight writers;
// in a small zone, in one with 10,000 records, and among 10,000 zones.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"selvage/bench/rig"
)

const manyWriters = 8

func main() {
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "selvage-bench-effect-")
	if err != nil {
		log.Fatal(err)
	}
	err = run(dir)
	os.RemoveAll(dir)
	if err != nil {
		log.Fatal(err)
	}
}

func run(dir string) error {
	changes, large, many := rig.Number("BENCH_CHANGES", 500), rig.Number("BENCH_RECORDS", 10000), rig.Number("BENCH_ZONES", 10000)
	port, err := startOrigins()
	if err != nil {
		return err
	}
	n, err := rig.StartNode("0,1", filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	defer n.Stop()
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 2 * manyWriters
	var results []rig.Result
	for _, place := range []struct {
		name           string
		records, zones int
	}{{"zone of 10 records", 10, 0}, {fmt.Sprintf("zone of %d records", large), large, 0}, {fmt.Sprintf("among %d zones", many), 10, many}} {
		if err := addZones(n, place.zones); err != nil {
			return err
		}
		s, err := prepare(n, fmt.Sprintf("zone%d-%d.test", place.records, place.zones), port, place.records)
		if err != nil {
			return err
		}
		for _, kind := range []struct {
			name    string
			writers int
			change  func(i int) (calls, error)
		}{{"DNS record", 1, s.changeText}, {"HTTP origin", 1, s.changeOrigin}, {"purge of a URL", 1, s.purge},
			{"new record", 1, s.create}, {"new record, 8 writers", manyWriters, s.create}} {
			r, err := measure(n, changes, kind.writers, kind.change)
			if err != nil {
				return fmt.Errorf("%s: %w", kind.name, err)
			}
			r.Bench, r.Case, r.Peer = "effect", kind.name+", "+place.name, "selvage"
			log.Printf("%-44s answer p50 %6.2f p99 %6.2f ms   answer to effect p50 %6.3f p99 %6.3f ms   CPU %6.2f ms a change", r.Case,
				r.Values["answer p50 ms"], r.Values["answer p99 ms"], r.Values["effect p50 ms"], r.Values["effect p99 ms"], r.Values["cpu ms"])
			results = append(results, r)
		}
	}
	return rig.Save(results)
}

// together runs fn for 0 to n-1 in so many goroutines, and returns the first error.
func together(writers, n int, fn func(i int) error) error {
	var next, failed atomic.Int64
	var first error
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && failed.Load() == 0; i = int(next.Add(1)) - 1 {
				if err := fn(i); err != nil && failed.Add(1) == 1 {
					first = err
				}
			}
		})
	}
	group.Wait()
	return first
}

// addZones makes zones with one record each.
func addZones(n *rig.Node, zones int) error {
	return together(manyWriters, zones, func(i int) error {
		name := fmt.Sprintf("other%d.test", i)
		zone, err := n.Call("POST", "/zones", map[string]any{"name": name, "account": map[string]any{"id": n.AccountID}})
		if err != nil {
			return err
		}
		_, err = n.Call("POST", "/zones/"+zone["id"].(string)+"/dns_records", map[string]any{"type": "A", "name": name, "content": "127.0.0.1", "proxied": true, "ttl": 1})
		return err
	})
}

// calls is what one change took: until the API answered, and from then until the effect was seen.
type calls struct{ answer, effect time.Duration }

func measure(n *rig.Node, changes, writers int, change func(i int) (calls, error)) (rig.Result, error) {
	answers, effects := make([]float64, changes), make([]float64, changes)
	before := rig.CPU(n.PID())
	err := together(writers, changes, func(i int) error {
		c, err := change(i)
		answers[i], effects[i] = float64(c.answer.Microseconds())/1000, float64(c.effect.Microseconds())/1000
		return err
	})
	cpu := rig.CPU(n.PID()) - before
	return rig.Result{Runs: changes, Values: map[string]float64{
		"answer p50 ms": rig.Quantile(answers, 0.5), "answer p99 ms": rig.Quantile(answers, 0.99),
		"effect p50 ms": rig.Quantile(effects, 0.5), "effect p99 ms": rig.Quantile(effects, 0.99),
		"cpu ms": cpu.Seconds() * 1000 / float64(changes),
	}}, err
}

// subject is a zone whose records are changed.
type subject struct {
	node       *rig.Node
	name, zone string
	text, web  string       // IDs of records
	made       atomic.Int64 // records by create
}

func prepare(n *rig.Node, name string, port, records int) (*subject, error) {
	s := &subject{node: n, name: name}
	var err error
	if s.zone, err = n.AddSite(name, port); err != nil {
		return nil, err
	}
	if s.text, err = s.add(map[string]any{"type": "TXT", "name": "text." + name, "content": `"none"`, "ttl": 60}); err != nil {
		return nil, err
	}
	if s.web, err = s.add(map[string]any{"type": "A", "name": "web." + name, "content": "127.0.0.1", "proxied": true, "ttl": 1}); err != nil {
		return nil, err
	}
	const batch = 200
	for from := 0; from < records-3; from += batch {
		var posts []any
		for i := from; i < min(from+batch, records-3); i++ {
			posts = append(posts, map[string]any{"type": "A", "name": fmt.Sprintf("host%d.%s", i, name), "content": fmt.Sprintf("192.0.2.%d", i%250+1), "ttl": 300})
		}
		if _, err := n.Call("POST", "/zones/"+s.zone+"/dns_records/batch", map[string]any{"posts": posts}); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *subject) add(record map[string]any) (string, error) {
	r, err := s.node.Call("POST", "/zones/"+s.zone+"/dns_records", record)
	if err != nil {
		return "", err
	}
	return r["id"].(string), nil
}

// timed makes an API call, then waits until seen is true.
func (s *subject) timed(method, path string, body any, seen func() (bool, error)) (calls, error) {
	began := time.Now()
	if _, err := s.node.Call(method, "/zones/"+s.zone+path, body); err != nil {
		return calls{}, err
	}
	answered := time.Now()
	for {
		ok, err := seen()
		if err != nil {
			return calls{}, err
		}
		if ok {
			return calls{answered.Sub(began), time.Since(answered)}, nil
		}
		if time.Since(answered) > 10*time.Second {
			return calls{}, fmt.Errorf("%s %s had no effect within 10 s", method, path)
		}
	}
}

func (s *subject) changeText(i int) (calls, error) {
	want := fmt.Sprintf("version-%d-of-this", i)
	return s.timed("PATCH", "/dns_records/"+s.text, map[string]any{"content": `"` + want + `"`}, func() (bool, error) {
		answer, err := s.query("text." + s.name)
		return strings.Contains(answer, want), err
	})
}

func (s *subject) create(int) (calls, error) {
	name := fmt.Sprintf("made%d.%s", s.made.Add(1), s.name)
	return s.timed("POST", "/dns_records", map[string]any{"type": "TXT", "name": name, "content": `"here"`, "ttl": 60}, func() (bool, error) {
		answer, err := s.query(name)
		return strings.Contains(answer, "here"), err
	})
}

func (s *subject) changeOrigin(i int) (calls, error) {
	want := fmt.Sprintf("127.0.0.%d", (i+1)%2+1)
	return s.timed("PATCH", "/dns_records/"+s.web, map[string]any{"content": want}, func() (bool, error) {
		body, _, err := s.get("web."+s.name, "/")
		return body == want, err
	})
}

func (s *subject) purge(i int) (calls, error) {
	for range 2 {
		if _, _, err := s.get(s.name, "/hit/x"); err != nil {
			return calls{}, err
		}
	}
	if _, status, err := s.get(s.name, "/hit/x"); err != nil || status != "HIT" {
		return calls{}, fmt.Errorf("the response to purge is not cached: CF-Cache-Status %q, %v", status, err)
	}
	url := "http://" + s.name + "/hit/x"
	return s.timed("POST", "/purge_cache", map[string]any{"files": []string{url}}, func() (bool, error) {
		_, status, err := s.get(s.name, "/hit/x")
		return status != "HIT", err
	})
}

func (s *subject) get(host, path string) (body, cacheStatus string, err error) {
	req, err := http.NewRequest("GET", "http://"+rig.Addr(s.node.HTTP)+path, nil)
	if err != nil {
		return "", "", err
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 {
		return "", "", fmt.Errorf("%s%s: %s\n%.300s", host, path, resp.Status, data)
	}
	return string(data), resp.Header.Get("CF-Cache-Status"), err
}

// query asks for the TXT record of name and returns the raw answer.
func (s *subject) query(name string) (string, error) {
	q := []byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for label := range strings.SplitSeq(name, ".") {
		q = append(append(q, byte(len(label))), label...)
	}
	q = append(q, 0)
	q = binary.BigEndian.AppendUint16(q, 16) // TXT
	q = binary.BigEndian.AppendUint16(q, 1)  // IN
	conn, err := net.Dial("udp", rig.Addr(s.node.DNS))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := conn.Write(q); err != nil {
		return "", err
	}
	conn.SetReadDeadline(time.Now().Add(time.Second))
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	return string(answer[:n]), err
}

// startOrigins serves on two addresses and one port; each answers with its address.
func startOrigins() (port int, err error) {
	port = rig.FreePort()
	for _, addr := range []string{"127.0.0.1", "127.0.0.2"} {
		ln, err := net.Listen("tcp", fmt.Sprintf("%s:%d", addr, port))
		if err != nil {
			return 0, err
		}
		go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/hit/") {
				w.Header().Set("Cache-Control", "public, max-age=3600")
			} else {
				w.Header().Set("Cache-Control", "no-store")
			}
			io.WriteString(w, addr)
		}))
	}
	return port, nil
}
