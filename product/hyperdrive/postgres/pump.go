package postgres

import (
	"errors"
	"os"
	"time"
)

// settle sends what waits for the server and, where the server has the turn, waits for its answer.
func (s *session) settle() error {
	s.mu.Lock()
	srv, pumping, open, syncs, copying := s.srv, s.pumping, s.open, s.syncs, s.copying
	s.mu.Unlock()
	if srv == nil {
		return nil
	}
	if pumping || copying || syncs > 0 && open {
		return s.sendAndPump(srv)
	}
	if syncs == 0 {
		return nil
	}
	return s.take(srv)
}

// sendAndPump sends what waits, and lets the answers come beside. The pump may have given srv back
// meanwhile: not while something waits to be sent, for then an answer is missing.
func (s *session) sendAndPump(srv *server) error {
	s.mu.Lock()
	if s.srv != srv {
		s.mu.Unlock()
		return nil
	}
	out := srv.out // as soon as it is sent, srv may be somebody else's
	srv.out = nil
	s.pump(srv)
	s.mu.Unlock()
	if len(out) == 0 {
		return nil
	}
	if _, err := srv.Conn.Write(out); err != nil {
		return s.lost(err)
	}
	return nil
}

// take sends what waits and brings answers until all have come, the server waits for more, or the watch
// interferes.
func (s *session) take(srv *server) error {
	s.turns.Add(1)
	s.waiting.Store(true)
	defer s.waiting.Store(false)
	for {
		done, err := s.bring(srv)
		if err != nil || done {
			return err
		}
		s.mu.Lock()
		copying := s.copying // both sides may speak then
		s.mu.Unlock()
		if copying {
			return s.sendAndPump(srv)
		}
		err = srv.exchange()
		if s.poked.CompareAndSwap(true, false) {
			srv.Conn.SetReadDeadline(time.Time{})
			if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				return s.sendAndPump(srv)
			}
		}
		if err != nil {
			return s.lost(err)
		}
	}
}

// bring passes on what the server has said so far. done: every batch that was sent is answered.
func (s *session) bring(srv *server) (done bool, err error) {
	s.mu.Lock()
	out, err := s.filter(srv)
	done = s.syncs == 0
	s.mu.Unlock()
	if err != nil {
		return true, s.lost(err)
	}
	if err := s.write(out); err != nil {
		return true, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settledAll() {
		s.release()
	}
	return done, nil
}

// settledAll tells that nothing is under way. Called with mu held.
func (s *session) settledAll() bool { return s.syncs == 0 && !s.open && !s.copying && !s.holding }

// write sends to the client.
func (s *session) write(b []byte) error {
	if len(b) == 0 || s.client == nil {
		return nil
	}
	s.writing.Store(true)
	_, err := s.client.Write(b)
	s.writing.Store(false)
	s.turns.Add(1)
	return err
}

// release gives the server back, if no transaction is open. Called with mu held.
func (s *session) release() {
	if s.tee != nil {
		s.tee.finish(s.status != 'I')
		s.tee = nil
	}
	if s.status != 'I' {
		return
	}
	srv := s.srv
	if s.poked.CompareAndSwap(true, false) {
		srv.Conn.SetReadDeadline(time.Time{})
	}
	s.u.counts.transactions.Add(1)
	s.refusals, s.pending = s.refusals[:0], s.pending[:0]
	s.replies.clear()
	s.kinds.clear()
	s.srv = nil
	s.u.pool.Put(s.lease, !srv.canceled.Load())
	s.lease = nil
}

// pump starts to bring answers beside, unless that is done already. Called with mu held.
func (s *session) pump(srv *server) {
	if s.pumping {
		return
	}
	s.pumping = true
	s.pumps.Go(func() { s.pumpAll(srv) })
}

func (s *session) pumpAll(srv *server) {
	for {
		s.mu.Lock()
		out, err := s.filter(srv)
		s.mu.Unlock()
		if err == nil {
			err = s.write(out)
		}
		s.mu.Lock()
		if err == nil && s.settledAll() {
			s.release()
			s.pumping = false
			if s.client != nil && s.srv == nil && s.ending.Err() != nil { // serve waits for the next message
				s.client.SetReadDeadline(time.Unix(1, 0))
			}
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		if err == nil {
			err = srv.In.Fill()
			if s.poked.CompareAndSwap(true, false) && errors.Is(err, os.ErrDeadlineExceeded) {
				srv.Conn.SetReadDeadline(time.Time{})
				err = nil
			}
		}
		if err != nil {
			s.pumpFailed(err)
			return
		}
	}
}

// pumpFailed tells the client, and wakes serve.
func (s *session) pumpFailed(err error) {
	err = s.lost(err)
	s.mu.Lock()
	s.pumping = false
	s.broken = err
	s.mu.Unlock()
	if s.client != nil {
		s.client.SetReadDeadline(time.Unix(1, 0))
	}
}
