package sqlite

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
)

// A file of history is a header and records. A transaction is one record or, where it wrote more than recordPages pages,
// several, of which the last is marked. All numbers are little-endian.
//
//	header  "SLVGSQL1", 16 reserved bytes
//	record  header (64 bytes): magic u32, bytes of the payload u32, seq u64, unix milliseconds i64, pages of the database
//	        u32, pages in the record u32, salt of the WAL 8 bytes, its last frame u32, flags u32, sum of the payload u64,
//	        sum of this header and the database's ID u64
//	        payload, zstd: page numbers u32 each, then the pages
const (
	fileMagic         = "SLVGSQL1"
	fileHeaderBytes   = 24
	recordMagic       = 0x31434552
	recordHeaderBytes = 64
	recordPages       = 512
	maxPayload        = recordPages * (pageSize + 4) * 2

	endsTransaction = 1 // flag
)

// recordHeader is a record's, decoded.
type recordHeader struct {
	position
	payload      uint32
	dbPages      uint32
	pages        uint32
	flags        uint32
	sum          uint64
	offset, next int64 // of the record and of the one after it
}

// segment is a file of history that is being written.
type segment struct {
	f    *os.File
	id   string
	size int64

	numbers []byte // page numbers of the record that is being filled
	content []byte
	packed  []byte
}

func newSegment(path, id string) (*segment, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	head := make([]byte, fileHeaderBytes)
	copy(head, fileMagic)
	if _, err := f.Write(head); err != nil {
		f.Close()
		return nil, err
	}
	return &segment{f: f, id: id, size: fileHeaderBytes}, nil
}

func continueSegment(path, id string, size int64) (*segment, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(size, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return &segment{f: f, id: id, size: size}, nil
}

func (s *segment) sync() error  { return s.f.Sync() }
func (s *segment) close() error { return s.f.Close() }

// transaction appends the frames after from up to p.end.
func (s *segment) transaction(w *walFile, from int, p position) error {
	buf := make([]byte, frameBytes)
	for n := from + 1; n <= p.end; n++ {
		pgno, pages, err := w.frame(n, buf)
		if err != nil {
			return err
		}
		if (pages != 0) != (n == p.end) {
			return fmt.Errorf("%w: frame %d of the WAL does not end the transaction where it should", ErrCorrupt, n)
		}
		if err := s.page(pgno, buf[frameHeaderBytes:frameBytes], p, n == p.end, pages); err != nil {
			return err
		}
	}
	return nil
}

// page adds a page to the transaction p; dbPages is how many the database has after it, if it is the last.
func (s *segment) page(pgno uint32, content []byte, p position, last bool, dbPages uint32) error {
	s.numbers = binary.LittleEndian.AppendUint32(s.numbers, pgno)
	s.content = append(s.content, content...)
	if !last && len(s.numbers) < 4*recordPages {
		return nil
	}
	flags := uint32(0)
	if last {
		flags = endsTransaction
	}
	pages := uint32(len(s.numbers) / 4)
	e, err := packer()
	if err != nil {
		return err
	}
	s.packed = append(s.packed[:0], make([]byte, recordHeaderBytes)...)
	s.packed = e.EncodeAll(append(s.numbers, s.content...), s.packed)
	if s.numbers, s.content = s.numbers[:0], s.content[:0]; cap(s.content) > 16*pageSize {
		defer func() { s.numbers, s.content, s.packed = nil, nil, nil }()
	}
	h, payload := s.packed[:recordHeaderBytes], s.packed[recordHeaderBytes:]
	le := binary.LittleEndian
	le.PutUint32(h, recordMagic)
	le.PutUint32(h[4:], uint32(len(payload)))
	le.PutUint64(h[8:], p.seq)
	le.PutUint64(h[16:], uint64(p.time.UnixMilli()))
	le.PutUint32(h[24:], dbPages)
	le.PutUint32(h[28:], pages)
	copy(h[32:40], p.salt[:])
	le.PutUint32(h[40:], uint32(p.end))
	le.PutUint32(h[44:], flags)
	le.PutUint64(h[48:], xxhash.Sum64(payload))
	le.PutUint64(h[56:], headerSum(h, s.id))
	n, err := s.f.Write(s.packed)
	s.size += int64(n)
	return err
}

func headerSum(h []byte, id string) uint64 {
	x := xxhash.New()
	x.Write(h[:56])
	x.WriteString(id)
	return x.Sum64()
}

// packer and unpacker are stateless and shared; they hold a few hundred kilobytes.
var packer = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
})

