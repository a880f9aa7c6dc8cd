package isolate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"selvage/engine/isolate/wire"
)

// child is a living process of a unit.
type child struct {
	u       *unit
	p       *process
	doors   map[door]*wire.Client
	host    *wire.Client // the dispatcher; nil if it has none
	ping    *wire.Client
	began   time.Time          // by Options.Clock
	end     context.CancelFunc // of its services
	served  sync.WaitGroup
	done    chan struct{} // closed when the process has ended and reason is known
	lock    *os.File      // of the objects; nil if there are none
	content *Unit

	asking asking // of services, but for RPC sessions
	vitals

	mu       sync.Mutex // guards the fields below
	calls    map[*call]struct{}
	tunnels  map[*tunnel]struct{}
	leaving  bool // nothing new comes to it
	stopped  *Stopped
	lastUsed time.Time
	emptied  chan struct{} // closed when nothing is under way, if somebody waits for that
}

// vitals are what the watchdog and others go by.
type vitals struct {
	born    time.Time     // by the system's clock
	took    time.Duration // from its configuration to its first sign of life
	answers atomic.Uint64 // heads of responses that have come
	stuck   atomic.Bool   // found by the watchdog: others take over
	watched bool          // the watchdog looks after it; guarded by the child's mu
}

// call is a request or event under way.
type call struct {
	c        *child
	program  *Program // nil while it is looked up
	began    time.Time
	progress wire.Progress
	answered atomic.Bool // its response's head has come
	culprit  atomic.Bool // set by whoever kills the child over it
	ended    atomic.Bool

	// For the watchdog.
	again   atomic.Bool             // it does no harm if it is made twice, and has no body
	body    atomic.Bool             // it has a body
	deaths  atomic.Int32            // children that it saw end before
	sent    atomic.Int64            // when it went out, as UnixNano; 0: when it began
	readAt  atomic.Int64            // when the child was first seen to have read it, as UnixNano; 0: not yet
	moved   atomic.Bool             // it is to be made again elsewhere
	suspect atomic.Bool             // it was moved as one that may be why the child is stuck
	turn    atomic.Pointer[turn]    // held if it is made again as a suspect; nil: none is
	stopped atomic.Pointer[Stopped] // why it was cut; nil: it was not
}

// bear starts a child of content. The error is *Stopped if the script or the runtime is to blame.
func (u *unit) bear(ctx context.Context, content *Unit, events bool) (*child, error) {
	h := u.h
	ctx, cancel := context.WithTimeout(ctx, h.o.StartWall)
	defer cancel()
	lock, err := lockObjects(ctx, content.Objects)
	if err != nil {
		return nil, err
	}
	if err := h.room(ctx); err != nil {
		closeFile(lock)
		return nil, err
	}
	p, err := h.process(u, content, lock)
	if err != nil {
		h.children.Add(-1)
		closeFile(lock)
		return nil, &Stopped{Reason: ReasonMissing, Detail: err.Error()}
	}
	c := &child{
		u: u, p: p, began: h.o.Clock.Now(), vitals: vitals{born: time.Now()}, lastUsed: h.o.Clock.Now(), done: make(chan struct{}), lock: lock, content: content,
		calls: map[*call]struct{}{}, tunnels: map[*tunnel]struct{}{},
	}
	planner := &planner{unit: content, code: h.o.Code, modules: h.o.Modules, layout: p.layout(h.o.Memory)}
	plan, err := planner.build(ctx, events)
	if err == nil {
		err = c.serve(content)
	}
	if err != nil {
		p.kill()
		c.bury(nil)
		return nil, err
	}
	c.connect(plan)
	if err := c.start(ctx, plan); err != nil {
		c.bury(nil)
		return nil, err
	}
	h.work.Go(func() { c.bury(u.left) })
	if exclusive(content) {
		c.mu.Lock()
		c.watch()
		c.mu.Unlock()
	}
	return c, nil
}

// start feeds the process and watches over its first steps.
func (c *child) start(ctx context.Context, plan *plan) error {
	fed := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { fed <- c.p.feed(ctx, plan.config.Encode(), plan.sockets) }()
	began := time.Now()
	limit := startCPU
	if c.u.probing {
		limit = probeCPU
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-fed:
			if err == nil {
				c.took = time.Since(began)
				return nil
			}
			c.p.kill()
			<-c.p.done
			return startError(c.p, ctx.Err())
		case <-tick.C:
			if used, err := processCPU(c.p.pid()); err == nil && used > limit {
				c.p.kill()
				<-c.p.done
				return &Stopped{Reason: ReasonStart, Culprit: true, Detail: "Script startup exceeded CPU time limit."}
			}
		}
	}
}

// The CPU that a start may take. A script that is seen for the first time has a second, as at
// Cloudflare, beside what the runtime itself needs; one that was accepted is not refused for a
// little more.
const (
	probeCPU = 1100 * time.Millisecond
	startCPU = 3 * time.Second
)

// startError makes an error of what the process said before it ended.
func startError(p *process, late error) *Stopped {
	s := &Stopped{Reason: ReasonStart, Culprit: true, Detail: startText(p.said.String())}
	switch {
	case errors.Is(late, context.DeadlineExceeded):
		s.Detail = "The script did not start in time."
	case p.said.outOfMemory():
		s.Detail = "The script used more memory than allowed while it started."
	case s.Detail == "":
		s.Detail = "The runtime ended while it started: " + p.state.String() + "."
	}
	return s
}

