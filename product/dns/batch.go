package dns

import (
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize = 32   // packets read and written by one system call, if so many wait
	maxQuery  = 2048 // octets of a query over UDP that are looked at
)

// packet is one query with where it came from, and its answer. Addresses and control messages stay
// as the kernel wrote them, for they go back to it.
type packet struct {
	query   [maxQuery]byte
	answer  []byte
	peer    unix.RawSockaddrInet6 // large enough for both families
	control [64]byte
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// batch reads and answers packets of one socket, many with one system call: on a busy server half
// of a query's cost is the way into the kernel and back. One goroutine uses it.
type batch struct {
	raw      syscall.RawConn
	wildcard bool // whether packets say which of the host's addresses they were sent to

	packets  [batchSize]packet
	incoming [batchSize]mmsghdr
	outgoing [batchSize]mmsghdr
	vectors  [2][batchSize]unix.Iovec

	received, sent, toSend int
	errno                  syscall.Errno
	receive, transmit      func(fd uintptr) bool // made once: closures allocate
}

func newBatch(conn *net.UDPConn, wildcard bool) (*batch, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	b := &batch{raw: raw, wildcard: wildcard}
	for i := range b.packets {
		b.vectors[0][i].Base = &b.packets[i].query[0]
		b.vectors[0][i].SetLen(maxQuery)
		b.incoming[i].header.Iov = &b.vectors[0][i]
		b.incoming[i].header.SetIovlen(1)
		b.incoming[i].header.Name = (*byte)(unsafe.Pointer(&b.packets[i].peer))
		b.outgoing[i].header.Iov = &b.vectors[1][i]
		b.outgoing[i].header.SetIovlen(1)
	}
	b.receive, b.transmit = b.recvmmsg, b.sendmmsg
	return b, nil
}

// read waits for packets and returns how many there are.
func (b *batch) read() (int, error) {
	for i := range b.incoming {
		h := &b.incoming[i].header
		h.Namelen = unix.SizeofSockaddrInet6
		if b.wildcard {
			h.Control = &b.packets[i].control[0]
			h.SetControllen(len(b.packets[i].control))
		}
	}
	if err := b.raw.Read(b.receive); err != nil {
		return 0, err
	}
	if b.errno != 0 {
		return 0, b.errno
	}
	return b.received, nil
}

func (b *batch) recvmmsg(fd uintptr) bool {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.incoming[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	b.received, b.errno = int(n), errno
	return errno != unix.EAGAIN && errno != unix.EINTR
}

// query returns packet i and who sent it.
func (b *batch) query(i int) ([]byte, netip.Addr) {
	p := &b.packets[i]
	return p.query[:min(int(b.incoming[i].length), maxQuery)], addressOf(&p.peer)
}

func addressOf(sa *unix.RawSockaddrInet6) netip.Addr {
	switch sa.Family {
	case unix.AF_INET:
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr)
	case unix.AF_INET6:
		return netip.AddrFrom16(sa.Addr).Unmap()
	}
	return netip.Addr{}
}

// reply queues the answer to packet i. The answer is copied.
func (b *batch) reply(i int, answer []byte) {
	p := &b.packets[i]
	p.answer = append(p.answer[:0], answer...)
	out, in := &b.outgoing[b.toSend].header, &b.incoming[i].header
	b.vectors[1][b.toSend].Base = &p.answer[0]
	b.vectors[1][b.toSend].SetLen(len(p.answer))
	out.Name, out.Namelen = in.Name, in.Namelen
	out.Control = nil
	out.SetControllen(0)
	if control := fromDestination(p.control[:in.Controllen]); b.wildcard && len(control) > 0 {
		out.Control = &control[0]
		out.SetControllen(len(control))
	}
	b.toSend++
}

// flush sends the queued answers. One that cannot be sent is lost, as it might be on its way.
func (b *batch) flush() {
	b.sent = 0
	for b.sent < b.toSend {
		if b.raw.Write(b.transmit) != nil {
			break
		}
		if b.errno != 0 {
			b.sent++
		}
	}
	b.toSend = 0
}

func (b *batch) sendmmsg(fd uintptr) bool {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.outgoing[b.sent])), uintptr(b.toSend-b.sent), unix.MSG_DONTWAIT, 0, 0)
	if b.errno = errno; errno == 0 {
		b.sent += int(n)
	}
	return errno != unix.EAGAIN && errno != unix.EINTR
}

// askDestination makes the kernel say to which of the host's addresses each query was sent, for
// the answer has to come from there.
func askDestination(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var v4, v6 error
	err = raw.Control(func(fd uintptr) {
		v4 = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		v6 = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	})
	if err == nil && v4 != nil && v6 != nil { // a socket is of one family
		err = v4
	}
	return err
}

// fromDestination turns the control message of a query, in place, into the one that sends its
// answer from the same address. The interface is left to routing.
func fromDestination(oob []byte) []byte {
	if len(oob) < unix.SizeofCmsghdr {
		return nil
	}
	level, typ := binary.NativeEndian.Uint32(oob[8:]), binary.NativeEndian.Uint32(oob[12:])
	data := oob[unix.SizeofCmsghdr:]
	switch {
	case level == unix.IPPROTO_IP && typ == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		clear(data[:4])
		return oob[:min(len(oob), unix.CmsgSpace(unix.SizeofInet4Pktinfo))]
	case level == unix.IPPROTO_IPV6 && typ == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		linkLocal := data[0] == 0xfe && data[1]&0xc0 == 0x80
		if !linkLocal {
			clear(data[16:20])
		}
		return oob[:min(len(oob), unix.CmsgSpace(unix.SizeofInet6Pktinfo))]
	}
	return nil
}
