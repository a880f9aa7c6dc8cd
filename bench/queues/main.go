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
	rates := map[string][2]float64{}
	for _, b := range []struct {
		name string
		open func(dir string) (broker, error)
	}{{"selvage", openBacklog}, {"jetstream", openJetStream}} {
		sent, worked, err := measure(b.name, b.open)
		if err != nil {
			fmt.Fprintln(os.Stderr, b.name+":", err)
			os.Exit(1)
		}
		rates[b.name] = [2]float64{sent, worked}
	}
	ours, theirs := rates["selvage"], rates["jetstream"]
	fmt.Printf("selvage : jetstream, sends %.2f, acknowledgements %.2f (target 0.8)\n", ours[0]/theirs[0], ours[1]/theirs[1])
}

// measure returns messages sent and messages acknowledged a second.
func measure(name string, open func(string) (broker, error)) (sent, worked float64, err error) {
	dir, err := os.MkdirTemp(*base, "bench-queues")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	b, err := open(filepath.Join(dir, name))
	if err != nil {
		return 0, 0, err
	}
	defer b.close()
	n, latencies, err := produce(b)
	if err != nil {
		return 0, 0, err
	}
	sent = float64(n) / lasting.Seconds()
	begun := time.Now()
	if err := drain(b, n); err != nil {
		return 0, 0, err
	}
	worked = float64(n) / time.Since(begun).Seconds()
	slices.Sort(latencies)
	fmt.Printf("%-10s %8.0f sends/s of %d producers, p50 %v p99 %v; %8.0f acknowledgements/s of %d consumers in batches of %d\n", name, sent, *producers,
		latencies[len(latencies)/2].Round(10*time.Microsecond), latencies[len(latencies)*99/100].Round(10*time.Microsecond), worked, *consumers, *batch)
	return sent, worked, nil
}

// produce sends for a while and returns how many were sent, and how long each took.
func produce(b broker) (int, []time.Duration, error) {
	var all sync.WaitGroup
	var failed atomic.Pointer[error]
	took := make([][]time.Duration, *producers)
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
				took[i] = append(took[i], time.Since(begun))
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
