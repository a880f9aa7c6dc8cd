package queues

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"selvage/product/queues/backlog"
	"selvage/spec"
)

const (
	accountBytes = 16 << 20        // bodies that the Workers of an account may have at a time
	grace        = 3 * time.Second // that batches under way have when the node stops
	storePause   = time.Second     // between two tries to reach the store
)

// queueRef names a queue.
type queueRef struct{ account, id string }

// pumps are the queues that are being delivered to Workers. A queue has a pump only while it has
// messages for one.
type pumps struct {
	p *Queues

	mu       sync.Mutex // guards the fields below
	life     context.Context
	active   map[queueRef]*pump
	accounts map[string]*semaphore.Weighted
	group    sync.WaitGroup
	leased   chan struct{} // a lease was given that may end first
}

func (s *pumps) init(p *Queues) {
	s.p, s.active, s.accounts, s.leased = p, map[queueRef]*pump{}, map[string]*semaphore.Weighted{}, make(chan struct{}, 1)
}

// signal is told that a queue may have something to deliver.
func (s *pumps) signal(accountID, queueID string) {
	ref := queueRef{accountID, queueID}
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.active[ref]; u != nil {
		u.poke(u.wake)
		return
	}
	if s.life == nil || s.life.Err() != nil || !s.p.current.Load().pumped(accountID, queueID) {
		return
	}
	u := &pump{s: s, ref: ref, wake: make(chan struct{}, 1), changed: make(chan struct{}, 1), freed: make(chan struct{}, 1), limit: 1}
	s.active[ref] = u
	life := s.life
	s.group.Go(func() { u.run(life) })
}

// pumped tells whether a queue's messages go to a Worker now.
func (t *table) pumped(accountID, queueID string) bool {
	q, c := t.queue(accountID, queueID), t.consumer(accountID, queueID)
	return q != nil && c != nil && c.Type == spec.ConsumerWorker && !q.Settings.DeliveryPaused
}

// reconsider has every queue with messages looked at again.
func (s *pumps) reconsider() {
	o := s.p.opened.Load()
	if o == nil {
		return
	}
	s.mu.Lock()
	for _, u := range s.active {
		u.poke(u.changed)
	}
	s.mu.Unlock()
	o.store.Filled(s.signal)
}

// leave takes a pump away that has nothing to do, unless it was signalled meanwhile.
func (s *pumps) leave(u *pump) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(u.wake)+len(u.changed) > 0 {
		return false
	}
	delete(s.active, u.ref)
	return true
}

// room returns what bounds the bytes that an account's Workers have.
func (s *pumps) room(accountID string) *semaphore.Weighted {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accounts[accountID] == nil {
		s.accounts[accountID] = semaphore.NewWeighted(accountBytes)
	}
	return s.accounts[accountID]
}

// Run delivers messages to Workers, gives back what was pulled and not acknowledged, and removes what
// is too old, until ctx ends.
func (p *Queues) Run(ctx context.Context) error {
	store, err := p.awaitStore(ctx)
	if err != nil {
		return nil // ctx has ended
	}
	p.pumps.mu.Lock()
	p.pumps.life = ctx
	p.pumps.mu.Unlock()
	defer func() {
		p.pumps.mu.Lock()
		p.pumps.life = nil
		p.pumps.mu.Unlock()
		p.pumps.group.Wait()
	}()
	p.finishDeleting(ctx, store)
	store.Filled(p.pumps.signal)
	p.keep(ctx, store)
	return nil
}

// awaitStore returns the messages once the node's store is open.
func (p *Queues) awaitStore(ctx context.Context) (*backlog.Store, error) {
	for {
		store, err := p.backlog()
		if err == nil {
			return store, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(storePause):
		}
	}
}

// keep watches leases and ages.
func (p *Queues) keep(ctx context.Context, store *backlog.Store) {
	tick := time.NewTicker(p.o.Tick)
	defer tick.Stop()
	for {
		next, err := store.Expire()
		if err != nil {
			p.log.Error("messages whose leases ran out could not be given back", "error", err, "again", next)
		}
		timer := time.NewTimer(max(next.Sub(p.o.Clock.Now()), 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-p.pumps.leased:
		case <-tick.C:
			p.tidy(ctx, store)
		}
		timer.Stop()
	}
}

// tidy removes messages that are too old from every queue.
func (p *Queues) tidy(ctx context.Context, store *backlog.Store) {
	store.Filled(func(accountID, queueID string) {
		q := p.current.Load().queue(accountID, queueID)
		b, err := store.Queue(accountID, queueID)
		if q == nil || err != nil {
			return
		}
		for more := true; more && ctx.Err() == nil; {
			if more, err = b.Tidy(q.Settings.Kept()); err != nil {
				p.log.Error("messages that are too old could not be removed", "account", accountID, "queue", q.Name, "error", err)
				return
			}
		}
	})
}
