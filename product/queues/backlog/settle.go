package backlog

import (
	"time"

	"selvage/engine/state"
)

// keptFor is when a message is tried again that should go to a dead-letter queue that does not exist.
const keptFor = 10 * time.Minute

// Verdict is what becomes of a message that was delivered. The zero value acknowledges it.
type Verdict struct {
	Retry bool          // it failed: delivered again after Delay, or given up after too many
	Delay time.Duration // with Retry
	Back  bool          // it was not really delivered: it stands where it stood, and no attempt is counted
}

// fate is a message that was delivered, and its verdict.
type fate struct {
	h *held
	Verdict
	entry entry // what is known of it, for a retry
	body  []byte
	dead  bool // it goes to the dead-letter queue, or nowhere
}

// Settle ends a delivery: verdicts are in the order of its messages. When it returns that is on disk;
// after an error the messages are still out, and Settle can be called again.
func (d *Delivery) Settle(verdicts []Verdict, p Policy) error {
	var fates []fate
	d.q.mu.Lock()
	for i, h := range d.members {
		if d.q.claim(h) {
			fates = append(fates, fate{h: h, Verdict: verdicts[i]})
		}
	}
	d.q.mu.Unlock()
	return d.q.settle(fates, p)
}

// claim takes a message in hand, so that nobody else decides on it. mu is held.
func (q *Queue) claim(h *held) bool {
	if q.out[h.at.seq] != h || h.settling {
		return false
	}
	h.settling = true
	return true
}

// settle makes the fates of claimed messages durable.
func (q *Queue) settle(fates []fate, p Policy) error {
	if len(fates) == 0 {
		return nil
	}
	c, err := q.decide(fates, p)
	if err != nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		for _, f := range fates {
			f.h.settling = false
		}
		return err
	}
	return c.Wait()
}

// decide reads what retries need and applies the change.
func (q *Queue) decide(fates []fate, p Policy) (*state.Commit, error) {
	dead := q.deadLetters(p)
	for i := range fates {
		f := &fates[i]
		if !f.Retry || f.Back {
			continue
		}
		f.dead = int(f.h.attempts) > p.MaxRetries
		if f.dead && p.DeadLetter == "" {
			continue
		}
		if f.dead && dead == nil {
			f.keep()
		}
		if err := q.reread(f); err != nil {
			return nil, err
		}
	}
	for _, lock := range order(q, dead) {
		lock.mu.Lock()
		defer lock.mu.Unlock()
	}
	if dead != nil && dead.gone {
		dead = nil
		for i := range fates {
			fates[i].keep()
		}
	}
	return q.apply(fates, dead)
}

// deadLetters returns the dead-letter queue; nil if there is none, or none that can take anything.
func (q *Queue) deadLetters(p Policy) *Queue {
	if p.DeadLetter == "" {
		return nil
	}
	dead, err := q.s.Queue(q.name.account(), p.DeadLetter)
	if err != nil || dead == q {
		return nil
	}
	return dead
}

// keep lets a message stay whose dead-letter queue is not there: it must not be lost.
func (f *fate) keep() {
	if f.dead {
		f.dead, f.Delay = false, max(f.Delay, keptFor)
	}
}

// order returns the queues in the order in which they are locked.
func order(a, b *Queue) []*Queue {
	switch {
	case b == nil:
		return []*Queue{a}
	case string(a.name[:]) < string(b.name[:]):
		return []*Queue{a, b}
	}
	return []*Queue{b, a}
}

// reread reads a message that is delivered again, with its body if that goes elsewhere.
func (q *Queue) reread(f *fate) error {
	value, err := q.s.db.Get(q.name.index(f.h.at))
	if err != nil || value == nil { // purged
		return err
	}
	c := candidate{at: f.h.at}
	if c.e, err = decodeEntry(value); err != nil {
		return err
	}
	if f.dead {
		if err := q.readBody(&c); err != nil {
			if q.missing(f.h.at) {
				return nil
			}
			return err
		}
	}
	f.entry, f.body = c.e, c.body
	return nil
}

