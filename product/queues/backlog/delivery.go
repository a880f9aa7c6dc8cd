package backlog

import (
	"container/heap"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"time"
)

// Delivery is messages of one queue that somebody has, until each was settled.
type Delivery struct {
	q        *Queue
	slot     uint32
	deadline int64 // when what is not settled goes back, in milliseconds since 1970; 0: when the store is opened again
	members  []*held

	// What follows is guarded by q.mu.
	left int

	// What follows is guarded by the mutex of the store's timers.
	position int
}

// held is a message that somebody has.
type held struct {
	at       place
	attempts uint16 // deliveries, this one among them
	size     uint32
	apart    bool
	d        *Delivery // nil: none, it is only kept from being taken
	settling bool      // guarded by q.mu: its fate is being written
}

const heldLength = 8 + 8 + 2 + 4 + 1

// encode returns the delivery as it is written down.
func (d *Delivery) encode() []byte {
	b := make([]byte, 0, 8+len(d.members)*heldLength)
	b = binary.BigEndian.AppendUint64(b, uint64(d.deadline))
	for _, h := range d.members {
		b = binary.BigEndian.AppendUint64(b, uint64(h.at.due))
		b = binary.BigEndian.AppendUint64(b, h.at.seq)
		b = binary.BigEndian.AppendUint16(b, h.attempts)
		b = binary.BigEndian.AppendUint32(b, h.size)
		var apart byte
		if h.apart {
			apart = 1
		}
		b = append(b, apart)
	}
	return b
}

func decodeDelivery(b []byte) (*Delivery, error) {
	if len(b) < 8 || (len(b)-8)%heldLength != 0 {
		return nil, fmt.Errorf("a delivery of %d bytes cannot be read", len(b))
	}
	d := &Delivery{deadline: int64(binary.BigEndian.Uint64(b))}
	for b = b[8:]; len(b) > 0; b = b[heldLength:] {
		d.members = append(d.members, &held{
			at:       place{int64(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint64(b[8:])},
			attempts: binary.BigEndian.Uint16(b[16:]), size: binary.BigEndian.Uint32(b[18:]), apart: b[22] == 1, d: d,
		})
	}
	return d, nil
}

// loadDeliveries reads what somebody had when the store was closed, or the node died. Leases go on;
// batches that a Worker had failed with it.
func (s *Store) loadDeliveries() error {
	for pair, err := range s.db.Scan(kindOf(kindDelivery)) {
		if err != nil {
			return err
		}
		n, rest, ok := nameOf(pair.Key)
		q := s.queues[n]
		if !ok || len(rest) != 4 || q == nil {
			return fmt.Errorf("a delivery stands at a key that cannot be read: %x", pair.Key)
		}
		d, err := decodeDelivery(pair.Value)
		if err != nil {
			return err
		}
		d.q, d.slot = q, binary.BigEndian.Uint32(rest)
		if err := d.load(); err != nil {
			return err
		}
	}
	for _, q := range s.queues {
		q.slots.fill()
	}
	return nil
}

// load takes up what is still out of a delivery that was read.
func (d *Delivery) load() error {
	q := d.q
	for _, h := range d.members {
		value, err := q.s.db.Get(q.name.index(h.at))
		if err != nil {
			return err
		}
		if value == nil {
			continue // acknowledged, or moved by a retry
		}
		e, err := decodeEntry(value)
		if err != nil {
			return err
		}
		// A delivery that was given back left its mark until its last message was settled.
		if other := q.out[h.at.seq]; h.attempts <= e.attempts || other != nil && other.attempts >= h.attempts {
			continue
		} else if other != nil {
			other.d.left--
		}
		q.out[h.at.seq] = h
		d.left++
	}
	q.slots.use(d.slot)
	q.s.leases.add(d)
	return nil
}

// slots are numbers of deliveries: small ones are used again, so that few keys are written.
type slots struct {
	free []uint32
	used map[uint32]bool // only while a store is opened
	next uint32
}

func (s *slots) take() uint32 {
	if n := len(s.free); n > 0 {
		slot := s.free[n-1]
		s.free = s.free[:n-1]
		return slot
	}
	s.next++
	return s.next - 1
}

func (s *slots) give(slot uint32) { s.free = append(s.free, slot) }

func (s *slots) use(slot uint32) {
	if s.used == nil {
		s.used = map[uint32]bool{}
	}
	s.used[slot] = true
	s.next = max(s.next, slot+1)
}

// fill finds the free slots among those in use.
func (s *slots) fill() {
	for slot := range s.next {
		if !s.used[slot] {
			s.free = append(s.free, slot)
		}
	}
	s.used = nil
}

// timers are the deliveries whose deadline will come.
type timers struct {
	mu  sync.Mutex // guards the field below
	due byDeadline
}

func (t *timers) add(d *Delivery) {
	t.mu.Lock()
	defer t.mu.Unlock()
	heap.Push(&t.due, d)
}

func (t *timers) remove(d *Delivery) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d.position >= 0 && d.position < len(t.due) && t.due[d.position] == d {
		heap.Remove(&t.due, d.position)
	}
}