var unpacker = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPayload))
})

// errTorn is where a file of history ends in something that is no record.
var errTorn = errors.New("torn record")

// segmentReader reads a file of history in order.
type segmentReader struct {
	f      *os.File
	r      *bufio.Reader
	id     string
	offset int64
	head   [recordHeaderBytes]byte
	packed []byte
}

func readSegment(path, id string) (*segmentReader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &segmentReader{f: f, r: bufio.NewReaderSize(f, 32<<10), id: id, offset: fileHeaderBytes}
	head := make([]byte, fileHeaderBytes)
	if _, err := io.ReadFull(r.r, head); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		f.Close()
		return nil, err
	}
	if string(head[:len(fileMagic)]) != fileMagic {
		r.r.Reset(io.LimitReader(f, 0)) // a header that was not written whole: no records
	}
	return r, nil
}

func (r *segmentReader) close() error { return r.f.Close() }

// next reads the header of the next record; io.EOF at the end, errTorn where there is no whole header.
func (r *segmentReader) next() (h recordHeader, err error) {
	if _, err := io.ReadFull(r.r, r.head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return h, errTorn
		}
		return h, err
	}
	b, le := r.head[:], binary.LittleEndian
	if le.Uint32(b) != recordMagic || le.Uint64(b[56:]) != headerSum(b, r.id) {
		return h, errTorn
	}
	h.payload, h.seq, h.time = le.Uint32(b[4:]), le.Uint64(b[8:]), time.UnixMilli(int64(le.Uint64(b[16:])))
	h.dbPages, h.pages, h.end, h.flags = le.Uint32(b[24:]), le.Uint32(b[28:]), int(le.Uint32(b[40:])), le.Uint32(b[44:])
	copy(h.salt[:], b[32:40])
	h.sum = le.Uint64(b[48:])
	if h.payload > maxPayload || h.pages > recordPages {
		return h, errTorn
	}
	h.offset = r.offset
	r.offset += recordHeaderBytes + int64(h.payload)
	h.next = r.offset
	return h, nil
}

// skip passes the payload of h by.
func (r *segmentReader) skip(h recordHeader) error {
	if int(h.payload) <= r.r.Buffered() {
		_, err := r.r.Discard(int(h.payload))
		return err
	}
	if _, err := r.f.Seek(h.next, io.SeekStart); err != nil {
		return err
	}
	r.r.Reset(r.f)
	return nil
}

// check reads the payload of h and compares its sum.
func (r *segmentReader) check(h recordHeader) error {
	if cap(r.packed) < int(h.payload) {
		r.packed = make([]byte, h.payload)
	}
	r.packed = r.packed[:h.payload]
	if _, err := io.ReadFull(r.r, r.packed); err != nil || xxhash.Sum64(r.packed) != h.sum {
		return errTorn
	}
	return nil
}

// payloadOf reads the payload of h: page numbers and pages.
func (r *segmentReader) payloadOf(h recordHeader) (numbers, pages []byte, err error) {
	if err := r.check(h); err != nil {
		return nil, nil, err
	}
	d, err := unpacker()
	if err != nil {
		return nil, nil, err
	}
	all, err := d.DecodeAll(r.packed, nil)
	if err != nil || len(all) != int(h.pages)*(pageSize+4) {
		return nil, nil, fmt.Errorf("%w: a record of history does not unpack", ErrCorrupt)
	}
	return all[:4*h.pages], all[4*h.pages:], nil
}

