package store

import (
	"bytes"
	"context"
	"errors"
	"io"

	"selvage/engine/volume"
	"selvage/foundation/filebody"
)

// Head returns what is known of an object, or CodeNoSuchKey.
func (s *Store) Head(_ context.Context, b Bucket, key string) (*Object, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	n, err := s.session()
	if err != nil {
		return nil, err
	}
	o, err := s.lookup(n, b, key)
	if err == nil && o == nil {
		err = errNoSuchKey()
	}
	return o, err
}

// CheckSSEC refuses a key of encryption that is not the object's: missing, another, or one too many.
func (o *Object) CheckSSEC(key []byte) error { return o.content.ssec.check(key) }

// Get opens an object for reading. If the condition does not hold there is no body, and Failed says why.
// What was opened can be read to its end whatever happens to the object.
func (s *Store) Get(ctx context.Context, b Bucket, key string, o GetOptions) (*Reading, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	n, err := s.session()
	if err != nil {
		return nil, err
	}
	for {
		obj, err := s.lookup(n, b, key)
		if err != nil {
			return nil, err
		}
		if obj == nil {
			return nil, errNoSuchKey()
		}
		if failed := o.If.Test(obj); failed != Held {
			return &Reading{Object: obj, Failed: failed}, nil
		}
		if err := obj.CheckSSEC(o.SSECKey); err != nil {
			return nil, err
		}
		r, err := o.Range.Resolve(obj.Size)
		if err != nil {
			return nil, err
		}
		body, err := s.open(ctx, n, b, obj, reading{r, o.SSECKey})
		if errors.Is(err, errReplaced) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return &Reading{Object: obj, Range: r, Body: body}, nil
	}
}

// errReplaced says that an object was replaced or deleted while it was opened.
var errReplaced = errors.New("the object was replaced")

// reading is what is wanted of an object's content.
type reading struct {
	of  Range // resolved
	key []byte
}

// open opens a range of an object's content, or returns errReplaced.
func (s *Store) open(ctx context.Context, n *session, b Bucket, o *Object, want reading) (io.ReadCloser, error) {
	if want.of.Length == 0 {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	all, err := s.segmentsOf(n, b, o)
	if err != nil {
		return nil, err
	}
	pieces := cut(all, want.of)
	segments := make([]segment, len(pieces))
	for i := range pieces {
		segments[i] = pieces[i].segment
	}
	s.using.add(segments)
	body := &body{s: s, ctx: ctx, n: n, b: b, o: o, key: want.key, pieces: pieces, using: segments}
	// The collector leaves alone what is used; but it may have come first.
	now, err := n.db.Get(s.objectKey(b, o.Key))
	if err == nil && (len(now) < headSize || versionOf(now) != o.content.version || len(pieces) == 0) {
		err = errReplaced
		if len(pieces) == 0 && len(now) >= headSize && versionOf(now) == o.content.version {
			err = errRecord
		}
	}
	if err == nil {
		err = body.fetch()
	}
	if err == nil {
		err = body.fail(body.advance())
	}
	if err != nil {
		body.Close()
		return nil, err
	}
	if f, ok := body.now.(*filebody.Body); ok && len(pieces) == 1 {
		return &fileBody{f, body}, nil
	}
	return body, nil
}

// piece is a range of one segment.
type piece struct {
	segment
	of   Range
	data []byte // of the segment, if it lies in the index and was read already
}

// cut returns the pieces of segments that make up a range of them all.
func cut(segments []segment, of Range) (pieces []piece) {
	begin := int64(0)
	for _, g := range segments {
		from, to := max(of.Offset, begin), min(of.Offset+of.Length, begin+g.size)
		if from < to {
			pieces = append(pieces, piece{segment: g, of: Range{Offset: from - begin, Length: to - from}})
		}
		begin += g.size
	}
	return pieces
}

// body reads the pieces of an object one after the other.
type body struct {
	s      *Store
	ctx    context.Context //nolint:containedctx // it is read within the call that it was opened for
	n      *session
	b      Bucket
	o      *Object
	key    []byte
	pieces []piece // not opened yet
	now    io.ReadCloser
	using  []segment
	closed bool
}

// Read fills p.
func (r *body) Read(p []byte) (int, error) {
	for {
		if r.now == nil {
			if len(r.pieces) == 0 {
				return 0, io.EOF
			}
			if err := r.advance(); err != nil {
				return 0, r.fail(err)
			}
		}
		m, err := r.now.Read(p)
		if err == io.EOF {
			if err = r.end(); m == 0 && err == nil {
				continue
			}
		}
		return m, r.fail(err)
	}
}

// WriteTo writes what is left, by sendfile where that is possible.
func (r *body) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if r.now == nil {
			if len(r.pieces) == 0 {
				return total, nil
			}
			if err := r.advance(); err != nil {
				return total, r.fail(err)
			}
		}
		m, err := io.Copy(w, r.now)
		total += m
		if err == nil {
			err = r.end()
		}
		if err != nil {
			return total, r.fail(err)
		}
	}
}

// fail takes note of damage.
func (r *body) fail(err error) error {
	if volume.IsDamage(err) {
		r.s.report(r.n, err)
		return r.s.explain(err)
	}
	return err
}

func (r *body) end() error {
	err := r.now.Close()
	r.now = nil
	return err
}

// advance opens the next piece.
func (r *body) advance() error {
	p := r.pieces[0]
	r.pieces = r.pieces[1:]
	if !r.o.content.ssec.on() {
		src, err := r.source(&p, p.of)
		if err == nil {
			r.now = src
		}
		return err
	}
	c, err := newSealing(r.key, p.id)
	if err != nil {
		return err
	}
	var sealed Range
	sealed.Offset, sealed.Length = sealedRange(p.size, p.of.Offset, p.of.Length)
	src, err := r.source(&p, sealed)
	if err != nil {
		return err
	}
	r.now = newOpener(c, src, p.size, p.of)
	return nil
}

// fetch reads what lies in the index, which is not needed any more then. That is little: of an object of
// parts only the last may be so small.
func (r *body) fetch() error {
	for i := range r.pieces {
		p := &r.pieces[i]
		if !p.inline {
			continue
		}
		data, err := r.n.db.Get(r.s.dataKey(r.b, p.id))
		if err != nil {
			return err
		}
		if data == nil {
			return errReplaced
		}
		if int64(len(data)) != p.stored {
			return errRecord
		}
		p.data = data
	}
	return nil
}

// source opens a range of a segment as it is stored.
func (r *body) source(p *piece, of Range) (io.ReadCloser, error) {
	if !p.inline {
		return r.s.o.Volume.Open(r.ctx, p.content(), of.Offset, of.Length)
	}
	return &inlineBody{*bytes.NewReader(p.data[of.Offset : of.Offset+of.Length])}, nil
}

// inlineBody is content from the index.
type inlineBody struct{ bytes.Reader }

// Close does nothing.
func (*inlineBody) Close() error { return nil }

// Close ends the reading.
func (r *body) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	r.pieces = nil
	r.s.using.done(r.using)
	if r.now == nil {
		return nil
	}
	return r.end()
}

// fileBody is a body that lies in one file of this machine and was verified lately.
type fileBody struct {
	*filebody.Body
	body *body
}

// Close ends the reading.
func (f *fileBody) Close() error { return f.body.Close() }
