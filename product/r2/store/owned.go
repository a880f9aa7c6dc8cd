package store

import "encoding/binary"

// owned says whose content of the volume is, for the scrubber and the sweeper.
type owned struct {
	bucket Bucket
	key    string // of the object
	upload string // ID of the upload whose part it was when it was put
	size   int64  // bytes in the volume
	sum    uint32
}

func (w *owned) encode() (b []byte) {
	for _, s := range []string{w.bucket.Account, w.bucket.ID, w.key, w.upload} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = binary.AppendUvarint(b, uint64(w.size))
	return binary.LittleEndian.AppendUint32(b, w.sum)
}

func decodeOwned(b []byte) (w owned, err error) {
	for _, s := range []*string{&w.bucket.Account, &w.bucket.ID, &w.key, &w.upload} {
		var ok bool
		if *s, b, ok = cutString(b); !ok {
			return w, errRecord
		}
	}
	size, n := binary.Uvarint(b)
	if n <= 0 || len(b[n:]) < 4 {
		return w, errRecord
	}
	w.size, w.sum = int64(size), binary.LittleEndian.Uint32(b[n:])
	return w, nil
}
