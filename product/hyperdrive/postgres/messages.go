package postgres

import (
	"bytes"
	"fmt"
	"maps"
	"strings"
	"time"

	"selvage/engine/pgwire"
	"selvage/product/hyperdrive/pool"
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

// parse handles Parse: the server knows statements by names of ours, which say what is in them.
func (s *session) parse(size int) error {
	body, err := s.whole(size)
	if err != nil {
		return err
	}
	if body == nil {
		if s.idle() {
			return s.answer(&pgwire.Failure{Code: "54000", Message: fmt.Sprintf("the statement has more than %d bytes, which is more than Hyperdrive prepares", maxInspect)})
		}
		return fmt.Errorf("a statement of %d bytes to prepare: %w", size, pgwire.ErrMalformed)
	}
	name, rest, ok := pgwire.CutString(body)
	if !ok {
		return pgwire.ErrMalformed
	}
	st, err := s.u.statementOf(rest)
	if err != nil {
		return err
	}
	if st.class.Drops != "" { // names of the client are not the server's
		s.drop(st.class.Drops)
		if st, err = s.u.statementOf([]byte("DEALLOCATE ALL\x00\x00\x00")); err != nil {
			return err
		}
	}
	named := len(name) > 0
	key := string(name)
	if ok, err := s.begin(); !ok {
		return err
	}
	switch {
	case st.class.Refused != "":
		why := s.refusal(st.class.Refused)
		s.put(pgwire.Append(nil, 'P', pgwire.AppendString([]byte{0}, why), []byte{0, 0}))
		s.expect(reply{as: '1'})
	case !s.keep(key, st):
		return fmt.Errorf("the prepared statements of this client, or of all clients of its database, have more than %d MiB: %w", pool.MaxShare>>20, pgwire.ErrMalformed)
	case !named:
		s.put(s.in.Buffered()[:size])
		s.hasUnnamed(st)
		s.expect(reply{as: '1'})
	default:
		s.define(st, '1')
	}
	s.in.Discard(size)
	return s.bound()
}

// expect notes what becomes of the next ParseComplete or CloseComplete.
func (s *session) expect(r reply) {
	s.mu.Lock()
	r.batch = s.sent
	s.replies.push(r)
	s.mu.Unlock()
}

// define makes the server know a statement, and passes a ParseComplete on if as says so.
func (s *session) define(st *statement, as byte) {
	srv := s.srv
	s.mu.Lock()
	srv.clock++
	p := srv.prepared[st.name]
	var evict string
	switch {
	case p != nil && !p.certain && p.batch != s.sent: // an error may have kept it from the server
		evict, p = st.name, nil
	case p != nil:
		p.used = srv.clock
	}
	if evict == "" && p == nil && len(srv.prepared) >= maxPrepared {
		if evict = srv.oldest(); evict != "" {
			delete(srv.prepared, evict)
		}
	}
	if p == nil {
		srv.prepared[st.name] = &prepared{used: srv.clock, batch: s.sent}
	}
	s.mu.Unlock()
	if evict != "" {
		s.put(closeStatement(evict))
		s.expect(reply{})
	}
	switch {
	case p == nil:
		s.put(pgwire.Append(nil, 'P', pgwire.AppendString(nil, st.name), st.parse))
		s.expect(reply{as: as, name: st.name})
	case as != 0:
		// It has it: closing what is not there gives an answer in the right place.
		s.put(closeStatement("hd_none"))
		s.expect(reply{as: as})
	}
}

func closeStatement(name string) []byte {
	return pgwire.Append(nil, 'C', pgwire.AppendString([]byte{'S'}, name))
}

// use makes the server know the statement that the client calls name, and returns its name there.
func (s *session) use(name []byte) (string, *statement) {
	if len(name) == 0 {
		if s.unnamed != nil && s.hasUnnamed(s.unnamed) {
			s.put(pgwire.Append(nil, 'P', []byte{0}, s.unnamed.parse))
			s.expect(reply{})
		}
		return "", s.unnamed
	}
	st := s.statements[string(name)]
	if st == nil {
		return string(name), nil // the server says that it does not exist
	}
	s.define(st, 0)
	return st.name, st
}

// hasUnnamed notes what the server's unnamed statement is now, and tells whether that is new.
func (s *session) hasUnnamed(st *statement) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := s.srv.unnamed != st
	s.srv.unnamed = st
	return changed
}

// bind handles Bind. Its values may be large and are not read.
func (s *session) bind(size int) error {
	const names = 256 // what portal and statement may take at most, with room to spare
	if err := s.need(min(size, 5+names)); err != nil {
		return err
	}
	portal, rest, ok := pgwire.CutString(s.in.Buffered()[5:min(size, len(s.in.Buffered()))])
	name, _, ok2 := pgwire.CutString(rest)
	if !ok || !ok2 {
		return fmt.Errorf("the names in Bind have more than %d bytes: %w", names, pgwire.ErrMalformed)
	}
	if ok, err := s.begin(); !ok {
		return err
	}
	as, st := s.use(name)
	if st != nil {
		if err := s.note(&st.class); err != nil {
			return err
		}
	}
	skip := 5 + len(portal) + len(name) + 2
	srv := s.srv
	b, at := pgwire.Begin(srv.out, 'B')
	b = append(append(b, portal...), 0)
	b = pgwire.AppendString(b, as)
	total := len(b) - at - 1 + size - skip
	b[at+1], b[at+2], b[at+3], b[at+4] = byte(total>>24), byte(total>>16), byte(total>>8), byte(total)
	srv.out = b
	s.in.Discard(skip)
	return s.stream(size-skip, 0)
}

// describe handles Describe and Close, of statements and portals.
func (s *session) describe(kind byte, size int) error {
	body, err := s.whole(size)
	if err != nil {
		return err
	}
	if len(body) < 2 {
		return pgwire.ErrMalformed
	}
	name, _, ok := pgwire.CutString(body[1:])
	if !ok {
		return pgwire.ErrMalformed
	}
	if kind == 'C' && body[0] == 'S' {
		s.drop(string(name))
		if s.idle() {
			s.in.Discard(size)
			return s.write(pgwire.Append(nil, '3'))
		}
	}
	if ok, err := s.begin(); !ok {
		return err
	}
	switch {
	case body[0] != 'S':
		s.put(s.in.Buffered()[:size])
	case kind == 'D':
		as, _ := s.use(name)
		s.put(pgwire.Append(nil, 'D', pgwire.AppendString([]byte{'S'}, as)))
	default: // others may use the server's
		s.put(closeStatement("hd_none"))
	}
	if kind == 'C' {
		s.expect(reply{as: '3'})
	}
	s.in.Discard(size)
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
