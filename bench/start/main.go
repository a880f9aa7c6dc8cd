// Command start measures how long `selvage up` takes until it is ready, and what it holds when idle.
package main

import (
	"log"
	"os"
	"path/filepath"
	"time"

	"selvage/bench/rig"
)

func main() {
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "selvage-bench-start-")
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
	runs := rig.Number("BENCH_STARTS", 10)
	var results []rig.Result
	for _, c := range []struct {
		name  string
		fresh bool
	}{{"first start, empty folder", true}, {"later start", false}} {
		data := filepath.Join(dir, "data")
		var all []map[string]float64
		for range runs {
			if c.fresh {
				os.RemoveAll(data)
			} else {
				os.Remove(filepath.Join(data, "node.json")) // what a stopped node left would look like ready
			}
			values, err := once(data)
			if err != nil {
				return err
			}
			all = append(all, values)
		}
		r := rig.Result{Bench: "start", Case: c.name, Peer: "selvage", Values: rig.Median(all), Runs: runs}
		log.Printf("%-28s ready in %5.0f ms, idle RSS %4.1f MB, idle CPU %.2f %%", c.name, r.Values["ready ms"], r.Values["idle RSS MB"], r.Values["idle CPU %"])
		results = append(results, r)
	}
	return rig.Save(results)
}

func once(data string) (map[string]float64, error) {
	n, err := rig.StartNode("0,1", data)
	if err != nil {
		return nil, err
	}
	defer n.Stop()
	time.Sleep(time.Second)
	before := rig.CPU(n.PID())
	time.Sleep(time.Second)
	return map[string]float64{
		"ready ms":    float64(n.Ready.Microseconds()) / 1000,
		"idle RSS MB": float64(rig.RSS(n.PID())) / (1 << 20),
		"idle CPU %":  100 * (rig.CPU(n.PID()) - before).Seconds(),
	}, nil
}
