package backlog

import (
	"math"
	"time"

	"selvage/engine/state"
)

// Purge removes every message, whoever has it; what is settled of it afterwards has no effect.
func (q *Queue) Purge() error {
	b := q.s.db.NewBatch()
	q.mu.Lock()
	c, err := q.clear(b)
	q.mu.Unlock()
	if err != nil {
		return err
	}
	return c.Wait()
}

// Purged returns when the queue was purged last; zero if it never was.
func (q *Queue) Purged() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.purged == 0 {
		return time.Time{}
	}
	return time.UnixMilli(q.purged).UTC()
}

// clear removes everything of the queue but its counters. mu is held.
func (q *Queue) clear(b *state.Batch) (*state.Commit, error) {
	c := q.begin(b)
	for _, kind := range []byte{kindIndex, kindBody, kindDelivery} {
		if err := b.DeleteRange(q.name.all(kind)); err != nil {
			b.Drop()
			return nil, err
		}
	}
	purged := c.next.count
	c.next.count, c.next.bytes, c.next.purged = 0, 0, q.s.now()
	commit, err := c.apply(b)
	if err != nil {
		return nil, err
	}
	for _, h := range q.out {
		if h.d != nil {
			q.s.leases.remove(h.d)
		}
	}
	q.out, q.slots = map[uint64]*held{}, slots{}
	q.epoch++
	q.oldest, q.removed = 0, 0
	q.s.o.Count("purged", int(purged))
	return commit, nil
}

// MarkDeleting notes that a queue is being deleted, before it is: Deleting finds it after a crash.
func (s *Store) MarkDeleting(accountID, queueID string) error {
	n, err := parseName(accountID, queueID)
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	if err := b.Put(n.key(kindDeleting), []byte{}); err != nil {
		return err
	}
	return s.db.Commit(b)
}

// Deleting calls f with the queues that are marked.
func (s *Store) Deleting(f func(accountID, queueID string)) error {
	var all []name
	for pair, err := range s.db.Scan(kindOf(kindDeleting)) {
		if err != nil {
			return err
		}
		if n, _, ok := nameOf(pair.Key); ok {
			all = append(all, n)
		}
	}
	for _, n := range all {
		f(n.account(), n.queue())
	}
	return nil
}

// Unmark takes the mark of MarkDeleting away: the queue stays.
func (s *Store) Unmark(accountID, queueID string) error {
	n, err := parseName(accountID, queueID)
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	if err := b.Delete(n.key(kindDeleting)); err != nil {
		return err
	}
	return s.db.Commit(b)
}

// Delete removes a queue, its messages and its mark for good. Whoever holds the Queue can do nothing
// with it any more.
func (s *Store) Delete(accountID, queueID string) error {
	q, err := s.Queue(accountID, queueID)
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	q.mu.Lock()
	c, err := q.clear(b)
	if err == nil {
		q.gone, q.need, q.wakeAt = true, math.MaxInt, math.MinInt64
	}
	q.mu.Unlock()
	if err != nil {
		return err
	}
	if err := c.Wait(); err != nil {
		return err
	}
	last := s.db.NewBatch()
	for _, kind := range []byte{kindCounters, kindDeleting} {
		if err := last.Delete(q.name.key(kind)); err != nil {
			return err
		}
	}
	s.mu.Lock()
	delete(s.queues, q.name)
	s.mu.Unlock()
	return s.db.Commit(last)
}
