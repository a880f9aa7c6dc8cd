// Package filebody is a body that lies in a file and goes out as it stands on disk.
package filebody

import (
	"io"
	"os"
)

// Body is a file, or a part of one. Not safe for concurrent use.
type Body struct {
	f    *os.File
	left int64
}

// New returns the next n octets of f, from where that stands. Close closes f.
func New(f *os.File, n int64) *Body { return &Body{f, n} }

// File returns the file, at the first octet to send, for servers that let the kernel copy.
func (b *Body) File() *os.File { return b.f }

// Read fills p. A file that ends early is an io.ErrUnexpectedEOF.
func (b *Body) Read(p []byte) (int, error) {
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
func (b *Body) WriteTo(w io.Writer) (int64, error) {
	n, err := io.Copy(w, io.LimitReader(b.f, b.left))
	b.left -= n
	if err == nil && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close closes the file.
func (b *Body) Close() error { return b.f.Close() }
