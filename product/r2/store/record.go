package store

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"time"
)

// content is where an object's bytes lie.
type content struct {
	version  id
	segments []segment // in order; not loaded if multipart
	parts    bool      // the segments have a key of their own
	ssec     ssec
	checksum string // of an upload: what its parts are summed with
}

// segment is a run of bytes that were put at once: all of an object, or a part of it.
type segment struct {
	id     id
	inline bool  // in the index, not in the volume
	size   int64 // bytes of the object
	stored int64 // bytes in the volume; more than size if encrypted
	sum    uint32
	owner  id // in the table of content; zero for the one who put it, a version for a copy
}

// A record begins with what scans look at:
//
//	format 1 | uploaded 8, in milliseconds | size 8 | version 16 | class 1
//
// Fields follow: tag 1, length, bytes. A reader skips tags that it does not know.
const (
	recordFormat = 1
	headSize     = 1 + 8 + 8 + 16 + 1

	fieldETag         = 1
	fieldType         = 2
	fieldLanguage     = 3
	fieldDisposition  = 4
	fieldEncoding     = 5
	fieldCacheControl = 6
	fieldCacheExpiry  = 7
	fieldCustom       = 8
	fieldSSEC         = 9
	fieldSSECKeyMD5   = 10
	fieldParts        = 11 // runs of equal sizes: number, size
	fieldSegments     = 12
	fieldComposite    = 13
	fieldChecksum     = 14
	fieldSums         = 20 // and on: one of each kind, in the order of kinds
)

var errRecord = errors.New("a record of the index of R2 cannot be understood: it was written by a newer version of this program, or is damaged")

type encoder struct{ b []byte }

func (e *encoder) bytes(tag byte, v []byte) {
	if len(v) > 0 {
		e.b = binary.AppendUvarint(append(e.b, tag), uint64(len(v)))
		e.b = append(e.b, v...)
	}
}

func (e *encoder) string(tag byte, v string) {
	if v != "" {
		e.b = binary.AppendUvarint(append(e.b, tag), uint64(len(v)))
		e.b = append(e.b, v...)
	}
}

// encode returns the record of an object, an upload or a part; the key is not in it.
func (o *Object) encode() []byte {
	e := encoder{make([]byte, headSize, 256)}
	e.b[0] = recordFormat
	binary.BigEndian.PutUint64(e.b[1:], uint64(o.Uploaded.UnixMilli()))
	binary.BigEndian.PutUint64(e.b[9:], uint64(o.Size))
	copy(e.b[17:], o.content.version[:])
	if o.StorageClass == InfrequentAccess {
		e.b[33] = 1
	}
	e.string(fieldETag, o.ETag)
	e.string(fieldType, o.HTTP.ContentType)
	e.string(fieldLanguage, o.HTTP.ContentLanguage)
	e.string(fieldDisposition, o.HTTP.ContentDisposition)
	e.string(fieldEncoding, o.HTTP.ContentEncoding)
	e.string(fieldCacheControl, o.HTTP.CacheControl)
	if !o.HTTP.CacheExpiry.IsZero() {
		e.bytes(fieldCacheExpiry, binary.BigEndian.AppendUint64(nil, uint64(o.HTTP.CacheExpiry.UnixMilli())))
	}
	e.bytes(fieldCustom, encodeCustom(o.Custom))
	e.bytes(fieldSSEC, o.content.ssec.encode())
	e.string(fieldSSECKeyMD5, o.SSECKeyMD5)
	if o.content.parts {
		e.bytes(fieldParts, encodeSizes(o.Parts))
	} else {
		e.bytes(fieldSegments, encodeSegments(o.content.segments))
	}
	if o.Checksums.Composite {
		e.bytes(fieldComposite, []byte{1})
	}
	e.string(fieldChecksum, o.content.checksum)
	for i, k := range kinds() {
		e.bytes(byte(fieldSums+i), *o.Checksums.of(k))
	}
	return e.b
}

// decodeObject reads a record; nothing of b is kept.
func decodeObject(key string, b []byte) (*Object, error) {
	if len(b) < headSize || b[0] != recordFormat {
		return nil, errRecord
	}
	o := &Object{Key: key, Uploaded: uploadedOf(b), Size: int64(binary.BigEndian.Uint64(b[9:])), StorageClass: classOf(b)}
	o.content.version = versionOf(b)
	o.Version = o.content.version.String()
	for b = b[headSize:]; len(b) > 0; {
		tag := b[0]
		n, w := binary.Uvarint(b[1:])
		if w <= 0 || n > uint64(len(b)-1-w) {
			return nil, errRecord
		}
		v := b[1+w : 1+w+int(n)]
		if err := o.setField(tag, v); err != nil {
			return nil, err
		}
		b = b[1+w+int(n):]
	}
	return o, nil
}