// apply puts the fates into one batch. The mutexes of both queues are held.
func (q *Queue) apply(fates []fate, dead *Queue) (*state.Commit, error) {
	b := q.s.db.NewBatch()
	own, now := q.begin(b), max(q.s.now(), q.last)
	var other *change
	if dead != nil {
		other = dead.begin(b)
	}
	tally := map[string]int{}
	gone := map[*Delivery]int{}
	for i := range fates {
		f := &fates[i]
		if q.out[f.h.at.seq] != f.h { // purged
			continue
		}
		what, err := own.settle(f, other, now)
		if err != nil {
			b.Drop()
			return nil, err
		}
		tally[what]++
		if f.h.d != nil {
			gone[f.h.d]++
		}
	}
	for d, n := range gone {
		if n == d.left {
			if err := b.Delete(q.name.delivery(d.slot)); err != nil {
				b.Drop()
				return nil, err
			}
		}
	}
	if other != nil {
		if err := other.seal(); err != nil {
			b.Drop()
			return nil, err
		}
	}
	c, err := own.apply(b)
	if err != nil {
		return nil, err
	}
	if other != nil {
		other.take()
	}
	q.forget(fates, gone)
	for what, n := range tally {
		q.s.o.Count(what, n)
	}
	return c, nil
}

// settle puts one fate into the change and says what it is; other is the dead-letter queue's.
func (c *change) settle(f *fate, other *change, now int64) (string, error) {
	h := f.h
	switch {
	case f.Back:
		for _, p := range []*place{&c.cursor, &c.low} {
			if h.at.before(*p) {
				*p = h.at
			}
		}
		c.ready++
		return "returned", nil
	case !f.Retry:
		return "acked", c.remove(h.at, h.size, h.apart)
	case f.dead && other != nil:
		e := f.entry
		e.attempts, e.came = 0, now
		if err := other.put(&e, f.body, now, now); err != nil {
			return "", err
		}
		return "dead", c.remove(h.at, h.size, h.apart)
	case f.dead:
		return "dropped", c.remove(h.at, h.size, h.apart)
	}
	e := f.entry
	e.attempts = h.attempts
	return "retried", c.move(h.at, place{now + f.Delay.Milliseconds(), h.at.seq}, &e, now)
}

// forget takes settled messages out of memory.
func (q *Queue) forget(fates []fate, gone map[*Delivery]int) {
	for i := range fates {
		if h := fates[i].h; q.out[h.at.seq] == h {
			delete(q.out, h.at.seq)
		}
	}
	for d, n := range gone {
		if d.left -= n; d.left == 0 {
			q.slots.give(d.slot)
			q.s.leases.remove(d)
		}
	}
}

// Retry asks for a message that was pulled to be delivered again.
type Retry struct {
	Lease Lease
	Delay time.Duration
}

// Redeemed is what came of leases.
type Redeemed struct {
	Acked, Retried int
	Warnings       map[Lease]string // for those that had no effect
}

// Redeem acknowledges messages by their leases, and gives others back as failed. An acknowledgement
// that comes after the lease has run out counts as well, even if somebody else has the message by now.
func (q *Queue) Redeem(acks []Lease, retries []Retry, p Policy) (Redeemed, error) {
	r := Redeemed{Warnings: map[Lease]string{}}
	var fates []fate
	undo := func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		for _, f := range fates {
			f.h.settling = false
			if f.h.d == nil && q.out[f.h.at.seq] == f.h {
				delete(q.out, f.h.at.seq)
			}
		}
	}
	for _, s := range acks {
		h, warning, err := q.redeem(s, true)
		if err != nil {
			undo()
			return r, err
		}
		if h == nil {
			r.Warnings[s] = warning
			continue
		}
		r.Acked++
		fates = append(fates, fate{h: h})
	}
	for _, t := range retries {
		h, warning, err := q.redeem(t.Lease, false)
		if err != nil {
			undo()
			return r, err
		}
		if h == nil {
			r.Warnings[t.Lease] = warning
			continue
		}
		r.Retried++
		fates = append(fates, fate{h: h, Verdict: Verdict{Retry: true, Delay: t.Delay}})
	}
	if err := q.settle(fates, p); err != nil {
		undo()
		return r, err
	}
	return r, nil
}

