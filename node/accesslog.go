package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/foundation/observe"
)

const (
	accessQueue = 8192 // events that may wait for the disk; more are dropped and counted
	accessKept  = 5    // rotated files
)

// accessLog writes one JSON line for each request. It never makes a request wait.
type accessLog struct {
	watcher *observe.Watcher
	lines   *slog.Logger
	out     *bufio.Writer
	target  io.Writer
	file    *rotatingFile // nil when lines go to stdout
	log     *slog.Logger
}

// newAccessLog returns a log that writes where config says, or nil if it is off.
func newAccessLog(c Config, o observe.Observer, stdout io.Writer) (*accessLog, error) {
	if c.AccessLog == "off" {
		return nil, nil
	}
	a := &accessLog{log: o.Logger(), target: stdout}
	if c.AccessLog == "file" {
		var err error
		if a.file, err = openRotating(filepath.Join(c.Data, "logs", "access.log"), c.AccessLogSize); err != nil {
			return nil, err
		}
		a.target = a.file
	}
	a.out = bufio.NewWriterSize(a.target, 64<<10)
	a.lines = slog.New(slog.NewJSONHandler(a.out, &slog.HandlerOptions{ReplaceAttr: plainLine}))
	a.watcher = o.Events.Watch(accessQueue, "request")
	o.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "selvage_access_log_dropped_total", Help: "Requests that are not in the access log because the disk was too slow.",
	}, func() float64 { return float64(a.watcher.Lost()) }))
	return a, nil
}

// plainLine leaves level and message out, for every line is a request, and writes times in seconds.
func plainLine(groups []string, at slog.Attr) slog.Attr {
	if at.Value.Kind() == slog.KindDuration {
		return slog.Float64(at.Key, at.Value.Duration().Seconds())
	}
	if len(groups) == 0 && (at.Key == slog.LevelKey || at.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return at
}

// run writes until ctx ends, then what still waits.
func (a *accessLog) run(ctx context.Context) error {
	broken := false
	for {
		var ev observe.Event
		select {
		case ev = <-a.watcher.C:
		case <-ctx.Done():
			return errors.Join(a.drain(), a.close())
		}
		a.write(ev)
		if len(a.watcher.C) > 0 && a.out.Available() > 8<<10 {
			continue
		}
		err := a.out.Flush()
		if err != nil && !broken {
			a.log.Error("access log cannot be written, requests go unlogged", "error", err)
		}
		if broken = err != nil; broken {
			a.out.Reset(a.target)
		}
	}
}

func (a *accessLog) drain() error {
	for len(a.watcher.C) > 0 {
		a.write(<-a.watcher.C)
	}
	return a.out.Flush()
}

func (a *accessLog) close() error {
	a.watcher.Close()
	if a.file == nil {
		return nil
	}
	return a.file.Close()
}

func (a *accessLog) write(ev observe.Event) {
	attrs := append(make([]slog.Attr, 0, len(ev.Attrs)+2), slog.String("account", ev.Account), slog.String("zone", ev.Zone))
	a.lines.LogAttrs(context.Background(), slog.LevelInfo, "", append(attrs, ev.Attrs...)...)
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
