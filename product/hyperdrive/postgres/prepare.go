package postgres

import (
	"fmt"

	"selvage/engine/pgwire"
	"selvage/product/hyperdrive/pool"
)

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
