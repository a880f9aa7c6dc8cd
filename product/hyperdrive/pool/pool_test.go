package pool_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"selvage/product/hyperdrive/pool"
)

type conn struct {
	dead, closed atomic.Bool
}

func (c *conn) Alive() bool  { return !c.dead.Load() }
func (c *conn) Close() error { c.closed.Store(true); return nil }

// sweeping sweeps a pool until the returned function is called.
func sweeping(p *pool.Pool) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		t := time.NewTicker(250 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case now := <-t.C:
				p.Sweep(now)
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); work.Wait(); p.Close() }
}

func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool.New(pool.Options{Limit: 1, Dial: func(context.Context) (pool.Conn, error) { return &conn{}, nil }})
		defer sweeping(p)()
		held, err := p.Get(t.Context(), pool.NewWaiter("x"))
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []string
		var all sync.WaitGroup
		for i, source := range []string{"a", "a", "a", "b", "c", "b"} {
			all.Go(func() {
				l, err := p.Get(t.Context(), pool.NewWaiter(source))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, fmt.Sprint(source, i))
				mu.Unlock()
				p.Put(l, true)
			})
			synctest.Wait()
		}
		p.Put(held, true)
		all.Wait()
		if want := []string{"a0", "b3", "c4", "a1", "b5", "a2"}; !slices.Equal(order, want) {
			t.Errorf("served %v, want %v", order, want)
		}
	})
}

func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool.New(pool.Options{Limit: 1, Wait: 2 * time.Second, Waiting: 2, Dial: func(context.Context) (pool.Conn, error) { return &conn{}, nil }})
		defer sweeping(p)()
		held, _ := p.Get(t.Context(), pool.NewWaiter("x"))
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := p.Get(t.Context(), pool.NewWaiter("x")); !errors.Is(err, pool.ErrTimeout) {
				t.Errorf("a wait ended with %v", err)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		all.Go(func() {
			if _, err := p.Get(ctx, pool.NewWaiter("x")); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a wait with a deadline of its own ended with %v", err)
			}
		})
		synctest.Wait()
		if _, err := p.Get(t.Context(), pool.NewWaiter("x")); !errors.Is(err, pool.ErrCrowded) {
			t.Errorf("one client too many: %v", err)
		}
		all.Wait()
		p.Put(held, true)
		if l, err := p.Get(t.Context(), pool.NewWaiter("x")); err != nil {
			t.Error(err)
		} else {
			p.Put(l, true)
		}
	})
}

func TestDialAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int64
		up := atomic.Bool{}
		hopeless := errors.New("wrong password")
		var fail atomic.Pointer[error]
		p := pool.New(pool.Options{Limit: 3, Wait: 10 * time.Second, Hopeless: func(err error) bool { return err == hopeless }, Dial: func(context.Context) (pool.Conn, error) {
			dials.Add(1)
			if e := fail.Load(); e != nil {
				return nil, *e
			}
			if !up.Load() {
				return nil, errors.New("connection refused")
			}
			return &conn{}, nil
		}})
		defer sweeping(p)()
		begun := time.Now()
		if _, err := p.Get(t.Context(), pool.NewWaiter("x")); !errors.Is(err, pool.ErrTimeout) || !strings.Contains(err.Error(), "connection refused") || time.Since(begun) > 11*time.Second {
			t.Errorf("without a server: %v after %v", err, time.Since(begun))
		}
		if n := dials.Load(); n < 4 || n > 20 {
			t.Errorf("%d dials in ten seconds", n)
		}
		time.AfterFunc(3*time.Second, func() { up.Store(true) })
		l, err := p.Get(t.Context(), pool.NewWaiter("x"))
		if err != nil {
			t.Fatal(err)
		}
		fail.Store(&hopeless)
		begun = time.Now()
		if _, err := p.Get(t.Context(), pool.NewWaiter("x")); err != hopeless || time.Since(begun) > time.Second {
			t.Errorf("with a wrong password: %v after %v", err, time.Since(begun))
		}
		p.Put(l, true)
	})
}

func TestAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool.New(pool.Options{Limit: 3, Idle: time.Minute, Life: time.Hour, Dial: func(context.Context) (pool.Conn, error) { return &conn{}, nil }})
		stop := sweeping(p)
		l, _ := p.Get(t.Context(), pool.NewWaiter("x"))
		first := l.Conn.(*conn)
		p.Put(l, true)
		time.Sleep(30 * time.Second)
		l, _ = p.Get(t.Context(), pool.NewWaiter("x"))
		if l.Conn != first {
			t.Error("an idle connection was not used again")
		}
		p.Put(l, true)
		first.dead.Store(true)
		time.Sleep(2 * time.Second)
		if l, _ = p.Get(t.Context(), pool.NewWaiter("x")); l.Conn == first || !first.closed.Load() {
			t.Error("a dead connection was lent")
		}
		second := l.Conn.(*conn)
		p.Put(l, true)
		time.Sleep(62 * time.Second)
		if !second.closed.Load() {
			t.Error("an idle connection was kept")
		}
		l, _ = p.Get(t.Context(), pool.NewWaiter("x"))
		third := l.Conn.(*conn)
		time.Sleep(2 * time.Hour)
		p.Put(l, true)
		if !third.closed.Load() {
			t.Error("an old connection was kept")
		}
		l, _ = p.Get(t.Context(), pool.NewWaiter("x"))
		stop()
		if _, err := p.Get(t.Context(), pool.NewWaiter("x")); !errors.Is(err, pool.ErrClosed) {
			t.Errorf("a closed pool: %v", err)
		}
		p.Put(l, true)
		if !l.Conn.(*conn).closed.Load() {
			t.Error("a closed pool kept a connection")
		}
	})
}
