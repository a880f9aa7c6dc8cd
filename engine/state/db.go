// Package state is the embedded store of a node: ordered keys and values in one directory, where
// whatever was acknowledged survives kill -9 and a power cut.
//
// It is Pebble with synced writes and group commit, tuned to stay small while idle. Every WAL
// record, block and manifest entry of Pebble carries a checksum, and the WAL's sync offsets tell a
// torn tail (never acknowledged) from damage in the middle (an error at Open), so values need no
// checksum of their own.
package state

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"selvage/foundation/fault"
	"selvage/foundation/observe"
)

const (
	defaultCache    = 1 << 20 // what is read often is held in memory by the callers already
	defaultMemTable = 2 << 20 // larger batches bypass the memtable and go straight to a table
	maxOpenFiles    = 128
)

// Options tune a DB. The zero value is right for a node.
type Options struct {
	Observe observe.Observer

	// Name is the store's in metrics. Default: control.
	Name string

	// CacheBytes is the memory for blocks of tables. Default: 1 MiB.
	CacheBytes int64

	// MemTableBytes is the size of one of up to four tables in memory. Default: 2 MiB.
	MemTableBytes uint64

	// LockWait is how long Open waits for another process to let go of the directory, as during a
	// takeover. Default: not at all.
	LockWait time.Duration

	// BallastBytes are kept allocated and given up when the disk is full, so that writes under way
	// still find room. Default: 16 MiB, or a 16th of the filesystem if that is less.
	BallastBytes int64

	// Trouble is told why the store takes no writes, when the disk is full or failed, and nil when it
	// takes them again. It must not call the store. Default: only the log is told.
	Trouble func(why error)

	// FS replaces the filesystem, without lock file and ballast; for tests that simulate power cuts.
	// Default: the disk.
	FS vfs.FS
}

// DB is an open store. Safe for concurrent use. Close it when done.
type DB struct {
	dir     string
	log     *slog.Logger
	pebble  *pebble.DB
	lock    *dirLock // nil with Options.FS
	room    *room
	metrics metrics
	trouble func(why error)

	opening atomic.Bool
	broken  atomic.Pointer[fault.Error] // set once, when Pebble can no longer go on

	mu     sync.Mutex // guards the fields below
	closed bool
	users  int           // calls under way
	idle   chan struct{} // closed when the last user leaves a closed store
}

type metrics struct {
	sync   prometheus.Histogram
	bytes  prometheus.Counter
	full   prometheus.GaugeFunc
	broken prometheus.GaugeFunc
}

// Open opens or makes the store in dir. A directory that another process has open is a
// fault.Conflict that names its process; a damaged one is an error that says so.
func Open(dir string, o Options) (*DB, error) {
	o = o.withDefaults()
	d := &DB{dir: dir, log: o.Observe.Logger(), trouble: o.Trouble, idle: make(chan struct{})}
	if d.trouble == nil {
		d.trouble = func(error) {}
	}
	base := o.FS
	if base == nil {
		base = vfs.Default
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the directory of the store: %w", err)
		}
		lock, err := lockDir(dir, o.LockWait)
		if err != nil {
			return nil, err
		}
		d.lock = lock
		d.room = newRoom(d, o.BallastBytes)
	}
	fs := base
	if d.room != nil {
		fs = vfs.OnDiskFull(base, d.room.release)
	}
	if err := d.open(fs, o); err != nil {
		d.lock.release()
		return nil, d.explain(err)
	}
	d.room.restore()
	d.register(o)
	return d, nil
}

func (o Options) withDefaults() Options {
	if o.Name == "" {
		o.Name = "control"
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCache
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = defaultMemTable
	}
	return o
}

// open opens Pebble; what Pebble holds to be fatal comes back as an error.
func (d *DB) open(fs vfs.FS, o Options) (err error) {
	defer func() {
		if p := recover(); p != nil {
			var ok bool
			if err, ok = p.(error); !ok {
				err = fmt.Errorf("%v", p)
			}
		}
	}()
	d.opening.Store(true)
	cache := pebble.NewCache(o.CacheBytes)
	defer cache.Unref()
	d.pebble, err = pebble.Open(filepath.Join(d.dir, "pebble"), &pebble.Options{
		FS:                          fence{fs, d},
		Cache:                       cache,
		MemTableSize:                o.MemTableBytes,
		MemTableStopWritesThreshold: 4,
		MaxOpenFiles:                maxOpenFiles,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 1 },
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      pebbleLog{d},
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) {
				if !vfs.IsNoSpaceError(err) { // of a full disk the log knows already
					d.log.Error("background work of the store failed", "dir", d.dir, "error", err)
				}
			},
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				d.log.Error("the store is damaged", "dir", d.dir, "file", i.Path, "error", i.Details)
			},
		},
	})
	d.opening.Store(false)
	return err
}

