package volume

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"sync"
)

// Content is stored from offset 0 on, so that the kernel can send it as it is. A CRC32C of each block
// follows, then a trailer:
//
//	magic 8 | size of content 8 | CRC32C of the table 4 | CRC32C of the 20 bytes before 4
const (
	blockSize   = 64 << 10
	sumSize     = 4
	trailerSize = 24
	magic       = "SLVGVO01"
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func blocksOf(size int64) int64 { return (size + blockSize - 1) / blockSize }

// storedSize returns the bytes that content takes with its table and trailer.
func storedSize(size int64) int64 { return size + blocksOf(size)*sumSize + trailerSize }

// contentSize returns the size of content that takes stored bytes, -1 if there is none.
func contentSize(stored int64) int64 {
	rest := stored - trailerSize
	if rest < 0 {
		return -1
	}
	// blocks*sumSize + size = rest, where blocks = ceil(size/blockSize)
	blocks := (rest + blockSize + sumSize - 1) / (blockSize + sumSize)
	size := rest - blocks*sumSize
	if size < 0 || storedSize(size) != stored {
		return -1
	}
	return size
}

// summer makes the table of checksums of what is written through it.
type summer struct {
	table []byte
	crc   uint32
	size  int64
}

func (s *summer) add(p []byte) {
	for len(p) > 0 {
		n := min(int64(len(p)), blockSize-s.size%blockSize)
		s.crc = crc32.Update(s.crc, castagnoli(), p[:n])
		s.size += n
		if s.size%blockSize == 0 {
			s.closeBlock()
		}
		p = p[n:]
	}
}

func (s *summer) closeBlock() {
	s.table = binary.LittleEndian.AppendUint32(s.table, s.crc)
	s.crc = 0
}

// finish returns the table with its trailer, and the content's checksum.
func (s *summer) finish() (tail []byte, sum uint32) {
	if s.size%blockSize != 0 {
		s.closeBlock()
	}
	sum = crc32.Checksum(s.table, castagnoli())
	table := len(s.table)
	tail = append(s.table, magic...)
	tail = binary.LittleEndian.AppendUint64(tail, uint64(s.size))
	tail = binary.LittleEndian.AppendUint32(tail, sum)
	return binary.LittleEndian.AppendUint32(tail, crc32.Checksum(tail[table:], castagnoli())), sum
}

// checkTrailer compares a trailer with what its user remembers of the content.
func checkTrailer(c Content, t []byte) error {
	if len(t) != trailerSize || string(t[:8]) != magic || binary.LittleEndian.Uint32(t[20:]) != crc32.Checksum(t[:20], castagnoli()) ||
		int64(binary.LittleEndian.Uint64(t[8:])) != c.Size || binary.LittleEndian.Uint32(t[16:]) != c.Sum {
		return damaged(c.Name, -1, reasonTable)
	}
	return nil
}

// checked reads content and compares each block before any of it is handed out.
type checked struct {
	c      Content
	src    io.Reader // stands at the start of a block
	table  []byte    // checksums from that block on
	at     int64     // offset of the block to come
	skip   int64     // bytes of it that nobody wants
	left   int64     // bytes wanted
	buf    *[]byte   // a block, from blocks
	ready  []byte    // compared, not read
	err    error     // met before, for good
	whole  func()    // called when the end is reached, if that was all of the content
	closer io.Closer
}

func blockPool() *sync.Pool {
	return &sync.Pool{New: func() any { b := make([]byte, blockSize); return &b }}
}

// Read fills p with what was compared.
func (r *checked) Read(p []byte) (int, error) {
	if len(r.ready) == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// WriteTo writes what is left.
func (r *checked) WriteTo(w io.Writer) (n int64, err error) {
	for {
		if len(r.ready) == 0 {
			if err := r.next(); err == io.EOF {
				return n, nil
			} else if err != nil {
				return n, err
			}
		}
		m, err := w.Write(r.ready)
		n += int64(m)
		r.ready = r.ready[m:]
		if err != nil {
			return n, err
		}
	}
}

// next makes the next block ready.
func (r *checked) next() error {
	if r.err != nil {
		return r.err
	}
	if r.left == 0 {
		r.err = io.EOF
		return r.err
	}
	if r.err = r.fill(); r.err != nil {
		return r.err
	}
	if r.left == 0 && r.whole != nil {
		r.whole()
	}
	return nil
}

func (r *checked) fill() error {
	block := (*r.buf)[:min(blockSize, r.c.Size-r.at)]
	if _, err := io.ReadFull(r.src, block); err == io.EOF || err == io.ErrUnexpectedEOF {
		return damaged(r.c.Name, r.at, reasonLength)
	} else if err != nil {
		return err
	}
	if crc32.Checksum(block, castagnoli()) != binary.LittleEndian.Uint32(r.table) {
		return damaged(r.c.Name, r.at, reasonBlock)
	}
	r.table = r.table[sumSize:]
	r.at += int64(len(block))
	block = block[r.skip:]
	r.skip = 0
	r.ready = block[:min(int64(len(block)), r.left)]
	r.left -= int64(len(r.ready))
	return nil
}

// Close ends the reading.
func (r *checked) Close() error {
	r.err, r.ready = io.ErrClosedPipe, nil
	return r.closer.Close()
}
