package backlog

import (
	"crypto/rand"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"selvage/engine/state"
	"selvage/foundation/fault"
)

const (
	// maxOut is the most messages of a queue that somebody may have at a time.
	maxOut = 100_000
	// sweepEvery is after how many removed messages the marks that they left are brought together.
	sweepEvery = 4096
	// oldestFor is how long the age of the oldest message is believed.
	oldestFor = time.Second
)

// Queue is the messages of one queue. Safe for concurrent use.
type Queue struct {
	s    *Store
	name name
	used *atomic.Int64 // of the account

	taking sync.Mutex // held while messages are looked for, before mu

	mu       sync.Mutex // guards the fields below; held while a batch is put into the store's log, which orders the batches
	counters            // as in the newest batch
	gone     bool       // the queue is deleted
	epoch    uint64     // grows when everything is removed
	cursor   place      // what stands before it is out; messages put before it move it back
	low      place      // lowest place of a message put while messages are looked for
	last     int64      // newest time that was given to a message
	removed  int        // since marks were brought together
	out      map[uint64]*held
	slots    slots
	fresh    int   // messages that came since Look and are due
	need     int   // so many are worth a signal
	wakeAt   int64 // a message that is due before is worth one, too
	oldest   int64 // when the oldest message was sent; 0: not known
	oldestAt int64 // when that was found out
}

func (s *Store) newQueue(n name) *Queue {
	return &Queue{s: s, name: n, used: s.used(n.account()), need: 1, wakeAt: math.MaxInt64, out: map[uint64]*held{}}
}

// Stats is how full a queue is.
type Stats struct {
	Count, Bytes int64
	Oldest       time.Time // when the oldest message was sent; zero if there is none
}

// Stats returns how full the queue is. Messages that somebody has count until they are acknowledged.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.statsLocked()
}

func (q *Queue) statsLocked() Stats {
	st := Stats{Count: q.count, Bytes: q.bytes}
	if q.count > 0 && q.oldest > 0 {
		st.Oldest = time.UnixMilli(q.oldest).UTC()
	}
	return st
}

// Fresh is Stats that has looked at the oldest message, unless it did so a moment ago.
func (q *Queue) Fresh() (Stats, error) {
	now := q.s.now()
	q.mu.Lock()
	floor, known := q.floor, q.count == 0 || q.oldest > 0 && now-q.oldestAt < oldestFor.Milliseconds()
	q.mu.Unlock()
	if known {
		return q.Stats(), nil
	}
	for pair, err := range q.s.db.Scan(state.Range{Lower: q.name.index(floor), Upper: q.name.all(kindIndex).Upper}) {
		if err != nil {
			return Stats{}, err
		}
		e, err := decodeEntry(pair.Value)
		if err != nil {
			return Stats{}, err
		}
		q.mu.Lock()
		q.oldest, q.oldestAt = e.sent, now
		q.mu.Unlock()
		break
	}
	return q.Stats(), nil
}

var errGone = fault.New(fault.NotFound, "The queue is being deleted.")

// Send puts messages into the queue, all or none, and returns when they are on disk. limit is the most
// bytes that the queue may hold.
func (q *Queue) Send(drafts []Draft, limit int64) (Stats, error) {
	now := q.s.now()
	entries := make([]entry, len(drafts))
	var size int64
	for i, d := range drafts {
		e := &entries[i]
		*e = entry{format: d.Format, source: d.Source, size: uint32(len(d.Body)), apart: len(d.Body) > inlineBody, sent: now, came: now}
		if !e.apart {
			e.body = d.Body
		}
		rand.Read(e.id[:])
		size += int64(len(d.Body))
	}
	b := q.s.db.NewBatch()
	c, st, err := q.send(b, drafts, entries, size, limit)
	if err != nil {
		return st, err
	}
	return st, c.Wait()
}

func (q *Queue) send(b *state.Batch, drafts []Draft, entries []entry, size, limit int64) (*state.Commit, Stats, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gone {
		b.Drop()
		return nil, Stats{}, errGone
	}
	if q.bytes+size > limit {
		b.Drop()
		return nil, Stats{}, fault.New(fault.TooMuch, "The queue holds %d bytes of messages, and its limit is %d: %d more do not fit. Wait until it is worked off, or purge it.", q.bytes, limit, size)
	}
	p := q.begin(b)
	now := max(entries[0].came, q.last) // a clock that was set back does not let messages overtake
	for i := range entries {
		if err := p.put(&entries[i], drafts[i].Body, now, now+drafts[i].Delay.Milliseconds()); err != nil {
			b.Drop()
			return nil, Stats{}, err
		}
	}
	q.last = now
	c, err := p.apply(b)
	return c, q.statsLocked(), err
}