func (d *DB) explain(err error) error {
	switch {
	case pebble.IsCorruptionError(err):
		return fault.Wrap(err, fault.Internal, "The store in %s is damaged. Move that directory away and restore a copy of it, or start with an empty one.", d.dir)
	case vfs.IsNoSpaceError(err):
		return fault.Wrap(err, fault.Unavailable, "The disk under %s is full. Free some space there, then start again.", d.dir)
	}
	return fmt.Errorf("open the store in %s: %w", d.dir, err)
}

func (d *DB) register(o Options) {
	labels := prometheus.Labels{"store": o.Name}
	d.metrics = metrics{
		sync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "selvage_state_commit_seconds", Help: "Time from a write's entry in the log until it was on disk.", ConstLabels: labels,
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 16),
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "selvage_state_written_bytes_total", Help: "Bytes of batches written to the store.", ConstLabels: labels,
		}),
		full: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "selvage_state_disk_full", Help: "1 while writes are refused because the disk is full.", ConstLabels: labels,
		}, func() float64 { return oneIf(d.room.isFull()) }),
		broken: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "selvage_state_broken", Help: "1 when the store stopped working and the node has to be restarted.", ConstLabels: labels,
		}, func() float64 { return oneIf(d.broken.Load() != nil) }),
	}
	o.Observe.Register(d.metrics.sync, d.metrics.bytes, d.metrics.full, d.metrics.broken)
}

func oneIf(claim bool) float64 {
	if claim {
		return 1
	}
	return 0
}

// Dir returns the directory of the store.
func (d *DB) Dir() string { return d.dir }

// Err tells why the store takes no writes for good (its disk failed, it was closed), or nil. A full
// disk is not such a reason: it passes.
func (d *DB) Err() error {
	if err := d.broken.Load(); err != nil {
		return err
	}
	if err := d.enter(); err != nil {
		return err
	}
	d.leave()
	return nil
}

// enter keeps Close from closing Pebble until leave.
func (d *DB) enter() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fault.New(fault.Unavailable, "The store in %s is closed: the node is stopping.", d.dir)
	}
	d.users++
	return nil
}

func (d *DB) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.users--; d.closed && d.users == 0 {
		close(d.idle)
	}
}

// Close waits for what is under way and closes the store. The directory may then be opened by
// another process.
func (d *DB) Close() error {
	if !d.shut() {
		return nil
	}
	defer d.lock.release()
	<-d.idle
	if d.broken.Load() != nil {
		// Pebble may hold its locks for ever; the process is about to end anyway.
		return nil
	}
	if err := d.pebble.Close(); err != nil {
		return fmt.Errorf("close the store in %s: %w", d.dir, err)
	}
	return nil
}

// stopping tells whether Close was called.
func (d *DB) stopping() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

// shut lets nobody enter any more; false if that was so before.
func (d *DB) shut() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.closed = true
	if d.users == 0 {
		close(d.idle)
	}
	return true
}

// fail takes the store out of use: what Pebble knows about the disk can no longer be trusted.
// Reads of what was loaded before, and so the whole edge, go on.
func (d *DB) fail(cause error) *fault.Error {
	err := fault.Wrap(cause, fault.Unavailable, "The store in %s stopped working. Look at its disk, then restart the node; it serves on with the configuration it has.", d.dir)
	if d.broken.CompareAndSwap(nil, err) {
		d.log.Error("the store stopped working and takes no more writes", "dir", d.dir, "error", cause)
		d.trouble(err)
	}
	return d.broken.Load()
}

// pebbleLog gives Pebble's fatal errors a milder end than that of the whole process.
type pebbleLog struct{ d *DB }

func (l pebbleLog) Infof(string, ...any) {}

func (l pebbleLog) Errorf(format string, args ...any) {
	l.d.log.Warn("store", "message", fmt.Sprintf(format, args...))
}

// Fatalf must not return. On a caller's goroutine it panics, and that call recovers; a background
// goroutine of Pebble stays here, for nothing that it holds may be used again.
func (l pebbleLog) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	if l.d.opening.Load() {
		panic(err)
	}
	fatal := l.d.fail(err)
	if strings.HasPrefix(format, "pebble: fatal commit error") {
		panic(fatal)
	}
	select {}
}