// scanSegment returns the last transaction that is whole in the file and where it ends there. The payloads are checked.
func scanSegment(path, id string) (last position, whole int64, err error) {
	r, err := readSegment(path, id)
	if err != nil {
		return last, 0, err
	}
	defer r.close()
	for {
		h, err := r.next()
		if err == nil {
			err = r.check(h)
		}
		if errors.Is(err, errTorn) {
			// A crash tears the end only. What is followed by whole records is damage: it is left for replay to report.
			if err = r.resync(r.offset - int64(h.payload)); err == nil {
				continue
			}
		}
		if errors.Is(err, io.EOF) {
			return last, whole, nil
		}
		if err != nil {
			return last, whole, err
		}
		if h.flags&endsTransaction != 0 {
			last, whole = h.position, h.next
		}
	}
}

// resync goes on at the first record that begins after from; io.EOF if there is none.
func (r *segmentReader) resync(from int64) error {
	buf := make([]byte, 1<<20)
	magic := binary.LittleEndian.AppendUint32(nil, recordMagic)
	for at := max(from, fileHeaderBytes) + 1; ; {
		n, err := r.f.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for b, i := buf[:n], 0; ; i++ {
			j := bytes.Index(b[i:], magic)
			if j < 0 || i+j+recordHeaderBytes > n {
				break
			}
			i += j
			if h := b[i : i+recordHeaderBytes]; binary.LittleEndian.Uint64(h[56:]) == headerSum(h, r.id) {
				r.offset = at + int64(i)
				_, err := r.f.Seek(r.offset, io.SeekStart)
				r.r.Reset(r.f)
				return err
			}
		}
		if n < len(buf) {
			return io.EOF
		}
		at += int64(n - recordHeaderBytes)
	}
}

// lastRecord returns the transaction that a snapshot is of.
func lastRecord(path, id string) (position, error) {
	r, err := readSegment(path, id)
	if err != nil {
		return position{}, err
	}
	defer r.close()
	h, err := r.next()
	if err != nil {
		return position{}, fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err)
	}
	return h.position, nil
}

// segmentAt returns the last transaction of the file that was made by then; 0 if its first is later.
func segmentAt(path, id string, when time.Time) (uint64, error) {
	r, err := readSegment(path, id)
	if err != nil {
		return 0, err
	}
	defer r.close()
	for found := uint64(0); ; {
		h, err := r.next()
		if errors.Is(err, io.EOF) || (err == nil && h.time.After(when)) {
			return found, nil
		}
		if err != nil {
			return 0, fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err)
		}
		if h.flags&endsTransaction != 0 {
			found = h.seq
		}
		if err := r.skip(h); err != nil {
			return 0, err
		}
	}
}

// replay writes the pages of transactions first to last of a file of history into f.
func replay(path, id string, first, last uint64, f *os.File) error {
	r, err := readSegment(path, id)
	if err != nil {
		return err
	}
	defer r.close()
	for {
		h, err := r.next()
		if errors.Is(err, io.EOF) || (err == nil && h.seq > last) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %s at %d: %w", ErrCorrupt, path, r.offset, err)
		}
		if h.seq < first {
			if err := r.skip(h); err != nil {
				return err
			}
			continue
		}
		numbers, pages, err := r.payloadOf(h)
		if err != nil {
			return fmt.Errorf("%w: %s at %d: %w", ErrCorrupt, path, h.offset, err)
		}
		for i := range int(h.pages) {
			n := int64(binary.LittleEndian.Uint32(numbers[4*i:]))
			if _, err := f.WriteAt(pages[i*pageSize:(i+1)*pageSize], (n-1)*pageSize); err != nil {
				return err
			}
		}
		if h.flags&endsTransaction != 0 {
			if err := f.Truncate(int64(h.dbPages) * pageSize); err != nil {
				return err
			}
		}
	}
}