func (o *Object) setField(tag byte, v []byte) (err error) {
	switch tag {
	case fieldETag:
		o.ETag = string(v)
	case fieldType:
		o.HTTP.ContentType = string(v)
	case fieldLanguage:
		o.HTTP.ContentLanguage = string(v)
	case fieldDisposition:
		o.HTTP.ContentDisposition = string(v)
	case fieldEncoding:
		o.HTTP.ContentEncoding = string(v)
	case fieldCacheControl:
		o.HTTP.CacheControl = string(v)
	case fieldCacheExpiry:
		if len(v) != 8 {
			return errRecord
		}
		o.HTTP.CacheExpiry = time.UnixMilli(int64(binary.BigEndian.Uint64(v))).UTC()
	case fieldCustom:
		o.Custom, err = decodeCustom(v)
	case fieldSSEC:
		err = o.content.ssec.decode(v)
	case fieldSSECKeyMD5:
		o.SSECKeyMD5 = string(v)
	case fieldParts:
		o.content.parts = true
		o.Parts, err = decodeSizes(v)
	case fieldSegments:
		o.content.segments, err = decodeSegments(v)
	case fieldComposite:
		o.Checksums.Composite = true
	case fieldChecksum:
		o.content.checksum = string(v)
	default:
		all := kinds()
		if i := int(tag) - fieldSums; i >= 0 && i < len(all) {
			*o.Checksums.of(all[i]) = slices.Clone(v)
		}
	}
	return err
}

func uploadedOf(record []byte) time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(record[1:]))).UTC()
}

func versionOf(record []byte) (v id) {
	copy(v[:], record[17:])
	return v
}

func classOf(record []byte) string {
	if record[33] == 1 {
		return InfrequentAccess
	}
	return Standard
}

func encodeCustom(m map[string]string) (b []byte) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b = binary.AppendUvarint(b, uint64(len(k)))
		b = append(b, k...)
		b = binary.AppendUvarint(b, uint64(len(m[k])))
		b = append(b, m[k]...)
	}
	return b
}

func decodeCustom(b []byte) (map[string]string, error) {
	m := map[string]string{}
	for len(b) > 0 {
		var k, v string
		var ok bool
		if k, b, ok = cutString(b); !ok {
			return nil, errRecord
		}
		if v, b, ok = cutString(b); !ok {
			return nil, errRecord
		}
		m[k] = v
	}
	return m, nil
}

func cutString(b []byte) (s string, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return "", nil, false
	}
	return string(b[w : w+int(n)]), b[w+int(n):], true
}

// encodeSizes writes runs: nearly all parts of an object have the same size.
func encodeSizes(sizes []int64) (b []byte) {
	for i := 0; i < len(sizes); {
		n := 1
		for i+n < len(sizes) && sizes[i+n] == sizes[i] {
			n++
		}
		b = binary.AppendUvarint(b, uint64(n))
		b = binary.AppendUvarint(b, uint64(sizes[i]))
		i += n
	}
	return b
}

func decodeSizes(b []byte) (sizes []int64, err error) {
	for len(b) > 0 {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(MaxParts-len(sizes)) {
			return nil, errRecord
		}
		size, x := binary.Uvarint(b[w:])
		if x <= 0 {
			return nil, errRecord
		}
		sizes = append(sizes, slices.Repeat([]int64{int64(size)}, int(n))...)
		b = b[w+x:]
	}
	return sizes, nil
}

// Flags of an encoded segment.
const (
	segmentInline = 1 << iota
	segmentSealed
	segmentShared
)

func encodeSegments(segments []segment) (b []byte) {
	for i := range segments {
		s := &segments[i]
		var flags byte
		if s.inline {
			flags |= segmentInline
		}
		if s.stored != s.size {
			flags |= segmentSealed
		}
		if s.owner != (id{}) {
			flags |= segmentShared
		}
		b = append(append(b, flags), s.id[:]...)
		b = binary.LittleEndian.AppendUint32(b, s.sum)
		b = binary.AppendUvarint(b, uint64(s.size))
		if flags&segmentSealed != 0 {
			b = binary.AppendUvarint(b, uint64(s.stored))
		}
		if flags&segmentShared != 0 {
			b = append(b, s.owner[:]...)
		}
	}
	return b
}

func decodeSegments(b []byte) (segments []segment, err error) {
	const fixed = 1 + len(id{}) + 4
	for len(b) > 0 {
		if len(b) < fixed || len(segments) == MaxParts {
			return nil, errRecord
		}
		flags := b[0]
		s := segment{inline: flags&segmentInline != 0, sum: binary.LittleEndian.Uint32(b[17:])}
		copy(s.id[:], b[1:])
		b = b[fixed:]
		size, w := binary.Uvarint(b)
		if w <= 0 {
			return nil, errRecord
		}
		b = b[w:]
		s.size, s.stored = int64(size), int64(size)
		if flags&segmentSealed != 0 {
			stored, w := binary.Uvarint(b)
			if w <= 0 {
				return nil, errRecord
			}
			s.stored = int64(stored)
			b = b[w:]
		}
		if flags&segmentShared != 0 {
			if len(b) < len(id{}) {
				return nil, errRecord
			}
			copy(s.owner[:], b)
			b = b[len(id{}):]
		}
		segments = append(segments, s)
	}
	return segments, nil
}
