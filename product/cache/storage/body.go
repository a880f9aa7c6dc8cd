package storage

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// fileBody is a stored body, or a part of one, that goes out as it stands on disk.
type fileBody struct {
	f    *os.File // stands at the next octet
	left int64
}

// File returns the file, at the first octet to send, for servers that let the kernel copy.
func (b *fileBody) File() *os.File { return b.f }

// Read fills p.
func (b *fileBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.f.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err == io.EOF && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// WriteTo writes what is left, by sendfile where w is a socket.
func (b *fileBody) WriteTo(w io.Writer) (int64, error) {
	n, err := io.Copy(w, io.LimitReader(b.f, b.left))
	b.left -= n
	if err == nil && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close closes the file.
func (b *fileBody) Close() error { return b.f.Close() }

// checkedBody compares each chunk of a file with its checksum before any of it goes out.
type checkedBody struct {
	f       *os.File
	o       *Object
	at, end int64        // of what was not compared yet
	all     bool         // whether that began as the whole body
	ready   bytes.Buffer // compared, not read
}

// Read fills p with what fits its checksums.
func (b *checkedBody) Read(p []byte) (int, error) {
	if b.ready.Len() > 0 {
		return b.ready.Read(p)
	}
	if b.at >= b.end {
		return 0, io.EOF
	}
	next := min(b.end, (b.at/sumChunk+1)*sumChunk)
	if err := verify(b.f, b.o.Meta, b.at, next, &b.ready); err != nil {
		if errors.Is(err, errDamaged) {
			b.o.disk.damaged.Add(1)
			b.o.disk.removeVariant(&b.o.Key, b.o.variant())
		}
		return 0, err
	}
	if b.all && next == b.end {
		b.o.verified.Store(true)
	}
	b.at = next
	return b.ready.Read(p)
}

// Close closes the file.
func (b *checkedBody) Close() error { return b.f.Close() }
