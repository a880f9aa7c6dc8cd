// Command effect measures how long after the API's answer a change is in effect on this node: a TXT
// record in DNS, an origin in HTTP, a purged response; in a small zone and in one with 10,000 records.
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
	"time"

	"selvage/bench/rig"
)

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
	changes, large := rig.Number("BENCH_CHANGES", 500), rig.Number("BENCH_RECORDS", 10000)
	port, err := startOrigins()
	if err != nil {
		return err
	}
	n, err := rig.StartNode("0,1", filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	defer n.Stop()
	var results []rig.Result
	for _, size := range []int{10, large} {
		s, err := prepare(n, fmt.Sprintf("zone%d.test", size), port, size)
		if err != nil {
			return err
		}
		for _, kind := range []struct {
			name   string
			change func(i int) (calls, error)
		}{{"DNS record", s.changeText}, {"HTTP origin", s.changeOrigin}, {"purge of a URL", s.purge}} {
			r, err := measure(changes, kind.change)
			if err != nil {
				return fmt.Errorf("%s: %w", kind.name, err)
			}
			r.Bench, r.Case, r.Peer = "effect", fmt.Sprintf("%s, zone of %d records", kind.name, size), "selvage"
			log.Printf("%-40s answer p50 %6.2f p99 %6.2f ms   answer to effect p50 %6.3f p99 %6.3f ms", r.Case,
				r.Values["answer p50 ms"], r.Values["answer p99 ms"], r.Values["effect p50 ms"], r.Values["effect p99 ms"])
			results = append(results, r)
		}
	}
	return rig.Save(results)
}

// calls is what one change took: until the API answered, and from then until the effect was seen.
type calls struct{ answer, effect time.Duration }

func measure(changes int, change func(i int) (calls, error)) (rig.Result, error) {
	var answers, effects []float64
	for i := range changes {
		c, err := change(i)
		if err != nil {
			return rig.Result{}, err
		}
		answers = append(answers, float64(c.answer.Microseconds())/1000)
		effects = append(effects, float64(c.effect.Microseconds())/1000)
	}
	return rig.Result{Runs: changes, Values: map[string]float64{
		"answer p50 ms": rig.Quantile(answers, 0.5), "answer p99 ms": rig.Quantile(answers, 0.99),
		"effect p50 ms": rig.Quantile(effects, 0.5), "effect p99 ms": rig.Quantile(effects, 0.99),
	}}, nil
}

// subject is a zone whose records are changed.
type subject struct {
	node       *rig.Node
	name, zone string
	text, web  string // IDs of records
	dns        net.Conn
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
	s.dns, err = net.Dial("udp", rig.Addr(n.DNS))
	return s, err
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
	if _, err := s.dns.Write(q); err != nil {
		return "", err
	}
	s.dns.SetReadDeadline(time.Now().Add(time.Second))
	answer := make([]byte, 4096)
	n, err := s.dns.Read(answer)
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
