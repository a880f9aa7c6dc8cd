package backlog

import (
	"bytes"
	"fmt"
	"math"
	"time"

	"selvage/engine/state"
	"selvage/foundation/fault"
)

// maxExpired is the most messages that are thrown away in one step because nobody took them in time.
const maxExpired = 1000

// Wanted is how many messages somebody takes.
type Wanted struct {
	Count   int           // at most
	Bytes   int           // of bodies together, unless the first alone has more
	Visible time.Duration // until messages that are not settled go back; 0: when the store is opened again
	Policy  Policy
}

// found is messages that can be delivered.
type found struct {
	epoch   uint64
	live    []candidate
	expired []candidate
	until   place // everything before it was seen
	now     int64
}

type candidate struct {
	at   place
	e    entry
	body []byte
}

// Take delivers messages: they are written down as delivered once more when it returns. Without any
// the delivery is nil. Each must be settled, by Settle or by its lease.
func (q *Queue) Take(w Wanted) (*Delivery, []Message, error) {
	q.taking.Lock()
	defer q.taking.Unlock()
	f, err := q.find(w)
	if err != nil || len(f.live)+len(f.expired) == 0 {
		return nil, nil, err
	}
	b := q.s.db.NewBatch()
	d, c, err := q.lend(b, f, w)
	if err != nil {
		return nil, nil, err
	}
	if c == nil { // purged meanwhile
		b.Drop()
		return nil, nil, nil
	}
	if err := c.Wait(); err != nil || d == nil {
		return nil, nil, err
	}
	messages := make([]Message, 0, len(d.members))
	bySeq := make(map[uint64]*candidate, len(f.live))
	for i := range f.live {
		bySeq[f.live[i].at.seq] = &f.live[i]
	}
	for _, h := range d.members {
		c := bySeq[h.at.seq]
		m := c.e.message(c.body)
		if d.deadline > 0 {
			m.Lease = q.sign(lease{h.at, h.attempts, d.deadline + w.Policy.RetryDelay.Milliseconds()})
		}
		messages = append(messages, m)
	}
	return d, messages, nil
}

// find reads the first messages that are due and nobody has.
func (q *Queue) find(w Wanted) (*found, error) {
	q.mu.Lock()
	from, room := q.cursor, maxOut-len(q.out)
	f := &found{epoch: q.epoch, now: max(q.s.now(), q.last)}
	q.low = end
	q.fresh, q.need = 0, 1
	q.mu.Unlock()
	if room <= 0 {
		return nil, fault.New(fault.Unavailable, "%d messages of this queue were delivered and not yet acknowledged; acknowledge some first.", maxOut)
	}
	upTo := place{f.now + 1, 0}
	f.until = upTo
	size := 0
	for pair, err := range q.s.db.Scan(state.Range{Lower: q.name.index(from), Upper: q.name.index(upTo)}) {
		if err != nil {
			return nil, err
		}
		c, err := q.candidate(pair)
		if err != nil {
			return nil, err
		}
		if q.isOut(c.at.seq) {
			continue
		}
		if w.Policy.Retention > 0 && c.e.came+w.Policy.Retention.Milliseconds() <= f.now {
			f.expired = append(f.expired, c)
		} else {
			size += int(c.e.size)
			if len(f.live) == min(w.Count, room) || len(f.live) > 0 && size > w.Bytes {
				f.until = c.at
				break
			}
			if err := q.readBody(&c); err != nil {
				return nil, err
			}
			f.live = append(f.live, c)
		}
		if len(f.expired) == maxExpired {
			f.until = c.at.next()
			break
		}
	}
	return f, nil
}

// candidate reads a pair of the index; its body is still a part of the pair.
func (q *Queue) candidate(pair state.Pair) (c candidate, err error) {
	_, rest, _ := nameOf(pair.Key)
	at, ok := placeOf(rest)
	if !ok {
		return c, fmt.Errorf("a message stands at a key that cannot be read: %x", pair.Key)
	}
	e, err := decodeEntry(pair.Value)
	return candidate{at: at, e: e}, err
}

// readBody copies the body of a candidate.
func (q *Queue) readBody(c *candidate) error {
	if !c.e.apart {
		c.body = bytes.Clone(c.e.body)
		c.e.body = c.body
		return nil
	}
	body, err := q.s.db.Get(q.name.body(c.at.seq))
	if err == nil && len(body) != int(c.e.size) {
		err = fmt.Errorf("the body of message %x has %d bytes of %d", c.e.id, len(body), c.e.size)
	}
	c.body, c.e.body = body, nil
	return err
}

func (q *Queue) isOut(seq uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.out[seq] != nil
}

