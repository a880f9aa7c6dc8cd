package storage

import (
	"context"
	"io"
	"os"

	"selvage/product/cache/semantics"
)

// Reader reads a fill from its beginning, waiting for what has not arrived. Close it.
type Reader struct {
	f       *Fill
	ctx     context.Context
	at, end int64 // end is -1 for all
	err     error
	onClose func()
}

// NewReader returns a reader of the whole body. It fails if the beginning is gone. ctx ends the
// waiting; onClose, if not nil, is called by the first Close.
func (f *Fill) NewReader(ctx context.Context, onClose func()) (*Reader, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost || f.base > 0 && f.file == nil {
		return nil, errTooLate
	}
	if f.done && f.err != nil {
		return nil, f.err
	}
	r := &Reader{f: f, ctx: ctx, end: -1, onClose: onClose}
	f.readers[r] = struct{}{}
	return r, nil
}

// Limit makes r give span only. Call it before reading.
func (r *Reader) Limit(span semantics.Span) {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	r.at, r.end = span.First, span.First+span.Length
}

// next waits for octets and returns some that are held in memory, or the file to read the next
// inFile octets from: what follows them there may be the head of the stored object.
func (r *Reader) next(most int) (held []byte, file *os.File, inFile int64, err error) {
	f := r.f
	for {
		f.mu.Lock()
		if r.err != nil {
			f.mu.Unlock()
			return nil, nil, 0, r.err
		}
		if r.end >= 0 && r.at >= r.end {
			f.mu.Unlock()
			return nil, nil, 0, io.EOF
		}
		if r.at < f.total {
			held, file = f.at(r.at)
			inFile = f.base - r.at
			if r.end >= 0 {
				held = held[:min(int64(len(held)), r.end-r.at)]
				inFile = min(inFile, r.end-r.at)
			}
			f.mu.Unlock()
			return held[:min(len(held), most)], file, inFile, nil
		}
		if f.done {
			err := f.err
			f.mu.Unlock()
			if err == nil {
				err = io.EOF
			}
			return nil, nil, 0, err
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-r.ctx.Done():
			return nil, nil, 0, context.Cause(r.ctx)
		}
	}
}

// at returns the octets held from off on, or the file that has them; f.mu is held, off < f.total.
func (f *Fill) at(off int64) ([]byte, *os.File) {
	if off < f.base {
		return nil, f.file
	}
	off -= f.base
	for _, c := range f.chunks {
		if off < int64(len(c)) {
			return c[off:], nil
		}
		off -= int64(len(c))
	}
	return nil, nil
}

// Read fills p with what is there, waiting if nothing is.
func (r *Reader) Read(p []byte) (int, error) {
	held, file, inFile, err := r.next(len(p))
	if err != nil {
		return 0, err
	}
	if file == nil {
		n := copy(p, held)
		r.moved(n)
		return n, nil
	}
	n, err := file.ReadAt(p[:min(int64(len(p)), inFile)], r.at)
	r.moved(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// WriteTo writes everything to w as it arrives, without copying what is in memory.
func (r *Reader) WriteTo(w io.Writer) (n int64, err error) {
	var buf []byte
	for {
		held, file, _, err := r.next(1 << 30)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if file != nil {
			if buf == nil {
				buf = make([]byte, chunkSize)
			}
			got, err := r.Read(buf)
			if err != nil {
				return n, err
			}
			held = buf[:got]
		}
		wrote, err := w.Write(held)
		n += int64(wrote)
		if file == nil {
			r.moved(wrote)
		}
		if err != nil {
			return n, err
		}
	}
}

// moved notes progress; a writer that waits for readers has to hear of it.
func (r *Reader) moved(n int) {
	f := r.f
	f.mu.Lock()
	defer f.mu.Unlock()
	r.at += int64(n)
	if f.window && !f.done {
		f.wake()
	}
}

func (r *Reader) fail(err error) {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	r.err = err
	r.f.wake()
}

// Close ends the reading. Calling it again does nothing.
func (r *Reader) Close() error {
	f := r.f
	f.mu.Lock()
	_, open := f.readers[r]
	delete(f.readers, r)
	last := open && len(f.readers) == 0 && f.done
	if open && f.window && !f.done {
		f.wake()
	}
	f.mu.Unlock()
	if last {
		f.close()
	}
	if open && r.onClose != nil {
		r.onClose()
	}
	return nil
}
