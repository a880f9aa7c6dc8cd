package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"selvage/bench/rig"
)

// million fills a namespace, starts the node again, lists, and loads it beside Redis and etcd.
func (b *bench) million() error {
	keys, runs, seconds := rig.Number("BENCH_KEYS", 1_000_000), rig.Number("BENCH_RUNS", 5), rig.Number("BENCH_SECONDS", 3)
	dir := filepath.Join(b.dir, "million")
	n, err := rig.StartNode(serverCPU, dir, "--access-log", "off")
	if err != nil {
		return err
	}
	id, err := namespace(n)
	if err != nil {
		n.Stop()
		return err
	}
	path := spaces(n) + "/" + id
	began := time.Now()
	for from := 0; from < keys; from += 10_000 {
		pairs := make([]map[string]string, 0, 10_000)
		for i := from; i < min(keys, from+10_000); i++ {
			pairs = append(pairs, map[string]string{"key": fmt.Sprintf("key%07d", i), "value": string(small)})
		}
		if _, err := n.Call("PUT", path+"/bulk", pairs); err != nil {
			n.Stop()
			return err
		}
	}
	loaded := map[string]float64{"keys/s": float64(keys) / time.Since(began).Seconds(), "MiB": float64(rig.MemoryOf(n.PID()).RSS) / (1 << 20)}
	b.add(fmt.Sprintf("load %d keys in bulk", keys), "selvage", []map[string]float64{loaded})
	n.Stop()
	os.Remove(filepath.Join(dir, "node.json"))
	if n, err = rig.StartNode(serverCPU, dir, "--access-log", "off"); err != nil {
		return err
	}
	defer n.Stop()
	b.add("start with them", "selvage", []map[string]float64{{"ready ms": float64(n.Ready.Microseconds()) / 1000, "MiB": float64(rig.MemoryOf(n.PID()).RSS) / (1 << 20)}})
	if err := b.listAll(n, path, keys); err != nil {
		return err
	}
	if err := b.values("million", "selvage", runs, seconds, restStore{n, path + "/values/"}); err != nil {
		return err
	}
	b.add("after the load", "selvage", []map[string]float64{{"MiB": float64(rig.MemoryOf(n.PID()).RSS) / (1 << 20)}})
	if err := b.redis(keys, runs, seconds); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	if err := b.etcd(keys, runs, seconds); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	return nil
}

// listAll lists every key, 1,000 a page.
func (b *bench) listAll(n *rig.Node, path string, keys int) error {
	began, seen := time.Now(), 0
	for cursor := ""; ; {
		req, err := http.NewRequest("GET", n.API+path+"/keys?cursor="+url.QueryEscape(cursor), nil)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+n.Token())
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		var page struct {
			Result []struct{ Name string }
			Info   struct{ Cursor string } `json:"result_info"`
		}
		err = json.NewDecoder(res.Body).Decode(&page)
		res.Body.Close()
		if err != nil {
			return err
		}
		seen += len(page.Result)
		if cursor = page.Info.Cursor; cursor == "" {
			break
		}
	}
	if seen != keys {
		return fmt.Errorf("%d of %d keys were listed", seen, keys)
	}
	b.add("list all of them", "selvage", []map[string]float64{{"keys/s": float64(seen) / time.Since(began).Seconds()}})
	return nil
}

// redisStore speaks RESP, one connection a client.
type redisStore struct{ conns []*bufio.ReadWriter }

