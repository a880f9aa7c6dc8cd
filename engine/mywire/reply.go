package mywire

import "encoding/binary"

// Reply is what came of a command.
type Reply struct {
	Status uint16 // of the server at the end; as before if the command failed
	Err    *Error // nil if it went well
	OK     OK     // of a command without a result set
	Rows   bool   // there was a result set
}

// maxNotice bounds OK, ERR and EOF packets, which are read as a whole.
const maxNotice = 1 << 20

// Pass copies the whole answer to a command from the server c to a client, however large, and returns
// what it said. It may leave its end unsent: flush it. An error means that the server broke off, or the
// client; e.Err says which only by the state of both.
func (c *Conn) Pass(to *Conn, caps uint32) (Reply, error) {
	for {
		r, err := c.passResult(to, caps)
		if err != nil || r.Err != nil || r.Status&StatusMoreResults == 0 {
			return r, err
		}
	}
}

// PassRows copies rows up to the packet that ends them, as the answer to a fetch has.
func (c *Conn) PassRows(to *Conn, caps uint32) (Reply, error) {
	r := Reply{Rows: true}
	for {
		n, first, err := c.peek(to)
		if err != nil {
			return r, err
		}
		if first == headErr || first == headEOF && n < maxPacket && (caps&CapDeprecateEOF != 0 || n < 9) {
			return r, c.passNotice(to, n, caps, &r)
		}
		if err := c.passPayload(to, n); err != nil {
			return r, err
		}
	}
}

// PassNotice copies an answer of one packet, OK, EOF or ERR.
func (c *Conn) PassNotice(to *Conn, caps uint32) (Reply, error) {
	var r Reply
	n, _, err := c.peek(to)
	if err != nil {
		return r, err
	}
	return r, c.passNotice(to, n, caps, &r)
}

// peek reads the head of the next packet and looks at its first byte. What the client has to wait for
// anyway is sent before.
func (c *Conn) peek(to *Conn) (n int, first byte, err error) {
	if to != nil && c.in.Buffered() < 5 {
		if err := to.Flush(); err != nil {
			return 0, 0, err
		}
	}
	if n, err = c.head(); err != nil {
		return 0, 0, cut(err)
	}
	if n == 0 {
		return 0, 0, nil
	}
	b, err := c.in.Peek(1)
	if err != nil {
		return 0, 0, cut(err)
	}
	return n, b[0], nil
}

// passNotice copies a packet of n bytes that is OK, EOF or ERR, and notes what it says. to may be nil.
func (c *Conn) passNotice(to *Conn, n int, caps uint32, r *Reply) error {
	if n > maxNotice || n == 0 {
		return ErrMalformed
	}
	p, err := c.rest(n)
	if err != nil {
		return err
	}
	switch {
	case p[0] == headErr:
		if r.Err, err = ParseError(p); err != nil {
			return err
		}
	case p[0] == headEOF && (caps&CapDeprecateEOF == 0 || n == 5):
		if n < 5 {
			return ErrMalformed
		}
		r.Status = binary.LittleEndian.Uint16(p[3:])
	case p[0] == headOK, p[0] == headEOF:
		if r.OK, err = ParseOK(p); err != nil {
			return err
		}
		r.OK.Info = append([]byte{}, r.OK.Info...)
		r.Status = r.OK.Status
	default:
		return ErrMalformed
	}
	if to == nil {
		return nil
	}
	return to.WritePayload(p)
}

// rest reads the n bytes of a packet whose head was read.
func (c *Conn) rest(n int) ([]byte, error) {
	if cap(c.buf) < n {
		c.buf = make([]byte, 0, n)
	}
	c.buf = c.buf[:n]
	for at := 0; at < n; {
		m, err := c.in.Read(c.buf[at:])
		if err != nil {
			return nil, cut(err)
		}
		at += m
	}
	return c.buf, nil
}

func (c *Conn) passResult(to *Conn, caps uint32) (r Reply, err error) {
	n, first, err := c.peek(to)
	if err != nil {
		return r, err
	}
	switch first {
	case headOK, headErr:
		return r, c.passNotice(to, n, caps, &r)
	case headLocal:
		return r, ErrMalformed // nobody told the server that files can be asked for
	}
	if n == 0 || n > 9 {
		return r, ErrMalformed
	}
	p, err := c.rest(n)
	if err != nil {
		return r, err
	}
	count := reader{p: p}
	columns := count.length()
	if count.err() != nil || columns > 1<<16 {
		return r, ErrMalformed
	}
	if err := to.WritePayload(p); err != nil {
		return r, err
	}
	more, err := c.passDefinitions(to, int(columns), caps, &r)
	if err != nil || !more {
		return r, err
	}
	return c.PassRows(to, caps)
}

// passDefinitions copies so many definitions of columns and what ends them. more tells that rows follow.
func (c *Conn) passDefinitions(to *Conn, columns int, caps uint32, r *Reply) (more bool, err error) {
	for range columns {
		n, _, err := c.peek(to)
		if err != nil {
			return false, err
		}
		if to == nil {
			_, err = c.rest(n)
		} else {
			err = c.passPayload(to, n)
		}
		if err != nil {
			return false, err
		}
	}
	r.Rows = true
	if caps&CapDeprecateEOF != 0 {
		return true, nil
	}
	n, _, err := c.peek(to)
	if err != nil {
		return false, err
	}
	if err := c.passNotice(to, n, caps, r); err != nil {
		return false, err
	}
	return r.Status&StatusCursorExists == 0 && r.Err == nil, nil
}

// Prepared is what a server says of a statement that it prepared.
type Prepared struct {
	ID      uint32
	Columns int
	Params  int
}

// PassPrepared reads the answer to ComStmtPrepare and copies it to a client with another ID in it, or
// nowhere if to is nil. A refusal is in Reply.Err.
func (c *Conn) PassPrepared(to *Conn, id, caps uint32) (s Prepared, r Reply, err error) {
	n, first, err := c.peek(to)
	if err != nil {
		return s, r, err
	}
	if first == headErr {
		return s, r, c.passNotice(to, n, caps, &r)
	}
	p, err := c.rest(n)
	if err != nil || n < 9 || first != headOK {
		return s, r, orMalformed(err)
	}
	s = Prepared{binary.LittleEndian.Uint32(p[1:]), int(binary.LittleEndian.Uint16(p[5:])), int(binary.LittleEndian.Uint16(p[7:]))}
	if to != nil {
		binary.LittleEndian.PutUint32(p[1:], id)
		if err := to.WritePayload(p); err != nil {
			return s, r, err
		}
	}
	for _, count := range []int{s.Params, s.Columns} {
		if count == 0 {
			continue
		}
		if _, err := c.passDefinitions(to, count, caps, &r); err != nil {
			return s, r, err
		}
	}
	r.Rows = false
	return s, r, nil
}

func orMalformed(err error) error {
	if err == nil {
		return ErrMalformed
	}
	return err
}
