package postgres

import (
	"bytes"
	"fmt"
	"maps"
	"strings"
	"time"

	"selvage/engine/pgwire"
)

// message handles one message of the client, of which at least the head is there.
func (s *session) message(kind byte, size int) error {
	if s.skipping && kind != 'S' && kind != 'X' {
		return s.discard(size)
	}
	switch kind {
	case 'Q':
		return s.query(size)
	case 'P', 'B':
		if hit, err := s.cached(kind); hit || err != nil {
			return err
		}
		if kind == 'P' {
			return s.parse(size)
		}
		return s.bind(size)
	case 'D', 'C':
		return s.describe(kind, size)
	case 'E':
		return s.pass(size, 0)
	case 'H':
		return s.flushAll(size)
	case 'S':
		return s.sync(size)
	case 'F':
		return s.pass(size, 'F')
	case 'd', 'c', 'f':
		return s.copyData(kind, size)
	case 'X':
		return errFarewell
	}
	return fmt.Errorf("message %q from the client: %w", kind, pgwire.ErrMalformed)
}

// discard drops a message, however large.
func (s *session) discard(size int) error {
	for size > 0 {
		if err := s.need(1); err != nil {
			return err
		}
		n := min(size, len(s.in.Buffered()))
		s.in.Discard(n)
		size -= n
	}
	return nil
}

// answer sends an error of ours where no server is held: to a query with ReadyForQuery, to anything
// else without, until Sync. The message at fault is still to be dropped.
func (s *session) answer(f *pgwire.Failure) error {
	kind, size, err := pgwire.Head(s.in.Buffered())
	if err != nil {
		return err
	}
	b := f.Append(nil)
	if kind == 'Q' || kind == 'F' {
		b = pgwire.AppendReady(b, 'I')
	} else {
		s.skipping = true
	}
	if s.tee != nil {
		s.tee.land(nil)
		s.tee = nil
	}
	if err := s.write(b); err != nil {
		return err
	}
	if kind == 'S' {
		return nil
	}
	return s.discard(size)
}

// whole reads a message as a whole, if it may be read so; body is empty if not.
func (s *session) whole(size int) (body []byte, err error) {
	if size > maxInspect {
		return nil, nil
	}
	if err := s.need(size); err != nil {
		return nil, err
	}
	return s.in.Buffered()[5:size], nil
}

// query handles a message of simple query.
func (s *session) query(size int) error {
	body, err := s.whole(size)
	if err != nil {
		return err
	}
	if body == nil {
		return s.passUnread(size)
	}
	text, _, ok := pgwire.CutString(body)
	if !ok {
		return pgwire.ErrMalformed
	}
	if asks(text) {
		if hit, err := s.cachedQuery(body); hit || err != nil {
			return err
		}
	}
	class := classify(text)
	if ok, err := s.begin(); !ok {
		return err
	}
	switch {
	case class.Refused != "":
		s.put(pgwire.AppendQuery(nil, s.refusal(class.Refused)))
	case class.Drops != "":
		s.drop(class.Drops)
		class.Forgets = true
		s.put(pgwire.AppendQuery(nil, "DEALLOCATE ALL"))
	default:
		s.put(s.in.Buffered()[:size])
	}
	if class.Forgets {
		s.dropAll()
		s.mu.Lock()
		s.srv.forget()
		s.mu.Unlock()
	}
	s.in.Discard(size)
	if err := s.note(&class); err != nil {
		return err
	}
	s.endBatch('Q')
	return s.bound()
}

// passUnread passes a query on that is too large to be read: what it does to the session is not known.
func (s *session) passUnread(size int) error {
	if ok, err := s.begin(); !ok {
		return err
	}
	s.mu.Lock()
	s.srv.dirty = true
	s.mu.Unlock()
	return s.pass(size, 'Q')
}

// refusal returns a statement that fails at the server, so that a transaction does, and has its error
// replaced by what is wrong.
func (s *session) refusal(why string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals = append(s.refusals, why)
	return fmt.Sprintf("hyperdrive_refusal_%d_", len(s.refusals)-1)
}

