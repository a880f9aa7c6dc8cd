package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"selvage/engine/pgwire"
	"selvage/product/hyperdrive/pgsql"
	"selvage/product/hyperdrive/pool"
)

// session is one client. What it sends is read and passed on by one goroutine, serve; that one also
// waits for the answers as long as client and server take turns, which they mostly do. Where they do
// not (COPY, Flush, more than fits into a buffer, a slow query) a second one, pump, brings the answers
// until all have come.
type session struct {
	u       *Upstream
	resolve func() *Upstream // after u was closed; nil if there is none any more
	ctx     context.Context  //nolint // of the connection: a session lives as long as it
	ending  context.Context  //nolint // ends before: who is in no transaction then leaves
	handOn  func(*State) bool
	wait    *pool.Waiter
	in      *pgwire.Reader
	client  net.Conn // nil: a refresh of the cache
	key     [8]byte

	own        *settings // of the client
	initial    *settings // from its startup message
	statements map[string]*statement
	unnamed    *statement
	texts      pool.Share // of both
	skipping   bool       // until Sync, after an error of ours
	tee        *tee
	leading    bool // tee collects the batch being read

	watched
	pumps sync.WaitGroup
	flow
}

// watched is what Sessions.Watch looks at.
type watched struct {
	turns   atomic.Uint64 // things that went on
	waiting atomic.Bool   // for the server, in serve
	poked   atomic.Bool   // by the watch
	writing atomic.Bool   // to the client
}

// flow is what is on its way between client and server.
type flow struct {
	mu       sync.Mutex // guards the fields below, and what of srv both goroutines use
	lease    *pool.Lease
	srv      *server
	pumping  bool
	open     bool       // a batch was begun and has no end yet
	syncs    int        // ReadyForQuery expected
	sent     int        // batches ended so far, for replies
	seen     int        // of those, answered
	copying  bool       // the server wants data of the client
	holding  bool       // serve passes on data of a COPY
	kinds    line[byte] // of the batches under way: Q, S, F
	status   byte       // of the transaction: I, T, E
	replies  line[reply]
	refusals []string
	pending  []pendingSet
	erred    bool // in the batch being answered
	rolled   bool // the batch being answered has rolled a transaction back
	broken   error
}

// reply is what to do with the next ParseComplete or CloseComplete.
type reply struct {
	as    byte   // pass it on as '1' or '3'; 0 drops it
	name  string // of the statement that the server has then
	batch int
}

// pendingSet is a change of settings that counts once its transaction is committed.
type pendingSet struct {
	class *pgsql.Class
	batch int
}

var errFarewell = errors.New("the client said goodbye")

// Guest is a client that has proven who it is.
type Guest struct {
	Client  *pgwire.Client
	Source  string           // whom it belongs to: who waits is served source by source
	Resolve func() *Upstream // finds the upstream again when it was closed; nil: there is no other
	Ending  context.Context  //nolint // when it ends the client leaves as soon as it is in no transaction
	// HandOn gives the client, who would have to leave, to another process; false if it does not take
	// it. It may be nil.
	HandOn func(*State) bool
}

// Serve carries a client until it leaves or ctx ends. The error is for the log.
func (u *Upstream) Serve(ctx context.Context, g Guest) error {
	s := u.session(ctx, g)
	defer s.texts.Free()
	u.counts.clients.Add(1)
	defer func() { s.u.counts.clients.Add(-1) }() // it may have moved
	defer u.o.Sessions.remove(s)
	if err := s.welcome(g.Client); err != nil {
		return err
	}
	return s.run()
}

// run serves the client until it is gone.
func (s *session) run() error {
	err := s.serve()
	s.leave()
	if err == errPassed {
		return nil
	}
	return err
}

// welcome lets a client in. What it said to begin with is not kept.
func (s *session) welcome(c *pgwire.Client) error {
	params, err := s.u.parameters(s.ctx, s.wait)
	if err == nil {
		s.initial, err = s.u.startup(c.Settings, params)
	}
	if err != nil {
		f := failure(err)
		f.Severity = "FATAL"
		_, _ = c.Conn.Write(f.Append(nil))
		return err
	}
	s.own = s.initial
	s.key = s.u.o.Sessions.add(s)
	shown := func(yield func(name, value string) bool) {
		for k, v := range params {
			if want, ok := lookup(c.Settings, k); ok {
				v = want
			}
			if !yield(k, v) {
				return
			}
		}
	}
	return c.Welcome(shown, s.key)
}

// hangUpIdle ends a client that is not in a transaction; others when theirs has ended.
func (s *session) hangUpIdle() {
	s.mu.Lock()
	idle := s.srv == nil
	s.mu.Unlock()
	if idle {
		s.client.SetReadDeadline(time.Unix(1, 0))
	}
}

