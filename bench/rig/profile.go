package rig

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Part is what samples of a CPU profile are counted as: those whose stack contains one of its words,
// or both halves of one with a + in it.
type Part struct {
	Name  string
	Words []string
}

// Profile takes a CPU profile of a node, at its admin address, from half a second after load began,
// and returns which share of the samples each part has: a sample counts for the first that it fits.
func Profile(dir, admin string, seconds int, parts []Part, load func() error) (map[string]float64, error) {
	file := filepath.Join(dir, "cpu.pprof")
	failed := make(chan error, 1)
	go func() {
		time.Sleep(500 * time.Millisecond) // past the warm-up
		failed <- fetch(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", admin, seconds), file)
	}()
	if err := load(); err != nil {
		return nil, err
	}
	if err := <-failed; err != nil {
		return nil, err
	}
	out, err := exec.Command("go", "tool", "pprof", "-traces", file).Output()
	if err != nil {
		return nil, fmt.Errorf("go tool pprof: %w", err)
	}
	shares, total := map[string]float64{}, 0.0
	for sample := range strings.SplitSeq(string(out), "-----------+") {
		_, sample, _ = strings.Cut(sample, "\n")
		value, _, _ := strings.Cut(strings.TrimSpace(sample), " ")
		if took, err := time.ParseDuration(value); err == nil {
			shares[partOf(parts, sample)] += took.Seconds()
			total += took.Seconds()
		}
	}
	for name := range shares {
		shares[name] /= total
	}
	return shares, nil
}

func partOf(parts []Part, stack string) string {
	for _, part := range parts {
		for _, word := range part.Words {
			first, second, _ := strings.Cut(word, "+")
			if strings.Contains(stack, first) && strings.Contains(stack, second) {
				return part.Name
			}
		}
	}
	return "rest of the runtime"
}

func fetch(url, file string) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, resp.Body)
	return err
}
