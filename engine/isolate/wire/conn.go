package wire

import (
	"context"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// conn is one connection. Between take and finish it belongs to one exchange.
type conn struct {
	c    net.Conn
	raw  syscall.RawConn
	out  []byte // for heads of requests
	in   []byte // buffered bytes are in[r:w]
	r, w int

	// Of the exchange under way.
	ctx      context.Context
	client   *Client
	stop     func() bool // ends the watch over ctx; nil if there is none
	upload   *upload     // nil without a body
	progress *Progress
	answered bool
	reused   bool

	peek func(fd uintptr) bool // made once, so that alive allocates nothing
	open bool                  // what peek found
}

const (
	bufferSize  = 8 << 10
	maxHeadSize = 1 << 20 // of a response; scripts may set many cookies
)

func newConn(c net.Conn) (*conn, error) {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		c.Close()
		return nil, err
	}
	cn := &conn{c: c, raw: raw, in: make([]byte, bufferSize), out: make([]byte, 0, 1<<10)}
	cn.peek = func(fd uintptr) bool {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		cn.open = err == unix.EAGAIN // bytes nobody asked for are as bad as an end
		return true
	}
	return cn, nil
}

// alive tells whether an idle connection still is one.
func (cn *conn) alive() bool {
	if cn.r != cn.w {
		return false
	}
	return cn.raw.Read(cn.peek) == nil && cn.open
}

// unread tells whether sent bytes wait in the other side's queue.
func (cn *conn) unread() bool {
	waiting := 0
	cn.raw.Control(func(fd uintptr) {
		if n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
			waiting = n
		}
	})
	return waiting > 0
}

// abort ends the exchange from outside: all that waits on the connection returns.
func (cn *conn) abort() { cn.c.Close() }

// lost closes the connection and says how the exchange ended.
func (cn *conn) lost(err error, unread bool) error {
	if cn.stop != nil {
		cn.stop()
	}
	cn.c.Close()
	if cn.progress != nil {
		cn.progress.leave()
	}
	if cn.ctx.Err() != nil {
		return context.Cause(cn.ctx)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if cn.upload != nil {
		if bodyErr := cn.upload.failed(); bodyErr != nil {
			return fmt.Errorf("read the body of the request: %w", bodyErr)
		}
	}
	return &LostError{Unread: unread && !cn.answered, Answered: cn.answered, Reused: cn.reused, Err: err}
}

// finish ends an exchange whose response was read to its end.
func (cn *conn) finish(keep bool) {
	if cn.stop != nil && !cn.stop() {
		keep = false
	}
	if cn.upload != nil && !cn.upload.complete() {
		keep = false
	}
	if cn.progress != nil {
		cn.progress.leave()
	}
	client := cn.client
	cn.stop, cn.upload, cn.progress, cn.ctx, cn.client = nil, nil, nil, nil, nil
	if !keep {
		cn.c.Close()
		return
	}
	if len(cn.in) > bufferSize {
		cn.in = make([]byte, bufferSize) // one huge head does not stay
	}
	client.put(cn)
}

// fill reads more bytes behind those that are buffered. The buffer grows up to limit.
func (cn *conn) fill(limit int) error {
	if cn.r == cn.w {
		cn.r, cn.w = 0, 0
	}
	if cn.w == len(cn.in) {
		switch {
		case cn.r > 0:
			cn.w = copy(cn.in, cn.in[cn.r:cn.w])
			cn.r = 0
		case len(cn.in) >= limit:
			return protocol("a line or head is over %d bytes", limit)
		default:
			cn.in = append(cn.in, make([]byte, len(cn.in))...)
		}
	}
	n, err := cn.read(cn.in[cn.w:])
	cn.w += n
	if n > 0 {
		return nil
	}
	return err
}

// read reads from the connection itself.
func (cn *conn) read(p []byte) (int, error) {
	n, err := cn.c.Read(p)
	if n > 0 {
		cn.answered = true
		if cn.progress != nil {
			cn.progress.last.Store(time.Now().UnixNano())
		}
	}
	return n, err
}

// upload sends the body of a request while its response may already come.
type upload struct {
	done chan struct{}
	err  error // of reading the body; read it after done
	ok   bool  // all of it went out
}

// failed returns why the body could not be read, if that is known by now.
func (u *upload) failed() error {
	select {
	case <-u.done:
		return u.err
	default:
		return nil
	}
}

func (u *upload) complete() bool {
	select {
	case <-u.done:
		return u.ok
	default:
		return false
	}
}

const chunkSize = 32 << 10

func (u *upload) run(cn *conn, body io.Reader, length int64) {
	err := u.send(cn.c, body, length)
	u.err = err
	close(u.done) // before the connection is closed, so that whoever notices finds the cause
	if err != nil {
		cn.c.Close()
	}
}

// send returns why the body could not be read.
func (u *upload) send(c net.Conn, body io.Reader, length int64) error {
	chunked := length < 0
	// Room for the size line before the bytes, so that a chunk is one write.
	const room = 8
	buf := make([]byte, room+chunkSize+2)
	left := length
	for chunked || left > 0 {
		limit := chunkSize
		if !chunked {
			limit = int(min(int64(limit), left))
		}
		n, err := body.Read(buf[room : room+limit])
		if n > 0 {
			left -= int64(n)
			if _, werr := c.Write(frameChunk(buf, room, n, chunked)); werr != nil {
				return nil // a response may still come: the child need not read all
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if !chunked && left > 0 {
		return io.ErrUnexpectedEOF
	}
	if chunked {
		if _, err := io.WriteString(c, "0\r\n\r\n"); err != nil {
			return nil
		}
	}
	u.ok = true
	return nil
}

// frameChunk returns the n bytes at buf[room:] as they go out, a chunk with its size before it.
func frameChunk(buf []byte, room, n int, chunked bool) []byte {
	if !chunked {
		return buf[room : room+n]
	}
	const digits = "0123456789abcdef"
	at := room - 2
	buf[at], buf[at+1] = '\r', '\n'
	for v := n; v > 0; v >>= 4 {
		at--
		buf[at] = digits[v&15]
	}
	buf[room+n], buf[room+n+1] = '\r', '\n'
	return buf[at : room+n+2]
}
