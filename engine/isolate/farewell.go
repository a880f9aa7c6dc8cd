package isolate

import (
	"context"
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// A WebSocket does not survive its child. If the child makes room for another, both sides hear it in
// their own words: a close frame (RFC 6455, 5.5.1) that says that the service restarts.
const serviceRestart = 1012

// farewellWithin is how long a child has to answer close frames: its handlers may want to store
// something.
const farewellWithin = 500 * time.Millisecond

// websocket is a session between client and script whose frames are followed, so that one of ours can
// be put between them.
type websocket struct {
	io.ReadWriteCloser

	down    frames // from script to client, read by one goroutine
	leaving atomic.Bool
	rest    []byte // of our close frame, that the client has yet to read
	end     error  // what Read returns after it

	mu sync.Mutex // held while writing; guards the field below
	up frames
}

// Read reads from the script, and, if that leaves without a word, our close frame.
func (w *websocket) Read(p []byte) (int, error) {
	if w.end == nil {
		n, err := w.ReadWriteCloser.Read(p)
		w.down.pass(p[:n])
		if err == nil || !w.leaving.Load() || w.down.inside() || w.down.closed.Load() {
			return n, err
		}
		w.rest, w.end = closeFrame(false), err
		if n > 0 {
			return n, nil
		}
	}
	if len(w.rest) == 0 {
		return 0, w.end
	}
	n := copy(p, w.rest)
	w.rest = w.rest[n:]
	return n, nil
}

// Write writes to the script. What the client says after our close frame is dropped.
func (w *websocket) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.up.closed.Load() && w.leaving.Load() {
		return len(p), nil
	}
	n, err := w.ReadWriteCloser.Write(p)
	w.up.pass(p[:n])
	return n, err
}

// CloseWrite tells the script that nothing more comes.
func (w *websocket) CloseWrite() error {
	if c, ok := w.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// leave tells the script that the session ends, if it can be told. Its answer goes to the client.
func (w *websocket) leave() {
	w.leaving.Store(true)
	if !w.mu.TryLock() {
		return // a write is stuck: the script does not listen
	}
	defer w.mu.Unlock()
	if w.up.inside() || w.up.closed.Load() {
		return
	}
	frame := closeFrame(true)
	if _, err := w.ReadWriteCloser.Write(frame); err == nil {
		w.up.pass(frame)
	}
}

// closeFrame returns a close frame; those to servers are masked, here with zeros.
func closeFrame(masked bool) []byte {
	frame := []byte{0x88, 2}
	if masked {
		frame = []byte{0x88, 0x80 | 2, 0, 0, 0, 0}
	}
	return binary.BigEndian.AppendUint16(frame, serviceRestart)
}

// frames follows one direction of a WebSocket. pass and inside are called by one goroutine at a time.
type frames struct {
	head   []byte // of a frame whose header is not complete
	left   uint64 // bytes of the frame's payload that are to come
	closed atomic.Bool
}

// inside tells whether a frame has begun and not ended.
func (f *frames) inside() bool { return f.left > 0 || len(f.head) > 0 }

// pass takes note of bytes that went by.
func (f *frames) pass(p []byte) {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, uint64(len(p)))
			f.left -= n
			p = p[n:]
			continue
		}
		f.head = append(f.head, p[0])
		p = p[1:]
		f.header()
	}
}

// header reads the header if it is complete.
func (f *frames) header() {
	if len(f.head) < 2 {
		return
	}
	size, long := 2, 0
	switch f.head[1] & 0x7f {
	case 126:
		long = 2
	case 127:
		long = 8
	}
	size += long
	if f.head[1]&0x80 != 0 {
		size += 4
	}
	if len(f.head) < size {
		return
	}
	switch long {
	case 0:
		f.left = uint64(f.head[1] & 0x7f)
	case 2:
		f.left = uint64(binary.BigEndian.Uint16(f.head[2:]))
	default:
		f.left = binary.BigEndian.Uint64(f.head[2:])
	}
	if f.head[0]&0x0f == 8 {
		f.closed.Store(true)
	}
	f.head = f.head[:0]
}

// bidFarewell tells both sides of the child's WebSockets that they end, and waits a little for the
// script to answer.
func (c *child) bidFarewell(ctx context.Context) {
	open := c.websockets()
	for _, w := range open {
		w.leave()
	}
	ctx, cancel := context.WithTimeout(ctx, farewellWithin)
	defer cancel()
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	for {
		waiting := false
		for _, w := range open {
			waiting = waiting || w.up.closed.Load() && !w.down.closed.Load()
		}
		if !waiting {
			return
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		case <-c.done:
			return
		}
	}
}

// websockets returns those that are open.
func (c *child) websockets() []*websocket {
	c.mu.Lock()
	defer c.mu.Unlock()
	var open []*websocket
	for t := range c.tunnels {
		if w, ok := t.conn.(*websocket); ok {
			open = append(open, w)
		}
	}
	return open
}
