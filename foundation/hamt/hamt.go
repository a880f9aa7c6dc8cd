// Package hamt is an immutable map whose next version costs as much as what changed in it, for
// tables that are read without locks by every request and have 10,000 entries or more: a hash array
// mapped trie (Bagwell 2001; layout after Steindorfer and Vinju, OOPSLA 2015).
package hamt

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
	"unsafe"
)

const (
	bitsPerLevel = 5
	// lastShift is where the hash has no bits left: keys with the same hash lie in one list there.
	lastShift = 65
)

// seed differs between processes, so that nobody can choose names that collide.
var seed = maphash.MakeSeed()

// Map maps strings to values. Immutable; the zero Map is empty. Safe for concurrent use.
type Map[V any] struct {
	root *node[V]
	size int
}

// node is 32 places, each taken by an entry, by a node one level down, or by nothing.
type node[V any] struct {
	owner   *owner // whose edit may change the node
	filled  uint32 // places with an entry
	nested  uint32 // places with a node
	entries []entry[V]
	nodes   []*node[V]
}

// owner stands for one edit. It is not the edit itself, which would keep old versions in memory.
type owner struct{ _ byte }

type entry[V any] struct {
	key   string
	value V
}

// Len returns the number of entries.
func (m Map[V]) Len() int { return m.size }

// Get returns the value of key, or the zero value if it has none. It does not allocate.
func (m Map[V]) Get(key string) V {
	v, _ := m.Find(key)
	return v
}

// GetBytes is Get for a key in a buffer.
func (m Map[V]) GetBytes(key []byte) V {
	return m.Get(unsafe.String(unsafe.SliceData(key), len(key))) // not kept, and not changed meanwhile
}

// Find returns the value of key and whether it has one.
func (m Map[V]) Find(key string) (value V, ok bool) {
	n := m.root
	if n == nil {
		return value, false
	}
	for hash, shift := maphash.String(seed, key), 0; ; shift += bitsPerLevel {
		bit := place(hash, shift)
		if shift >= lastShift {
			i := n.index(key)
			if i < 0 {
				return value, false
			}
			return n.entries[i].value, true
		}
		if n.filled&bit != 0 {
			e := &n.entries[rank(n.filled, bit)]
			if e.key != key {
				return value, false
			}
			return e.value, true
		}
		if n.nested&bit == 0 {
			return value, false
		}
		n = n.nodes[rank(n.nested, bit)]
	}
}

// All yields the entries in no particular order.
func (m Map[V]) All() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		if m.root != nil {
			m.root.each(yield)
		}
	}
}

func (n *node[V]) each(yield func(string, V) bool) bool {
	for i := range n.entries {
		if !yield(n.entries[i].key, n.entries[i].value) {
			return false
		}
	}
	for _, sub := range n.nodes {
		if !sub.each(yield) {
			return false
		}
	}
	return true
}

func place(hash uint64, shift int) uint32 { return 1 << (hash >> shift & (1<<bitsPerLevel - 1)) }

// rank returns how many places before bit are taken.
func rank(taken, bit uint32) int { return bits.OnesCount32(taken & (bit - 1)) }

// index finds a key among those with the same hash.
func (n *node[V]) index(key string) int {
	return slices.IndexFunc(n.entries, func(e entry[V]) bool { return e.key == key })
}

// Edit is the next version of a map in the making. Not safe for concurrent use. The map it was made
// from stays as it is.
type Edit[V any] struct {
	owner *owner
	root  *node[V]
	size  int
}

// Edit begins a next version of m.
func (m Map[V]) Edit() *Edit[V] { return &Edit[V]{owner: &owner{}, root: m.root, size: m.size} }

// Map returns the edited map. The edit must not be used after that.
func (e *Edit[V]) Map() Map[V] { return Map[V]{root: e.root, size: e.size} }

// Get returns the value of key, or the zero value if it has none.
func (e *Edit[V]) Get(key string) V { return e.Map().Get(key) }

// Len returns the number of entries.
func (e *Edit[V]) Len() int { return e.size }

// Set gives key a value.
func (e *Edit[V]) Set(key string, value V) {
	if e.root == nil {
		e.root = &node[V]{owner: e.owner}
	}
	e.root = e.set(e.root, entry[V]{key, value}, maphash.String(seed, key), 0)
}

func (e *Edit[V]) set(n *node[V], at entry[V], hash uint64, shift int) *node[V] {
	n = e.own(n)
	if shift >= lastShift {
		if i := n.index(at.key); i >= 0 {
			n.entries[i] = at
			return n
		}
		n.entries = append(n.entries, at)
		e.size++
		return n
	}
	bit := place(hash, shift)
	switch {
	case n.nested&bit != 0:
		i := rank(n.nested, bit)
		n.nodes[i] = e.set(n.nodes[i], at, hash, shift+bitsPerLevel)
	case n.filled&bit == 0:
		n.entries = slices.Insert(n.entries, rank(n.filled, bit), at)
		n.filled |= bit
		e.size++
	default:
		i := rank(n.filled, bit)
		if n.entries[i].key == at.key {
			n.entries[i] = at
			return n
		}
		// Two keys for one place: both go one level down.
		other := n.entries[i]
		n.entries, n.filled = slices.Delete(n.entries, i, i+1), n.filled&^bit
		e.size--
		sub := e.set(&node[V]{owner: e.owner}, other, maphash.String(seed, other.key), shift+bitsPerLevel)
		sub = e.set(sub, at, hash, shift+bitsPerLevel)
		n.nodes, n.nested = slices.Insert(n.nodes, rank(n.nested, bit), sub), n.nested|bit
	}
	return n
}

// own returns n, or a copy of it if n may be part of another map.
func (e *Edit[V]) own(n *node[V]) *node[V] {
	if n.owner == e.owner {
		return n
	}
	return &node[V]{owner: e.owner, filled: n.filled, nested: n.nested, entries: slices.Clone(n.entries), nodes: slices.Clone(n.nodes)}
}

// Delete removes key, if it is there.
func (e *Edit[V]) Delete(key string) {
	if _, ok := e.Map().Find(key); !ok {
		return
	}
	e.size--
	e.root = e.remove(e.root, key, maphash.String(seed, key), 0)
}

// remove takes out a key that is there, and returns nil instead of a node without entries.
func (e *Edit[V]) remove(n *node[V], key string, hash uint64, shift int) *node[V] {
	n = e.own(n)
	bit := place(hash, shift)
	switch {
	case shift >= lastShift:
		i := n.index(key)
		n.entries = slices.Delete(n.entries, i, i+1)
	case n.filled&bit != 0:
		i := rank(n.filled, bit)
		n.entries, n.filled = slices.Delete(n.entries, i, i+1), n.filled&^bit
	default:
		e.removeBelow(n, key, hash, shift)
	}
	if len(n.entries) == 0 && len(n.nodes) == 0 {
		return nil
	}
	return n
}

func (e *Edit[V]) removeBelow(n *node[V], key string, hash uint64, shift int) {
	bit := place(hash, shift)
	i := rank(n.nested, bit)
	sub := e.remove(n.nodes[i], key, hash, shift+bitsPerLevel)
	if sub != nil && (len(sub.entries) != 1 || len(sub.nodes) > 0) {
		n.nodes[i] = sub
		return
	}
	n.nodes, n.nested = slices.Delete(n.nodes, i, i+1), n.nested&^bit
	if sub != nil {
		// A lone entry comes up again, so that look-ups stay short.
		n.entries, n.filled = slices.Insert(n.entries, rank(n.filled, bit), sub.entries[0]), n.filled|bit
	}
}