// redeem claims the message of a lease, or says why it has none.
func (q *Queue) redeem(s Lease, ack bool) (*held, string, error) {
	l, ok := q.open(s)
	if !ok {
		return nil, "This is not a lease_id of this queue.", nil
	}
	q.mu.Lock()
	h := q.out[l.at.seq]
	switch {
	case h != nil && h.settling:
		q.mu.Unlock()
		return nil, "The message is settled already.", nil
	case h != nil && (ack || h.attempts == l.attempts):
		q.claim(h)
		q.mu.Unlock()
		return h, "", nil
	case h != nil || !ack:
		q.mu.Unlock()
		return nil, "The lease has run out, and the message was or will be delivered again.", nil
	}
	// Nobody has it: it is acknowledged, or stands where the end of its lease has put it.
	h = &held{at: place{l.back, l.at.seq}, attempts: l.attempts, settling: true}
	q.out[l.at.seq] = h
	q.mu.Unlock()
	value, err := q.s.db.Get(q.name.index(h.at))
	if err == nil && value != nil {
		var e entry
		if e, err = decodeEntry(value); err == nil {
			h.size, h.apart = e.size, e.apart
			return h, "", nil
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.out, l.at.seq)
	return nil, "There is no such message any more.", err
}

// Expire gives back what was not settled in time, as failed deliveries, and returns when to call it
// again at the latest.
func (s *Store) Expire() (next time.Time, err error) {
	for {
		now := s.now()
		d, at := s.leases.pop(now)
		if d == nil {
			return time.UnixMilli(min(at, now+time.Minute.Milliseconds())), nil
		}
		if err := d.expire(now); err != nil {
			s.leases.add(d) // nothing has changed; as on a full disk
			return time.UnixMilli(now + time.Second.Milliseconds()), err
		}
	}
}

// expire fails what is left of a delivery.
func (d *Delivery) expire(now int64) error {
	p := d.q.s.o.Policy(d.q.name.account(), d.q.name.queue())
	delay := p.RetryDelay
	if d.deadline > 0 { // so that it stands where its lease says, see lease
		delay -= time.Duration(now-d.deadline) * time.Millisecond
	}
	var fates []fate
	d.q.mu.Lock()
	for _, h := range d.members {
		if d.q.claim(h) {
			fates = append(fates, fate{h: h, Verdict: Verdict{Retry: true, Delay: delay}})
		}
	}
	if len(fates) == 0 && d.left == 0 {
		d.q.slots.give(d.slot)
	}
	d.q.mu.Unlock()
	return d.q.settle(fates, p)
}

// Tidy removes messages at the head of the queue that were due longer ago than they are kept, and
// tells whether there may be more. Others that are too old are removed when somebody takes them.
func (q *Queue) Tidy(retention time.Duration) (more bool, err error) {
	q.taking.Lock()
	defer q.taking.Unlock()
	q.mu.Lock()
	from, epoch := q.floor, q.epoch
	q.mu.Unlock()
	upTo := place{q.s.now() - retention.Milliseconds(), 0}
	if !from.before(upTo) {
		return false, nil
	}
	var old []candidate
	for pair, err := range q.s.db.Scan(state.Range{Lower: q.name.index(from), Upper: q.name.index(upTo)}) {
		if err != nil {
			return false, err
		}
		c, err := q.candidate(pair)
		if err != nil {
			return false, err
		}
		if c.e.body = nil; !q.isOut(c.at.seq) && c.e.came+retention.Milliseconds() <= q.s.now() {
			old = append(old, c)
		}
		if len(old) == maxExpired {
			more = true
			break
		}
	}
	if len(old) == 0 {
		return false, nil
	}
	return more, q.discard(old, epoch)
}

func (q *Queue) discard(old []candidate, epoch uint64) error {
	b := q.s.db.NewBatch()
	q.mu.Lock()
	if q.epoch != epoch || q.gone {
		q.mu.Unlock()
		b.Drop()
		return nil
	}
	c, n := q.begin(b), 0
	for _, e := range old {
		if q.out[e.at.seq] != nil {
			continue
		}
		n++
		if err := c.remove(e.at, e.e.size, e.e.apart); err != nil {
			q.mu.Unlock()
			b.Drop()
			return err
		}
	}
	commit, err := c.apply(b)
	q.mu.Unlock()
	if err != nil {
		return err
	}
	q.s.o.Count("expired", n)
	return commit.Wait()
}
