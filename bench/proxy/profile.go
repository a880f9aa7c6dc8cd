package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"selvage/bench/rig"
)

// parts says what the samples of a CPU profile are counted as: the first line of which a sample's
// stack contains one of the words.
var parts = []struct {
	name  string
	words []string
}{
	{"garbage collection", []string{"runtime.gcBgMarkWorker", "runtime.gcAssistAlloc", "runtime.bgsweep", "runtime.gcStart", "runtime.deductSweepCredit"}},
	{"access log", []string{"selvage/node.(*accessLog)", "selvage/edge.accessEvent", "selvage/edge.(*Server).observeRequest"}},
	{"system calls to origin", []string{"net/http.(*persistConn).readLoop+syscall.", "net/http.(*persistConn).writeLoop+syscall.", "selvage/edge.(*originConn)+syscall."}},
	{"system calls to client", []string{"syscall.write", "syscall.read", "syscall.sendfile", "syscall.Read", "syscall.Write"}},
	{"TLS", []string{"crypto/tls."}},
	{"scheduler, timers, contexts", []string{"runtime.schedule", "runtime.findRunnable", "runtime.mcall", "runtime.goready", "runtime.netpoll", "runtime.sysmon", "runtime.chansend", "runtime.selectgo", " time.", "context."}},
	{"net/http to origin", []string{"net/http.(*Transport)", "net/http.(*persistConn)", "net/http.(*http2Transport)", "net/http.(*http2ClientConn)"}},
	{"cache", []string{"selvage/product/cache"}},
	{"edge and phases", []string{"selvage/"}},
	{"net/http to client", []string{"net/http."}},
}

// profile loads Selvage once more and tells what its CPU time went to, in microseconds a request.
func profile(dir string, p *peer, w workload, seconds int, perRequest float64) (rig.Result, error) {
	file := filepath.Join(dir, "cpu.pprof")
	failed := make(chan error, 1)
	go func() {
		time.Sleep(500 * time.Millisecond) // past the warm-up
		failed <- fetch(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", p.admin, seconds), file)
	}()
	if _, err := load(dir, p, w, time.Duration(seconds+2)*time.Second); err != nil {
		return rig.Result{}, err
	}
	if err := <-failed; err != nil {
		return rig.Result{}, err
	}
	out, err := exec.Command("go", "tool", "pprof", "-traces", file).Output()
	if err != nil {
		return rig.Result{}, fmt.Errorf("go tool pprof: %w", err)
	}
	spent, total := map[string]time.Duration{}, time.Duration(0)
	for sample := range strings.SplitSeq(string(out), "-----------+") {
		_, sample, _ = strings.Cut(sample, "\n")
		value, _, _ := strings.Cut(strings.TrimSpace(sample), " ")
		if took, err := time.ParseDuration(value); err == nil {
			spent[partOf(sample)] += took
			total += took
		}
	}
	r := rig.Result{Bench: "profile", Case: w.name, Peer: p.name, Values: map[string]float64{}, Runs: 1}
	for name, took := range spent {
		r.Values[name] = perRequest * took.Seconds() / total.Seconds()
	}
	return r, nil
}

func partOf(stack string) string {
	for _, part := range parts {
		for _, word := range part.words {
			first, second, _ := strings.Cut(word, "+")
			if strings.Contains(stack, first) && strings.Contains(stack, second) {
				return part.name
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
