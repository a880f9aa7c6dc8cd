package rig

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strconv"
)

// Result is one line of a table: what was measured for one case with one program.
type Result struct {
	Bench  string             `json:"bench"` // "proxy"
	Case   string             `json:"case"`  // "hit 1 KB, h2 TLS"
	Peer   string             `json:"peer"`  // "selvage"
	Values map[string]float64 `json:"values"`
	Runs   int                `json:"runs"`
	Note   string             `json:"note,omitempty"`
}

// Save appends results to the file that BENCH_RESULTS names, one JSON line each; nothing if it is
// not set.
func Save(results []Result) error {
	file := os.Getenv("BENCH_RESULTS")
	if file == "" {
		return nil
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, r := range results {
		if err := json.NewEncoder(f).Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// Median returns the median of values for each key.
func Median(runs []map[string]float64) map[string]float64 {
	out := map[string]float64{}
	if len(runs) == 0 {
		return out
	}
	for key := range runs[0] {
		var all []float64
		for _, r := range runs {
			all = append(all, r[key])
		}
		out[key] = Quantile(all, 0.5)
	}
	return out
}

// Quantile returns the value below which a share q of all lies; 0 for none.
func Quantile(all []float64, q float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// Number returns the number in an environment variable, or fallback.
func Number(name string, fallback int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return fallback
}

// Keys returns the names of values in order.
func Keys(values map[string]float64) []string { return slices.Sorted(maps.Keys(values)) }
