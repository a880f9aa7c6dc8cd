package storage

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// Body is a stored body, or a part of one. It writes itself without copies where it can.
type Body interface {
	io.ReadCloser
	io.WriterTo
}

type memoryReader struct{ bytes.Reader }

func memoryBody(b []byte) Body { return &memoryReader{*bytes.NewReader(b)} }

func (*memoryReader) Close() error { return nil }

// fileBody reads octets at to end of a file.
type fileBody struct {
	f       *os.File
	o       *Object
	at, end int64
	checked bytes.Reader // compared octets that were not read yet
}

// Read fills p; what was not yet compared with its checksums is compared first.
func (b *fileBody) Read(p []byte) (int, error) {
	if b.at >= b.end {
		return 0, io.EOF
	}
	if !b.o.verified.Load() {
		return b.readChecked(p)
	}
	n, err := b.f.ReadAt(p[:min(int64(len(p)), b.end-b.at)], b.at)
	b.at += int64(n)
	if n > 0 || err != io.EOF {
		return n, err
	}
	return 0, io.ErrUnexpectedEOF
}

func (b *fileBody) readChecked(p []byte) (int, error) {
	if b.checked.Len() == 0 {
		var buf bytes.Buffer
		next := min(b.end, (b.at/sumChunk+1)*sumChunk)
		if err := verify(b.f, b.o.Meta, b.at, next, &buf); err != nil {
			b.damaged(err)
			return 0, err
		}
		b.checked.Reset(buf.Bytes())
	}
	n, err := b.checked.Read(p)
	b.at += int64(n)
	return n, err
}

// WriteTo writes what is left. A compared file goes to a socket by sendfile.
func (b *fileBody) WriteTo(w io.Writer) (int64, error) {
	start := b.at
	if !b.o.verified.Load() {
		err := verify(b.f, b.o.Meta, b.at, b.end, w)
		if err != nil {
			b.damaged(err)
			return 0, err
		}
		if start == 0 && b.end == b.o.Length {
			b.o.verified.Store(true)
		}
		b.at = b.end
		return b.end - start, nil
	}
	if _, err := b.f.Seek(b.at, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := io.Copy(w, io.LimitReader(b.f, b.end-b.at))
	b.at += n
	if err == nil && b.at < b.end {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// damaged drops the object if that is what err says; writing may fail for other reasons.
func (b *fileBody) damaged(err error) {
	if !errors.Is(err, errDamaged) {
		return
	}
	b.o.disk.damaged.Add(1)
	b.o.disk.removeKey(&b.o.Key)
}

// Close closes the file.
func (b *fileBody) Close() error { return b.f.Close() }
