package isolate

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// endGrace is what a process gets to end by itself when nothing is under way: an RPC session that
// is still open would keep it for ever.
const endGrace = time.Second

// lastAnswers is how long a stateless child that others have replaced may go on with what it had begun,
// as long as at Cloudflare: nobody waits for its end.
const lastAnswers = 30 * time.Second

// grace returns how long a child of content may go on when another takes its place.
func (h *Host) grace(content *Unit) time.Duration {
	if exclusive(content) {
		return h.o.HandOver
	}
	return max(h.o.HandOver, lastAnswers)
}

// retire ends the child when nothing is under way, or after limit. What it does after its answers
// (waitUntil) is let finish, as far as that can be seen: it computes, or asks services. Sessions of
// a stateless child may last until limit, those of objects end at once, as others wait.
func (c *child) retire(limit time.Duration) {
	c.mu.Lock()
	c.leaving = true
	if c.emptied == nil {
		c.emptied = make(chan struct{})
		if len(c.calls) == 0 {
			close(c.emptied)
		}
	}
	emptied := c.emptied
	c.mu.Unlock()
	if limit > 0 {
		ctx, cancel := context.WithTimeout(c.u.h.life, limit)
		c.settle(ctx, emptied)
		cancel()
	}
	c.bidFarewell(c.u.h.life)
	c.closeTunnels()
	c.mu.Lock()
	if c.stopped == nil {
		c.stopped = &Stopped{Reason: ReasonKilled, Detail: "The child made room for another."}
	}
	c.mu.Unlock()
	if limit == 0 || c.u.h.life.Err() != nil {
		c.p.kill()
	} else {
		c.p.end(endGrace)
	}
	<-c.done
}

// settle waits until the child has nothing left to do, or ctx ends.
func (c *child) settle(ctx context.Context, emptied chan struct{}) {
	if exclusive(c.content) {
		c.bidFarewell(ctx)
		c.closeTunnels()
	}
	select {
	case <-emptied:
	case <-ctx.Done():
		return
	case <-c.done:
		return
	}
	const look = 25 * time.Millisecond
	t := time.NewTicker(look)
	defer t.Stop()
	before, _ := processCPU(c.p.pid())
	for quiet := 0; quiet < 2; {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		case <-c.done:
			return
		}
		used, _ := processCPU(c.p.pid())
		if used-before < look/5 && !c.asking.waits() && c.tunnelCount() == 0 {
			quiet++
		} else {
			quiet = 0
		}
		before = used
	}
}

func (c *child) closeTunnels() {
	c.mu.Lock()
	tunnels := make([]*tunnel, 0, len(c.tunnels))
	for t := range c.tunnels {
		tunnels = append(tunnels, t)
	}
	c.mu.Unlock()
	for _, t := range tunnels {
		t.conn.Close()
	}
}

// asking is what a child asks of services.
type asking struct {
	open    atomic.Int64 // connections
	waiting atomic.Int64 // those of them on which the child was the last to say something
	told    atomic.Int64 // when it was last told something, as UnixNano
}

// waits tells whether the child is being answered. The runtime keeps connections for a while that
// nothing is asked on any more; an answer that pauses for long looks like one of those.
func (a *asking) waits() bool {
	const pause = 50 * time.Millisecond
	return a.waiting.Load() > 0 || time.Since(time.Unix(0, a.told.Load())) < pause
}

// countingListener counts connections.
type countingListener struct {
	net.Listener
	asking *asking
}

// Accept returns the next connection.
func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return c, nil
	}
	l.asking.open.Add(1)
	return &countedConn{UnixConn: u, asking: l.asking}, nil
}

type countedConn struct {
	*net.UnixConn
	asking  *asking
	waiting atomic.Bool
	once    sync.Once
}

// Read reads what the child says.
func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.UnixConn.Read(p)
	if n > 0 && !c.waiting.Swap(true) {
		c.asking.waiting.Add(1)
	}
	return n, err
}

// Write tells the child something.
func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.UnixConn.Write(p)
	c.answered()
	return n, err
}

func (c *countedConn) answered() {
	c.asking.told.Store(time.Now().UnixNano())
	if c.waiting.Swap(false) {
		c.asking.waiting.Add(-1)
	}
}

// Close closes the connection.
func (c *countedConn) Close() error {
	c.once.Do(func() {
		c.answered()
		c.asking.open.Add(-1)
	})
	return c.UnixConn.Close()
}