func (s *session) serve() error {
	for {
		if s.ctx.Err() != nil {
			return s.ctx.Err()
		}
		if len(s.in.Buffered()) < 5 {
			if err := s.settle(); err != nil {
				return s.ended(err)
			}
		}
		if s.client != nil && s.ending.Err() != nil && s.idle() {
			if s.passed() {
				return errPassed
			}
			s.fatal(&pgwire.Failure{Code: "57P01", Message: "this node is shutting down; connect again"})
			return s.ending.Err()
		}
		if err := s.need(5); err != nil {
			if s.farewell(err) {
				continue
			}
			return s.ended(err)
		}
		kind, size, err := pgwire.Head(s.in.Buffered())
		if err == nil {
			err = s.message(kind, size)
		}
		if err == nil && s.leading { // what is remembered is one batch
			err = s.settle()
			s.mu.Lock()
			s.leading = s.open
			s.mu.Unlock()
		}
		if err != nil {
			return s.ended(err)
		}
	}
}

// farewell tells whether a read ended because the node ends; who is in a transaction reads on.
func (s *session) farewell(err error) bool {
	if s.client == nil || !errors.Is(err, os.ErrDeadlineExceeded) || s.ending.Err() == nil || s.ctx.Err() != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return false
	}
	if s.srv != nil {
		s.client.SetReadDeadline(time.Time{})
	}
	return true
}

// ended tells the client why its session ends, if there is something to tell.
func (s *session) ended(err error) error {
	s.mu.Lock()
	if s.broken != nil {
		err = s.broken
	}
	pumping := s.pumping
	s.mu.Unlock()
	switch {
	case errors.Is(err, errFarewell) || err == io.EOF:
		return nil
	case errors.Is(err, pgwire.ErrMalformed) && !pumping:
		s.fatal(&pgwire.Failure{Code: "08P01", Message: err.Error()})
	}
	return err
}

// idle tells whether no server is held.
func (s *session) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.srv == nil
}

// leave gives up what the session holds.
func (s *session) leave() {
	s.mu.Lock()
	srv, busy := s.srv, s.syncs > 0 || s.open
	if srv != nil && busy {
		srv.canceled.Store(true)
	}
	s.mu.Unlock()
	if srv != nil {
		srv.Conn.SetDeadline(time.Unix(1, 0)) // wakes the pump
		if s.client != nil {
			s.client.SetWriteDeadline(time.Now().Add(time.Second))
		}
	}
	s.pumps.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv == nil {
		return
	}
	if busy {
		s.u.cancelLater(s.srv.Key)
	}
	s.u.pool.Put(s.lease, false)
	s.srv, s.lease = nil, nil
	s.tee.land(nil)
	s.tee = nil
}

// need reads until n octets of the client are there. Before it waits it sees to it that everything
// sent so far is answered, or will be.
func (s *session) need(n int) error {
	for len(s.in.Buffered()) < n {
		if err := s.settle(); err != nil {
			return err
		}
		if n > s.in.Size() {
			return s.in.Need(n) // makes room; it is settled
		}
		if err := s.in.Fill(); err != nil {
			if err == io.EOF && len(s.in.Buffered()) > 0 {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// begin makes sure that there is a server, and opens a batch. ok is false if there is none: the
// client was told.
func (s *session) begin() (ok bool, err error) {
	s.mu.Lock()
	if s.srv != nil {
		s.open = true
		s.mu.Unlock()
		return true, nil
	}
	s.mu.Unlock()
	// Nothing is on its way, so that the client may be written to from here.
	lease, err := s.u.pool.Get(s.ctx, s.wait)
	for err == pool.ErrClosed && s.resolve != nil {
		next := s.resolve()
		if next == nil || next == s.u {
			break
		}
		s.move(next)
		lease, err = s.u.pool.Get(s.ctx, s.wait)
	}
	if err != nil {
		return false, s.refuse(err)
	}
	srv := lease.Conn.(*server)
	if err := srv.ready(s.u, s.own); err != nil {
		var f *pgwire.Failure
		s.u.pool.Put(lease, false)
		if errors.As(err, &f) && f.Severity != "FATAL" {
			f.Message = "cannot apply the session's settings: " + f.Message
			return false, s.refuse(f)
		}
		return false, s.refuse(err)
	}
	s.mu.Lock()
	s.lease, s.srv = lease, srv
	s.open, s.syncs, s.erred, s.rolled = true, 0, false, false
	s.mu.Unlock()
	if s.ctx.Err() != nil { // who abandons sessions may have missed it
		s.abandon()
	}
	return true, nil
}

// move goes to the upstream that took the old one's place.
func (s *session) move(next *Upstream) {
	s.u.counts.clients.Add(-1)
	next.counts.clients.Add(1)
	s.u = next
	s.own, s.initial = next.intern(s.own.all), next.intern(s.initial.all)
}
