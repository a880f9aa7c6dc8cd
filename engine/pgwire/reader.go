package pgwire

import (
	"fmt"
	"io"
	"sync"
)

// Buffers lends buffers of one size to readers. Safe for concurrent use.
type Buffers struct {
	size int
	free sync.Pool
}

// NewBuffers returns buffers of size bytes each.
func NewBuffers(size int) *Buffers { return &Buffers{size: size} }

// lent is a buffer of Buffers; its address can be kept in the pool without being put on the heap.
type lent struct{ b []byte }

func (l *Buffers) get() *lent {
	if b, ok := l.free.Get().(*lent); ok {
		return b
	}
	return &lent{make([]byte, l.size)}
}

// Reader reads messages into a buffer. One over a Socket borrows it, and has none while it waits for
// the other side with nothing read. Slices that it returns are valid until the next call of Fill,
// Exchange or Need.
type Reader struct {
	r          io.Reader
	sock       *Socket // what r is, if it is one
	from       *Buffers
	lent       *lent // what buf is, if it is borrowed
	buf        []byte
	start, end int
}

// NewReader returns a reader whose buffers are lent by from.
func NewReader(r io.Reader, from *Buffers) *Reader {
	sock, _ := r.(*Socket)
	return &Reader{r: r, sock: sock, from: from}
}

// Buffered returns what was read and not yet taken.
func (r *Reader) Buffered() []byte { return r.buf[r.start:r.end] }

// Size is how much the buffer can hold.
func (r *Reader) Size() int { return max(len(r.buf), r.from.size) }

// Discard takes n bytes of what is buffered.
func (r *Reader) Discard(n int) {
	if r.start += n; r.start == r.end {
		r.start, r.end = 0, 0
	}
}

// borrow gets a buffer if there is none.
func (r *Reader) borrow() {
	if r.buf == nil {
		r.lent = r.from.get()
		r.buf = r.lent.b
	}
}

// giveBack lets the buffer go. Nothing may be in it that is still needed.
func (r *Reader) giveBack() {
	if r.lent != nil {
		r.from.free.Put(r.lent)
	}
	r.lent, r.buf = nil, nil
}

// Preload puts b, which somebody else has read, before everything else. Call it first.
func (r *Reader) Preload(b []byte) {
	if len(b) > r.from.size {
		r.buf = make([]byte, len(b))
	}
	if len(b) > 0 {
		r.borrow()
		r.end = copy(r.buf, b)
	}
}

// Fill reads once, as much as there is room for.
func (r *Reader) Fill() error {
	_, err := r.Exchange(nil)
	return err
}

// Exchange is Fill for who has something to say first. left is what of it was not said: a deadline may
// have passed.
func (r *Reader) Exchange(out []byte) (left []byte, err error) {
	if r.start == r.end {
		r.start, r.end = 0, 0
		if len(r.buf) > r.from.size {
			r.giveBack()
		}
	}
	if r.buf != nil && r.end == len(r.buf) {
		if r.start == 0 {
			return out, io.ErrShortBuffer
		}
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	if r.sock != nil {
		return r.sock.exchange(r, out)
	}
	if len(out) > 0 {
		if _, err := r.r.(io.Writer).Write(out); err != nil {
			return nil, err
		}
	}
	r.borrow()
	n, err := r.r.Read(r.buf[r.end:])
	r.end += n
	if n == 0 && err == nil {
		err = io.ErrNoProgress
	}
	if n > 0 {
		err = nil
	}
	return nil, err
}

// Need reads until n bytes are buffered, with a larger buffer if it has to be.
func (r *Reader) Need(n int) error {
	if r.end-r.start >= n {
		return nil
	}
	if n > r.Size() {
		bigger := make([]byte, n)
		r.start, r.end = 0, copy(bigger, r.Buffered())
		r.giveBack()
		r.buf = bigger
	}
	for r.end-r.start < n {
		if err := r.Fill(); err != nil {
			if err == io.EOF && r.end > r.start {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// Head reads a message's type and its size with the head. The message is not taken.
func (r *Reader) Head() (kind byte, size int, err error) {
	if err := r.Need(head); err != nil {
		return 0, 0, err
	}
	return Head(r.Buffered())
}

// Message reads a whole message of at most limit bytes and returns its type and body. The message is
// not taken: Discard(len(body)+5) does that.
func (r *Reader) Message(limit int) (kind byte, body []byte, err error) {
	kind, size, err := r.Head()
	if err != nil {
		return 0, nil, err
	}
	if size > limit {
		return 0, nil, fmt.Errorf("a message of %d bytes, the limit is %d: %w", size, limit, ErrMalformed)
	}
	if err := r.Need(size); err != nil {
		return 0, nil, err
	}
	return kind, r.Buffered()[head:size], nil
}
