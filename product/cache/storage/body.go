package storage

import (
	"bytes"
	"errors"
	"io"
	"os"
)

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
