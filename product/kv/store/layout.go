package store

import (
	"encoding/binary"
	"encoding/hex"

	"selvage/engine/state"
	"selvage/foundation/fault"
)

// The kinds of keys, after the prefix. All but due and dropped begin with a space, so that nothing of
// one can be reached from another:
//
//	d <space> <key>         the record of a key
//	v <space> <key>         a value that is kept apart from its record
//	e <due> <space> <key>   an index of when keys expire
//	f <space> <file>        the key that a file of values belongs to
//	c <space>               how much there is
//	x <space>               the space's data is to be removed
const (
	kindRecord  = 'd'
	kindValue   = 'v'
	kindDue     = 'e'
	kindFile    = 'f'
	kindCount   = 'c'
	kindDropped = 'x'
)

// Space names a namespace of an account.
type Space [32]byte

// SpaceOf returns the space of two IDs, which have 32 hex digits each.
func SpaceOf(accountID, namespaceID string) (s Space, err error) {
	if len(accountID) != 32 || len(namespaceID) != 32 {
		return s, fault.New(fault.NotFound, "No such namespace.")
	}
	if _, err := hex.Decode(s[:16], []byte(accountID)); err != nil {
		return s, fault.New(fault.NotFound, "No such account.")
	}
	if _, err := hex.Decode(s[16:], []byte(namespaceID)); err != nil {
		return s, fault.New(fault.NotFound, "No such namespace.")
	}
	return s, nil
}

// Account returns the ID of the account.
func (s Space) Account() string { return hex.EncodeToString(s[:16]) }

// Namespace returns the ID of the namespace.
func (s Space) Namespace() string { return hex.EncodeToString(s[16:]) }

// layout makes keys in the node's store.
type layout struct{ prefix string }

func (l layout) kind(to []byte, kind byte) []byte { return append(append(to, l.prefix...), kind) }

func (l layout) of(to []byte, kind byte, s *Space) []byte { return append(l.kind(to, kind), s[:]...) }

func (l layout) key(to []byte, kind byte, s *Space, key string) []byte {
	return append(l.of(to, kind, s), key...)
}

func (l layout) due(at int64, s *Space, key string) []byte {
	b := binary.BigEndian.AppendUint64(l.kind(nil, kindDue), uint64(at))
	return append(append(b, s[:]...), key...)
}

// parseDue takes a key of the index apart.
func (l layout) parseDue(b []byte) (at int64, s Space, key string, ok bool) {
	b = b[min(len(b), len(l.prefix)+1):]
	if len(b) <= 8+len(s) {
		return 0, s, "", false
	}
	copy(s[:], b[8:])
	return int64(binary.BigEndian.Uint64(b)), s, string(b[8+len(s):]), true
}

// all is the range of a space's keys of one kind.
func (l layout) all(kind byte, s *Space) state.Range { return state.Prefix(l.of(nil, kind, s)) }

// Usage is how much there is of something. Bytes are those of keys, metadata and values.
type Usage struct {
	Keys, Bytes int64
}

// Plus returns the sum.
func (u Usage) Plus(o Usage) Usage { return Usage{u.Keys + o.Keys, u.Bytes + o.Bytes} }

// Minus returns the difference.
func (u Usage) Minus(o Usage) Usage { return Usage{u.Keys - o.Keys, u.Bytes - o.Bytes} }

func (u Usage) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(u.Keys))
	return binary.BigEndian.AppendUint64(b, uint64(u.Bytes))
}

func decodeUsage(b []byte) (u Usage, err error) {
	if len(b) != 16 {
		return u, errDamaged
	}
	return Usage{int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))}, nil
}