// startText returns what is for the script's owner.
func startText(text string) string {
	var out []string
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		if rest, ok := strings.CutPrefix(line, "service "+programPrefix); ok {
			if _, message, found := strings.Cut(rest, ": "); found {
				line = message
			}
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// serve offers the services of the unit at sockets of this child.
func (c *child) serve(content *Unit) error {
	ctx, end := context.WithCancel(context.Background())
	c.end = end
	for i := range content.Services {
		s := &content.Services[i]
		path := layout{run: c.p.dir}.service(i)
		l, err := net.Listen("unix", path)
		if err != nil {
			return fmt.Errorf("offer service %q: %w", s.Name, err)
		}
		if err := errors.Join(os.Chmod(path, 0o600), c.p.own(path)); err != nil {
			l.Close()
			return fmt.Errorf("offer service %q: %w", s.Name, err)
		}
		if !s.RPC {
			l = &countingListener{l, &c.asking}
		}
		c.served.Go(func() {
			stop := context.AfterFunc(ctx, func() { l.Close() })
			defer stop()
			defer l.Close()
			s.Serve(ctx, l)
		})
	}
	return nil
}

func (c *child) connect(plan *plan) {
	client := func(name string) *wire.Client {
		return &wire.Client{Path: filepath.Join(c.p.dir, name), CFHeader: CFHeader, Mark: markHeader}
	}
	c.doors = make(map[door]*wire.Client, len(plan.doors))
	for d, i := range plan.doors {
		c.doors[d] = client(socketName(i))
	}
	c.ping = client(pingSocket)
	if plan.host {
		c.host = client(hostSocket)
	}
}

// bury waits for the end of the process and takes away what belonged to it. left hears of it
// first, unless it is nil.
func (c *child) bury(left func(*child)) {
	<-c.p.done
	c.mu.Lock()
	c.leaving = true
	if c.stopped == nil {
		c.stopped = c.death()
		c.blame()
		if c.stopped.Reason == ReasonMemory {
			c.u.kills.Add(1) // the runtime ended itself for it, as a kill of ours would have
			c.u.h.metrics.kills.WithLabelValues(string(ReasonMemory)).Inc()
		}
	}
	tunnels := c.tunnels
	c.tunnels = map[*tunnel]struct{}{}
	c.mu.Unlock()
	for t := range tunnels {
		t.conn.Close()
	}
	c.u.noteAlarm(c.content)
	close(c.done)
	if left != nil {
		left(c)
	}
	for _, client := range c.clients() {
		client.Close()
	}
	if c.end != nil {
		c.end()
	}
	c.served.Wait()
	c.p.remove()
	closeFile(c.lock)
	c.u.h.children.Add(-1)
}

func (c *child) clients() []*wire.Client {
	var all []*wire.Client
	for _, client := range c.doors {
		all = append(all, client)
	}
	for _, client := range []*wire.Client{c.ping, c.host} {
		if client != nil {
			all = append(all, client)
		}
	}
	return all
}

// death says why the process ended that nobody killed.
func (c *child) death() *Stopped {
	if c.p.said.outOfMemory() {
		return &Stopped{Reason: ReasonMemory, Detail: "Worker exceeded memory limit."}
	}
	return &Stopped{Reason: ReasonCrash, Detail: c.p.state.String() + ": " + lastLine(c.p.said.String())}
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// kill ends the child at once. What is under way ends with *Stopped; culprits are to blame.
func (c *child) kill(reason Reason, detail string, culprits ...*call) {
	c.mu.Lock()
	c.leaving = true
	if c.stopped == nil {
		c.stopped = &Stopped{Reason: reason, Detail: detail}
		for _, call := range culprits {
			call.culprit.Store(true)
		}
	}
	c.mu.Unlock()
	c.u.kills.Add(1)
	c.u.h.metrics.kills.WithLabelValues(string(reason)).Inc()
	c.p.kill()
}

// begin notes a call, or returns nil if the child is leaving.
func (c *child) begin() *call {
	call := &call{c: c, began: time.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return nil
	}
	c.calls[call] = struct{}{}
	c.watch()
	return call
}

// running returns how many calls are under way; -1 if the child is leaving.
func (c *child) running() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return -1
	}
	return len(c.calls)
}

// finish ends a call. Only the first time counts.
func (call *call) finish() {
	if call.ended.Swap(true) {
		return
	}
	c := call.c
	c.mu.Lock()
	delete(c.calls, call)
	c.used()
	c.mu.Unlock()
}

// used notes that something ended. c.mu is held.
func (c *child) used() {
	c.lastUsed = c.u.h.o.Clock.Now()
	if c.emptied != nil && len(c.calls) == 0 && c.leaving {
		select {
		case <-c.emptied:
		default:
			close(c.emptied)
		}
	}
}

// cpu returns what the process has used so far.
func (c *child) cpu() (time.Duration, error) {
	f := statFields(c.p.pid())
	if len(f) < 15 {
		return 0, os.ErrProcessDone
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	const tick = time.Second / 100 // USER_HZ, the same on all of Linux
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// rss returns the resident memory of the process in bytes.
func (c *child) rss() (int64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(c.p.pid()) + "/statm")
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0, os.ErrProcessDone
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// answersPing asks the child for a sign of life, which needs its one thread but no script.
func (c *child) answersPing(ctx context.Context) error {
	resp, err := c.ping.Do(ctx, &wire.Request{Method: "HEAD", Scheme: "http", Host: "ping", Target: "/"})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}
