package isolate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"selvage/engine/isolate/sandbox"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/foundation/observe"
)

// Options say how children are run.
type Options struct {
	Runtime string // path of workerd, see FindRuntime
	RunDir  string // for sockets; short, as paths of unix sockets have at most 107 bytes

	// Code returns the bytes of a module by their digest. They are not changed.
	Code func(ctx context.Context, digest string) ([]byte, error)
	// Modules are the sources of what Binding.Wrapper names: ES modules whose default export makes
	// the binding from its inner ones.
	Modules map[string]string
	// Failed hears that a unit's content did not start; if an older one worked, that goes on. It
	// must not block.
	Failed func(u *Unit, why *Stopped)

	Walls     sandbox.Report // walls around children; the zero value builds none
	IdleAfter time.Duration  // without requests a child is ended after this; default 60 s
	HandOver  time.Duration  // what is under way gets so long to finish when a child with objects is to end, others at least 30 s; default 10 s
	StartWall time.Duration  // a start may take so long; default 30 s
	Memory    int64          // heap of an isolate in bytes; default 128 MiB
	CPU       time.Duration  // of a request, for programs that name none; default 30 s
	Spares    int            // processes that wait for a unit; default 1, -1 for none
	Children  int            // that live at once; default what three quarters of the machine's memory hold
	Replicas  int            // children of a busy stateless unit; default the number of cores

	Clock   clock.Clock
	Observe observe.Observer
}

func (o Options) defaults() Options {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&o.IdleAfter, time.Minute)
	set(&o.HandOver, 10*time.Second)
	set(&o.StartWall, 30*time.Second)
	set(&o.CPU, 30*time.Second)
	if o.Memory <= 0 {
		o.Memory = 128 << 20
	}
	if o.Spares == 0 {
		o.Spares = 2
	}
	if o.Children <= 0 {
		total, _ := memory()
		o.Children = roomFor(total)
	}
	if o.Replicas <= 0 {
		o.Replicas = runtime.NumCPU()
	}
	return o
}

// Host runs units. Use New; safe for concurrent use.
type Host struct {
	o        Options
	watchdog *watchdog
	log      *slog.Logger
	dir      string // of this node process, under RunDir
	lock     *os.File
	starter  *starter
	metrics  *metrics

	life context.Context // ends with Close
	end  context.CancelFunc
	work sync.WaitGroup // children, hand-overs, services

	serial   atomic.Uint64 // of run directories
	children atomic.Int64  // that live or start
	yielded  atomic.Bool   // see Yield

	mu     sync.Mutex // guards the fields below
	units  map[string]*unit
	spares []*process
	closed bool
}

// New returns a host, after removing what a node that was killed left in RunDir.
func New(o Options) (*Host, error) {
	o = o.defaults()
	if o.Code == nil {
		return nil, errors.New("isolate: Options.Code is missing")
	}
	if !executable(o.Runtime) {
		return nil, fmt.Errorf("isolate: the runtime %q is not a program", o.Runtime)
	}
	runDir, err := filepath.Abs(o.RunDir)
	if err != nil {
		return nil, err
	}
	o.RunDir = runDir
	dir, lock, err := claim(runDir)
	if err != nil {
		return nil, err
	}
	h := &Host{o: o, log: o.Observe.Logger(), dir: dir, lock: lock, units: map[string]*unit{}, starter: newStarter(), watchdog: newWatchdog()}
	h.life, h.end = context.WithCancel(context.Background())
	h.metrics = newMetrics(h)
	o.Observe.Register(h.metrics)
	return h, nil
}

// Run keeps spares ready, ends idle children and watches over the others until ctx ends. Then it
// ends every child, as Close does.
func (h *Host) Run(ctx context.Context) error {
	defer h.Close()
	var work sync.WaitGroup
	for _, task := range []func(context.Context){h.keepSpares, h.keepHouse, h.keepReplicas, h.watch} {
		work.Go(func() { task(ctx) })
	}
	work.Wait()
	return nil
}

// Close ends all children and removes what they had. Requests under way fail.
func (h *Host) Close() {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		h.work.Wait()
		return
	}
	h.closed = true
	units, spares := h.units, h.spares
	h.units, h.spares = map[string]*unit{}, nil
	h.mu.Unlock()
	h.end()
	for _, u := range units {
		u.drop()
	}
	for _, s := range spares {
		s.kill()
		s.remove()
	}
	h.work.Wait()
	h.starter.close()
	os.RemoveAll(h.dir)
	h.lock.Close()
}

var errClosed = fault.New(fault.Unavailable, "This node is shutting down; try again.")

// Set declares a unit. It is started when something is first asked of it, or by Start. A unit with
// the same key and another content takes the place of the old one: beside it, or, if it is
// exclusive, after it; what is asked meanwhile waits.
func (h *Host) Set(u Unit) {
	print := u.print()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	if old := h.units[u.Key]; old != nil {
		old.replace(&u, print)
		return
	}
	h.units[u.Key] = newUnit(h, &u, print)
}

// Drop retires a unit: what is under way may finish within Options.HandOver, or 30 s if it is stateless, then
// its children end.
func (h *Host) Drop(key string) {
	h.mu.Lock()
	u := h.units[key]
	delete(h.units, key)
	if u != nil && !h.closed {
		h.work.Go(u.drop)
	}
	h.mu.Unlock()
}

// Start makes a unit live and returns once it answers, or *Stopped with ReasonStart.
func (h *Host) Start(ctx context.Context, key string) error {
	u, err := h.unit(key)
	if err != nil {
		return err
	}
	call, err := u.acquire(ctx, false)
	if err != nil {
		return err
	}
	call.finish()
	return nil
}

// Kill ends the children of a unit at once; the next request starts another.
func (h *Host) Kill(key, why string) {
	u, err := h.unit(key)
	if err != nil {
		return
	}
	for _, c := range u.living() {
		c.kill(ReasonKilled, why)
	}
}

func (h *Host) unit(key string) (*unit, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errClosed
	}
	if u := h.units[key]; u != nil {
		return u, nil
	}
	return nil, fault.New(fault.NotFound, "There is no unit %q.", key)
}

// all returns every unit.
func (h *Host) all() []*unit {
	h.mu.Lock()
	defer h.mu.Unlock()
	units := make([]*unit, 0, len(h.units))
	for _, u := range h.units {
		units = append(units, u)
	}
	return units
}

// print is a digest of all that makes a child what it is.
func (u *Unit) print() string {
	// Functions have no content: services are told apart by name and kind.
	type service struct {
		Name       string
		Proxy, RPC bool
	}
	services := make([]service, len(u.Services))
	for i, s := range u.Services {
		services[i] = service{s.Name, s.Proxy, s.RPC}
	}
	sum := sha256.Sum256([]byte(mustJSON([]any{u.Tenant, u.Programs, services, u.Objects})))
	return hex.EncodeToString(sum[:])
}

// mustJSON is for values that cannot fail to be written.
func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		// Only a malformed RawMessage can get here; it then tells itself apart by its error.
		return fmt.Sprintf("%q", err)
	}
	return string(b)
}
