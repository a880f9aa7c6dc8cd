package isolate

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"selvage/engine/isolate/wire"
	"selvage/foundation/fault"
)

const (
	tries     = 3
	mostMoves = 8 // away from stuck children
)

// Fetch sends r to a program and returns the response when its head is there. The end of ctx ends
// the whole exchange. r.Body may be read until the response's Body is closed. The error is *Stopped
// if the child was stopped, and a fault if the unit or the program does not exist.
func (h *Host) Fetch(ctx context.Context, a Address, r *Request) (*Response, error) {
	u, err := h.unit(a.Unit)
	if err != nil {
		return nil, err
	}
	u.requests.Add(1)
	w := wire.Request{
		Method: r.Method, Scheme: r.Scheme, Host: r.Host, Target: r.Target, Header: r.Header,
		Body: r.Body, Length: r.Length, CF: r.CF, Upgrade: r.Upgrade,
	}
	deaths, moves := int32(0), 0
	for try := 1; ; try++ {
		var held *turn
		if deaths > 0 {
			held = &turn{}
			if err := held.take(ctx, u.suspects); err != nil {
				return nil, err
			}
		}
		call, err := u.acquire(ctx, false)
		if err != nil {
			held.leave()
			return nil, err
		}
		call.turn.Store(held)
		call.again.Store(r.Again && r.Body == nil)
		call.body.Store(r.Body != nil)
		call.deaths.Store(deaths)
		call.sent.Store(time.Now().UnixNano())
		resp, err := call.fetch(ctx, a, &w)
		held.leave()
		if err == nil {
			return resp, nil
		}
		again, err := call.failed(err, r)
		call.finish() // not before: who ends a child looks for the cause among its calls
		if stopped := (*Stopped)(nil); errors.As(err, &stopped) && !call.moved.Load() || call.suspect.Load() {
			deaths++
		}
		if call.moved.Load() && !call.suspect.Load() && moves < mostMoves {
			moves++
			try-- // it was in the way of nobody
		}
		if !again || try == tries {
			return dead(err)
		}
		if w.Body != nil && r.Rewind != nil {
			w.Body = r.Rewind()
		}
		w.Fresh = true
	}
}

// errNoAnswer tells that a living child ended the connection instead of answering.
var errNoAnswer = errors.New("the script ended the connection without an answer")

