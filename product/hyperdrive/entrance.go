package hyperdrive

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// entrance is how clients come in at one listener.
type entrance struct {
	ctx     context.Context //nolint // when it ends nobody comes in any more, and those who are in leave as soon as they may
	crowded []byte          // what those beyond the slots are told
	drain   time.Duration   // that those who are in may take to leave
	leave   func()          // called when those who are in may leave, and when they have to

	life  context.Context    //nolint // ends when those who are in have to leave
	cut   context.CancelFunc // ends life
	slots chan struct{}
	open  sync.WaitGroup
	mu    sync.Mutex // guards the field below
	shut  bool
}

func (p *Hyperdrive) entrance(ctx context.Context, max int, crowded []byte) *entrance {
	e := &entrance{ctx: ctx, crowded: crowded, drain: p.o.Drain, leave: p.sessions.Leave, slots: make(chan struct{}, max)}
	e.life, e.cut = context.WithCancel(context.WithoutCancel(ctx))
	return e
}

// admit has f serve c, unless there are too many already or the entrance is shut.
func (e *entrance) admit(c net.Conn, f func(life context.Context, c net.Conn)) bool {
	select {
	case e.slots <- struct{}{}:
	default:
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.shut {
		<-e.slots
		return false
	}
	e.open.Go(func() {
		defer func() { <-e.slots }()
		defer c.Close()
		f(e.life, c)
	})
	return true
}

// each calls f with the connections to l until ctx ends; then it closes l, and returns when all of them
// have ended. life ends when they have to.
func (e *entrance) each(l net.Listener, f func(life context.Context, c net.Conn)) error {
	var ending sync.WaitGroup
	ending.Go(func() { e.end(l) })
	defer ending.Wait()
	defer e.cut()
	defer l.Close()
	defer e.close()
	for {
		c, err := accept(e.ctx, l)
		if c == nil {
			return err
		}
		if !e.admit(c, f) {
			c.Write(e.crowded) // fits into the socket's buffer
			c.Close()
		}
	}
}

// close lets nobody in any more and waits for those who are.
func (e *entrance) close() {
	e.mu.Lock()
	e.shut = true
	e.mu.Unlock()
	e.open.Wait()
}

// end waits until ctx ends, and sees to it that everybody leaves then.
func (e *entrance) end(l net.Listener) {
	select {
	case <-e.ctx.Done():
	case <-e.life.Done():
		return
	}
	l.Close()
	e.leave()
	late := time.NewTimer(e.drain)
	defer late.Stop()
	select {
	case <-late.C:
		e.cut()
		e.leave()
	case <-e.life.Done():
	}
}

// accept waits for the next connection; nil if there are no more.
func accept(ctx context.Context, l net.Listener) (net.Conn, error) {
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			return c, nil
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil, nil
		case !passing(err):
			return nil, err
		}
		select { // until somebody closes a file
		case <-time.After(acceptPause):
		case <-ctx.Done():
		}
	}
}

const acceptPause = 50 * time.Millisecond

// passing tells whether a listener that fails with err may soon work again.
func passing(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ECONNABORTED)
}

// gate is an entrance that may not be there yet.
type gate struct {
	there chan struct{} // closed once it is
	e     *entrance
}

// open says what the entrance is. Call it once.
func (g *gate) open(e *entrance) {
	g.e = e
	close(g.there)
}

// await returns the entrance, or nil if it is not there in time.
func (g *gate) await(patience time.Duration) *entrance {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-g.there:
		return g.e
	case <-t.C:
		return nil
	}
}
