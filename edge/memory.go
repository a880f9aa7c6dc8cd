package edge

import (
	"bytes"
	"io"
)

// memory returns a body that is held in memory; it writes itself without an intermediate copy.
func memory(b []byte) io.ReadCloser {
	m := &memoryBody{b: b}
	m.Reader.Reset(b)
	return m
}

type memoryBody struct {
	bytes.Reader
	b []byte
}

// Close does nothing: there is nothing to give back.
func (*memoryBody) Close() error { return nil }

// next consumes up to n bytes without copying them.
func (m *memoryBody) next(n int) []byte {
	from := len(m.b) - m.Len()
	to := min(from+n, len(m.b))
	m.Seek(int64(to), io.SeekStart)
	return m.b[from:to]
}
