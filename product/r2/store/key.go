package store

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"

	"selvage/engine/state"
)

// The index is in the node's store. Every key begins with the prefix of R2 and one letter:
//
//	o bucket key                      an object: record
//	d bucket id                       the bytes of small content
//	p bucket version                  where the content of a multipart object lies: segments
//	u bucket key' upload              an upload under way: upload record
//	t bucket upload number            a part of it: part record
//	x bucket upload                   an upload that ended: how
//	s bucket                          what the bucket uses
//	z bucket                          the bucket is dropped
//	c id owner                        content of the volume belongs to someone: size, checksum, whose
//	g id                              content of the volume may belong to nobody any more
//	e number                          an event that was not told yet
//	m id                              content that is damaged
//	k name                            where background work goes on
//
// A bucket is its account's and its own ID, each after its length. key' is a key with an end that keeps
// the order: 00 becomes 00 FF, and 00 01 ends it.
const (
	tableObject   = 'o'
	tableData     = 'd'
	tableSegments = 'p'
	tableUpload   = 'u'
	tablePart     = 't'
	tableEnded    = 'x'
	tableUsage    = 's'
	tableDropped  = 'z'
	tableContent  = 'c'
	tableGarbage  = 'g'
	tableEvent    = 'e'
	tableDamage   = 'm'
	tableCursor   = 'k'
)

// id names content, a version of an object, or the owner of content; 16 random bytes.
type id [16]byte

func newID() (d id) {
	rand.Read(d[:])
	return d
}

// String returns 32 hex digits.
func (d id) String() string { return hex.EncodeToString(d[:]) }

func parseID(s string) (d id, ok bool) {
	if len(s) != 2*len(d) {
		return d, false
	}
	_, err := hex.Decode(d[:], []byte(s))
	return d, err == nil
}

// uploadID is the time of initiation in nanoseconds, so that uploads of a key stand in its order, and 24
// random bytes.
type uploadID [32]byte

func (u uploadID) String() string { return base64.RawURLEncoding.EncodeToString(u[:]) }

// parseUploadID returns false if s cannot be the ID of an upload.
func parseUploadID(s string) (u uploadID, ok bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return uploadID(append(b, make([]byte, len(u))...)[:len(u)]), err == nil && len(b) == len(u)
}

func (s *Store) table(letter byte) []byte {
	b := make([]byte, 0, len(s.o.Prefix)+128)
	return append(append(b, s.o.Prefix...), letter)
}

func (s *Store) bucketKey(letter byte, b Bucket) []byte {
	k := append(s.table(letter), byte(len(b.Account)))
	k = append(k, b.Account...)
	k = append(k, byte(len(b.ID)))
	return append(k, b.ID...)
}

func (s *Store) objectKey(b Bucket, key string) []byte {
	return append(s.bucketKey(tableObject, b), key...)
}

func (s *Store) dataKey(b Bucket, d id) []byte { return append(s.bucketKey(tableData, b), d[:]...) }

func (s *Store) segmentsKey(b Bucket, version id) []byte {
	return append(s.bucketKey(tableSegments, b), version[:]...)
}

func (s *Store) uploadKey(b Bucket, key string, u uploadID) []byte {
	return append(appendEnded(s.bucketKey(tableUpload, b), key), u[:]...)
}

func (s *Store) partsKey(b Bucket, u uploadID) []byte {
	return append(s.bucketKey(tablePart, b), u[:]...)
}

func (s *Store) partKey(b Bucket, u uploadID, number int) []byte {
	return binary.BigEndian.AppendUint16(s.partsKey(b, u), uint16(number))
}

func (s *Store) endedKey(b Bucket, u uploadID) []byte {
	return append(s.bucketKey(tableEnded, b), u[:]...)
}

func (s *Store) contentKey(d, owner id) []byte {
	return append(append(s.table(tableContent), d[:]...), owner[:]...)
}

func (s *Store) garbageKey(d id) []byte { return append(s.table(tableGarbage), d[:]...) }

func (s *Store) eventKey(n uint64) []byte {
	return binary.BigEndian.AppendUint64(s.table(tableEvent), n)
}

// splitBucket takes a bucket off the front of what follows a table's letter.
func splitBucket(k []byte) (b Bucket, rest []byte, ok bool) {
	account, k, ok := splitString(k)
	if !ok {
		return b, nil, false
	}
	bucket, k, ok := splitString(k)
	return Bucket{account, bucket}, k, ok
}

func splitString(k []byte) (s string, rest []byte, ok bool) {
	if len(k) == 0 || len(k) < 1+int(k[0]) {
		return "", nil, false
	}
	n := 1 + int(k[0])
	return string(k[1:n]), k[n:], true
}

// appendEnded appends key so that what follows does not disturb the order of keys.
func appendEnded(k []byte, key string) []byte {
	return append(appendEscaped(k, key), 0, 1)
}

func appendEscaped(k []byte, key string) []byte {
	for i := range len(key) {
		if k = append(k, key[i]); key[i] == 0 {
			k = append(k, 0xff)
		}
	}
	return k
}

// splitEnded undoes appendEnded.
func splitEnded(k []byte) (key string, rest []byte, ok bool) {
	var out []byte
	for {
		i := bytes.IndexByte(k, 0)
		if i < 0 || i+1 >= len(k) {
			return "", nil, false
		}
		out = append(out, k[:i]...)
		if k[i+1] == 1 {
			return string(out), k[i+2:], true
		}
		out = append(out, 0)
		k = k[i+2:]
	}
}

// after returns the lowest key that is above k.
func after(k []byte) []byte { return append(bytes.Clone(k), 0) }

// beyond returns the lowest key that is above all that begin with k.
func beyond(k []byte) []byte { return state.Prefix(k).Upper }
