package backlog

import (
	"encoding/binary"
	"encoding/hex"
	"math"

	"selvage/engine/state"
	"selvage/foundation/fault"
)

// Prefix is how keys of queues in the node's store begin.
//
// Behind it stands what the key is, then the account's ID and the queue's, 16 bytes each, so that no
// tenant can name what is another's:
//
//	q/c ACCOUNT QUEUE             counters
//	q/i ACCOUNT QUEUE DUE SEQ     a message: what is known of it, and its body if that is small
//	q/b ACCOUNT QUEUE SEQ         the body of a message, if it is large
//	q/d ACCOUNT QUEUE SLOT        a delivery: the messages of a batch that somebody has
//	q/x ACCOUNT QUEUE             the queue is being deleted
//	q/k                           the secret that leases are signed with
//
// DUE is when a message may be delivered, so the order of the keys is the order of delivery.
const Prefix = "q/"

const (
	kindCounters = 'c'
	kindIndex    = 'i'
	kindBody     = 'b'
	kindDelivery = 'd'
	kindDeleting = 'x'

	nameLength = len(Prefix) + 1 + 32
)

const secretKey = Prefix + "k"

// name is a queue's account and ID.
type name [32]byte

func parseName(accountID, queueID string) (n name, err error) {
	if len(accountID) != 32 || len(queueID) != 32 {
		return n, badName(accountID, queueID)
	}
	if _, err := hex.Decode(n[:16], []byte(accountID)); err != nil {
		return n, badName(accountID, queueID)
	}
	if _, err := hex.Decode(n[16:], []byte(queueID)); err != nil {
		return n, badName(accountID, queueID)
	}
	return n, nil
}

func badName(accountID, queueID string) error {
	return fault.New(fault.NotFound, "There is no queue %.40q in the account %.40q.", queueID, accountID)
}

func (n name) account() string { return hex.EncodeToString(n[:16]) }
func (n name) queue() string   { return hex.EncodeToString(n[16:]) }

// key returns the beginning of a queue's keys of a kind, with room for what follows.
func (n name) key(kind byte) []byte {
	k := make([]byte, 0, nameLength+16)
	k = append(k, Prefix...)
	k = append(k, kind)
	return append(k, n[:]...)
}

func (n name) index(at place) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(n.key(kindIndex), uint64(at.due)), at.seq)
}

func (n name) body(seq uint64) []byte {
	return binary.BigEndian.AppendUint64(n.key(kindBody), seq)
}

func (n name) delivery(slot uint32) []byte {
	return binary.BigEndian.AppendUint32(n.key(kindDelivery), slot)
}

// all returns the range of a queue's keys of a kind.
func (n name) all(kind byte) state.Range { return state.Prefix(n.key(kind)) }

// kindOf returns the range of the keys of a kind, of all queues.
func kindOf(kind byte) state.Range { return state.Prefix([]byte{Prefix[0], Prefix[1], kind}) }

// nameOf reads the queue out of a key.
func nameOf(key []byte) (n name, rest []byte, ok bool) {
	if len(key) < nameLength {
		return n, nil, false
	}
	copy(n[:], key[len(Prefix)+1:])
	return n, key[nameLength:], true
}

// place is where a message stands in its queue: when it is due, in milliseconds since 1970, and the
// number that it got when it came.
type place struct {
	due int64
	seq uint64
}

// end is behind every place.
var end = place{math.MaxInt64, math.MaxUint64}

func (p place) before(q place) bool { return p.due < q.due || p.due == q.due && p.seq < q.seq }

// next returns the first place behind p.
func (p place) next() place {
	if p.seq == math.MaxUint64 {
		return place{p.due + 1, 0}
	}
	return place{p.due, p.seq + 1}
}

func placeOf(rest []byte) (place, bool) {
	if len(rest) != 16 {
		return place{}, false
	}
	return place{int64(binary.BigEndian.Uint64(rest)), binary.BigEndian.Uint64(rest[8:])}, true
}
