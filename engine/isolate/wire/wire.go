// Package wire is the HTTP/1.1 client that speaks to the children over unix sockets: strict in what
// it reads, streaming both ways at once, and cheap, since every request to a script goes through it.
package wire

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Field is one header field line.
type Field struct{ Name, Value string }

// Request is a request to a script. The URL goes out whole, as to an HTTP proxy.
type Request struct {
	Method string
	Scheme string
	Host   string // with port, if one was named
	Target string // path and query, raw
	Header iter.Seq2[string, string]
	Body   io.Reader // nil if there is none; may be read until the response's body is closed
	Length int64     // of the body; -1 unknown
	CF     []byte    // JSON; nil: none
	// Upgrade is the protocol asked for; empty if none.
	Upgrade string
	// Fresh asks for a new connection.
	Fresh bool
	// Progress, if not nil, shows others how far the request is.
	Progress *Progress
}

// Response is the answer. Whoever got it closes Body, or Tunnel.
type Response struct {
	Status int
	Header []Field // without framing, and without Client.Mark
	Length int64   // -1 unknown; of a HEAD, what a GET would have
	Body   io.ReadCloser
	Tunnel io.ReadWriteCloser // with status 101, instead of Body
	Marked bool               // Client.Mark was there
}

// Client speaks to one socket. Safe for concurrent use.
type Client struct {
	Path     string // of the unix socket
	CFHeader string // field that carries Request.CF; removed from what others wrote
	Mark     string // response field that only normal answers have
	MaxIdle  int    // connections kept; 0 is 64

	mu     sync.Mutex // guards the fields below
	idle   []*conn    // newest last
	closed bool
}

const (
	defaultIdle = 64
	dialTimeout = 5 * time.Second
)

// LostError tells that the connection ended before the response did.
type LostError struct {
	Unread   bool // the other side surely read nothing of the request
	Answered bool // bytes of a response had come
	Reused   bool // the connection had served others before
	Err      error
}

// Error names the cause.
func (e *LostError) Error() string { return "connection to the child lost: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *LostError) Unwrap() error { return e.Err }

// ErrProtocol is wrapped by errors about responses that break the rules of HTTP/1.1.
var ErrProtocol = errors.New("malformed response")

// Progress shows how far a request is. The zero value is ready; safe for concurrent use.
type Progress struct {
	mu   sync.Mutex // held while conn is aborted or given up, so that it is not another's by then
	conn atomic.Pointer[conn]
	last atomic.Int64
}

// LastByte returns when the last bytes came from the child; zero if none have.
func (p *Progress) LastByte() time.Time {
	n := p.last.Load()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// Begun tells whether the request has a connection at the moment.
func (p *Progress) Begun() bool { return p.conn.Load() != nil }

// Abort ends the exchange, if it is under way: Do, or reading the body, fails with a *LostError.
func (p *Progress) Abort() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.conn.Load(); c != nil {
		c.abort()
	}
}

func (p *Progress) leave() {
	p.mu.Lock()
	p.conn.Store(nil)
	p.mu.Unlock()
}

// Unread tells whether bytes that were sent still wait for the child to read them.
func (p *Progress) Unread() bool {
	c := p.conn.Load()
	return c != nil && c.unread()
}

// Do sends r and returns the response once its head is there. The end of ctx ends the whole
// exchange, bodies and tunnel included. Errors other than faults of the request itself and of its
// body are a *LostError or ctx's cause.
func (c *Client) Do(ctx context.Context, r *Request) (*Response, error) {
	cn, err := c.take(ctx, r.Fresh)
	if err != nil {
		return nil, err
	}
	head, err := appendHead(cn.out[:0], r, c.CFHeader)
	cn.out = head[:0]
	if err != nil {
		c.put(cn)
		return nil, err
	}
	cn.ctx, cn.client, cn.answered, cn.progress = ctx, c, false, r.Progress
	if r.Progress != nil {
		r.Progress.last.Store(0)
		r.Progress.conn.Store(cn)
	}
	if ctx.Done() != nil {
		cn.stop = context.AfterFunc(ctx, cn.abort)
	}
	if _, err := cn.c.Write(head); err != nil {
		return nil, cn.lost(err, true)
	}
	if r.Body != nil && r.Length != 0 {
		cn.upload = &upload{done: make(chan struct{})}
		go cn.upload.run(cn, r.Body, r.Length)
	}
	resp, err := cn.response(r.Method, c.Mark)
	if err != nil {
		unread := cn.upload == nil && errors.Is(err, syscall.ECONNRESET)
		return nil, cn.lost(err, unread)
	}
	return resp, nil
}

// Close closes idle connections; those in use are closed when their response is.
func (c *Client) Close() {
	c.mu.Lock()
	idle := c.idle
	c.idle, c.closed = nil, true
	c.mu.Unlock()
	for _, cn := range idle {
		cn.c.Close()
	}
}

// take returns an idle connection that is still open, or a new one.
func (c *Client) take(ctx context.Context, fresh bool) (*conn, error) {
	for !fresh {
		c.mu.Lock()
		n := len(c.idle)
		if n == 0 {
			c.mu.Unlock()
			break
		}
		cn := c.idle[n-1]
		c.idle[n-1] = nil
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		if cn.alive() {
			cn.reused = true
			return cn, nil
		}
		cn.c.Close()
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var d net.Dialer
	raw, err := d.DialContext(ctx, "unix", c.Path)
	if err != nil {
		return nil, &LostError{Unread: true, Err: err}
	}
	return newConn(raw)
}

// put gives a connection back whose response was read to its end.
func (c *Client) put(cn *conn) {
	limit := c.MaxIdle
	if limit == 0 {
		limit = defaultIdle
	}
	c.mu.Lock()
	keep := !c.closed && len(c.idle) < limit
	if keep {
		c.idle = append(c.idle, cn)
	}
	c.mu.Unlock()
	if !keep {
		cn.c.Close()
	}
}
