package store

import (
	"bytes"
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"selvage/engine/volume"
)

const (
	chunkSize  = 256 << 10 // bytes read at once of what is large
	chunksEach = 4         // of a put under way; hashing may fall behind by so many
	deleteWait = 30 * time.Second
)

// intake is what is known beforehand of content that comes.
type intake struct {
	size    int64 // -1 unknown
	key     []byte
	compute []string
	expect  Checksums
	trailer func() (Checksums, error)
}

// taken is content that was read and is kept, but not known to the index yet. Call release when it is, or
// when it is not wanted.
type taken struct {
	s        *Store
	n        *session
	here     bool // the index is this process's; n is that of when the content was whole
	size     int64
	sums     Checksums
	segments []segment
	inline   []byte
	buffer   *[]byte // holds inline
	kept     bool    // the index knows of it
}

// release ends the care for content. What the index does not know of is removed.
func (t *taken) release() {
	if t.buffer != nil {
		t.s.buffers.small.Put(t.buffer)
		t.buffer = nil
	}
	if !t.kept && len(t.segments) > 0 && !t.segments[0].inline && (!t.here || t.n.db.Err() == nil) {
		ctx, cancel := context.WithTimeout(context.Background(), deleteWait)
		defer cancel()
		// The sweeper finds it otherwise.
		if err := t.s.o.Volume.Delete(ctx, t.segments[0].id.String()); err != nil {
			t.s.o.Observe.Logger().Warn("content that is not wanted could not be removed", "content", t.segments[0].id.String(), "error", err)
		}
	}
	t.s.using.done(t.segments)
	t.segments = nil
}

// take reads content and keeps it, in the index if it is small. Meanwhile that may change hands.
func (s *Store) take(ctx context.Context, n *session, body io.Reader, in intake) (*taken, error) {
	if in.size > MaxPut {
		return nil, errEntityTooLarge(MaxPut)
	}
	h, err := newHashes(in.compute, &in.expect)
	if err != nil {
		return nil, err
	}
	t := &taken{s: s, n: n, here: true}
	back := s.aside(ctx)
	err = t.read(ctx, body, in, h)
	if err == nil {
		t.here, err = back()
	}
	if err == nil && t.here {
		t.n, err = s.session()
	}
	if err != nil {
		t.release()
		return nil, err
	}
	return t, nil
}

func (t *taken) read(ctx context.Context, body io.Reader, in intake, h hashes) error {
	if in.size > t.s.o.Inline {
		return t.large(ctx, body, in, h)
	}
	t.buffer = t.s.buffers.small.Get().(*[]byte)
	n, whole, err := readFull(body, *t.buffer)
	if err != nil {
		return err
	}
	head := (*t.buffer)[:n]
	if !whole {
		return t.large(ctx, io.MultiReader(bytes.NewReader(head), body), in, h)
	}
	h.write(head)
	t.size, t.sums = int64(n), h.sums()
	if err := t.compare(in); err != nil {
		return err
	}
	return t.small(head, in.key)
}