// note remembers what a statement that was just sent changes in the session. Its error ends that.
func (s *session) note(c *class) error {
	if len(c.Sets) == 0 && !c.ResetAll && !c.Forgets && !c.Dirty {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.maySet(c) {
		return fmt.Errorf("the settings of this client have more than %d KiB: %w", maxSet>>10, pgwire.ErrMalformed)
	}
	if c.Dirty {
		s.srv.dirty = true
	}
	if len(c.Sets) > 0 || c.ResetAll || c.Forgets {
		own := *c
		s.pending = append(s.pending, pendingSet{&own, s.sent})
	}
	return nil
}

// put appends to what is sent to the server.
func (s *session) put(b []byte) { s.srv.out = append(s.srv.out, b...) }

// endBatch notes that the batch has its Sync, or was a query.
func (s *session) endBatch(kind byte) {
	s.mu.Lock()
	s.open = false
	s.kinds.push(kind)
	s.syncs++
	s.sent++
	s.mu.Unlock()
}

// bound keeps what waits to be sent small.
func (s *session) bound() error {
	if len(s.srv.out) < serverBuffer {
		return nil
	}
	return s.sendAndPump(s.srv)
}

// pass passes a message on unread. last is the kind of batch that it ends, or 0.
func (s *session) pass(size int, last byte) error {
	if ok, err := s.begin(); !ok {
		return err
	}
	return s.stream(size, last)
}

func (s *session) stream(size int, last byte) error {
	srv := s.srv
	for size > 0 {
		if len(s.in.Buffered()) == 0 {
			if len(srv.out) > 0 {
				if err := s.sendAndPump(srv); err != nil {
					return err
				}
			}
			if err := s.in.Fill(); err != nil {
				return err
			}
		}
		n := min(size, len(s.in.Buffered()))
		s.put(s.in.Buffered()[:n])
		s.in.Discard(n)
		size -= n
		if size > 0 {
			if err := s.bound(); err != nil {
				return err
			}
		}
	}
	if last != 0 {
		s.endBatch(last)
	}
	return s.bound()
}

// copyData passes data of a COPY on; without one under way it is late and of no use.
func (s *session) copyData(kind byte, size int) error {
	s.mu.Lock()
	srv := s.srv
	wanted := srv != nil && !s.settledAll()
	s.holding = wanted // so that the pump does not give the server back meanwhile
	s.mu.Unlock()
	if !wanted {
		return s.discard(size)
	}
	if err := s.stream(size, 0); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if kind != 'd' {
		s.copying = false
	}
	s.holding = false
	if s.settledAll() {
		s.wake(srv)
	}
	return nil
}

// wake has the pump look again whether everything is settled. Called with mu held.
func (s *session) wake(srv *server) {
	if s.pumping {
		s.poked.Store(true)
		srv.Conn.SetReadDeadline(time.Unix(1, 0))
		return
	}
	s.release()
}

// flushAll handles Flush: answers are wanted though the batch has no end yet.
func (s *session) flushAll(size int) error {
	if err := s.need(size); err != nil {
		return err
	}
	if s.idle() {
		s.in.Discard(size)
		return nil
	}
	if ok, err := s.begin(); !ok {
		return err
	}
	s.put(s.in.Buffered()[:size])
	s.in.Discard(size)
	return s.sendAndPump(s.srv)
}

// sync ends a batch.
func (s *session) sync(size int) error {
	if err := s.need(size); err != nil {
		return err
	}
	if s.skipping || s.idle() {
		s.skipping = false
		s.in.Discard(size)
		return s.write(pgwire.AppendReady(nil, 'I'))
	}
	if ok, err := s.begin(); !ok {
		return err
	}
	s.put(s.in.Buffered()[:size])
	s.in.Discard(size)
	s.mu.Lock()
	ignored := s.copying // the server skips it
	s.mu.Unlock()
	if !ignored {
		s.endBatch('S')
	}
	return s.bound()
}

// lookup finds a parameter whose name is not case-sensitive.
func lookup(m map[string]string, name string) (string, bool) {
	if v, ok := m[name]; ok {
		return v, true
	}
	for k := range maps.Keys(m) {
		if strings.EqualFold(k, name) {
			return m[k], true
		}
	}
	return "", false
}

// asks tells whether text begins like a query.
func asks(text []byte) bool {
	text = bytes.TrimLeft(text, " \t\r\n(")
	for _, word := range [...]string{"select", "with", "values", "table"} {
		if len(text) >= len(word) && bytes.EqualFold(text[:len(word)], []byte(word)) {
			return true
		}
	}
	return false
}
