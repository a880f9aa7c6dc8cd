package main

import (
	"time"

	"selvage/bench/rig"
)

// parts says what the samples of a CPU profile are counted as.
var parts = []rig.Part{
	{Name: "garbage collection", Words: []string{"runtime.gcBgMarkWorker", "runtime.gcAssistAlloc", "runtime.bgsweep", "runtime.gcStart", "runtime.deductSweepCredit"}},
	{Name: "access log", Words: []string{"selvage/node.(*accessLog)", "selvage/edge.accessEvent", "selvage/edge.(*Server).observeRequest"}},
	{Name: "system calls to origin", Words: []string{"net/http.(*persistConn).readLoop+syscall.", "net/http.(*persistConn).writeLoop+syscall.", "selvage/edge.(*originConn)+syscall."}},
	{Name: "system calls to client", Words: []string{"syscall.write", "syscall.read", "syscall.sendfile", "syscall.Read", "syscall.Write"}},
	{Name: "TLS", Words: []string{"crypto/tls."}},
	{Name: "scheduler, timers, contexts", Words: []string{"runtime.schedule", "runtime.findRunnable", "runtime.mcall", "runtime.goready", "runtime.netpoll", "runtime.sysmon", "runtime.chansend", "runtime.selectgo", " time.", "context."}},
	{Name: "net/http to origin", Words: []string{"net/http.(*Transport)", "net/http.(*persistConn)", "net/http.(*http2Transport)", "net/http.(*http2ClientConn)"}},
	{Name: "cache", Words: []string{"selvage/product/cache"}},
	{Name: "edge and phases", Words: []string{"selvage/"}},
	{Name: "net/http to client", Words: []string{"net/http."}},
}

// profile loads Selvage once more and tells what its CPU time went to, in microseconds a request.
func profile(dir string, p *peer, w workload, seconds int, perRequest float64) (rig.Result, error) {
	shares, err := rig.Profile(dir, p.admin, seconds, parts, func() error {
		_, err := load(dir, p, w, time.Duration(seconds+2)*time.Second)
		return err
	})
	r := rig.Result{Bench: "profile", Case: w.name, Peer: p.name, Values: map[string]float64{}, Runs: 1}
	for name, share := range shares {
		r.Values[name] = perRequest * share
	}
	return r, err
}
