package pgwire

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// Socket is a TCP or unix connection that is read and written without the scheduler's knowledge: the
// system calls do not block, and where the runtime is told of one it gives the processor to another
// thread whenever the call takes some microseconds, as sending over loopback does. One goroutine at a
// time may read; others may write meanwhile, one after the other.
type Socket struct {
	net.Conn
	raw syscall.RawConn

	fill   *Reader // of the exchange under way
	first  []byte  // to be sent before anything is read
	read   int
	failed syscall.Errno
	tryIn  func(fd uintptr) bool

	mu     sync.Mutex // held while something is written; guards the fields below
	rest   []byte     // to be written
	broken syscall.Errno
	tryOut func(fd uintptr) bool
}

// NewSocket returns c as a Socket; or as it is, if it has no descriptor of its own, as with TLS.
func NewSocket(c net.Conn) net.Conn {
	sys, ok := c.(syscall.Conn)
	if !ok {
		return c
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return c
	}
	s := &Socket{Conn: c, raw: raw}
	s.tryIn, s.tryOut = s.readOnce, s.writeAll
	return s
}

// SyscallConn returns what the socket is made of.
func (s *Socket) SyscallConn() (syscall.RawConn, error) { return s.raw, nil }

// exchange sends out, if there is something, and reads into r once. left is what of out was not sent.
func (s *Socket) exchange(r *Reader, out []byte) (left []byte, err error) {
	s.fill, s.first, s.read, s.failed = r, out, -1, 0
	err = s.raw.Read(s.tryIn)
	left = s.first
	s.fill, s.first = nil, nil
	switch {
	case err != nil:
		return left, err
	case s.failed != 0:
		return left, s.fault("exchange", s.failed)
	case s.read > 0:
		r.end += s.read
		return nil, nil
	case s.read == 0:
		return nil, io.EOF
	}
	if _, err := s.Write(left); err != nil { // more than fits into the socket's buffer
		return nil, err
	}
	return s.exchange(r, nil)
}

func (s *Socket) fault(what string, errno syscall.Errno) error {
	return &net.OpError{Op: what, Net: s.LocalAddr().Network(), Err: os.NewSyscallError(what, errno)}
}

// readOnce sends what is to be sent first, and then waits without looking for an answer, which cannot be
// there yet; once it is the runtime calls again. It returns false to wait.
func (s *Socket) readOnce(fd uintptr) bool {
	if len(s.first) > 0 {
		n, errno := send(fd, s.first)
		s.first = s.first[max(n, 0):]
		s.failed = errno
		return errno != 0 || len(s.first) > 0
	}
	r := s.fill
	r.borrow()
	free := r.buf[r.end:]
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(free))), uintptr(len(free)))
		switch errno {
		case 0:
			s.read = int(n)
			return true
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			if r.start == r.end {
				r.giveBack()
			}
			return false
		}
		s.failed = errno
		return true
	}
}

// Write writes all of b, or as much as there is time for.
func (s *Socket) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest, s.broken = b, 0
	err := s.raw.Write(s.tryOut)
	n := len(b) - len(s.rest)
	s.rest = nil
	if err == nil && s.broken != 0 {
		err = s.fault("write", s.broken)
	}
	return n, err
}

func (s *Socket) writeAll(fd uintptr) bool {
	for len(s.rest) > 0 && s.broken == 0 {
		n, errno := send(fd, s.rest)
		if errno == 0 && n == 0 {
			return false
		}
		s.rest, s.broken = s.rest[n:], errno
	}
	return true
}

// send writes once. It writes nothing, and says nothing, if there is no room.
func send(fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_NOSIGNAL|syscall.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, 0
		}
		return 0, errno
	}
}
