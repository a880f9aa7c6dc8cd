package isolate

import (
	"context"
	"os"
	"slices"
	"syscall"
	"time"
)

// Times of the watchdog. Those of a child whose programs may use little CPU are shorter.
const (
	lookEvery   = 10 * time.Millisecond // while something is under way
	lookAtLeast = 2 * time.Millisecond
	lookSlowly  = 250 * time.Millisecond // while there are only sessions
	lookRarely  = time.Second            // while there is nothing, for the sake of alarms
	linger      = 100 * time.Millisecond // of looking after a child that has nothing to do any more

	pingAfter   = 20 * time.Millisecond // of work without an answer
	pongWithin  = 10 * time.Millisecond // or the child is stuck
	relieved    = 50 * time.Millisecond // after this others take over what a stuck child has not read
	pingIdle    = 5 * time.Second       // children that do not work, but have requests, are asked so often
	longestMute = 30 * time.Second      // without a sign of life and without work

	handling = 8 * time.Millisecond // between reading a request and beginning with it, at most

	mostSlack = 100 * time.Millisecond // beyond the limit, if others may have taken part, as garbage of theirs
)

// guard is what the watchdog knows of one child.
type guard struct {
	c      *child
	stat   *os.File // /proc/PID/stat; nil if it cannot be read
	limit  time.Duration
	due    time.Time
	memory int64 // bytes, over which the child is ended
	roomy  int64 // bytes, over which another takes its place
	calls  []*call
	trials map[*call]*trial

	at      time.Time     // of the last look
	cpu     time.Duration // at the last look
	answers uint64        // at the last look
	busy    time.Time     // since when it has been working without a break
	busyCPU time.Duration // at that time
	active  time.Time     // when there last was something to do
	ping    *ping         // under way, or answered and not yet noticed
	pinged  time.Time
	stuck   bool
}

// ping is a question for a sign of life.
type ping struct {
	at   time.Time
	done chan struct{}
}

func newGuard(c *child, now time.Time) *guard {
	g := &guard{c: c, due: now, at: now, busy: now, active: now, pinged: now, trials: map[*call]*trial{}}
	// What a full heap takes, and as much again for buffers and the runtime itself; in the end
	// three times over, for buffers that wait to be collected while another child comes.
	g.roomy, g.memory = 2*c.u.h.o.Memory+80<<20, 4*c.u.h.o.Memory+64<<20
	for i := range c.content.Programs {
		limit := c.content.Programs[i].CPU
		if limit <= 0 {
			limit = c.u.h.o.CPU
		}
		if g.limit == 0 || limit < g.limit {
			g.limit = limit
		}
	}
	g.stat, _ = os.Open(statPath(c.p.pid()))
	g.cpu, _ = processCPU(c.p.pid())
	g.busyCPU, g.answers = g.cpu, c.answers.Load()
	return g
}

func (g *guard) close() {
	if g.stat != nil {
		g.stat.Close()
	}
}

// look sees how the child is. It returns false if nobody needs to look again.
func (g *guard) look(now time.Time) bool {
	c := g.c
	select {
	case <-c.done:
		return false
	default:
	}
	pid := c.p.pid()
	cpu, err := processCPU(pid)
	state, rss := g.status()
	if err != nil || state == 'Z' || state == 0 {
		// It has ended, or nothing can be known; its burial is under way.
		g.due = now.Add(lookEvery)
		return true
	}
	worked := cpu - g.cpu
	last, read := g.survey(now, worked)
	if rss > g.memory {
		c.kill(ReasonMemory, "Worker exceeded memory limit.", g.blame(last)...)
		return false
	}
	if rss > g.roomy && !exclusive(c.content) {
		c.u.renew(c)
	}
	working := state == 'R' || state == 'D' || worked > now.Sub(g.at)*3/10
	if !g.judge(now, cpu, working, last, read) {
		return false
	}
	g.at, g.cpu = now, cpu
	return g.next(now)
}

// next says when to look again. It returns false if there is no need.
func (g *guard) next(now time.Time) bool {
	every := max(lookAtLeast, min(lookEvery, g.limit/5))
	// Looking at very many requests must not take more than a part of the time.
	every += time.Duration(len(g.calls)) * 2 * time.Microsecond
	if len(g.calls) > 0 || g.stuck {
		g.active = now
	} else if now.Sub(g.active) > linger {
		if g.c.unwatch() {
			return false
		}
		every = lookSlowly
		if g.c.tunnelCount() == 0 {
			every = lookRarely
		}
	}
	g.due = now.Add(every)
	return true
}

