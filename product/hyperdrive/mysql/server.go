package mysql

import (
	"crypto/sha256"
	"crypto/tls"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"selvage/engine/mywire"
)

// server is a connection to the server, used by one session at a time.
type server struct {
	*mywire.Conn
	caps      uint32
	thread    uint32
	status    uint16 // as of its last answer
	foundRows bool
	multi     bool                            // takes several statements in one query
	database  string                          // in use; empty if that is not known
	applied   string                          // settings of the session it was used by
	dirty     bool                            // something may be left in the session
	prepared  map[[sha256.Size]byte]*prepared // by the sum of their text
	clock     uint64                          // counts uses of prepared statements
}

// prepared is a statement that the server has.
type prepared struct {
	id   uint32
	used uint64
}

// Alive tells whether the server has neither hung up nor said something, which it would do only to say
// farewell.
func (s *server) Alive() bool {
	if s.Buffered() > 0 {
		return false
	}
	c := s.Conn.Conn
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
	c := s.Conn.Conn
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn() // no farewell that could block
	}
	if tc, ok := c.(*net.TCPConn); ok && s.Conn.Conn == c {
		tc.SetWriteDeadline(time.Now().Add(time.Millisecond))
		s.Begin()
		_ = s.Send([]byte{mywire.ComQuit}) // a courtesy
	}
	return c.Close()
}

// notice carries out a command of our own whose answer is one packet, and drops that.
func (s *server) notice(command []byte) error {
	s.SetDeadline(time.Now().Add(stepTime))
	defer s.SetDeadline(time.Time{})
	s.Begin()
	if err := s.Send(command); err != nil {
		return err
	}
	r, err := s.PassNotice(nil, s.caps)
	if err != nil {
		return err
	}
	if r.Err != nil {
		return r.Err
	}
	s.status = r.Status
	return nil
}

// reset brings the connection to the state after its login.
func (s *server) reset() error {
	if err := s.notice([]byte{mywire.ComResetConnection}); err != nil {
		return err
	}
	clear(s.prepared)
	s.applied, s.database, s.dirty = "", "", false
	return s.option(true)
}

// option lets the server take several statements in one query, or not.
func (s *server) option(multi bool) error {
	on := byte(0)
	if !multi {
		on = 1
	}
	err := s.notice([]byte{mywire.ComSetOption, on, 0})
	if err == nil {
		s.multi = multi
	}
	return err
}

// evict makes room for another prepared statement: the one that was not used for longest goes.
func (s *server) evict() error {
	if len(s.prepared) < maxPrepared {
		return nil
	}
	var key [sha256.Size]byte
	var oldest *prepared
	for k, p := range s.prepared {
		if oldest == nil || p.used < oldest.used {
			key, oldest = k, p
		}
	}
	delete(s.prepared, key)
	return s.closeStatement(oldest.id)
}

// closeStatement has no answer.
func (s *server) closeStatement(id uint32) error {
	command := []byte{mywire.ComStmtClose, 0, 0, 0, 0}
	mywire.PutStatementID(command, id)
	s.Begin()
	return s.WritePayload(command)
}
