package mysql

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"strconv"

	"selvage/engine/mywire"
	"selvage/product/hyperdrive/pool"
)

// newThread returns an ID for a session. It is a secret of sorts: who knows it may cancel its queries.
func newThread() uint32 {
	var b [4]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint32(b[:])>>3 | 1
}

// prepare prepares a statement for the client, on whatever connection there is.
func (s *session) prepare(ctx context.Context, sql string) error {
	st := &statement{sql: sql, class: classify(sql)}
	switch {
	case st.class.refused != "":
		return s.fail(refusal(st.class.refused))
	case st.class.use != "" || st.class.kill != nil || len(st.class.settings) > 0:
		return s.fail(&mywire.Error{Code: 1295, State: "HY000", Message: "This command is not supported in the prepared statement protocol of Hyperdrive: send it as a query"})
	case len(s.statements) >= maxPerGuest:
		return s.fail(&mywire.Error{Code: 1461, State: "42000", Message: "Can't create more than max_prepared_stmt_count statements (current value: " + strconv.Itoa(maxPerGuest) + ")"})
	case !s.texts.Grow(int64(len(sql))):
		return s.fail(&mywire.Error{Code: 1461, State: "42000", Message: "Hyperdrive: the prepared statements of this client, or of all clients of its database, have more than " + strconv.Itoa(pool.MaxShare>>20) + " MiB"})
	}
	s.next++
	id := s.next
	err := s.pass(ctx, append([]byte{mywire.ComStmtPrepare}, sql...), func() (mywire.Reply, error) {
		done, r, err := s.server.PassPrepared(s.client, id, s.server.caps)
		if err != nil || r.Err != nil {
			return r, err
		}
		st.params = done.Params
		s.statements[id] = st
		r.Status = s.server.status
		return r, s.keep(sql, done.ID)
	})
	if s.statements[id] == nil {
		s.texts.Grow(-int64(len(sql)))
	}
	return err
}

// keep notes that the server has a statement, under another ID than before perhaps.
func (s *session) keep(sql string, id uint32) error {
	key := sha256.Sum256([]byte(sql))
	if old := s.server.prepared[key]; old != nil {
		if err := s.server.closeStatement(old.id); err != nil {
			return err
		}
		delete(s.server.prepared, key)
	}
	if err := s.server.evict(); err != nil {
		return err
	}
	s.server.clock++
	s.server.prepared[key] = &prepared{id, s.server.clock}
	return s.server.Flush()
}

// onServer returns the ID that a statement has on the connection in use; it is prepared there if it is
// not. A refusal is an *mywire.Error.
func (s *session) onServer(st *statement) (uint32, error) {
	if p := s.server.prepared[sha256.Sum256([]byte(st.sql))]; p != nil {
		s.server.clock++
		p.used = s.server.clock
		return p.id, nil
	}
	s.server.Begin()
	if err := s.server.Send(append([]byte{mywire.ComStmtPrepare}, st.sql...)); err != nil {
		return 0, err
	}
	done, r, err := s.server.PassPrepared(nil, 0, s.server.caps)
	if err != nil {
		return 0, err
	}
	if r.Err != nil {
		return 0, r.Err
	}
	if done.Params != st.params {
		return 0, &mywire.Error{Code: 1243, State: "HY000", Message: "Hyperdrive: the statement has other parameters now than when it was prepared; prepare it anew"}
	}
	return done.ID, s.keep(st.sql, done.ID)
}

func unknownStatement(id uint32) *mywire.Error {
	return &mywire.Error{Code: 1243, State: "HY000", Message: "Unknown prepared statement handler (" + strconv.FormatUint(uint64(id), 10) + ") given to EXECUTE"}
}

// cursorFlags is where an execution asks for a cursor. There are none: all rows come at once, which
// clients understand.
const cursorFlags = 5

func (s *session) execute(ctx context.Context, p []byte) error {
	id, err := mywire.StatementID(p)
	if err != nil {
		return err
	}
	st := s.statements[id]
	if st == nil {
		return s.fail(unknownStatement(id))
	}
	e, err := mywire.ParseExecute(p, st.params)
	if err != nil {
		return err
	}
	p[cursorFlags] = 0
	if t := e.Types(); t != nil {
		st.types = t
	}
	if err := s.take(ctx); err != nil {
		return s.fail(told(err))
	}
	there, err := s.onServer(st)
	if err != nil {
		return s.broke(err)
	}
	command, err := e.ForServer(there, st.types)
	if err != nil {
		return err
	}
	s.pin = false
	return s.pass(ctx, command, func() (mywire.Reply, error) {
		s.server.dirty = s.server.dirty || st.class.leaves
		return s.server.Pass(s.client, s.server.caps)
	})
}

// longData passes a part of a parameter. It has no answer, and lies on the server until the statement is
// executed: the session keeps its connection until then.
func (s *session) longData(ctx context.Context, p []byte) error {
	id, err := mywire.StatementID(p)
	if err != nil {
		return err
	}
	st := s.statements[id]
	if st == nil {
		return nil // the execution will say so
	}
	if err := s.take(ctx); err != nil {
		return err
	}
	there, err := s.onServer(st)
	if err != nil {
		return err
	}
	mywire.PutStatementID(p, there)
	s.pin = true
	s.server.Begin()
	return s.server.Send(p)
}

func (s *session) resetStatement(p []byte) error {
	id, err := mywire.StatementID(p)
	if err != nil {
		return err
	}
	if s.statements[id] == nil {
		return s.fail(unknownStatement(id))
	}
	if s.pin {
		s.give(false) // with the long data that was sent
	}
	return s.ok()
}
