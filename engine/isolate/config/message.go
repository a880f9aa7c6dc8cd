package config

import "encoding/binary"

// message is a Cap'n Proto message of one segment (https://capnproto.org/encoding.html). It grows
// at its end; places in it are counted in words of 8 bytes.
type message struct{ b []byte }

const word = 8

func newMessage(sizeHint int) *message {
	return &message{b: make([]byte, 0, sizeHint)}
}

// alloc appends n zeroed words and returns the place of the first.
func (m *message) alloc(n int) int {
	at := len(m.b) / word
	need := len(m.b) + n*word
	if need <= cap(m.b) {
		m.b = m.b[:need] // never used before, so still zero
		return at
	}
	m.b = append(m.b, make([]byte, n*word)...)
	return at
}

func (m *message) put(at int, v uint64) { binary.LittleEndian.PutUint64(m.b[at*word:], v) }

// frame returns the message as it goes over a stream: number of segments less one, size, segment.
func (m *message) frame() []byte {
	out := make([]byte, word, word+len(m.b))
	binary.LittleEndian.PutUint32(out[4:], uint32(len(m.b)/word))
	return append(out, m.b...)
}

// node is a struct in a message: words of data, then pointers.
type node struct {
	m          *message
	at         int
	data, ptrs int
}

func (m *message) root(data, ptrs int) node {
	root := m.alloc(1)
	return node{m: m, at: root, ptrs: 1}.child(0, data, ptrs)
}

func (n node) slot(i int) int { return n.at + n.data + i }

// child allocates a struct and points slot i at it.
func (n node) child(i, data, ptrs int) node {
	at := n.m.alloc(data + ptrs)
	slot := n.slot(i)
	n.m.put(slot, uint64(uint32(at-slot-1)<<2)|uint64(data)<<32|uint64(ptrs)<<48)
	return node{m: n.m, at: at, data: data, ptrs: ptrs}
}

// Element sizes of lists.
const (
	listBytes     = 2
	listTwoBytes  = 3
	listPointers  = 6
	listComposite = 7
)

// list points slot i at a list whose first word is at.
func (n node) list(i, at, kind, count int) {
	slot := n.slot(i)
	n.m.put(slot, 1|uint64(uint32(at-slot-1)<<2)|uint64(kind)<<32|uint64(count)<<35)
}

// children allocates a list of structs at slot i.
func (n node) children(i, count, data, ptrs int) []node {
	if count == 0 {
		return nil
	}
	size := data + ptrs
	tag := n.m.alloc(1 + count*size)
	n.m.put(tag, uint64(uint32(count)<<2)|uint64(data)<<32|uint64(ptrs)<<48)
	n.list(i, tag, listComposite, count*size)
	nodes := make([]node, count)
	for k := range nodes {
		nodes[k] = node{m: n.m, at: tag + 1 + k*size, data: data, ptrs: ptrs}
	}
	return nodes
}

// text puts a string at slot i; an empty one stays null, which reads the same.
func (n node) text(i int, s string) {
	if s == "" {
		return
	}
	at := n.m.alloc((len(s) + 1 + word - 1) / word) // a NUL ends it
	copy(n.m.b[at*word:], s)
	n.list(i, at, listBytes, len(s)+1)
}

// textBytes is text for what is held as bytes.
func (n node) textBytes(i int, s []byte) {
	if len(s) == 0 {
		return
	}
	at := n.m.alloc((len(s) + 1 + word - 1) / word)
	copy(n.m.b[at*word:], s)
	n.list(i, at, listBytes, len(s)+1)
}

// bytes puts data at slot i.
func (n node) bytes(i int, b []byte) {
	at := n.m.alloc((len(b) + word - 1) / word)
	copy(n.m.b[at*word:], b)
	n.list(i, at, listBytes, len(b))
}

// texts puts a list of strings at slot i.
func (n node) texts(i int, list []string) {
	if len(list) == 0 {
		return
	}
	at := n.m.alloc(len(list))
	n.list(i, at, listPointers, len(list))
	for k, s := range list {
		node{m: n.m, at: at, ptrs: len(list)}.text(k, s)
	}
}

// enums puts a list of 16-bit values at slot i.
func (n node) enums(i int, list []uint16) {
	if len(list) == 0 {
		return
	}
	at := n.m.alloc((2*len(list) + word - 1) / word)
	for k, v := range list {
		binary.LittleEndian.PutUint16(n.m.b[at*word+2*k:], v)
	}
	n.list(i, at, listTwoBytes, len(list))
}

// set16 sets the k-th 16-bit field of the data.
func (n node) set16(k int, v uint16) { binary.LittleEndian.PutUint16(n.m.b[n.at*word+2*k:], v) }

// setBit sets a bit of the data.
func (n node) setBit(k int, v bool) {
	if v {
		n.m.b[n.at*word+k/8] |= 1 << (k % 8)
	}
}
