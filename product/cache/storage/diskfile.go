package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cespare/xxhash/v2"

	"selvage/foundation/filebody"
	"selvage/product/cache/semantics"
)

// A file is the body from offset 0 on (so that the kernel can send it as it is), then the head,
// then a trailer of fixed size:
//
//	magic 8 | body length 8 | head length 8 | xxhash of head 8 | xxhash of the 32 octets before 8
//
// The head holds an xxhash of each sumChunk of the body.
const (
	trailerSize = 40
	magic       = "SLVGCH01"

	// sumChunk is how much of a body one checksum covers.
	sumChunk = 1 << 20

	// verifyWhole is up to what size a body is read through and compared before its first use by a
	// process; larger ones are compared chunk by chunk as they are sent.
	verifyWhole = 64 << 20
)

// errDamaged says that a file is not what was written.
var errDamaged = errors.New("stored file is damaged")

func chunksOf(length int64) int64 { return (length + sumChunk - 1) / sumChunk }

// trailer returns what follows the body in m's file.
func trailer(m *Meta) []byte {
	head := m.encode()
	b := append(make([]byte, 0, len(head)+trailerSize), head...)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Length))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(head)))
	b = binary.LittleEndian.AppendUint64(b, xxhash.Sum64(head))
	return binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b[len(head):]))
}

// load reads the head of an indexed file, and compares the body if that was not done yet.
func (d *disk) load(n *file) (*Object, error) {
	path := d.path(&n.name)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := readMeta(f)
	if err != nil {
		return nil, err
	}
	if m.Key != n.name.key || m.variant() != n.name.variant {
		return nil, fmt.Errorf("%w: it holds another key", errDamaged)
	}
	o := &Object{Meta: m, disk: d, verified: &n.verified}
	o.path.Store(&path)
	if !n.verified.Load() && m.Length <= verifyWhole {
		if err := verify(f, m, 0, m.Length, io.Discard); err != nil {
			return nil, err
		}
		n.verified.Store(true)
	}
	return o, nil
}

func readMeta(f *os.File) (*Meta, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var t [trailerSize]byte
	at := info.Size() - trailerSize
	if at < 0 {
		return nil, fmt.Errorf("%w: it is too short", errDamaged)
	}
	if _, err := f.ReadAt(t[:], at); err != nil {
		return nil, err
	}
	body := int64(binary.LittleEndian.Uint64(t[8:]))
	length := int64(binary.LittleEndian.Uint64(t[16:]))
	if string(t[:8]) != magic || xxhash.Sum64(t[:32]) != binary.LittleEndian.Uint64(t[32:]) || body < 0 || length < 0 || body+length != at {
		return nil, fmt.Errorf("%w: its trailer does not fit", errDamaged)
	}
	head := make([]byte, length)
	if _, err := f.ReadAt(head, body); err != nil {
		return nil, err
	}
	if xxhash.Sum64(head) != binary.LittleEndian.Uint64(t[24:]) {
		return nil, fmt.Errorf("%w: its head does not fit", errDamaged)
	}
	m, err := decodeMeta(head)
	if err == nil && m.Length != body {
		err = errDamaged
	}
	return m, err
}

// verify writes the octets from first to end to w, comparing each chunk they touch before any of
// it is written.
func verify(f io.ReaderAt, m *Meta, first, end int64, w io.Writer) error {
	if first >= end {
		return nil
	}
	buf := make([]byte, min(sumChunk, m.Length))
	for i := first / sumChunk; i*sumChunk < end; i++ {
		from := i * sumChunk
		chunk := buf[:min(sumChunk, m.Length-from)]
		if _, err := f.ReadAt(chunk, from); err != nil {
			return err
		}
		if xxhash.Sum64(chunk) != m.sums[i] {
			return fmt.Errorf("%w: its body does not fit", errDamaged)
		}
		if _, err := w.Write(chunk[max(first-from, 0):min(end-from, int64(len(chunk)))]); err != nil {
			return err
		}
	}
	return nil
}

// update replaces the head of an object's file: what a crash tears is dropped when it is next
// read. Readers of the body are not disturbed.
func (d *disk) update(path string, m *Meta) error {
	if !d.writable() {
		return errPaused
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err = f.Seek(m.Length, io.SeekStart); err != nil {
		return err
	}
	tail := trailer(m)
	if _, err = f.Write(tail); err == nil && info.Size() > m.Length+int64(len(tail)) {
		err = f.Truncate(m.Length + int64(len(tail)))
	}
	if err != nil {
		d.fail()
	}
	return err
}

// open returns a body that is read from the object's file.
func (d *disk) open(o *Object, span semantics.Span) (io.ReadCloser, error) {
	f, err := os.Open(*o.path.Load())
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() < o.Length {
		err = fmt.Errorf("%w: it is too short", errDamaged)
	}
	if err == nil {
		_, err = f.Seek(span.First, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	if o.verified.Load() {
		return filebody.New(f, span.Length), nil
	}
	return &checkedBody{f: f, o: o, at: span.First, end: span.First + span.Length, all: span.Length == o.Length}, nil
}
