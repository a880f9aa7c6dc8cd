package mysql

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"selvage/engine/mywire"
	"selvage/foundation/fault"
	"selvage/product/hyperdrive/pool"
)

// Guest is a client that has connected.
type Guest struct {
	Conn     net.Conn
	Source   string                                   // whom it belongs to: who waits is served source by source
	Password func(l *mywire.Login) (string, error)    // that it has to prove; an *mywire.Error is told to it
	Find     func(l *mywire.Login) (*Upstream, error) // called after the login
	Refused  func(reason string)                      // is told of who does not get in
	Ending   context.Context                          //nolint // when it ends the client leaves as soon as it is in no transaction
}

// loginTime is how long a client may take to log in.
const loginTime = 10 * time.Second

// session is one client.
type session struct {
	u         *Upstream
	id        uint32
	client    *mywire.Conn
	ending    context.Context //nolint // as the guest's
	wait      *pool.Waiter
	foundRows bool
	multi     bool
	database  string // in use; empty for that of the login at the server

	settings map[string]string // SET statements by what they set
	applied  string            // all of them, as one text: what servers are compared by

	statements map[uint32]*statement
	texts      pool.Share // of statements
	next       uint32

	lease *pool.Lease
	pin   bool // the server holds something for the next command only: long data, or what its transaction is to be like

	running sync.Mutex // guards server while others may look
	server  *server    // the lease's; nil between transactions
}

// statement is what a client has prepared.
type statement struct {
	sql    string
	class  class
	params int
	types  []byte // of the parameters, as they were sent last
}

// Capabilities that clients are offered. They get answers as the server gives them, so these are those of
// our own connections, and what only concerns commands.
const clientCaps = serverCaps | mywire.CapFoundRows | mywire.CapInteractive | mywire.CapIgnoreSpace

// Version is said to clients before anybody knows which server they want.
const greetingVersion = "8.0.36-selvage"

var errEnd = errors.New("client is done")

// Serve carries one client from its login to its end, or until ctx ends.
func Serve(ctx context.Context, g *Guest) error {
	g.Conn.SetDeadline(time.Now().Add(loginTime))
	c := mywire.NewConn(g.Conn, buffer)
	thread := newThread()
	l, err := c.Accept(mywire.Welcome{Version: greetingVersion, Thread: thread, Caps: clientCaps, Status: mywire.StatusAutocommit, Password: g.Password})
	if err != nil {
		var e *mywire.Error
		if errors.As(err, &e) {
			g.Refused("password")
		}
		return err
	}
	u, err := g.Find(l)
	if err == nil {
		_, err = u.serverVersion(ctx, pool.NewWaiter(g.Source)) // a database that cannot be reached shows at the login
	}
	if err != nil {
		g.Refused("database")
		return c.Send(told(err).Append(nil))
	}
	s := &session{
		u: u, id: thread, client: c, ending: g.Ending, wait: pool.NewWaiter(g.Source), foundRows: l.Caps&mywire.CapFoundRows != 0, multi: l.Caps&mywire.CapMultiStatements != 0,
		settings: map[string]string{}, statements: map[uint32]*statement{}, texts: pool.Share{Of: &u.held},
	}
	defer s.texts.Free()
	u.mu.Lock()
	u.sessions[thread] = s
	u.mu.Unlock()
	u.counts.clients.Add(1)
	defer s.end()
	// From here on others may know its thread.
	if err := c.LetIn(mywire.StatusAutocommit); err != nil {
		return err
	}
	g.Conn.SetDeadline(time.Time{})
	defer context.AfterFunc(g.Ending, s.hurry)()
	defer context.AfterFunc(ctx, s.cut)()
	for {
		if err := s.command(ctx); err != nil {
			if err == errEnd || err == io.EOF {
				return nil
			}
			return err
		}
	}
}

// told puts an error into a client's words.
func told(err error) *mywire.Error {
	var e *mywire.Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, pool.ErrTimeout), errors.Is(err, pool.ErrCrowded):
		return &mywire.Error{Code: 1040, State: "08004", Message: "Hyperdrive: " + err.Error()}
	case errors.Is(err, pool.ErrClosed), errors.Is(err, context.Canceled):
		return &mywire.Error{Code: 1053, State: "08S01", Message: "Hyperdrive: this configuration changed or the node is stopping; connect again"}
	}
	return &mywire.Error{Code: 2013, State: "08S01", Message: "Hyperdrive: the database cannot be reached: " + err.Error()}
}

// hurry ends a client that is between transactions; others are ended by their next command.
func (s *session) hurry() {
	s.running.Lock()
	defer s.running.Unlock()
	if s.server == nil {
		s.client.SetReadDeadline(time.Unix(1, 0))
	}
}

// cut ends a client whatever it is at.
func (s *session) cut() {
	s.running.Lock()
	defer s.running.Unlock()
	s.client.SetDeadline(time.Unix(1, 0))
	if s.server != nil {
		s.server.SetDeadline(time.Unix(1, 0))
	}
}

