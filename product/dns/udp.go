package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"selvage/foundation/observe"
	"selvage/foundation/supervise"
)

// maxQuery is the most octets of a query over UDP that are looked at.
const maxQuery = 4096

// ServeUDP answers queries on a UDP socket until ctx ends; several sockets may be served at once.
// The socket stays the caller's to close.
func (s *Server) ServeUDP(ctx context.Context, pc net.PacketConn) error {
	conn, ok := pc.(*net.UDPConn)
	if !ok {
		return fmt.Errorf("serve DNS over %T: only UDP sockets can be served", pc)
	}
	wildcard := conn.LocalAddr().(*net.UDPAddr).IP.IsUnspecified()
	if wildcard {
		if err := askDestination(conn); err != nil {
			return fmt.Errorf("serve DNS on %s: %w", conn.LocalAddr(), err)
		}
	}
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	readers := supervise.New(ctx, s.options.Observe.Logger())
	for range runtime.GOMAXPROCS(0) {
		readers.Go("dns udp", func(ctx context.Context) error {
			r := udpReader{server: s, conn: conn, responder: responder{server: s}}
			if wildcard {
				r.control = make([]byte, 128)
			}
			return r.run(ctx)
		})
	}
	readers.Wait()
	return nil
}

// udpReader is one goroutine that reads queries from a socket and writes the answers.
type udpReader struct {
	server    *Server
	conn      *net.UDPConn
	responder responder
	control   []byte // for the address a query was sent to; nil on sockets that have only one
	packet    [maxQuery]byte
	count     uint
}

func (u *udpReader) run(ctx context.Context) error {
	for ctx.Err() == nil {
		n, oob, from, err := u.read()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
			// Anything else, such as a port unreachable at an earlier client, concerns one packet.
			continue
		}
		u.answer(u.packet[:n], oob, from)
	}
	return nil
}

func (u *udpReader) read() (n int, oob []byte, from netip.AddrPort, err error) {
	if u.control == nil {
		n, from, err = u.conn.ReadFromUDPAddrPort(u.packet[:])
		return n, nil, from, err
	}
	n, oobn, _, from, err := u.conn.ReadMsgUDPAddrPort(u.packet[:], u.control)
	return n, u.control[:oobn], from, err
}

func (u *udpReader) answer(packet, oob []byte, from netip.AddrPort) {
	var began time.Time
	u.count++
	timed := u.count%sampleEvery == 0
	if timed {
		began = time.Now()
	}
	out := u.responder.respond(packet, source{addr: from.Addr().Unmap()})
	if timed {
		u.server.meter.observe(began)
	}
	if out == nil {
		return
	}
	u.server.seen(&u.responder)
	// An answer that cannot be sent is lost, as it might be on its way.
	if u.control == nil {
		u.conn.WriteToUDPAddrPort(out, from)
		return
	}
	u.conn.WriteMsgUDPAddrPort(out, fromDestination(oob), from)
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

// seen counts an answered query and tells whoever watches.
func (s *Server) seen(a *responder) {
	s.meter.count(&a.q, a.r.rcode)
	if events := s.options.Observe.Events; events.Watched("query") {
		s.publish(events, a)
	}
}

func (s *Server) publish(events *observe.Events, a *responder) {
	ev := observe.Event{Kind: "query", Attrs: []slog.Attr{
		slog.String("name", textName(string(a.q.name))),
		slog.String("type", typeName(a.q.qtype)),
		slog.String("rcode", rcodeName(a.r.rcode)),
		slog.String("proto", protocols[protoIndex(a.q.tcp)]),
		slog.String("client", a.q.client.String()),
	}}
	if a.zone != nil {
		ev.Zone, ev.Account = a.zone.config.Zone.Name, a.zone.config.Zone.AccountID
	}
	events.Publish(ev)
}