// survey sees which calls the child has read, and charges them with its work. It returns the one
// read last that has no answer yet, if there is one, and how many there are.
func (g *guard) survey(now time.Time, worked time.Duration) (last *call, read int) {
	g.calls = g.c.appendCalls(g.calls[:0])
	var suspects []*call
	for _, call := range g.calls {
		t := g.trials[call]
		if t == nil {
			t = &trial{}
			g.trials[call] = t
		}
		if t.readAt.IsZero() && g.hasRead(call, now) {
			t.readAt = now
			call.readAt.Store(now.UnixNano())
		}
		if t.readAt.IsZero() || call.answered.Load() {
			continue
		}
		suspects = append(suspects, call)
		if last == nil || later(call, last) {
			last = call
		}
	}
	alone := len(suspects) == 1 && g.c.answers.Load() == g.answers
	for _, call := range suspects {
		if t := g.trials[call]; alone {
			t.sole += worked
		} else {
			t.shared += worked / time.Duration(len(suspects))
		}
	}
	if len(g.trials) > len(g.calls) {
		for call := range g.trials {
			if call.ended.Load() {
				delete(g.trials, call)
			}
		}
	}
	if last == nil {
		last = lastAnswered(g.calls)
	}
	return last, len(suspects)
}

// hasRead tells whether the child has read the call. A body may wait long after the head was read:
// such a call counts as read once the child had a moment's rest, or answered another.
func (g *guard) hasRead(call *call, now time.Time) bool {
	const written = time.Millisecond // by then its head surely is
	switch {
	case call.answered.Load():
		return true
	case !call.progress.Begun() || now.Sub(call.began) < written:
		return false
	case call.body.Load() && call.began.Before(g.busy):
		return true
	}
	return !call.progress.Unread()
}

// later tells whether a was sent, and so read, after b.
func later(a, b *call) bool { return a.sentAt().After(b.sentAt()) }

// together tells whether a was sent so shortly before last that the child may have read last while
// it had not yet begun with a.
func together(a, last *call) bool { return last.sentAt().Sub(a.sentAt()) < handling }

func (call *call) sentAt() time.Time {
	if n := call.sent.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return call.began
}

// lastAnswered returns the call whose answer is under way and came on last.
func lastAnswered(calls []*call) *call {
	var last *call
	for _, call := range calls {
		if call.answered.Load() && (last == nil || call.progress.LastByte().After(last.progress.LastByte())) {
			last = call
		}
	}
	return last
}

// judge finds out whether the child is stuck and does what follows. It returns false if it killed
// the child.
func (g *guard) judge(now time.Time, cpu time.Duration, working bool, last *call, read int) bool {
	c := g.c
	answers := c.answers.Load()
	pong := g.ping != nil && g.ping.answered()
	if pong {
		g.ping = nil
		g.cutOver(read)
	}
	if pong || answers != g.answers || !working {
		g.answers = answers
		g.busy, g.busyCPU = now, cpu
		g.free()
	}
	limit, over := g.limit, false
	if last != nil {
		limit = last.limit()
		if t := g.trials[last]; t != nil {
			over = t.used(limit) >= limit
		}
	}
	quick := min(1, float64(limit)/float64(3*pingAfter))
	after, within := time.Duration(quick*float64(pingAfter)), time.Duration(quick*float64(pongWithin))
	if g.ping == nil {
		asks := working && now.Sub(g.busy) >= after || over || len(g.calls) > 0 && now.Sub(g.pinged) >= pingIdle
		if asks {
			g.ask(now)
		}
		return true
	}
	mute := now.Sub(g.ping.at)
	if !working {
		if mute >= longestMute {
			c.kill(ReasonCrash, "The child gave no sign of life for 30 seconds.", g.blame(last)...)
			return false
		}
		return true
	}
	if mute < within || g.busy.After(g.ping.at) {
		return true
	}
	spent := cpu - g.busyCPU
	slack := min(mostSlack, limit*time.Duration(max(0, read-1)))
	if over || spent >= limit+slack || now.Sub(g.busy) >= 2*limit+time.Second {
		c.kill(ReasonCPU, "Worker exceeded CPU time limit.", g.blame(last)...)
		return false
	}
	if now.Sub(g.busy) >= relieved {
		g.relieve(last)
	}
	return true
}