// lend writes down that messages are delivered, and removes what is too old. The commit is nil if
// everything was removed meanwhile, the delivery if nothing is left to deliver.
func (q *Queue) lend(b *state.Batch, f *found, w Wanted) (*Delivery, *state.Commit, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gone || q.epoch != f.epoch {
		return nil, nil, nil
	}
	c := q.begin(b)
	c.cursor = f.until
	if c.low.before(c.cursor) { // what came or went back meanwhile
		c.cursor = c.low
	}
	expired := 0
	for _, e := range f.expired {
		if q.out[e.at.seq] != nil {
			continue
		}
		expired++
		if err := c.remove(e.at, e.e.size, e.e.apart); err != nil {
			return nil, nil, err
		}
	}
	d := &Delivery{q: q, deadline: deadlineOf(f.now, w.Visible)}
	for _, l := range f.live {
		if q.out[l.at.seq] == nil {
			d.members = append(d.members, &held{at: l.at, attempts: l.e.attempts + 1, size: l.e.size, apart: l.e.apart, d: d})
		}
	}
	if d.left = len(d.members); d.left > 0 {
		d.slot = q.slots.take()
		if err := b.Put(q.name.delivery(d.slot), d.encode()); err != nil {
			return nil, nil, err
		}
	}
	commit, err := c.apply(b)
	if err != nil {
		if d.left > 0 {
			q.slots.give(d.slot)
		}
		return nil, nil, err
	}
	q.s.o.Count("expired", expired)
	if d.left == 0 {
		return nil, commit, nil
	}
	for _, h := range d.members {
		q.out[h.at.seq] = h
	}
	if d.deadline > 0 {
		q.s.leases.add(d)
	}
	return d, commit, nil
}

// Outlook is what can be taken.
type Outlook struct {
	Ready int       // messages, counted no further than was asked
	Bytes int       // of their bodies
	Full  bool      // they are as many as are wanted, or as large
	Since time.Time // when the first of them could be delivered; zero if there is none
	Next  time.Time // when the next message can be; zero if there is none that is not ready
}

// Look tells what can be taken, without taking it. The Store signals when it is as much as is wanted,
// or when there is a message that is due before Next.
func (q *Queue) Look(w Wanted) (o Outlook, err error) {
	q.taking.Lock()
	defer q.taking.Unlock()
	q.mu.Lock()
	from, now := q.cursor, max(q.s.now(), q.last)
	q.fresh, q.need, q.wakeAt = 0, math.MaxInt, math.MaxInt64
	q.mu.Unlock()
	for pair, err := range q.s.db.Scan(state.Range{Lower: q.name.index(from), Upper: q.name.all(kindIndex).Upper}) {
		if err != nil {
			return o, err
		}
		c, err := q.candidate(pair)
		if err != nil {
			return o, err
		}
		if c.at.due > now {
			o.Next = time.UnixMilli(c.at.due)
			break
		}
		if q.isOut(c.at.seq) {
			continue
		}
		if o.Ready++; o.Ready == 1 {
			o.Since = time.UnixMilli(c.at.due)
		}
		o.Bytes += int(c.e.size)
		if o.Full = o.Ready >= w.Count || o.Bytes >= w.Bytes; o.Full {
			break
		}
	}
	q.expect(o, w)
	return o, nil
}

// expect says what is worth a signal from now on. What came while somebody looked counts.
func (q *Queue) expect(o Outlook, w Wanted) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.need = 1
	if o.Ready > 0 && !o.Full {
		q.need = w.Count - o.Ready
	}
	if !o.Next.IsZero() {
		q.wakeAt = min(q.wakeAt, o.Next.UnixMilli())
	}
	if q.fresh > 0 {
		q.s.o.Signal(q.name.account(), q.name.queue())
	}
}

// Peek returns the first messages as they are, whether somebody has them or not; without leases.
func (q *Queue) Peek(n, maxBytes int) ([]Message, error) {
	q.mu.Lock()
	floor := q.floor
	q.mu.Unlock()
	var all []Message
	for pair, err := range q.s.db.Scan(state.Range{Lower: q.name.index(floor), Upper: q.name.all(kindIndex).Upper}) {
		if err != nil {
			return nil, err
		}
		c, err := q.candidate(pair)
		if err != nil {
			return nil, err
		}
		if maxBytes -= int(c.e.size); len(all) == n || len(all) > 0 && maxBytes < 0 {
			break
		}
		if err := q.readBody(&c); err != nil {
			if q.missing(c.at) {
				continue // acknowledged meanwhile
			}
			return nil, err
		}
		m := c.e.message(c.body)
		m.Attempts--
		all = append(all, m)
	}
	return all, nil
}

func (q *Queue) missing(at place) bool {
	value, err := q.s.db.Get(q.name.index(at))
	return err == nil && value == nil
}
