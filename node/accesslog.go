package node

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/foundation/observe"
)

const (
	accessQueue  = 16384                 // events that may wait for the disk; more are dropped and counted
	accessMoment = 10 * time.Millisecond // events of this long are written together
	accessBlock  = 64 << 10              // bytes of one write
	accessKept   = 5                     // rotated files
)

// accessLog writes one JSON line for each request. It never makes a request wait.
type accessLog struct {
	watcher *observe.Watcher
	out     io.Writer
	file    *rotatingFile // nil when lines go to stdout
	log     *slog.Logger
	lines   []byte // not written yet
	broken  bool   // whether the last write failed
}

// newAccessLog returns a log that writes where config says, or nil if it is off.
func newAccessLog(c Config, o observe.Observer, stdout io.Writer) (*accessLog, error) {
	if c.AccessLog.To == "off" {
		return nil, nil
	}
	a := &accessLog{log: o.Logger(), out: stdout}
	if c.AccessLog.To == "file" {
		var err error
		if a.file, err = openRotating(filepath.Join(c.Data, "logs", "access.log"), c.AccessLog.Size); err != nil {
			return nil, err
		}
		a.out = a.file
	}
	a.watcher = o.Events.Watch(accessQueue, "request")
	o.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "selvage_access_log_dropped_total", Help: "Requests that are not in the access log because the disk was too slow.",
	}, func() float64 { return float64(a.watcher.Lost()) }))
	return a, nil
}

// run writes until ctx ends, then what still waits. It writes all requests of a moment together: a
// system call for each would cost as much as the request.
func (a *accessLog) run(ctx context.Context) {
	defer a.close()
	for {
		select {
		case ev := <-a.watcher.C:
			a.lines = appendEvent(a.lines, ev)
		case <-ctx.Done():
			a.gather()
			return
		}
		select {
		case <-time.After(accessMoment):
		case <-ctx.Done():
		}
		a.gather()
	}
}

// gather writes what waits now.
func (a *accessLog) gather() {
	for range len(a.watcher.C) {
		a.lines = appendEvent(a.lines, <-a.watcher.C)
		if len(a.lines) > accessBlock {
			a.flush()
		}
	}
	a.flush()
}

func (a *accessLog) flush() {
	if len(a.lines) == 0 {
		return
	}
	_, err := a.out.Write(a.lines)
	if err != nil && !a.broken {
		a.log.Error("access log cannot be written, requests go unlogged", "error", err)
	}
	a.broken = err != nil
	a.lines = a.lines[:0]
}

func (a *accessLog) close() {
	a.watcher.Close()
	if a.file != nil {
		a.file.Close()
	}
}

// rotatingFile is a file that moves aside when it is full: name, name.1, ... name.5. A node that is
// being drained appends to the same file as its successor; lines are written whole.
type rotatingFile struct {
	path  string
	limit int64
	f     *os.File
	size  int64
}

func openRotating(path string, limit int64) (*rotatingFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	r := &rotatingFile{path: path, limit: limit}
	return r, r.open()
}

func (r *rotatingFile) open() error {
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("open access log: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	r.f, r.size = f, st.Size()
	return nil
}

// Write appends whole lines and rotates before the file would grow over its limit.
func (r *rotatingFile) Write(p []byte) (int, error) {
	if r.size > 0 && r.size+int64(len(p)) > r.limit {
		if err := r.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := r.f.Write(p)
	r.size += int64(n)
	return n, err
}

func (r *rotatingFile) rotate() error {
	for i := accessKept - 1; i >= 1; i-- {
		os.Rename(fmt.Sprintf("%s.%d", r.path, i), fmt.Sprintf("%s.%d", r.path, i+1))
	}
	if err := os.Rename(r.path, r.path+".1"); err != nil {
		return err
	}
	r.f.Close()
	return r.open()
}

// Close closes the file.
func (r *rotatingFile) Close() error { return r.f.Close() }
