// Package socket is the server at the unix sockets that the children of engine/isolate reach the
// node through. Their runtime speaks HTTP/1.1 as to a proxy: whole URLs, no Host field, CONNECT for
// what is no HTTP. net/http's server refuses the second and edge.Server the third, and neither an
// access log nor a Ray that the script sees is wanted, so it has a loop of its own; parsing is
// net/http's. Requests become exchanges, as everywhere.
package socket

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"selvage/edge"
)

// Server serves one capability to one child. Fill it in before Serve.
type Server struct {
	Name string       // of the capability, for logs
	Log  *slog.Logger // has to be given
	PoP  string       // name of this place, for error pages

	// CFField carries request.cf as JSON, ProtoField the scheme of requests that do not name the
	// whole URL. Neither is passed on.
	CFField, ProtoField string

	// Handle answers a request. ctx ends when the child hangs up or Serve's ends.
	Handle edge.Handler
	// Refuse answers what Handle failed with, in a form that the client at the other end makes an
	// exception of; nil writes an error page, as edge.RespondFailure does.
	Refuse func(ex *edge.Exchange, f *edge.Failure)
	// Connect answers CONNECT to a target such as "db.example.com:5432" with the other end, or with
	// an error that becomes the answer; nil refuses all.
	Connect func(ctx context.Context, target string) (*Other, error)
}

// Bounds of what a child may hold open or make us wait for.
const (
	maxConnections = 1024
	maxHead        = 256 << 10
	headTime       = 10 * time.Second
	idleTime       = 5 * time.Minute // the runtime closes after some seconds
	pauseTime      = time.Minute     // in a body, either way
	tunnelIdle     = 30 * time.Minute
	maxDrain       = 256 << 10 // of a body that nobody wanted
)

// Serve answers on l until ctx ends, then closes l and what is open and waits for it.
func (s *Server) Serve(ctx context.Context, l net.Listener) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	slots := make(chan struct{}, maxConnections) // more wait in the listener's queue
	var open sync.WaitGroup
	defer open.Wait()
	defer cancel()
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				s.Log.Error("child's socket broke", "capability", s.Name, "error", err)
			}
			return
		}
		open.Go(func() {
			defer func() { <-slots }()
			cv := newConversation(s, c)
			defer context.AfterFunc(ctx, func() { c.Close() })()
			defer c.Close()
			for cv.next(ctx) {
			}
		})
	}
}

// conversation is one connection of a child and the request that it is at.
type conversation struct {
	s     *Server
	conn  net.Conn
	limit io.LimitedReader
	in    *bufio.Reader
	out   *bufio.Writer
	ex    edge.Exchange
	gone  chan struct{} // has an element when the watch over the connection has ended
	ready bool          // the next request's first octet has come

	cfField, protoField string // of s, in net/http's form

	writeUntil time.Time   // the deadline that writes have
	switched   atomic.Bool // to another protocol: the watch's end means nothing
}

func newConversation(s *Server, c net.Conn) *conversation {
	cv := &conversation{s: s, conn: c, limit: io.LimitedReader{R: c}, gone: make(chan struct{}, 1)}
	cv.cfField, cv.protoField = http.CanonicalHeaderKey(s.CFField), http.CanonicalHeaderKey(s.ProtoField)
	cv.in = bufio.NewReaderSize(&cv.limit, 4<<10)
	cv.out = bufio.NewWriterSize(c, 16<<10)
	return cv
}

// next serves one request; false if it was the connection's last.
func (cv *conversation) next(ctx context.Context) bool {
	if !cv.ready {
		cv.limit.N = maxHead
		cv.conn.SetReadDeadline(time.Now().Add(idleTime))
		if _, err := cv.in.Peek(1); err != nil {
			return false
		}
	}
	cv.ready = false
	cv.limit.N = maxHead
	cv.conn.SetReadDeadline(time.Now().Add(headTime))
	r, err := http.ReadRequest(cv.in)
	if err != nil {
		cv.refuse(err)
		return false
	}
	cv.conn.SetReadDeadline(time.Time{})
	cv.limit.N = 1<<63 - 1
	if r.Method == http.MethodConnect {
		cv.tunnelTo(ctx, r.Host)
		return false
	}
	return cv.exchange(ctx, r)
}

