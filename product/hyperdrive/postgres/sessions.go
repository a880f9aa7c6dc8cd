package postgres

import (
	"context"
	"crypto/rand"
	"sync"
	"time"
)

// Sessions are all clients of a node, by the keys of their cancel requests. Safe for concurrent use.
type Sessions struct {
	mu    sync.Mutex // guards byKey
	byKey map[[8]byte]*session
	seen  map[*session]uint64 // turns at the last watch
	work  sync.WaitGroup
	slots chan struct{} // of cancel requests under way

	refreshes chan struct{} // slots of queries asked again for the cache
}

// NewSessions returns an empty list.
func NewSessions() *Sessions {
	return &Sessions{byKey: map[[8]byte]*session{}, seen: map[*session]uint64{}, slots: make(chan struct{}, 64), refreshes: make(chan struct{}, 64)}
}

func (l *Sessions) add(s *session) (key [8]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		rand.Read(key[:]) // never fails
		if l.byKey[key] == nil {
			l.byKey[key] = s
			return key
		}
	}
}

func (l *Sessions) remove(s *session) {
	l.mu.Lock()
	if l.byKey[s.key] == s {
		delete(l.byKey, s.key)
	}
	delete(l.seen, s)
	l.mu.Unlock()
}

// Leave ends clients whose context has ended, and those whose Ending has and that are in no transaction.
// Call it when one of these ends.
func (l *Sessions) Leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.byKey {
		switch {
		case s.ctx.Err() != nil:
			s.abandon()
		case s.ending.Err() != nil:
			s.hangUpIdle()
		}
	}
}

// cancelTime is how long a cancel request may take.
const cancelTime = 5 * time.Second

// Cancel stops what the session with a key is doing; nothing happens if there is none. With only the
// session has to be one of that upstream.
func (l *Sessions) Cancel(ctx context.Context, key [8]byte, only *Upstream) {
	l.mu.Lock()
	s := l.byKey[key]
	l.mu.Unlock()
	if s == nil {
		return
	}
	s.mu.Lock()
	u, srv := s.u, s.srv
	if srv == nil || s.syncs == 0 && !s.open || only != nil && only != u {
		s.mu.Unlock()
		return
	}
	srv.canceled.Store(true) // it is not used again: the request may arrive late
	target := srv.Key
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, cancelTime)
	defer cancel()
	u.counts.cancels.Add(1)
	_ = u.o.Login.Cancel(ctx, target)
}

// cancelLater stops a query whose client went away.
func (u *Upstream) cancelLater(key [8]byte) {
	l := u.o.Sessions
	select {
	case l.slots <- struct{}{}:
	default:
		return // the server notices when it wants to answer
	}
	l.work.Go(func() {
		defer func() { <-l.slots }()
		ctx, cancel := context.WithTimeout(context.Background(), cancelTime)
		defer cancel()
		_ = u.o.Login.Cancel(ctx, key)
	})
}

// Watch looks at sessions that wait, until ctx ends: where the answer takes long the client is
// listened to meanwhile, and one that does not read for a minute is cut off.
func (l *Sessions) Watch(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	defer l.work.Wait()
	stuck := map[*session]int{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		l.mu.Lock()
		for _, s := range l.byKey {
			turns := s.turns.Load()
			same := l.seen[s] == turns
			l.seen[s] = turns
			if !same {
				delete(stuck, s)
				continue
			}
			if s.writing.Load() {
				if stuck[s]++; stuck[s] >= patience {
					s.client.Close()
				}
				continue
			}
			if s.waiting.Load() {
				s.poke()
			}
		}
		for s := range stuck {
			if l.byKey[s.key] != s {
				delete(stuck, s)
			}
		}
		l.mu.Unlock()
	}
}

// patience is for how many seconds a client may leave unread what the server says.
const patience = 60

// poke ends the wait for the server in serve.
func (s *session) poke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv != nil && !s.pumping && s.waiting.Load() {
		s.poked.Store(true)
		s.srv.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}