// end gives back what the session has. A transaction that is open ends with its connection.
func (s *session) end() {
	s.u.counts.clients.Add(-1)
	s.u.mu.Lock()
	delete(s.u.sessions, s.id)
	s.u.mu.Unlock()
	s.give(false)
}

// take gets a connection, if there is none, and makes the session on it this one.
func (s *session) take(ctx context.Context) error {
	if s.lease != nil {
		return nil
	}
	l, err := s.u.pool.Get(ctx, s.wait)
	if err != nil {
		return err
	}
	srv := l.Conn.(*server)
	if srv.foundRows != s.foundRows {
		fresh, err := s.u.connect(ctx, s.foundRows)
		if err != nil {
			s.u.pool.Put(l, false)
			return err
		}
		srv.Close()
		l.Conn, srv = fresh, fresh
	}
	if err := s.prepareServer(srv); err != nil {
		s.u.pool.Put(l, false)
		return err
	}
	s.u.counts.transactions.Add(1)
	s.running.Lock()
	s.lease, s.server = l, srv
	if s.ending.Err() != nil { // it waited meanwhile, and may finish what it has begun
		s.client.SetReadDeadline(time.Time{})
	}
	s.running.Unlock()
	if ctx.Err() != nil { // cut may have missed it
		s.cut()
	}
	return nil
}

// prepareServer brings database, settings and options to those of the session.
func (s *session) prepareServer(srv *server) error {
	if srv.dirty || srv.applied != s.applied && srv.applied != "" {
		if err := srv.reset(); err != nil {
			return err
		}
	}
	want := s.database
	if want == "" {
		want = s.u.o.Login.Database
	}
	if srv.database != want && want != "" {
		if err := srv.notice(append([]byte{mywire.ComInitDB}, want...)); err != nil {
			return err
		}
		srv.database = want
	}
	if srv.multi != s.multi {
		if err := srv.option(s.multi); err != nil {
			return err
		}
	}
	if srv.applied == s.applied {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(s.settings)) {
		if err := srv.notice(append([]byte{mywire.ComQuery}, s.settings[name]...)); err != nil {
			srv.dirty = true
			return err
		}
	}
	srv.applied = s.applied
	return nil
}

// give gives the connection back. Without reuse it is closed.
func (s *session) give(reuse bool) {
	s.running.Lock()
	defer s.running.Unlock()
	if s.lease == nil {
		return
	}
	s.u.pool.Put(s.lease, reuse)
	s.lease, s.server, s.pin = nil, nil, false
}

// settle gives the connection back unless a transaction is open.
func (s *session) settle() error {
	if s.server == nil || s.pin || s.server.status&mywire.StatusInTransaction != 0 {
		return nil
	}
	s.give(true)
	return s.ending.Err()
}

// command carries out one command.
func (s *session) command(ctx context.Context) error {
	p, err := s.client.ReadPayload(maxCommand)
	if fault.KindOf(err) == fault.TooMuch {
		s.fail(&mywire.Error{Code: 1153, State: "08S01", Message: "Got a packet bigger than 'max_allowed_packet' bytes: Hyperdrive passes commands of up to 16 MiB"})
		return err
	}
	if err != nil {
		return err
	}
	if len(p) == 0 {
		return mywire.ErrMalformed
	}
	if err := s.carryOut(ctx, p); err != nil {
		return err
	}
	leave := s.settle() // before the client hears of it, and comes with the next one
	if err := s.client.Flush(); err != nil {
		return err
	}
	return leave
}

func (s *session) carryOut(ctx context.Context, p []byte) error {
	switch p[0] {
	case mywire.ComQuit:
		return errEnd
	case mywire.ComPing:
		return s.ok()
	case mywire.ComQuery:
		return s.query(ctx, p)
	case mywire.ComInitDB:
		return s.use(ctx, string(p[1:]))
	case mywire.ComStmtPrepare:
		return s.prepare(ctx, string(p[1:]))
	case mywire.ComStmtExecute:
		return s.execute(ctx, p)
	case mywire.ComStmtLongData:
		return s.longData(ctx, p)
	case mywire.ComStmtClose:
		if id, err := mywire.StatementID(p); err == nil && s.statements[id] != nil {
			s.texts.Grow(-int64(len(s.statements[id].sql)))
			delete(s.statements, id)
		}
		return nil
	case mywire.ComStmtReset:
		return s.resetStatement(p)
	case mywire.ComResetConnection:
		return s.reset()
	case mywire.ComSetOption:
		if len(p) < 3 {
			return mywire.ErrMalformed
		}
		s.multi = p[1] == 0
		if s.server != nil {
			if err := s.server.option(s.multi); err != nil {
				return s.broke(err)
			}
		}
		return s.client.WritePayload([]byte{0xfe, 0, 0, byte(s.status()), byte(s.status() >> 8)})
	case mywire.ComFieldList:
		return s.pass(ctx, p, func() (mywire.Reply, error) { return s.server.PassRows(s.client, s.server.caps) })
	}
	return s.fail(&mywire.Error{Code: 1047, State: "08S01", Message: "Hyperdrive: this command is not possible on connections that are shared"})
}

