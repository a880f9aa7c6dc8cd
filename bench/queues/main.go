// Command queues measures the engine of Queues beside JetStream, both in this process and both with every
// acknowledged message on disk: sends of many producers, and batches that are taken and acknowledged.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"selvage/bench/rig"
)

// broker is what is measured.
type broker interface {
	// send stores a message and returns when it is on disk.
	send(body []byte) error
	// work takes up to n messages and acknowledges them; it returns how many there were.
	work(n int) (int, error)
	close()
}

var (
	producers = flag.Int("producers", 32, "sending at once")
	consumers = flag.Int("consumers", 4, "taking batches at once")
	size      = flag.Int("size", 256, "bytes of a message")
	batch     = flag.Int("batch", 100, "messages that a consumer takes at once")
	lasting   = flag.Duration("for", 5*time.Second, "how long to send")
	base      = flag.String("dir", os.TempDir(), "where the data lies")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench queues:", err)
		os.Exit(1)
	}
}

// run measures both in turns, each time in the other order: the file system remembers who came before.
func run() error {
	brokers := []named{{"selvage", openBacklog}, {"jetstream", openJetStream}}
	sends, works := map[string][]map[string]float64{}, map[string][]map[string]float64{}
	for range rig.Number("BENCH_RUNS", 3) {
		for _, b := range brokers {
			if err := measure(b, sends, works); err != nil {
				return fmt.Errorf("%s: %w", b.name, err)
			}
		}
		slices.Reverse(brokers)
	}
	var results []rig.Result
	medians := map[string]float64{}
	for title, all := range map[string]map[string][]map[string]float64{
		fmt.Sprintf("send %d bytes, %d producers", *size, *producers):                 sends,
		fmt.Sprintf("acknowledge, %d consumers in batches of %d", *consumers, *batch): works,
	} {
		for _, b := range []string{"selvage", "jetstream"} {
			r := rig.Result{Bench: "queues", Case: title, Peer: b, Values: rig.Median(all[b]), Runs: len(all[b])}
			medians[title+b] = r.Values["per s"]
			fmt.Printf("%-50s %-10s", title, b)
			for _, k := range rig.Keys(r.Values) {
				fmt.Printf("  %s %.4g", k, r.Values[k])
			}
			fmt.Println()
			results = append(results, r)
		}
		fmt.Printf("%-50s %.2f of JetStream (target 0.8)\n", title, medians[title+"selvage"]/medians[title+"jetstream"])
	}
	return rig.Save(results)
}

type named struct {
	name string
	open func(dir string) (broker, error)
}

// measure adds what one run comes to.
func measure(n named, sends, works map[string][]map[string]float64) error {
	dir, err := os.MkdirTemp(*base, "bench-queues")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b, err := n.open(filepath.Join(dir, n.name))
	if err != nil {
		return err
	}
	defer b.close()
	sent, latencies, err := produce(b)
	if err != nil {
		return err
	}
	sends[n.name] = append(sends[n.name], map[string]float64{
		"per s": float64(sent) / lasting.Seconds(), "p50 ms": rig.Quantile(latencies, 0.5), "p99 ms": rig.Quantile(latencies, 0.99),
	})
	begun := time.Now()
	if err := drain(b, sent); err != nil {
		return err
	}
	works[n.name] = append(works[n.name], map[string]float64{"per s": float64(sent) / time.Since(begun).Seconds()})
	return nil
}

// produce sends for a while and returns how many were sent, and how many milliseconds each took.
func produce(b broker) (int, []float64, error) {
	var all sync.WaitGroup
	var failed atomic.Pointer[error]
	took := make([][]float64, *producers)
	end := time.Now().Add(*lasting)
	for i := range *producers {
		all.Go(func() {
			body := make([]byte, *size)
			for time.Now().Before(end) {
				begun := time.Now()
				if err := b.send(body); err != nil {
					failed.Store(&err)
					return
				}
				took[i] = append(took[i], time.Since(begun).Seconds()*1000)
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return 0, nil, *err
	}
	latencies := slices.Concat(took...)
	return len(latencies), latencies, nil
}

// drain takes and acknowledges so many messages.
func drain(b broker, n int) error {
	var all sync.WaitGroup
	var left atomic.Int64
	var failed atomic.Pointer[error]
	left.Store(int64(n))
	for range *consumers {
		all.Go(func() {
			for left.Load() > 0 && failed.Load() == nil {
				got, err := b.work(*batch)
				if err != nil {
					failed.Store(&err)
					return
				}
				left.Add(-int64(got))
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}