// refuse answers what is no request.
func (cv *conversation) refuse(err error) {
	status := "400 Bad Request"
	if cv.limit.N <= 0 {
		status = "431 Request Header Fields Too Large"
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() || err == io.EOF {
		return
	}
	cv.allowWrite()
	io.WriteString(cv.conn, "HTTP/1.1 "+status+"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
}

// exchange has the handler answer r and sends that.
func (cv *conversation) exchange(ctx context.Context, r *http.Request) (again bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ex := &cv.ex
	*ex = edge.Exchange{ID: newRay(), Start: time.Now(), Inform: ignore, Request: edge.Request{Header: ex.Request.Header}}
	ex.Request.Header.Reset()
	if !cv.accept(r) {
		cv.refuse(errTarget)
		return false
	}
	body := cv.body(r, cancel)
	if body == nil {
		cv.watch(cancel)
	}
	if blob := r.Header[cv.cfField]; len(blob) == 1 {
		ctx = context.WithValue(ctx, blobKey{}, blob[0])
	}
	if err := cv.s.call(ctx, ex); err != nil {
		cv.s.refuse(ex, failureOf(err))
	}
	if ex.Response.Tunnel != nil {
		cv.switchProtocols(ctx, body)
		return false
	}
	whole := cv.send()
	ex.Response.Close()
	if body != nil && !body.finish() || !whole {
		cancel()
		cv.conn.SetReadDeadline(time.Unix(1, 0))
		if body == nil || body.whole {
			<-cv.gone
		}
		return false
	}
	// The watch that noticed a hang-up waits for the next request now.
	cv.conn.SetReadDeadline(time.Now().Add(idleTime))
	<-cv.gone
	cv.ready = cv.in.Buffered() > 0
	return cv.ready
}

var errTarget = errors.New("the request target is not an http URL")

type blobKey struct{}

// CF returns the cf object that came with the request of a handler's context, as JSON; "" if none
// did.
func CF(ctx context.Context) string {
	blob, _ := ctx.Value(blobKey{}).(string)
	return blob
}

func ignore(int, *edge.Header) {}

// call runs the handler; a panic in it becomes an error.
func (s *Server) call(ctx context.Context, ex *edge.Exchange) (err error) {
	defer func() {
		if p := recover(); p != nil {
			ex.Response.Close()
			ex.Response = edge.Response{}
			s.Log.Error("capability panicked", "capability", s.Name, "panic", p)
			err = edge.ErrBroken
		}
	}()
	if err := s.Handle(ctx, ex); err != nil {
		ex.Response.Close()
		ex.Response = edge.Response{}
		return err
	}
	if ex.Response.Status < 200 && ex.Response.Tunnel == nil || ex.Response.Status > 999 {
		ex.Response.Close()
		return errors.New("no response, or one that cannot be sent")
	}
	return nil
}

func (s *Server) refuse(ex *edge.Exchange, f *edge.Failure) {
	if s.Refuse != nil {
		s.Refuse(ex, f)
		return
	}
	edge.RespondFailure(ex, f, s.PoP)
}

// failureOf finds or makes the Failure for an error.
func failureOf(err error) *edge.Failure {
	var f *edge.Failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, context.DeadlineExceeded):
		return &edge.Failure{Status: http.StatusGatewayTimeout, Reason: "timeout", Detail: "The request took too long."}
	}
	return &edge.Failure{Status: http.StatusInternalServerError, Reason: "internal", Detail: "Something broke here, not at the site."}
}

