package dns

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"selvage/foundation/supervise"
)

const (
	tcpIdle      = 10 * time.Second // without a query (RFC 7766, 6.2.3)
	tcpIdleBusy  = 2 * time.Second  // the same when most connections are taken
	tcpWriteWait = 5 * time.Second  // for a client that does not read
	tcpFlush     = 16 << 10         // answers are gathered up to this while queries wait to be read
)

// ServeTCP answers queries on connections of ln until ctx ends. The listener stays the caller's to
// close.
func (s *Server) ServeTCP(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() {
		if d, ok := ln.(interface{ SetDeadline(time.Time) error }); ok {
			d.SetDeadline(time.Unix(1, 0))
			return
		}
		ln.Close()
	})
	defer stop()
	conns := supervise.New(ctx, s.options.Observe.Logger())
	defer conns.Wait()
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			// Out of file descriptors, or a connection gone before it was taken: both pass.
			s.options.Observe.Logger().Warn("dns connection not accepted", "error", err)
			pause(ctx, 10*time.Millisecond)
			continue
		}
		client := addrOf(conn)
		if !s.connections.take(client) {
			conn.Close()
			continue
		}
		served := false
		conns.Go("dns tcp", func(ctx context.Context) error {
			if served { // it broke and was started again: the connection is gone
				return nil
			}
			served = true
			defer s.connections.free(client)
			s.serveConn(ctx, conn, client)
			return nil
		})
	}
}

func addrOf(conn net.Conn) netip.Addr {
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// serveConn answers the queries of one connection in their order. Answers to queries that came
// together leave together.
func (s *Server) serveConn(ctx context.Context, conn net.Conn, client netip.Addr) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	in := bufio.NewReaderSize(conn, 4096)
	a := responder{server: s}
	var packet, out []byte
	for ctx.Err() == nil {
		var err error
		conn.SetReadDeadline(time.Now().Add(s.idle()))
		if ctx.Err() != nil {
			return // its end may have come before this deadline was set
		}
		if packet, err = readMessage(in, packet); err != nil {
			return
		}
		answer := a.respond(packet, source{addr: client, tcp: true})
		if answer == nil {
			return
		}
		s.seen(&a)
		out = binary.BigEndian.AppendUint16(out, uint16(len(answer)))
		out = append(out, answer...)
		if len(out) < tcpFlush && messageWaits(in) {
			continue
		}
		conn.SetWriteDeadline(time.Now().Add(tcpWriteWait))
		if _, err := conn.Write(out); err != nil {
			return
		}
		out = out[:0]
	}
}

// messageWaits tells whether a whole further message has been read already.
func messageWaits(in *bufio.Reader) bool {
	if in.Buffered() < 2 {
		return false
	}
	size, _ := in.Peek(2)
	return in.Buffered() >= 2+int(binary.BigEndian.Uint16(size))
}

// idle is how long a connection may stay silent: less when they are getting few.
func (s *Server) idle() time.Duration {
	if s.connections.count() > s.connections.limit*3/4 {
		return tcpIdleBusy
	}
	return tcpIdle
}

// readMessage reads one message with its length before it into buf, which it returns, grown if
// need be.
func readMessage(in *bufio.Reader, buf []byte) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	_, err := io.ReadFull(in, buf[:n])
	return buf[:n], err
}
