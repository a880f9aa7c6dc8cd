package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// The WAL file, https://www.sqlite.org/fileformat2.html#the_write_ahead_log.
const (
	walHeaderBytes   = 32
	frameHeaderBytes = 24
	frameBytes       = frameHeaderBytes + pageSize
)

// walFile reads the WAL of a database, which SQLite writes.
type walFile struct {
	f     *os.File
	salt  [8]byte
	order binary.ByteOrder
	sum   [2]uint32 // of the header
}

// openWAL opens it; nil if there is none, or nothing in it.
func openWAL(path string) (*walFile, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	h := make([]byte, walHeaderBytes)
	if _, err := f.ReadAt(h, 0); err != nil {
		f.Close()
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	w := &walFile{f: f, order: binary.LittleEndian}
	magic := binary.BigEndian.Uint32(h)
	if magic == 0x377f0683 {
		w.order = binary.BigEndian
	}
	w.sum = walSum(w.order, [2]uint32{}, h[:24])
	valid := magic&^1 == 0x377f0682 && binary.BigEndian.Uint32(h[8:]) == pageSize &&
		w.sum == [2]uint32{binary.BigEndian.Uint32(h[24:]), binary.BigEndian.Uint32(h[28:])}
	if !valid {
		// SQLite takes such a WAL for empty: it never held an acknowledged transaction.
		f.Close()
		return nil, nil
	}
	copy(w.salt[:], h[16:24])
	return w, nil
}

func (w *walFile) close() error { return w.f.Close() }

// commits returns the last frames of the transactions that SQLite would recover.
func (w *walFile) commits() (ends []int, err error) {
	buf := make([]byte, 64*frameBytes)
	sum := w.sum
	for frame := 0; ; {
		n, err := w.f.ReadAt(buf, walHeaderBytes+int64(frame)*frameBytes)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		for b := buf[:n]; len(b) >= frameBytes; b = b[frameBytes:] {
			if [8]byte(b[8:16]) != w.salt {
				return ends, nil
			}
			sum = walSum(w.order, walSum(w.order, sum, b[:8]), b[frameHeaderBytes:frameBytes])
			if sum != [2]uint32{binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint32(b[20:])} {
				return ends, nil
			}
			frame++
			if binary.BigEndian.Uint32(b[4:]) != 0 {
				ends = append(ends, frame)
			}
		}
		if n < len(buf) {
			return ends, nil
		}
	}
}

// frame reads frame n, from 1: its page, the pages of the database if it ends a transaction, and the content into page.
func (w *walFile) frame(n int, buf []byte) (pgno, pages uint32, err error) {
	if _, err := w.f.ReadAt(buf[:frameBytes], walHeaderBytes+int64(n-1)*frameBytes); err != nil {
		return 0, 0, fmt.Errorf("frame %d of the WAL: %w", n, err)
	}
	if [8]byte(buf[8:16]) != w.salt {
		return 0, 0, fmt.Errorf("frame %d of the WAL is of another generation", n)
	}
	return binary.BigEndian.Uint32(buf), binary.BigEndian.Uint32(buf[4:]), nil
}

// written returns when the WAL was written last.
func (w *walFile) written() (time.Time, error) {
	info, err := w.f.Stat()
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

func walSum(order binary.ByteOrder, s [2]uint32, b []byte) [2]uint32 {
	for ; len(b) >= 8; b = b[8:] {
		s[0] += order.Uint32(b) + s[1]
		s[1] += order.Uint32(b[4:]) + s[0]
	}
	return s
}
