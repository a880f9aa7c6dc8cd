package postgres

import (
	"context"
	"errors"

	"selvage/engine/pgwire"
	"selvage/product/hyperdrive/pgsql"
	"selvage/product/hyperdrive/pool"
)

// State is a session between transactions, without its connection: what another process needs to go on
// with it.
type State struct {
	Key        [8]byte           `json:"key"` // of cancel requests
	Initial    []pgsql.Setting   `json:"initial,omitempty"`
	Own        []pgsql.Setting   `json:"own,omitempty"`
	Statements map[string][]byte `json:"statements,omitempty"` // what Parse said behind the name, by name
	Unnamed    []byte            `json:"unnamed,omitempty"`
	Skipping   bool              `json:"skipping,omitempty"` // until Sync
	Early      []byte            `json:"early,omitempty"`    // was read and not looked at
}

// MaxState bounds the statements, and what was read, of a session that is passed on, in bytes.
const MaxState = 1 << 20

var errPassed = errors.New("the client was passed on")

// state returns what to pass on; false if there is too much.
func (s *session) state() (*State, bool) {
	st := &State{Key: s.key, Initial: s.initial.all, Own: s.own.all, Skipping: s.skipping, Early: s.in.Buffered()}
	size := len(st.Early)
	for name, of := range s.statements {
		if st.Statements == nil {
			st.Statements = map[string][]byte{}
		}
		st.Statements[name] = of.parse
		size += len(name) + len(of.parse)
	}
	if s.unnamed != nil {
		st.Unnamed = s.unnamed.parse
		size += len(st.Unnamed)
	}
	return st, size <= MaxState
}

// passed tells whether another process has taken the client.
func (s *session) passed() bool {
	if s.handOn == nil {
		return false
	}
	st, ok := s.state()
	return ok && s.handOn(st)
}

// Adopt goes on with a session that another process has passed on; in.Client has logged in there, and
// has no reader yet. accept is called when nothing more can go wrong, and tells whether the session is
// ours.
func (u *Upstream) Adopt(ctx context.Context, g Guest, st *State, accept func() bool) error {
	s := u.session(ctx, g)
	defer s.texts.Free()
	s.key, s.skipping = st.Key, st.Skipping
	s.initial, s.own = u.intern(st.Initial), u.intern(st.Own)
	for name, parse := range st.Statements {
		of, err := u.statementOf(parse)
		if err != nil || !s.keep(name, of) {
			return pgwire.ErrMalformed
		}
	}
	if st.Unnamed != nil {
		of, err := u.statementOf(st.Unnamed)
		if err != nil || !s.keep("", of) {
			return pgwire.ErrMalformed
		}
	}
	s.in.Preload(st.Early)
	if !u.o.Sessions.take(s) {
		return errors.New("another session has this one's key")
	}
	defer u.o.Sessions.remove(s)
	if !accept() {
		return nil
	}
	u.counts.clients.Add(1)
	defer func() { s.u.counts.clients.Add(-1) }()
	return s.run()
}

// session returns a session without a key that has set nothing.
func (u *Upstream) session(ctx context.Context, g Guest) *session {
	return &session{
		u: u, resolve: g.Resolve, ctx: ctx, ending: g.Ending, handOn: g.HandOn, wait: pool.NewWaiter(g.Source), in: g.Client.In, client: g.Client.Conn,
		own: noSettings, statements: map[string]*statement{}, texts: pool.Share{Of: &u.held}, flow: flow{status: 'I'},
	}
}

// take adds a session that has its key already; false if another one has it.
func (l *Sessions) take(s *session) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byKey[s.key] != nil {
		return false
	}
	l.byKey[s.key] = s
	return true
}
