package postgres

import (
	"crypto/tls"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"selvage/engine/pgwire"
)

// server is a connection to the server, used by one session at a time.
type server struct {
	*pgwire.Server
	out      []byte // to be sent
	skip     int    // octets of a message under way that are passed on unread
	applied  *settings
	prepared map[string]*prepared // by name
	clock    uint64               // counts uses of prepared statements
	unnamed  *statement           // what the unnamed statement is; nil if not known
	dirty    bool                 // something may be left in the session
	stale    uint64               // of the upstream when its prepared statements were last dropped
	canceled atomic.Bool          // a cancel request was sent, and may strike later
}

// prepared is a statement that the server has, or gets once what was sent is carried out.
type prepared struct {
	used    uint64
	certain bool
	batch   int // that it was sent with; until it is certain only that one may count on it
}

// Alive tells whether the server has neither hung up nor said something, which it would do only to
// say farewell.
func (s *server) Alive() bool {
	if len(s.In.Buffered()) > 0 {
		return false
	}
	c := s.Conn
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	sys, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return false
	}
	alive := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		alive = err == unix.EAGAIN
		return true
	})
	return err == nil && alive
}

// Close hangs up at once.
func (s *server) Close() error {
	if t, ok := s.Conn.(*tls.Conn); ok {
		return t.NetConn().Close() // no farewell that could block
	}
	if len(s.out) == 0 && s.skip == 0 {
		s.Conn.SetWriteDeadline(time.Now().Add(time.Millisecond))
		_, _ = s.Conn.Write([]byte{'X', 0, 0, 0, 4})
	}
	return s.Conn.Close()
}

// exchange sends what waits to be sent, and reads what the server says.
func (s *server) exchange() error {
	left, err := s.In.Exchange(s.out)
	if s.out = append(s.out[:0], left...); cap(s.out) > 4*serverBuffer && len(s.out) == 0 {
		s.out = nil
	}
	return err
}

// runTime is how long statements of our own may take.
const runTime = 10 * time.Second

// run carries out a statement of our own and drops what it answers.
func (s *server) run(sql string) error { return s.ask(sql, nil) }

// ask is run for who wants the first column of each row.
func (s *server) ask(sql string, row func(string)) error {
	s.Conn.SetDeadline(time.Now().Add(runTime))
	defer s.Conn.SetDeadline(time.Time{})
	if _, err := s.Conn.Write(pgwire.AppendQuery(nil, sql)); err != nil {
		return err
	}
	var failed error
	for {
		kind, body, err := s.In.Message(maxInspect)
		if err != nil {
			return err
		}
		switch kind {
		case 'E':
			failed = pgwire.ParseFailure(body)
		case 'S':
			s.NoteParameter(body)
		case 'D':
			if n := len(body); row != nil && n >= 6 {
				if size := int(int32(uint32(body[2])<<24 | uint32(body[3])<<16 | uint32(body[4])<<8 | uint32(body[5]))); size >= 0 && 6+size <= n {
					row(string(body[6 : 6+size]))
				}
			}
		case 'Z':
			status := body
			ok := len(status) == 1 && status[0] == 'I'
			s.In.Discard(len(body) + 5)
			if failed == nil && !ok {
				return fmt.Errorf("a transaction is open on an idle connection: %w", pgwire.ErrMalformed)
			}
			return failed
		}
		s.In.Discard(len(body) + 5)
	}
}

// ready makes the session on the server one with settings.
func (s *server) ready(u *Upstream, want *settings) error {
	if s.dirty {
		if err := s.run("DISCARD ALL"); err != nil {
			return err
		}
		s.dirty = false
		s.forget()
		s.applied = noSettings
	}
	if now := u.stale.Load(); s.stale != now {
		if err := s.run("DEALLOCATE ALL"); err != nil {
			return err
		}
		s.stale = now
		s.forget()
	}
	if s.applied == want {
		return nil
	}
	if sql := change(s.applied, want); sql != "" {
		if err := s.run(sql); err != nil {
			s.dirty = true
			return err
		}
	}
	s.applied = want
	return nil
}

// forget notes that the server has no prepared statements.
func (s *server) forget() {
	clear(s.prepared)
	s.unnamed = nil
}

// oldest returns the name of the statement that was not used for longest.
func (s *server) oldest() string {
	name, used := "", ^uint64(0)
	for n, p := range s.prepared {
		if p.certain && p.used < used {
			name, used = n, p.used
		}
	}
	return name
}
