package storage

import (
	"encoding/binary"
	"errors"
	"time"

	"selvage/edge"
)

// errMeta is what decoding a damaged or foreign head gives.
var errMeta = errors.New("stored head is damaged")

// encode writes the head as it stands on disk: varints and length-prefixed strings, for header
// values may hold any octet.
func (m *Meta) encode() []byte {
	b := make([]byte, 0, 1024)
	b = append(b, m.Key[:]...)
	for _, s := range []string{m.Place.Zone, m.Place.Scheme, m.Place.Host, m.Place.URI} {
		b = appendString(b, s)
	}
	b = binary.AppendVarint(b, int64(m.Status))
	b = binary.AppendVarint(b, m.Length)
	b = binary.AppendVarint(b, m.Born.UnixNano())
	for _, d := range []time.Duration{m.Verdict.Lifetime, m.Verdict.WhileRevalidate, m.Verdict.IfError} {
		b = binary.AppendVarint(b, int64(d))
	}
	b = append(b, flag(m.Verdict.Validate), flag(m.Verdict.Strict))
	b = binary.AppendUvarint(b, m.Seq)
	for _, list := range [][]string{m.Place.Tags, m.Vary, m.Selected} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, s := range list {
			b = appendString(b, s)
		}
	}
	b = binary.AppendUvarint(b, uint64(m.Header.Len()))
	for _, f := range m.Header.Fields() {
		b = appendString(appendString(b, f.Name), f.Value)
	}
	b = binary.AppendUvarint(b, uint64(len(m.sums)))
	for _, s := range m.sums {
		b = binary.LittleEndian.AppendUint64(b, s)
	}
	return b
}

func flag(v bool) byte {
	if v {
		return 1
	}
	return 0
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decodeMeta reads what encode wrote.
func decodeMeta(b []byte) (*Meta, error) {
	d := decoder{b: b}
	m := &Meta{}
	copy(m.Key[:], d.take(len(m.Key)))
	for _, s := range []*string{&m.Place.Zone, &m.Place.Scheme, &m.Place.Host, &m.Place.URI} {
		*s = d.text()
	}
	m.Status = int(d.varint())
	m.Length = d.varint()
	m.Born = time.Unix(0, d.varint())
	for _, v := range []*time.Duration{&m.Verdict.Lifetime, &m.Verdict.WhileRevalidate, &m.Verdict.IfError} {
		*v = time.Duration(d.varint())
	}
	m.Verdict.Store = true
	m.Verdict.Validate = d.flag()
	m.Verdict.Strict = d.flag()
	m.Seq = d.uvarint()
	for _, list := range []*[]string{&m.Place.Tags, &m.Vary, &m.Selected} {
		*list = d.list()
	}
	var h edge.Header
	for range d.count(2) {
		name := d.text()
		h.Add(name, d.text())
	}
	m.Header = h
	for range d.count(8) {
		if raw := d.take(8); raw != nil {
			m.sums = append(m.sums, binary.LittleEndian.Uint64(raw))
		}
	}
	if d.bad || len(d.b) > 0 || m.Length < 0 || len(m.Vary) != len(m.Selected) || int64(len(m.sums)) != chunksOf(m.Length) {
		return nil, errMeta
	}
	return m, nil
}

// decoder reads values off b; after a fault everything is zero and bad is set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) flag() bool {
	b := d.take(1)
	return len(b) == 1 && b[0] == 1
}

// count reads the length of a list whose members take at least size octets each, so that a
// damaged one cannot ask for more than there is.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if d.bad || n > uint64(len(d.b)/size) {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *decoder) text() string {
	n := d.count(1)
	return string(d.take(n))
}

func (d *decoder) list() []string {
	var out []string
	for range d.count(1) {
		out = append(out, d.text())
	}
	return out
}
