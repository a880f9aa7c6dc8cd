package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"time"

	"selvage/foundation/observe"
	"selvage/foundation/supervise"
)

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
	stop := context.AfterFunc(ctx, func() {
		// What was read is answered: another process may go on reading this socket.
		conn.SetWriteDeadline(time.Now().Add(time.Second))
		conn.SetReadDeadline(time.Unix(1, 0))
	})
	defer stop()
	readers := supervise.New(ctx, s.options.Observe.Logger())
	for range runtime.GOMAXPROCS(0) {
		readers.Go("dns udp", func(ctx context.Context) error {
			b, err := newBatch(conn, wildcard)
			if err != nil {
				return err
			}
			s.answerPackets(ctx, b)
			return nil
		})
	}
	readers.Wait()
	return nil
}

// answerPackets is one reader of a socket.
func (s *Server) answerPackets(ctx context.Context, b *batch) {
	a := responder{server: s}
	queries := 0
	for ctx.Err() == nil {
		n, err := b.read()
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			// It concerns one packet, such as an answer that its host refused; if not, do not spin.
			pause(ctx, time.Millisecond)
			continue
		}
		for i := range n {
			var began time.Time
			queries++
			timed := queries%sampleEvery == 0
			if timed {
				began = time.Now()
			}
			packet, from := b.query(i)
			answer := a.respond(packet, source{addr: from})
			if timed {
				s.meter.observe(began)
			}
			if answer != nil {
				s.seen(&a)
				b.reply(i, answer)
			}
		}
		b.flush()
	}
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