// readFull fills p or reads to the end, which it tells.
func readFull(r io.Reader, p []byte) (n int, end bool, err error) {
	for n < len(p) {
		m, err := r.Read(p[n:])
		n += m
		if err == io.EOF {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// compare refuses content that is not what was announced.
func (t *taken) compare(in intake) error {
	if in.size >= 0 && t.size != in.size {
		return errIncompleteBody(in.size, t.size)
	}
	if err := t.sums.match(&in.expect); err != nil || in.trailer == nil {
		return err
	}
	late, err := in.trailer()
	if err != nil {
		return err
	}
	return t.sums.match(&late)
}

// small keeps content in the index.
func (t *taken) small(content, key []byte) error {
	if len(content) == 0 {
		return nil
	}
	g := segment{id: newID(), inline: true, size: t.size, stored: t.size}
	t.inline = content
	if key != nil {
		c, err := newSealing(key, g.id)
		if err != nil {
			return err
		}
		var sealed bytes.Buffer
		w := newSealer(c, &sealed)
		if _, err := w.Write(content); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		t.inline, g.stored = sealed.Bytes(), int64(sealed.Len())
	}
	t.segments = []segment{g}
	t.s.using.add(t.segments)
	return nil
}

// large keeps content in the volume.
func (t *taken) large(ctx context.Context, body io.Reader, in intake, h hashes) error {
	g := segment{id: newID()}
	// From here on a sweep leaves it alone.
	t.segments = []segment{g}
	t.s.using.add(t.segments)
	expected := in.size
	if expected >= 0 {
		body = io.LimitReader(body, expected+1) // one more is enough to refuse it
	}
	if in.key != nil && expected >= 0 {
		expected = sealedSize(expected)
	}
	w, err := t.s.o.Volume.Create(ctx, g.id.String(), expected)
	if err != nil {
		return err
	}
	defer w.Abort()
	var to io.Writer = w
	var seal *sealer
	if in.key != nil {
		c, err := newSealing(in.key, g.id)
		if err != nil {
			return err
		}
		seal = newSealer(c, w)
		to = seal
	}
	p := t.s.newPipe(h)
	t.size, err = p.copy(ctx, to, body)
	p.close()
	if err == nil && seal != nil {
		err = seal.Close()
	}
	if err != nil {
		return err
	}
	t.sums = h.sums()
	if err := t.compare(in); err != nil {
		return err
	}
	c, err := w.Commit()
	if err != nil {
		return err
	}
	g.size, g.stored, g.sum = t.size, c.Size, c.Sum
	t.segments[0] = g
	return nil
}

// buffers are used again and again.
type buffers struct{ small, chunks *sync.Pool }

func newBuffers(inline int64) buffers {
	return buffers{
		small:  &sync.Pool{New: func() any { b := make([]byte, inline+1); return &b }},
		chunks: &sync.Pool{New: func() any { return &chunk{buf: make([]byte, chunkSize)} }},
	}
}

// chunk is a piece of content on its way through a pipe.
type chunk struct {
	buf   []byte
	n     int
	users atomic.Int32
}

// pipe reads, hashes and writes content at the same time: MD5 alone takes longer than all else.
type pipe struct {
	s     *Store
	lanes []chan *chunk // one for each goroutine that hashes
	free  chan *chunk
	made  int
	wg    sync.WaitGroup
}

func (s *Store) newPipe(h hashes) *pipe {
	p := &pipe{s: s, free: make(chan *chunk, chunksEach)}
	for _, each := range h.each {
		lane := make(chan *chunk, chunksEach)
		p.lanes = append(p.lanes, lane)
		p.wg.Go(func() {
			for c := range lane {
				each.Write(c.buf[:c.n])
				p.done(c)
			}
		})
	}
	return p
}

func (p *pipe) done(c *chunk) {
	if c.users.Add(-1) == 0 {
		p.free <- c
	}
}

// chunk waits until one is free.
func (p *pipe) chunk() *chunk {
	select {
	case c := <-p.free:
		return c
	default:
	}
	if p.made < chunksEach {
		p.made++
		return p.s.buffers.chunks.Get().(*chunk)
	}
	return <-p.free
}

// copy copies body to w and into all hashes, up to MaxPut bytes.
func (p *pipe) copy(ctx context.Context, w io.Writer, body io.Reader) (size int64, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return size, err
		}
		c := p.chunk()
		n, end, err := readFull(body, c.buf)
		size += int64(n)
		if err == nil && size > MaxPut {
			err = errEntityTooLarge(MaxPut)
		}
		if err != nil {
			p.free <- c
			return size, err
		}
		c.n = n
		c.users.Store(int32(len(p.lanes) + 1))
		for _, lane := range p.lanes {
			lane <- c
		}
		_, err = w.Write(c.buf[:n])
		p.done(c)
		if err != nil || end {
			return size, err
		}
	}
}

// close waits until everything is hashed.
func (p *pipe) close() {
	for _, lane := range p.lanes {
		close(lane)
	}
	p.wg.Wait()
	for range p.made {
		p.s.buffers.chunks.Put(<-p.free)
	}
}

// contentOf is what the volume has to know to read a segment.
func (g *segment) content() volume.Content {
	return volume.Content{Name: g.id.String(), Size: g.stored, Sum: g.sum}
}
