package tail

import (
	"bufio"
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Times of a connection.
const (
	pingEvery = 30 * time.Second
	silence   = 100 * time.Second // after which a peer is taken for gone
	writeTime = 10 * time.Second
	lookEvery = time.Second // whether a flood is over
	farewell  = time.Second // for the peer's answer to our close frame
)

// socket is the WebSocket of one who watches.
type socket struct {
	conn net.Conn
	wire wire

	mu     sync.Mutex // one frame at a time; guards closed
	closed bool       // a close frame was sent
}

// serve sends a session's messages until either side ends it. It closes conn.
func (s *session) serve(ctx context.Context, conn net.Conn, r *bufio.Reader) {
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var replaced sync.Once
	taken := make(chan struct{})
	if !s.attach(func() { replaced.Do(func() { close(taken) }) }) {
		return
	}
	defer func() { s.detach(!isClosed(taken)) }()

	c := &socket{conn: conn, wire: wire{r: r}}
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		defer cancel()
		c.read()
	}()
	// The reader ends by the peer's close frame, which it has answered, or when the connection is closed.
	defer func() {
		c.finish()
		<-reading
	}()
	// A peer that reads nothing must not hold up the end.
	go func() {
		select {
		case <-s.ended:
			_ = conn.SetWriteDeadline(time.Now().Add(farewell))
		case <-reading:
		}
	}()
	ping, look := time.NewTicker(pingEvery), time.NewTicker(lookEvery)
	defer ping.Stop()
	defer look.Stop()
	for {
		for m := s.next(); m != nil && ctx.Err() == nil; m = s.next() {
			if c.write(opText, m) != nil {
				return
			}
		}
		select {
		case <-ctx.Done():
			c.close(closeGoingAway, "the node is going away")
			return
		case <-s.ended:
			c.close(s.code, s.reason)
			return
		case <-taken:
			c.close(closePolicy, "another connection has taken this tail")
			return
		case <-ping.C:
			if c.write(opPing, nil) != nil {
				return
			}
		case <-look.C:
		case <-s.wake:
		}
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// read answers pings and the peer's close frame. Messages of the peer mean nothing here: wrangler says
// whether it debugs.
func (c *socket) read() {
	for {
		if !c.deadline() {
			return
		}
		op, payload, err := c.wire.read()
		var end *closeError
		if errors.As(err, &end) {
			code, reason := end.code, end.reason
			if end.byPeer {
				reason = ""
			}
			c.close(code, reason)
		}
		if err != nil {
			return
		}
		if op == opPing && c.write(opPong, payload) != nil {
			return
		}
	}
}

// deadline gives the peer time to say something, unless we have said good-bye.
func (c *socket) deadline() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return true // the deadline of the farewell holds
	}
	return c.conn.SetReadDeadline(time.Now().Add(silence)) == nil
}

// finish leaves the reader a moment for what the peer still has to say.
func (c *socket) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	_ = c.conn.SetReadDeadline(time.Now().Add(farewell)) // fails only on a closed connection
}

// errClosed is what is written after the close frame.
var errClosed = errors.New("websocket is closed")

func (c *socket) write(op byte, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.closed = op == opClose
	patience := writeTime
	if c.closed {
		patience = farewell
	}
	if err := c.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := c.conn.Write(appendFrame(make([]byte, 0, len(payload)+10), op, payload))
	return err
}

func (c *socket) close(code int, reason string) { _ = c.write(opClose, closePayload(code, reason)) }
