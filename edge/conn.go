package edge

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"selvage/foundation/budget"
)

// listener counts and bounds connections. One that is over the limit is closed at once: a queue
// would only let all of them wait.
type listener struct {
	net.Listener
	slots   *budget.Slots
	refused func()
}

// Accept returns the next connection that has a slot.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if !l.slots.Take() {
			l.refused()
			c.Close()
			continue
		}
		free := sync.OnceFunc(l.slots.Free)
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4})
			return &countedTCP{TCPConn: tcp, free: free}, nil
		}
		return &counted{Conn: c, free: free}, nil
	}
}

// countedTCP gives its slot back when closed; all else (sendfile, half close) is TCPConn's.
type countedTCP struct {
	*net.TCPConn
	free func()
}

// Close closes the connection and frees its slot.
func (c *countedTCP) Close() error { c.free(); return c.TCPConn.Close() }

// counted is countedTCP for other kinds of listeners.
type counted struct {
	net.Conn
	free func()
}

// Close closes the connection and frees its slot.
func (c *counted) Close() error { c.free(); return c.Conn.Close() }

// connInfo is what all requests of one client connection share.
type connInfo struct {
	client netip.AddrPort
	secure bool
	once   sync.Once // guards tls: h2 streams start at the same time
	tls    *TLS
}

type connInfoKey struct{}

func newConnInfo(c net.Conn, secure bool) *connInfo {
	info := &connInfo{secure: secure}
	if tcp, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		ap := tcp.AddrPort()
		info.client = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return info
}
