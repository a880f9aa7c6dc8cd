// Package backlog keeps the messages of queues in the node's store until somebody has acknowledged them.
//
// A message is one key, ordered by when it may be delivered, so that the index is also the timer. A
// delivery is written down before it is made, so that attempts are counted and leases hold although the
// node dies meanwhile; it is one small key for a whole batch. Every change of a queue is one batch with
// the queue's new counters in it, so they are exact, and batches of all queues share the disk's syncs.
// A queue that nobody uses is a few hundred bytes of memory.
//
// What is deleted leaves marks at the head of the index. They are never walked over: each queue knows
// where its first message can stand, and says so in its counters, too.
package backlog

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"selvage/engine/state"
	"selvage/foundation/clock"
)

// Options are what a Store is told.
type Options struct {
	Clock clock.Clock
	// Policy says what becomes of messages of a queue whose delivery failed. It must not call the Store.
	Policy func(accountID, queueID string) Policy
	// Signal is told that a queue may have messages to deliver; it must not block or call the Store.
	Signal func(accountID, queueID string)
	// Count is told how many messages met an end: acked, dead (moved to another queue), dropped,
	// expired, retried. It must not call the Store.
	Count func(what string, n int)
}

// Policy is what becomes of messages whose delivery failed.
type Policy struct {
	MaxRetries int
	RetryDelay time.Duration
	DeadLetter string        // ID of the queue of the same account that takes what failed too often; empty: nobody
	Retention  time.Duration // from a message's coming; 0: for ever
}

// Store is the queues of one opening of the node's store. Safe for concurrent use.
type Store struct {
	db     *state.DB
	o      Options
	secret []byte
	leases timers

	mu       sync.Mutex // guards the field below
	queues   map[name]*Queue
	accounts sync.Map // *atomic.Int64 by account ID: bytes of its messages
}

// Open reads the counters of all queues and the deliveries under way.
func Open(db *state.DB, o Options) (*Store, error) {
	if o.Signal == nil {
		o.Signal = func(string, string) {}
	}
	if o.Count == nil {
		o.Count = func(string, int) {}
	}
	s := &Store{db: db, o: o, queues: map[name]*Queue{}}
	if err := s.loadSecret(); err != nil {
		return nil, err
	}
	for pair, err := range db.Scan(kindOf(kindCounters)) {
		if err != nil {
			return nil, err
		}
		n, _, ok := nameOf(pair.Key)
		if !ok {
			return nil, fmt.Errorf("a key of counters has %d bytes", len(pair.Key))
		}
		q := s.newQueue(n)
		if err := q.counters.decode(pair.Value); err != nil {
			return nil, err
		}
		q.cursor = q.floor
		s.queues[n] = q
		q.used.Add(q.bytes)
	}
	return s, s.loadDeliveries()
}

// loadSecret reads what leases are signed with, making it at the first time.
func (s *Store) loadSecret() (err error) {
	if s.secret, err = s.db.Get([]byte(secretKey)); err != nil || len(s.secret) == 32 {
		return err
	}
	s.secret = make([]byte, 32)
	rand.Read(s.secret)
	b := s.db.NewBatch()
	if err := b.Put([]byte(secretKey), s.secret); err != nil {
		return err
	}
	return s.db.Commit(b)
}

// Queue returns a queue; one that nothing was ever sent to is empty. An ID that is none is a
// fault.NotFound.
func (s *Store) Queue(accountID, queueID string) (*Queue, error) {
	n, err := parseName(accountID, queueID)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[n]
	if q == nil {
		q = s.newQueue(n)
		s.queues[n] = q
	}
	return q, nil
}

// Filled calls f with the IDs of every queue that has messages.
func (s *Store) Filled(f func(accountID, queueID string)) {
	for _, q := range s.list() {
		if q.Stats().Count > 0 {
			f(q.name.account(), q.name.queue())
		}
	}
}

// list returns the queues that are known.
func (s *Store) list() []*Queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Queue, 0, len(s.queues))
	for _, q := range s.queues {
		all = append(all, q)
	}
	return all
}

// Used returns the bytes of an account's messages.
func (s *Store) Used(accountID string) int64 { return s.used(accountID).Load() }

func (s *Store) used(accountID string) *atomic.Int64 {
	if v, ok := s.accounts.Load(accountID); ok {
		return v.(*atomic.Int64)
	}
	v, _ := s.accounts.LoadOrStore(accountID, new(atomic.Int64))
	return v.(*atomic.Int64)
}

func (s *Store) now() int64 { return s.o.Clock.Now().UnixMilli() }

// counters are what is durable of a queue as a whole.
type counters struct {
	count, bytes int64  // of messages that are not acknowledged
	seq          uint64 // the next message gets it
	floor        place  // no message stands before it
	purged       int64  // when everything was removed last, in milliseconds since 1970; 0: never
}

const countersLength = 48

func (c *counters) encode() []byte {
	b := make([]byte, 0, countersLength)
	for _, v := range []uint64{uint64(c.count), uint64(c.bytes), c.seq, uint64(c.floor.due), c.floor.seq, uint64(c.purged)} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

func (c *counters) decode(b []byte) error {
	if len(b) != countersLength {
		return fmt.Errorf("the counters of a queue have %d bytes, want %d", len(b), countersLength)
	}
	at := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	*c = counters{int64(at(0)), int64(at(1)), at(2), place{int64(at(3)), at(4)}, int64(at(5))}
	return nil
}