// status is what the client is told where the server is not asked.
func (s *session) status() uint16 {
	if s.server != nil {
		return s.server.status &^ mywire.StatusMoreResults
	}
	if text, off := s.settings["AUTOCOMMIT"]; off && (strings.HasSuffix(strings.TrimSpace(text), "0") || strings.HasSuffix(strings.ToUpper(strings.TrimSpace(text)), "OFF")) {
		return 0
	}
	return mywire.StatusAutocommit
}

func (s *session) ok() error {
	return s.client.WritePayload((&mywire.OK{Status: s.status()}).Append(nil))
}

// fail tells the client why a command was not carried out. The session goes on.
func (s *session) fail(e *mywire.Error) error { return s.client.WritePayload(e.Append(nil)) }

// broke tells the client that its connection to the server is lost, and ends it if it was in the middle
// of something.
func (s *session) broke(err error) error {
	var e *mywire.Error
	if errors.As(err, &e) { // the server refused a step of our own
		open := s.server != nil && s.server.status&mywire.StatusInTransaction != 0
		if s.server != nil && !open {
			s.give(false)
		}
		return s.fail(e)
	}
	s.give(false)
	_ = s.fail(told(err))
	_ = s.client.Flush()
	return err
}

// pass sends a command to the server and has its answer passed.
func (s *session) pass(ctx context.Context, p []byte, answer func() (mywire.Reply, error)) error {
	if err := s.take(ctx); err != nil {
		return s.fail(told(err))
	}
	s.server.Begin()
	if err := s.server.Send(p); err != nil {
		return s.broke(err)
	}
	r, err := answer()
	if err != nil {
		return s.broke(err)
	}
	return s.note(r)
}

// note takes over what an answer says of the transaction. A refusal says nothing, and may have ended one
// (a deadlock) or left one open (the second of two statements): the server is asked.
func (s *session) note(r mywire.Reply) error {
	if r.Err == nil {
		s.server.status = r.Status
		return nil
	}
	if err := s.server.notice([]byte{mywire.ComPing}); err != nil {
		return s.broke(err)
	}
	return nil
}

func (s *session) query(ctx context.Context, p []byte) error {
	c := classify(string(p[1:]))
	switch {
	case c.refused != "":
		return s.fail(refusal(c.refused))
	case c.use != "":
		return s.use(ctx, c.use)
	case c.kill != nil:
		if err := s.u.kill(ctx, c.kill.id, c.kill.whole); err != nil {
			return s.fail(told(err))
		}
		return s.ok()
	}
	var r mywire.Reply
	s.pin = false
	err := s.pass(ctx, p, func() (mywire.Reply, error) {
		s.server.dirty = s.server.dirty || c.leaves
		s.pin = c.next
		var err error
		r, err = s.server.Pass(s.client, s.server.caps)
		return r, err
	})
	if err != nil || s.server == nil || len(c.settings) == 0 {
		return err
	}
	if r.Err != nil {
		s.server.dirty = true // some of it may have been set
		return nil
	}
	s.remember(c.settings)
	return nil
}

func refusal(text string) *mywire.Error {
	return &mywire.Error{Code: 1235, State: "42000", Message: text}
}

// Bounds of what a client may have set.
const (
	maxSettings = 64
	maxSet      = 64 << 10 // bytes
)

// remember keeps settings for the connections to come; the one in use has them.
func (s *session) remember(set map[string]string) {
	maps.Copy(s.settings, set)
	size := 0
	for _, text := range s.settings {
		size += len(text)
	}
	if len(s.settings) > maxSettings || size > maxSet {
		clear(s.settings) // nobody needs so many; the server's defaults hold from here on
	}
	var all strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.settings)) {
		all.WriteString(s.settings[name] + ";")
	}
	s.applied = all.String()
	s.server.applied = s.applied
}

// use changes the database.
func (s *session) use(ctx context.Context, database string) error {
	err := s.pass(ctx, append([]byte{mywire.ComInitDB}, database...), func() (mywire.Reply, error) {
		r, err := s.server.PassNotice(s.client, s.server.caps)
		if err == nil && r.Err == nil {
			s.database, s.server.database = database, database
		}
		return r, err
	})
	return err
}

// reset forgets what the session was.
func (s *session) reset() error {
	s.give(false) // a transaction that is open is rolled back by its end
	clear(s.settings)
	clear(s.statements)
	s.texts.Free()
	s.applied, s.database = "", ""
	return s.ok()
}
