package store

import (
	"encoding/binary"

	"selvage/engine/state"
)

func (u *Usage) fields() []*int64 {
	return []*int64{&u.Objects, &u.Bytes, &u.Uploads, &u.UploadBytes, &u.MetadataBytes, &u.InfrequentObjects, &u.InfrequentBytes}
}

func (u Usage) plus(more Usage) Usage {
	to := u.fields()
	for i, f := range more.fields() {
		*to[i] += *f
	}
	return u
}

func (u *Usage) encode() (b []byte) {
	for _, f := range u.fields() {
		b = binary.AppendVarint(b, *f)
	}
	return b
}

func decodeUsage(b []byte) (u Usage, err error) {
	for _, f := range u.fields() {
		if len(b) == 0 {
			break // written when there were fewer fields, or never
		}
		v, w := binary.Varint(b)
		if w <= 0 {
			return u, errRecord
		}
		*f, b = v, b[w:]
	}
	return u, nil
}

// add counts an object n times; n may be -1.
func (u *Usage) add(o *Object, n int64) {
	u.Objects += n
	u.Bytes += n * o.Size
	u.MetadataBytes += n * int64(len(o.Key)+customSize(o.Custom))
	if o.StorageClass == InfrequentAccess {
		u.InfrequentObjects += n
		u.InfrequentBytes += n * o.Size
	}
}

func customSize(m map[string]string) (n int) {
	for k, v := range m {
		n += len(k) + len(v)
	}
	return n
}

// Usage returns what a bucket uses.
func (s *Store) Usage(b Bucket) (Usage, error) {
	n, err := s.session()
	if err != nil {
		return Usage{}, err
	}
	raw, err := n.db.Get(s.bucketKey(tableUsage, b))
	if err != nil {
		return Usage{}, err
	}
	return decodeUsage(raw)
}

// UsageOf returns what all buckets of an account use together.
func (s *Store) UsageOf(account string) (total Usage, err error) {
	n, err := s.session()
	if err != nil {
		return total, err
	}
	k := append(s.table(tableUsage), byte(len(account)))
	for p, err := range n.db.Scan(state.Prefix(append(k, account...))) {
		if err != nil {
			return total, err
		}
		u, err := decodeUsage(p.Value)
		if err != nil {
			return total, err
		}
		total = total.plus(u)
	}
	return total, nil
}