// ask sends a ping.
func (g *guard) ask(now time.Time) {
	p := &ping{at: now, done: make(chan struct{})}
	g.ping, g.pinged = p, now
	c := g.c
	go func() {
		// It ends with the child at the latest, since that closes the connection.
		ctx, cancel := context.WithTimeout(context.Background(), 2*longestMute)
		defer cancel()
		if c.answersPing(ctx) == nil {
			close(p.done)
		}
	}()
}

func (p *ping) answered() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// cutOver cuts the calls that used more than they may, of a child that is not stuck.
func (g *guard) cutOver(read int) {
	for _, call := range g.calls {
		t := g.trials[call]
		if t == nil || call.answered.Load() {
			continue
		}
		if limit := call.limit(); t.used(limit) >= limit {
			call.cut(&Stopped{Reason: ReasonCPU, Culprit: true, Detail: "Worker exceeded CPU time limit."})
		}
	}
}

// relieve lets others do what the stuck child would have to do, and gives it what CPU they leave.
func (g *guard) relieve(last *call) {
	c := g.c
	if !g.stuck {
		g.stuck = true
		c.stuck.Store(true)
		c.nice(true)
	}
	if exclusive(c.content) {
		return
	}
	accused := g.accused(last)
	for _, call := range g.calls {
		if !call.again.Load() || call.answered.Load() {
			continue
		}
		if slices.Contains(accused, call) {
			if len(accused) == 1 || call.deaths.Load() > 0 && together(call, last) {
				call.turn.Load().leave()
				continue
			}
			// One of them is the cause. Made again one by one, they will show which.
			call.suspect.Store(true)
		}
		call.move()
	}
}

// accused returns the calls that may be the cause if the child is stuck: the one read last, and
// those that were read so shortly before or after it that nobody knows the order.
func (g *guard) accused(last *call) []*call {
	if last == nil {
		if len(g.calls) == 1 && g.calls[0].body.Load() {
			return g.calls
		}
		return nil
	}
	all := []*call{last}
	for _, call := range g.calls {
		if call != last && !call.answered.Load() && call.readAt.Load() != 0 && (together(call, last) || call.readAt.Load() == last.readAt.Load()) {
			all = append(all, call)
		}
	}
	return all
}

// free ends that.
func (g *guard) free() {
	if g.stuck {
		g.stuck = false
		g.c.stuck.Store(false)
		g.c.nice(false)
	}
}

// nice lets the child have less than others, or as much. Only root can take it back, so
// nobody else does it.
func (c *child) nice(on bool) {
	if os.Geteuid() != 0 {
		return
	}
	level := 0
	if on {
		level = 10 // a tenth of what others get
	}
	_ = syscall.Setpriority(syscall.PRIO_PGRP, c.p.pid(), level)
}

// blame returns the calls that are the cause of a kill. Of several that may be it, those are to blame
// that saw a child end before; the others are made again one by one, if they can be.
func (g *guard) blame(last *call) []*call {
	accused := g.accused(last)
	if len(accused) < 2 {
		return accused
	}
	var culprits []*call
	for _, call := range accused {
		if call.deaths.Load() > 0 && together(call, last) {
			culprits = append(culprits, call)
		}
	}
	return culprits
}

// blame notes which calls caused the end of a child that ended by itself. c.mu is held.
func (c *child) blame() {
	var last *call
	for call := range c.calls {
		if !call.answered.Load() && (last == nil || later(call, last)) {
			last = call
		}
	}
	if last == nil {
		return
	}
	alone := true
	for call := range c.calls {
		if call.answered.Load() || !together(call, last) && call.readAt.Load() != last.readAt.Load() {
			continue
		}
		alone = alone && call == last
		if call.deaths.Load() > 0 && together(call, last) {
			call.culprit.Store(true)
		}
	}
	if alone {
		last.culprit.Store(true)
	}
}

// appendCalls appends what is under way.
func (c *child) appendCalls(to []*call) []*call {
	c.mu.Lock()
	defer c.mu.Unlock()
	to = slices.Grow(to, len(c.calls))
	for call := range c.calls {
		to = append(to, call)
	}
	return to
}

func (c *child) tunnelCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.tunnels)
}