// dead turns a connection that ended without an answer into what it is for the caller: the script's
// own failure.
func dead(err error) (*Response, error) {
	if errors.Is(err, errNoAnswer) {
		return &Response{Status: 500, Length: 0, Body: io.NopCloser(eof{}), Exception: true}, nil
	}
	return nil, err
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

func (call *call) fetch(ctx context.Context, a Address, w *wire.Request) (*Response, error) {
	c := call.c
	client, err := call.find(a)
	if err != nil {
		return nil, err
	}
	w.Progress = &call.progress
	got, err := client.Do(ctx, w)
	if err != nil {
		return nil, err
	}
	call.answered.Store(true)
	c.answers.Add(1)
	resp := &Response{Status: got.Status, Header: got.Header, Length: got.Length, Exception: !got.Marked}
	if got.Tunnel != nil {
		resp.Tunnel = c.tunnel(&websocket{ReadWriteCloser: got.Tunnel}, false)
		call.finish()
		return resp, nil
	}
	resp.Body = &stream{body: got.Body, call: call}
	return resp, nil
}

// find returns the client of the address's door.
func (call *call) find(a Address) (*wire.Client, error) {
	client := call.c.doors[door{a.Program, a.Entrypoint}]
	if client == nil {
		return nil, fault.New(fault.NotFound, "The program %q has no entrypoint %q.", a.Program, a.Entrypoint)
	}
	for i := range call.c.content.Programs {
		if p := &call.c.content.Programs[i]; p.Name == a.Program {
			call.c.mu.Lock()
			call.program = p
			call.c.mu.Unlock()
		}
	}
	return client, nil
}

// failed says what came of a call that got no answer, and whether it can be made again.
func (call *call) failed(err error, r *Request) (again bool, _ error) {
	var lost *wire.LostError
	if !errors.As(err, &lost) {
		return false, err
	}
	if cut := call.stopped.Load(); cut != nil {
		return false, cut
	}
	if call.moved.Load() {
		return true, &Stopped{Reason: ReasonCPU, Detail: "The script was busy with other requests for too long."}
	}
	stopped := call.c.fate()
	culprit := call.culprit.Load()
	repeatable := r.Body == nil || r.Rewind != nil
	switch {
	case culprit && !lost.Unread:
		again = false
	case lost.Unread:
		// The body was not begun, as it goes out after the head.
		again = true
	case !lost.Answered && r.Again:
		// A living child that ends a fresh connection does it again.
		again = repeatable && (stopped != nil || lost.Reused)
	}
	if stopped != nil {
		return again, &Stopped{Reason: stopped.Reason, Detail: stopped.Detail, Culprit: culprit}
	}
	if errors.Is(err, wire.ErrProtocol) || lost.Unread {
		return again, err
	}
	return again, errNoAnswer
}

// fate returns why the child was stopped, or nil if it lives. It waits a little, as connections end
// before the process does.
func (c *child) fate() *Stopped {
	c.mu.Lock()
	s := c.stopped
	c.mu.Unlock()
	if s != nil {
		return s
	}
	const little = 20 * time.Millisecond
	t := time.NewTimer(little)
	defer t.Stop()
	select {
	case <-c.done:
		return c.stopped
	case <-t.C:
		return nil
	}
}

// stream is the body of a response. Its end is the end of the call.
type stream struct {
	body io.ReadCloser
	call *call
}

// Read reads on. If the child was stopped the error is *Stopped.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	if err == nil {
		return n, nil
	}
	defer s.call.finish()
	var lost *wire.LostError
	if errors.As(err, &lost) {
		if cut := s.call.stopped.Load(); cut != nil {
			return n, cut
		}
		if stopped := s.call.c.fate(); stopped != nil {
			err = &Stopped{Reason: stopped.Reason, Detail: stopped.Detail, Culprit: s.call.culprit.Load()}
		}
	}
	return n, err
}

// Close ends the call.
func (s *stream) Close() error {
	err := s.body.Close()
	s.call.finish()
	return err
}

// tunnel is a WebSocket or RPC session to a child.
type tunnel struct {
	conn io.ReadWriteCloser
	c    *child
	rpc  bool
	last atomic.Int64 // when bytes went through
	once sync.Once
}

// tunnel notes a session; it ends with the child.
func (c *child) tunnel(conn io.ReadWriteCloser, rpc bool) *tunnel {
	t := &tunnel{conn: conn, c: c, rpc: rpc}
	t.last.Store(c.u.h.o.Clock.Now().UnixNano())
	c.mu.Lock()
	dead := c.leaving
	c.tunnels[t] = struct{}{}
	c.watch()
	c.mu.Unlock()
	if dead {
		conn.Close()
	}
	return t
}

// Read reads from the script.
func (t *tunnel) Read(p []byte) (int, error) {
	n, err := t.conn.Read(p)
	t.last.Store(t.c.u.h.o.Clock.Now().UnixNano())
	return n, err
}

// Write writes to the script.
func (t *tunnel) Write(p []byte) (int, error) {
	t.last.Store(t.c.u.h.o.Clock.Now().UnixNano())
	return t.conn.Write(p)
}

// CloseWrite tells the script that nothing more comes.
func (t *tunnel) CloseWrite() error {
	if c, ok := t.conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// Close ends the session.
func (t *tunnel) Close() error {
	t.once.Do(func() {
		t.c.mu.Lock()
		delete(t.c.tunnels, t)
		t.c.used()
		t.c.mu.Unlock()
	})
	return t.conn.Close()
}

// Dial connects to a program for what is no single request: the bytes of another child's Service
// with RPC are spliced through it. Closing it ends the session.
func (h *Host) Dial(ctx context.Context, a Address) (io.ReadWriteCloser, error) {
	u, err := h.unit(a.Unit)
	if err != nil {
		return nil, err
	}
	call, err := u.acquire(ctx, false)
	if err != nil {
		return nil, err
	}
	defer call.finish()
	client, err := call.find(a)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", client.Path)
	if err != nil {
		if stopped := call.c.fate(); stopped != nil {
			return nil, stopped
		}
		return nil, err
	}
	return call.c.tunnel(conn, true), nil
}
