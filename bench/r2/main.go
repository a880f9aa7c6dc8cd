// Program r2 measures S3 servers; see run.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"selvage/bench/rig"
)

// Servers run on one CPU, the load on the other.
const serverCPU = "0"

const bucket = "bench-bucket"

// peer is a server under load.
type peer struct {
	name    string
	program *rig.Program
	client  *minio.Client
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench r2:", err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := os.MkdirTemp(os.Getenv("BENCH_WORK"), "r2-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Println("| server | load | per second | MiB/s | p50 ms | p99 ms | RSS MiB |")
	fmt.Println("|---|---|---|---|---|---|---|")
	for _, name := range strings.Split(os.Getenv("BENCH_PEERS"), ",") {
		p, err := start(name, filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		err = p.measure()
		p.program.Stop()
		os.RemoveAll(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func start(name, dir string) (*peer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	p := &peer{name: name}
	id, secret := "benchmark-user", "benchmark-secret"
	addr := fmt.Sprintf("127.0.0.1:%d", rig.FreePort())
	var err error
	switch name {
	case "selvage":
		n, err := rig.StartNode(serverCPU, dir, "--workerd", "off") // S3 needs no runtime of Workers
		if err != nil {
			return nil, err
		}
		token, err := n.Call("GET", "/user/tokens/verify", nil)
		if err != nil {
			n.Stop()
			return nil, err
		}
		sum := sha256.Sum256([]byte(n.Token()))
		p.program, addr, id, secret = n.Program, rig.Addr(n.S3), token["id"].(string), hex.EncodeToString(sum[:])
	case "minio":
		os.Setenv("MINIO_ROOT_USER", id)
		os.Setenv("MINIO_ROOT_PASSWORD", secret)
		p.program, err = rig.Start(serverCPU, os.Getenv("MINIO_BIN"), "server", "--quiet", "--address", addr, dir)
	case "versitygw":
		p.program, err = rig.Start(serverCPU, os.Getenv("VERSITYGW_BIN"), "--access", id, "--secret", secret, "--port", addr, "--quiet", "posix", dir)
	default:
		err = fmt.Errorf("there is no such server; there are selvage, minio, versitygw")
	}
	if err != nil {
		return nil, err
	}
	if err = p.program.AwaitPort(addr); err == nil {
		p.client, err = minio.New(addr, &minio.Options{Creds: credentials.NewStaticV4(id, secret, ""), Region: "us-east-1", MaxRetries: 1})
	}
	if err == nil {
		err = p.makeBucket()
	}
	if err != nil {
		p.program.Stop()
		return nil, err
	}
	return p, nil
}

// makeBucket tries for a while: MinIO listens before it can answer.
func (p *peer) makeBucket() error {
	end := time.Now().Add(30 * time.Second)
	for {
		err := p.client.MakeBucket(context.Background(), bucket, minio.MakeBucketOptions{})
		if err == nil || time.Now().After(end) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (p *peer) measure() error {
	for _, size := range []int{4 << 10, 1 << 20, 100 << 20} {
		body := make([]byte, size)
		rand.Read(body)
		for _, connections := range []int{1, 16} {
			if size == 100<<20 && connections == 16 {
				connections = 4 // sixteen do not fit the load's memory
			}
			for _, way := range []string{"put", "get"} {
				if err := p.load(way, body, connections); err != nil {
					return fmt.Errorf("%s of %d bytes: %w", way, size, err)
				}
			}
		}
	}
	return nil
}

// load runs one kind of request for a while, some times over, and prints the median run.
func (p *peer) load(way string, body []byte, connections int) error {
	var runs []map[string]float64
	for range rig.Number("BENCH_RUNS", 3) {
		r, err := p.once(way, body, connections)
		if err != nil {
			return err
		}
		runs = append(runs, r)
	}
	m := rig.Median(runs)
	rate, rss := m["rate"], rig.RSS(p.program.PID())>>20
	fmt.Printf("| %s | %s %d KiB, %d connections | %.0f | %.0f | %.2f | %.2f | %d |\n", p.name, way, len(body)>>10, connections,
		rate, rate*float64(len(body))/(1<<20), m["p50"], m["p99"], rss)
	return rig.Save([]rig.Result{{
		Bench: "r2", Case: fmt.Sprintf("%s %d KiB, %d connections", way, len(body)>>10, connections), Peer: p.name, Runs: len(runs),
		Values: map[string]float64{"per s": rate, "p50 ms": m["p50"], "p99 ms": m["p99"], "RSS MiB": float64(rss)},
	}})
}

func (p *peer) once(way string, body []byte, connections int) (map[string]float64, error) {
	const kept = 64 // different keys
	ctx, end := context.Background(), time.Now().Add(time.Duration(rig.Number("BENCH_SECONDS", 5))*time.Second)
	var g sync.WaitGroup
	var next atomic.Int64
	var mu sync.Mutex
	var all []float64
	var failure error
	began := time.Now()
	for range connections {
		g.Go(func() {
			var mine []float64
			var err error
			for err == nil && (time.Now().Before(end) || len(mine) == 0) {
				key, at := fmt.Sprintf("%d/%d", len(body), next.Add(1)%kept), time.Now()
				if len(body) > 1<<20 || way == "get" {
					key = fmt.Sprintf("%d/1", len(body))
				}
				if way == "put" {
					_, err = p.client.PutObject(ctx, bucket, key, bytes.NewReader(body), int64(len(body)), minio.PutObjectOptions{DisableMultipart: true})
				} else {
					err = p.get(ctx, key, body)
				}
				mine = append(mine, time.Since(at).Seconds()*1000)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
			if err != nil {
				failure = err
			}
		})
	}
	g.Wait()
	took := time.Since(began).Seconds()
	slices.Sort(all)
	return map[string]float64{"rate": float64(len(all)) / took, "p50": rig.Quantile(all, .5), "p99": rig.Quantile(all, .99)}, failure
}

// get reads an object and checks its length and ends.
func (p *peer) get(ctx context.Context, key string, want []byte) error {
	o, err := p.client.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return err
	}
	defer o.Close()
	head := make([]byte, min(len(want), 4096))
	if _, err := io.ReadFull(o, head); err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, o)
	if err == nil && (n+int64(len(head)) != int64(len(want)) || !bytes.HasPrefix(want, head)) {
		err = fmt.Errorf("%s came back as %d other bytes", key, n)
	}
	return err
}