func (b *bench) redis(keys, runs, seconds int) error {
	dir, port := filepath.Join(b.dir, "redis"), rig.FreePort()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	p, err := rig.Start(serverCPU, "redis-server", "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--appendonly", "yes", "--appendfsync", "always", "--save", "")
	if err != nil {
		return err
	}
	defer p.Stop()
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	if err := p.AwaitPort(addr); err != nil {
		return err
	}
	s := redisStore{}
	for range 64 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		s.conns = append(s.conns, bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c)))
	}
	for i := range keys { // pipelined
		fmt.Fprintf(s.conns[0], "SET key%07d %s\r\n", i, small)
		if i%1000 == 999 || i == keys-1 {
			if err := s.conns[0].Flush(); err != nil {
				return err
			}
			for range i%1000 + 1 {
				if _, err := s.conns[0].ReadString('\n'); err != nil {
					return err
				}
			}
		}
	}
	if err := b.values("million", "redis", runs, seconds, s); err != nil {
		return err
	}
	b.add("after the load", "redis", []map[string]float64{{"MiB": float64(rig.MemoryOf(p.PID()).RSS) / (1 << 20)}})
	return nil
}

func (s redisStore) put(client int, key string, value []byte) error {
	c := s.conns[client]
	fmt.Fprintf(c, "SET %s %s\r\n", key, value)
	if err := c.Flush(); err != nil {
		return err
	}
	line, err := c.ReadString('\n')
	if err == nil && line != "+OK\r\n" {
		err = fmt.Errorf("SET answers %q", line)
	}
	return err
}

func (s redisStore) get(client int, key string) error {
	c := s.conns[client]
	fmt.Fprintf(c, "GET %s\r\n", key)
	if err := c.Flush(); err != nil {
		return err
	}
	line, err := c.ReadString('\n')
	var n int
	if _, scan := fmt.Sscanf(line, "$%d", &n); err != nil || scan != nil || n < 0 {
		return err
	}
	_, err = c.Discard(n + 2)
	return err
}

// etcdStore speaks etcd's JSON gateway, which costs etcd more than its own protocol would.
type etcdStore struct{ base string }

func (b *bench) etcd(keys, runs, seconds int) error {
	client, peer := rig.FreePort(), rig.FreePort()
	base := fmt.Sprintf("http://127.0.0.1:%d", client)
	p, err := rig.Start(serverCPU, "etcd", "--data-dir", filepath.Join(b.dir, "etcd"), "--listen-client-urls", base, "--advertise-client-urls", base,
		"--listen-peer-urls", fmt.Sprintf("http://127.0.0.1:%d", peer), "--log-level", "error", "--quota-backend-bytes", strconv.Itoa(8<<30))
	if err != nil {
		return err
	}
	defer p.Stop()
	if err := p.AwaitPort(base[len("http://"):]); err != nil {
		return err
	}
	s := etcdStore{base}
	began := time.Now()
	for from := 0; from < min(keys, 100_000); from += 100 { // enough keys for what is read
		var ops []any
		for i := from; i < from+100; i++ {
			ops = append(ops, map[string]any{"requestPut": map[string]any{"key": fmt.Appendf(nil, "key%07d", i), "value": small}})
		}
		if err := s.send("/v3/kv/txn", map[string]any{"success": ops}); err != nil {
			return err
		}
	}
	b.add("load 100000 keys in transactions of 100", "etcd", []map[string]float64{{"keys/s": float64(min(keys, 100_000)) / time.Since(began).Seconds()}})
	if err := b.values("million", "etcd", runs, seconds, s); err != nil {
		return err
	}
	b.add("after the load", "etcd", []map[string]float64{{"MiB": float64(rig.MemoryOf(p.PID()).RSS) / (1 << 20)}})
	return nil
}

func (s etcdStore) send(path string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	res, err := http.Post(s.base+path, "application/json", bytes.NewReader(text))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != 200 {
		err = fmt.Errorf("%s: %d %.200s", path, res.StatusCode, answer)
	}
	return err
}

func (s etcdStore) put(_ int, key string, value []byte) error {
	return s.send("/v3/kv/put", map[string]any{"key": base64.StdEncoding.EncodeToString([]byte(key)), "value": value})
}

func (s etcdStore) get(_ int, key string) error {
	return s.send("/v3/kv/range", map[string]any{"key": base64.StdEncoding.EncodeToString([]byte(key))})
}
