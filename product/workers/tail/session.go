package tail

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"selvage/foundation/fault"
)

// Limits of what waits for one watcher, and when it is told that the flood is over.
const (
	maxQueued      = 1000
	maxQueuedBytes = 4 << 20
	calm           = 5 * time.Second
)

// session is one who watches a script, connected or not yet. Safe for concurrent use.
type session struct {
	id      string
	secret  string
	of      script
	expires time.Time
	filters []filter
	hub     *Hub

	wake   chan struct{}  // something is queued
	ended  chan struct{}  // closed at the end
	served sync.WaitGroup // connections

	mu        sync.Mutex // guards the fields below
	queue     []json.RawMessage
	bytes     int
	flood     flood
	leave     func()    // ends the connection there is; nil if there is none
	idleSince time.Time // without a connection
	done      bool      // ended
	code      int       // of the close frame, once ended
	reason    string
}

// flood is what one who watches missed.
type flood struct {
	lost int       // in all
	told int       // of those, how many the watcher knows of
	last time.Time // when the last was lost
	on   bool      // the watcher was told of a flood and not of its end
}

// open begins a session.
func (h *Hub) open(of script, filters []filter) (*session, error) {
	now := h.o.Clock.Now()
	s := &session{
		id: randomHex(16), secret: randomHex(32), of: of, expires: now.Add(h.o.Lifetime), filters: filters, hub: h,
		wake: make(chan struct{}, 1), ended: make(chan struct{}), idleSince: now,
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, fault.New(fault.Unavailable, "This node is about to stop. Try again.")
	}
	if n := len(h.sessions[of]); n >= maxSessionsScript {
		return nil, fault.New(fault.TooMuch, "The script %s has %d tails, the limit is %d. End one, or wait for one to expire.", of.name, n, maxSessionsScript).At("script_name")
	}
	account := 0
	for other, list := range h.sessions {
		if other.account == of.account {
			account += len(list)
		}
	}
	if account >= maxSessionsAccount {
		return nil, fault.New(fault.TooMuch, "The account has %d tails, the limit is %d. End one, or wait for one to expire.", account, maxSessionsAccount).At("account_id")
	}
	// A new list each time: process and others go through the old one without a lock.
	h.sessions[of] = append(slices.Clone(h.sessions[of]), s)
	h.metrics.sessions.Inc()
	h.touched(of)
	return s, nil
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// remove ends a session that the Hub still has, and tells whether it had.
func (h *Hub) remove(s *session, reason string) bool {
	h.mu.Lock()
	list := h.sessions[s.of]
	i := slices.Index(list, s)
	if i >= 0 {
		if list = slices.Delete(slices.Clone(list), i, i+1); len(list) == 0 {
			delete(h.sessions, s.of)
		} else {
			h.sessions[s.of] = list
		}
		h.touched(s.of)
	}
	h.mu.Unlock()
	if i >= 0 {
		s.end(closeNormal, reason)
	}
	return i >= 0
}

// find returns a session by its ID, or nil.
func (h *Hub) find(id string) *session {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, list := range h.sessions {
		for _, s := range list {
			if s.id == id {
				return s
			}
		}
	}
	return nil
}

// end has the connection, if there is one, say good-bye.
func (s *session) end(code int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return
	}
	s.done, s.code, s.reason = true, code, reason
	s.queue, s.bytes = nil, 0
	s.hub.metrics.sessions.Dec()
	close(s.ended)
}

// over tells whether the session has to end.
func (s *session) over(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !now.Before(s.expires) || s.leave == nil && now.Sub(s.idleSince) >= s.hub.o.Grace
}

// wants tells whether a message passes all filters.
func (s *session) wants(v *view) bool {
	for _, f := range s.filters {
		if !f(v) {
			return false
		}
	}
	return true
}

// push queues a message, or drops it if the watcher is too slow.
func (s *session) push(m json.RawMessage) {
	s.mu.Lock()
	full := len(s.queue) >= maxQueued || s.bytes > 0 && s.bytes+len(m) > maxQueuedBytes
	if !full && !s.done {
		s.queue = append(s.queue, m)
		s.bytes += len(m)
	}
	s.mu.Unlock()
	if full {
		s.hub.metrics.lostSession.Inc()
		s.lose(1)
		return
	}
	s.poke()
}

// lose notes that messages were dropped.
func (s *session) lose(n int) {
	s.mu.Lock()
	s.flood.lost += n
	s.flood.last = s.hub.o.Clock.Now()
	s.mu.Unlock()
	s.poke()
}

func (s *session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// next returns what is to be sent now, or nil.
func (s *session) next() json.RawMessage {
	now := s.hub.o.Clock.Now()
	stamp := float64(now.UnixMilli())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flood.lost > s.flood.told && !s.flood.on {
		s.flood.told, s.flood.on = s.flood.lost, true
		return notice(s.of, stamp, "overload", fmt.Sprintf(
			"Tail is dropping messages due to their high volume, %d so far. To prevent messages from being dropped consider adding filters.", s.flood.lost))
	}
	if len(s.queue) > 0 {
		m := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		s.bytes -= len(m)
		return m
	}
	if s.flood.on && now.Sub(s.flood.last) >= calm {
		s.flood.told, s.flood.on = s.flood.lost, false
		return notice(s.of, stamp, "overload-stop", fmt.Sprintf("Tail is no longer dropping messages; %d were lost.", s.flood.lost))
	}
	return nil
}

// attach makes a connection the session's; one that was there before has to leave. It returns false if
// the session is over. detach has to follow a true.
func (s *session) attach(leave func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return false
	}
	if s.leave != nil {
		s.leave()
	}
	s.leave = leave
	s.served.Add(1)
	return true
}

// detach says that a connection has ended. latest tells whether no other has taken its place.
func (s *session) detach(latest bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if latest {
		s.leave, s.idleSince = nil, s.hub.o.Clock.Now()
	}
	s.served.Done()
}
