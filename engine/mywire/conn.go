package mywire

import (
	"bufio"
	"io"
	"net"

	"selvage/foundation/fault"
)

// Conn is a connection that packets go over. Not safe for concurrent use.
type Conn struct {
	net.Conn
	in  *bufio.Reader
	out *bufio.Writer
	seq byte // of the next packet, either way
	buf []byte
}

// NewConn returns a connection over c, with buffers of so many bytes.
func NewConn(c net.Conn, buffer int) *Conn {
	return &Conn{Conn: c, in: bufio.NewReaderSize(c, buffer), out: bufio.NewWriterSize(c, buffer)}
}

// rebase puts the connection on another one below, as after a TLS handshake. Nothing may be buffered.
func (c *Conn) rebase(n net.Conn) {
	c.Conn = n
	c.in.Reset(n)
	c.out.Reset(n)
}

// Begin starts a new command: packets count from 0 again.
func (c *Conn) Begin() { c.seq = 0 }

// Buffered returns how many bytes came already that were not read.
func (c *Conn) Buffered() int { return c.in.Buffered() }

// Await blocks until something came from the other side.
func (c *Conn) Await() error {
	_, err := c.in.Peek(1)
	return err
}

// head reads the head of a packet.
func (c *Conn) head() (length int, err error) {
	h, err := c.in.Peek(4)
	if err != nil {
		if err == io.EOF && len(h) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	length = int(h[0]) | int(h[1])<<8 | int(h[2])<<16
	c.seq = h[3] + 1
	_, err = c.in.Discard(4)
	return length, err
}

// ReadPayload reads a whole payload of at most limit bytes. It is valid until the next call.
func (c *Conn) ReadPayload(limit int) ([]byte, error) {
	c.buf = c.buf[:0]
	for {
		n, err := c.head()
		if err != nil {
			return nil, err
		}
		if len(c.buf)+n > limit {
			return nil, fault.New(fault.TooMuch, "A packet has more than %d bytes, the limit.", limit)
		}
		at := len(c.buf)
		if cap(c.buf) < at+n {
			grown := make([]byte, at, at+n)
			copy(grown, c.buf)
			c.buf = grown
		}
		c.buf = c.buf[:at+n]
		if _, err := io.ReadFull(c.in, c.buf[at:]); err != nil {
			return nil, cut(err)
		}
		if n < maxPacket {
			return c.buf, nil
		}
	}
}

func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// WritePayload writes a payload as one packet or more. Flush sends it.
func (c *Conn) WritePayload(p []byte) error {
	for {
		n := min(len(p), maxPacket)
		if err := c.writeHead(n); err != nil {
			return err
		}
		if _, err := c.out.Write(p[:n]); err != nil {
			return err
		}
		if p = p[n:]; n < maxPacket {
			return nil
		}
	}
}

func (c *Conn) writeHead(n int) error {
	_, err := c.out.Write([]byte{byte(n), byte(n >> 8), byte(n >> 16), c.seq})
	c.seq++
	return err
}

// Flush sends what was written.
func (c *Conn) Flush() error { return c.out.Flush() }

// Send writes a payload and sends it.
func (c *Conn) Send(p []byte) error {
	if err := c.WritePayload(p); err != nil {
		return err
	}
	return c.Flush()
}

// passPayload copies the rest of a payload, of whose packet n bytes are left, to another connection.
// began tells that the packet's head was written there already.
func (c *Conn) passPayload(to *Conn, n int) error {
	for {
		if err := to.writeHead(n); err != nil {
			return err
		}
		if err := c.passBytes(to, n); err != nil {
			return err
		}
		if n < maxPacket {
			return nil
		}
		var err error
		if n, err = c.head(); err != nil {
			return cut(err)
		}
	}
}

// passBytes copies n bytes without a buffer between the two.
func (c *Conn) passBytes(to *Conn, n int) error {
	for n > 0 {
		part := min(n, max(c.in.Buffered(), 1))
		b, err := c.in.Peek(part)
		if len(b) == 0 {
			return cut(err)
		}
		if _, err := to.out.Write(b); err != nil {
			return err
		}
		if _, err := c.in.Discard(len(b)); err != nil {
			return err
		}
		n -= len(b)
	}
	return nil
}

// PassPayload copies the next payload, however long, to another connection.
func (c *Conn) PassPayload(to *Conn) error {
	n, err := c.head()
	if err != nil {
		return err
	}
	return c.passPayload(to, n)
}