// change is a batch in the making that changes one queue, under its mu. Nothing of it holds until apply
// has come back without an error.
type change struct {
	q       *Queue
	b       *state.Batch
	next    counters
	cursor  place
	low     place
	ready   int   // messages that can be delivered at once
	wake    bool  // somebody shall look, however few they are
	first   int64 // when the first message was sent, if the queue was empty
	removed int
}

func (q *Queue) begin(b *state.Batch) *change {
	return &change{q: q, b: b, next: q.counters, cursor: q.cursor, low: q.low}
}

// put adds a message that is due at a time. body is written only where it is apart.
func (c *change) put(e *entry, body []byte, now, due int64) error {
	at := place{due, c.next.seq}
	if c.next.count == 0 && c.first == 0 {
		c.first = e.sent
	}
	c.next.seq++
	c.next.count++
	c.next.bytes += int64(e.size)
	c.arrive(due, now)
	if e.apart && body != nil {
		if err := c.b.Put(c.q.name.body(at.seq), body); err != nil {
			return err
		}
	}
	return c.index(at, e)
}

// index writes the message at a place.
func (c *change) index(at place, e *entry) error {
	for _, p := range []*place{&c.next.floor, &c.cursor, &c.low} {
		if at.before(*p) {
			*p = at
		}
	}
	return c.b.Put(c.q.name.index(at), e.encode())
}

// move puts a message that stood at a place to another one.
func (c *change) move(from, to place, e *entry, now int64) error {
	if err := c.b.Delete(c.q.name.index(from)); err != nil {
		return err
	}
	c.arrive(to.due, now)
	return c.index(to, e)
}

// arrive notes that a message can be delivered from due on.
func (c *change) arrive(due, now int64) {
	switch {
	case due <= now:
		c.ready++
	case due < c.q.wakeAt:
		c.wake = true
	}
}

// remove takes a message away.
func (c *change) remove(at place, size uint32, apart bool) error {
	c.removed++
	c.next.count--
	c.next.bytes -= int64(size)
	if apart {
		if err := c.b.Delete(c.q.name.body(at.seq)); err != nil {
			return err
		}
	}
	return c.b.Delete(c.q.name.index(at))
}

// seal writes the counters into the batch.
func (c *change) seal() error {
	q := c.q
	if c.removed > 0 && q.removed+c.removed >= sweepEvery {
		if err := c.sweep(); err != nil {
			return err
		}
	}
	return c.b.Put(q.name.key(kindCounters), c.next.encode())
}

// sweep raises the floor, and deletes the range below it: the many marks there become one.
func (c *change) sweep() error {
	q := c.q
	floor := c.cursor
	for _, h := range q.out {
		if h.at.before(floor) {
			floor = h.at
		}
	}
	c.removed = -q.removed
	if !c.next.floor.before(floor) {
		return nil
	}
	c.next.floor = floor
	return c.b.DeleteRange(state.Range{Lower: q.name.key(kindIndex), Upper: q.name.index(floor)})
}

// apply hands the batch to the store. The caller waits for the commit without mu.
func (c *change) apply(b *state.Batch) (*state.Commit, error) {
	if err := c.seal(); err != nil {
		b.Drop()
		return nil, err
	}
	commit, err := c.q.s.db.Apply(b)
	if err != nil {
		return nil, err
	}
	c.take()
	return commit, nil
}

// take makes the change hold in memory.
func (c *change) take() {
	q := c.q
	q.used.Add(c.next.bytes - q.bytes)
	q.counters, q.cursor, q.low = c.next, c.cursor, c.low
	q.removed += c.removed
	switch {
	case c.first > 0:
		q.oldest, q.oldestAt = c.first, q.s.now()
	case c.removed > 0:
		q.oldestAt = 0
	}
	q.fresh += c.ready
	if c.ready > 0 && q.fresh >= q.need || c.wake {
		q.need, q.wakeAt = 1, math.MaxInt64
		q.s.o.Signal(q.name.account(), q.name.queue())
	}
}
