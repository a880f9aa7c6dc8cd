package store

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// Where a value lies follows from its size: beside its metadata, so that one look-up finds both; apart
// from it, so that listings and overwrites do not read it; or in a file.
const (
	besideBytes = 1 << 10
	inlineBytes = 64 << 10
	blockBytes  = 64 << 10 // of a file, each with a checksum
)

const recordFormat = 1

// Places of values.
const (
	placeBeside = iota
	placeApart
	placeFile
)

var errDamaged = errors.New("a record of KV cannot be read")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is what is known of a key.
type record struct {
	place    byte
	version  [16]byte // of the value: it begins with it if it lies apart, and is called so if it is a file
	expires  int64    // Unix seconds; 0 never
	size     int64    // of the value
	metadata []byte   // JSON; empty if there is none
	value    []byte   // if it lies beside
	sums     []byte   // CRC-32C of each block of a file, 4 bytes each
}

// usage is what a key counts.
func (r *record) usage(key string) Usage {
	return Usage{1, int64(len(key)) + int64(len(r.metadata)) + r.size}
}

func (r *record) encode() []byte {
	b := make([]byte, 0, 64+len(r.metadata)+len(r.value)+len(r.sums))
	b = append(b, recordFormat, r.place)
	b = append(b, r.version[:]...)
	b = binary.AppendUvarint(b, uint64(r.expires))
	b = binary.AppendUvarint(b, uint64(r.size))
	b = binary.AppendUvarint(b, uint64(len(r.metadata)))
	b = append(b, r.metadata...)
	b = append(b, r.value...)
	return append(b, r.sums...)
}

// decodeRecord reads a record, whose slices are parts of b.
func decodeRecord(b []byte) (r record, err error) {
	if len(b) < 2+len(r.version) || b[0] != recordFormat || b[1] > placeFile {
		return r, errDamaged
	}
	r.place = b[1]
	copy(r.version[:], b[2:])
	b = b[2+len(r.version):]
	number := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			err, b = errDamaged, nil
			return 0
		}
		b = b[n:]
		return v
	}
	r.expires, r.size = int64(number()), int64(number())
	length := number()
	if err != nil || length > uint64(len(b)) {
		return r, errDamaged
	}
	if length > 0 {
		r.metadata = b[:length]
	}
	b = b[length:]
	switch r.place {
	case placeBeside:
		r.value = b
		if int64(len(b)) != r.size {
			return r, errDamaged
		}
	case placeFile:
		r.sums = b
		if int64(len(b)) != 4*blocksOf(r.size) {
			return r, errDamaged
		}
	}
	return r, nil
}

// blocksOf returns how many blocks a file of that size has.
func blocksOf(size int64) int64 { return (size + blockBytes - 1) / blockBytes }
