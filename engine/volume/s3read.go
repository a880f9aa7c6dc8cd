package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// s3Small is up to what size content and its table are fetched with one request.
	s3Small = 1 << 20

	// stall is how long a body may send nothing.
	stall = time.Minute
)

// Open opens a part of an object. It asks for the table of checksums first, then for the content; small
// content comes with its table.
func (v *S3) Open(ctx context.Context, c Content, offset, length int64) (io.ReadCloser, error) {
	if err := checkName(c.Name); err != nil {
		return nil, err
	}
	if err := checkRange(c, offset, length); err != nil {
		return nil, err
	}
	return v.open(ctx, c, offset, length)
}

func (v *S3) open(ctx context.Context, c Content, offset, length int64) (*checked, error) {
	first, end := offset/blockSize, blocksOf(offset+length)
	if length == 0 {
		end = first
	}
	r := &checked{c: c, at: first * blockSize, skip: offset - first*blockSize, left: length}
	from, to := first*blockSize, min(end*blockSize, c.Size)
	if storedSize(c.Size)-from <= s3Small {
		all, err := v.readAll(ctx, c, from, storedSize(c.Size)-from)
		if err != nil {
			return nil, err
		}
		if err := checkTrailer(c, all[len(all)-trailerSize:]); err != nil {
			return nil, err
		}
		// The table is at content's end, and begins with the first block of all.
		table := all[c.Size-from+first*sumSize:]
		r.table, r.src, r.closer = table[:(end-first)*sumSize], bytes.NewReader(all[:to-from]), io.NopCloser(nil)
	} else {
		table, err := v.readTable(ctx, c, first, end)
		if err != nil {
			return nil, err
		}
		s := &s3Source{v: v, ctx: ctx, c: c, at: from, end: to}
		r.table, r.src, r.closer = table, s, s
	}
	r.buf = v.blocks.Get().(*[]byte)
	r.closer = &returning{r.closer, v, r.buf}
	return r, nil
}

// returning gives a reader's block back when it is closed.
type returning struct {
	io.Closer
	v   *S3
	buf *[]byte
}

// Close closes what is below.
func (p *returning) Close() error {
	if p.buf != nil {
		p.v.blocks.Put(p.buf)
		p.buf = nil
	}
	return p.Closer.Close()
}

// readAll reads a range as it is stored.
func (v *S3) readAll(ctx context.Context, c Content, offset, length int64) ([]byte, error) {
	s := &s3Source{v: v, ctx: ctx, c: c, at: offset, end: offset + length}
	defer s.Close()
	all := make([]byte, length)
	if _, err := io.ReadFull(s, all); err != nil {
		return nil, err
	}
	return all, nil
}

// s3Source reads a range of an object, over as many connections as it takes.
type s3Source struct {
	v       *S3
	ctx     context.Context //nolint:containedctx // a reader lives as long as the call that it was made in
	c       Content
	at, end int64
	body    io.ReadCloser // nil: to be asked for
	cancel  context.CancelFunc
	idle    *time.Timer
	broken  int // times in a row
}

// Read fills p.
func (s *s3Source) Read(p []byte) (int, error) {
	for s.at < s.end {
		if s.body == nil {
			if err := s.connect(); err != nil {
				return 0, err
			}
		}
		s.idle.Reset(stall)
		n, err := s.body.Read(p[:min(int64(len(p)), s.end-s.at)])
		s.at += int64(n)
		if n > 0 {
			s.broken = 0
			return n, nil
		}
		if err == nil {
			continue
		}
		s.Close()
		if cerr := s.ctx.Err(); cerr != nil {
			return 0, cerr
		}
		if s.broken++; s.broken >= s.v.o.Attempts {
			return 0, s.v.unavailable(err)
		}
		if err := wait(s.ctx, firstPause<<s.broken); err != nil {
			return 0, err
		}
	}
	return 0, io.EOF
}

// connect asks for what is not read yet.
func (s *s3Source) connect() error {
	ctx, cancel := context.WithCancel(s.ctx)
	res, err := s.v.do(ctx, &request{method: http.MethodGet, key: s.v.o.Prefix + s.c.Name, header: span(s.at, s.end-s.at)})
	if err != nil {
		cancel()
		switch {
		case isCode(err, "NoSuchKey"):
			return damaged(s.c.Name, -1, reasonMissing)
		case isStatus(err, http.StatusRequestedRangeNotSatisfiable):
			return damaged(s.c.Name, s.at, reasonLength)
		}
		return err
	}
	if err := s.fits(res); err != nil {
		res.Body.Close()
		cancel()
		return err
	}
	s.body, s.cancel, s.idle = res.Body, cancel, time.AfterFunc(stall, cancel)
	return nil
}

// fits tells whether an answer is a part of an object that has the length that it should have.
func (s *s3Source) fits(res *http.Response) error {
	whole := storedSize(s.c.Size)
	if res.StatusCode != http.StatusPartialContent {
		if res.ContentLength != whole {
			return damaged(s.c.Name, -1, reasonLength)
		}
		if s.at > 0 {
			return s.v.unavailable(errors.New("it gives all of an object to who asks for a part of it"))
		}
		return nil
	}
	if r := res.Header.Get("Content-Range"); r != fmt.Sprintf("bytes %d-%d/%d", s.at, s.end-1, whole) {
		return damaged(s.c.Name, -1, reasonLength)
	}
	return nil
}

// Close ends the reading.
func (s *s3Source) Close() error {
	if s.body == nil {
		return nil
	}
	s.idle.Stop()
	s.cancel()
	err := s.body.Close()
	s.body = nil
	return err
}

// Verify reads an object as it is stored now.
func (v *S3) Verify(ctx context.Context, c Content, pace func(context.Context, int) error) error {
	if err := checkName(c.Name); err != nil {
		return err
	}
	r, err := v.open(ctx, c, 0, c.Size)
	if err != nil {
		return err
	}
	defer r.Close()
	return verify(ctx, r, pace)
}