// pop returns a delivery whose deadline has come, or when the next one's comes.
func (t *timers) pop(now int64) (d *Delivery, next int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.due) == 0 {
		return nil, math.MaxInt64
	}
	if first := t.due[0]; first.deadline > now {
		return nil, first.deadline
	}
	return heap.Pop(&t.due).(*Delivery), 0
}

// byDeadline is a heap of deliveries.
type byDeadline []*Delivery

func (h byDeadline) Len() int           { return len(h) }
func (h byDeadline) Less(i, j int) bool { return h[i].deadline < h[j].deadline }
func (h byDeadline) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].position, h[j].position = i, j
}

// Push is for package heap.
func (h *byDeadline) Push(x any) {
	d := x.(*Delivery)
	d.position = len(*h)
	*h = append(*h, d)
}

// Pop is for package heap.
func (h *byDeadline) Pop() any {
	old := *h
	d := old[len(old)-1]
	old[len(old)-1], *h = nil, old[:len(old)-1]
	d.position = -1
	return d
}

// Lease is what acknowledges a message that was pulled: where it stands and, if the lease runs out,
// where it will stand, signed, so that nobody can make one up.
type Lease string

const (
	leaseBody = 8 + 8 + 2 + 8
	leaseMAC  = 16
)

// lease is an open Lease.
type lease struct {
	at       place
	attempts uint16
	back     int64 // when the message is due again if the lease runs out
}

func (q *Queue) sign(l lease) Lease {
	b := make([]byte, 0, leaseBody+leaseMAC)
	b = binary.BigEndian.AppendUint64(b, uint64(l.at.due))
	b = binary.BigEndian.AppendUint64(b, l.at.seq)
	b = binary.BigEndian.AppendUint16(b, l.attempts)
	b = binary.BigEndian.AppendUint64(b, uint64(l.back))
	return Lease(base64.RawURLEncoding.EncodeToString(append(b, q.mac(b)...)))
}

func (q *Queue) mac(b []byte) []byte {
	m := hmac.New(sha256.New, q.s.secret)
	m.Write(q.name[:])
	m.Write(b)
	return m.Sum(nil)[:leaseMAC]
}

// open reads a lease; ok is false if it is not one of this queue.
func (q *Queue) open(s Lease) (l lease, ok bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(string(s))
	if err != nil || len(b) != leaseBody+leaseMAC || !hmac.Equal(b[leaseBody:], q.mac(b[:leaseBody])) {
		return l, false
	}
	l.at = place{int64(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint64(b[8:])}
	l.attempts, l.back = binary.BigEndian.Uint16(b[16:]), int64(binary.BigEndian.Uint64(b[18:]))
	return l, true
}

// deadlineOf returns when a lease that begins now ends.
func deadlineOf(now int64, visible time.Duration) int64 {
	if visible == 0 {
		return 0
	}
	return now + visible.Milliseconds()
}
