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
		if used-before < look/5 && c.asking.Load() == 0 && c.tunnelCount() == 0 {
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

// countingListener counts connections that are open.
type countingListener struct {
	net.Listener
	open *atomic.Int64
}

// Accept returns the next connection.
func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.open.Add(1)
	free := sync.OnceFunc(func() { l.open.Add(-1) })
	if u, ok := c.(*net.UnixConn); ok {
		return &countedConn{u, free}, nil
	}
	free()
	return c, nil
}

type countedConn struct {
	*net.UnixConn
	free func()
}

// Close closes the connection.
func (c *countedConn) Close() error {
	c.free()
	return c.UnixConn.Close()
}