// accept fills in the exchange's request; false if the target is not a URL that can be fetched.
func (cv *conversation) accept(r *http.Request) bool {
	q := &cv.ex.Request
	q.Method, q.Proto = r.Method, "HTTP/1.1"
	if r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.Method == http.MethodTrace {
		return false
	}
	target := r.RequestURI
	if q.Scheme = r.URL.Scheme; r.URL.Host != "" {
		if q.Scheme != "http" && q.Scheme != "https" || r.URL.User != nil {
			return false
		}
		target = afterAuthority(target)
	} else if q.Scheme = "http"; r.Header.Get(cv.s.ProtoField) == "https" {
		q.Scheme = "https"
	}
	var ok bool
	if q.Host, q.Port, ok = edge.ParseAuthority(r.Host); !ok || target == "" || target[0] != '/' || strings.ContainsFunc(target, unprintable) {
		return false
	}
	q.Path, q.Query, _ = strings.Cut(target, "?")
	cv.acceptFields(r)
	return true
}

func unprintable(c rune) bool { return c <= ' ' || c == '#' || c == 0x7f }

// afterAuthority returns path and query of an absolute URL as they came.
func afterAuthority(target string) string {
	_, rest, _ := strings.Cut(target, "://")
	i := strings.IndexAny(rest, "/?")
	if i < 0 {
		return "/"
	}
	if rest[i] == '?' {
		return "/" + rest[i:]
	}
	return rest[i:]
}

// acceptFields takes the header over, without what concerns this connection only.
func (cv *conversation) acceptFields(r *http.Request) {
	q := &cv.ex.Request
	q.Header.Grow(len(r.Header) + 4)
	for name, values := range r.Header {
		if name == cv.cfField || name == cv.protoField || ofConnection(name) {
			continue
		}
		for _, v := range values {
			q.Header.Add(name, v)
		}
	}
	if up := r.Header["Upgrade"]; len(up) == 1 && strings.EqualFold(up[0], "websocket") && r.Method == http.MethodGet {
		q.Upgrade = "websocket"
	}
}

// ofConnection tells whether a field, in net/http's form of its name, is not to be passed on.
func ofConnection(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Host", "Content-Length":
		return true
	}
	return false
}

// watch notices when the child hangs up: nothing comes on the connection until it has its answer.
func (cv *conversation) watch(hangUp context.CancelFunc) {
	go func() {
		if _, err := cv.in.Peek(1); err != nil && !cv.switched.Load() {
			hangUp()
		}
		cv.gone <- struct{}{}
	}()
}

// requestBody is the body of a request. Whoever sends it on may still hold it when the request is
// over: then it fails.
type requestBody struct {
	cv     *conversation
	hangUp context.CancelFunc
	body   io.Reader

	mu    sync.Mutex // guards the fields below; held while reading
	over  bool
	whole bool // its end was reached, and the watch began
}

// body sets body and length; nil if there is none.
func (cv *conversation) body(r *http.Request, hangUp context.CancelFunc) *requestBody {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	b := &requestBody{cv: cv, hangUp: hangUp, body: r.Body}
	cv.ex.Request.Length, cv.ex.Request.Body = r.ContentLength, b
	return b
}

// Read reads the next piece, waiting no longer than pauseTime.
func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.read(p)
}

func (b *requestBody) read(p []byte) (int, error) {
	if b.whole {
		return 0, io.EOF
	}
	b.cv.conn.SetReadDeadline(time.Now().Add(pauseTime))
	n, err := b.body.Read(p)
	if err == io.EOF {
		b.cv.conn.SetReadDeadline(time.Time{})
		b.whole = true
		b.cv.watch(b.hangUp)
	} else if err != nil {
		b.hangUp()
	}
	return n, err
}

// finish takes the body away from whoever still reads it; false if the next request cannot be
// found behind it.
func (b *requestBody) finish() bool {
	if !b.mu.TryLock() {
		b.cv.conn.SetReadDeadline(time.Unix(1, 0))
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	b.over = true
	buf := buffers.Get().(*[copySize]byte)
	defer buffers.Put(buf)
	for left := maxDrain; !b.whole && left > 0; {
		n, err := b.read(buf[:])
		left -= n
		if err != nil && err != io.EOF {
			return false
		}
	}
	return b.whole
}
