package socket

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"selvage/edge"
)

// Other is the far end of a connection that is no HTTP. Who serves the child closes it.
type Other struct {
	io.ReadWriteCloser
	// Early is what to write to it first, such as a head that belongs to what comes.
	Early string
	// Silent says that it answers the CONNECT by itself.
	Silent bool
	// Idle is how long it may be silent both ways; 0 for ever.
	Idle time.Duration
}

// tunnelTo joins the child's connection with the far end that connect finds.
func (cv *conversation) tunnelTo(ctx context.Context, target string) {
	to, err := cv.far(ctx, target)
	cv.allowWrite()
	if err != nil {
		f := failureOf(err)
		edge.RespondFailure(&cv.ex, f, cv.s.PoP)
		cv.send()
		cv.ex.Response.Close()
		return
	}
	defer to.Close()
	if !to.Silent {
		if _, err := io.WriteString(cv.conn, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
			return
		}
	}
	cv.conn.SetWriteDeadline(time.Time{})
	cv.join(ctx, to)
}

// far finds the far end, and gives up when the child does.
func (cv *conversation) far(ctx context.Context, target string) (*Other, error) {
	cv.ex = edge.Exchange{ID: newRay(), Start: time.Now(), Inform: ignore, Request: edge.Request{Method: http.MethodConnect}}
	if cv.s.Connect == nil {
		return nil, &edge.Failure{Status: http.StatusMethodNotAllowed, Reason: "bad_method", Detail: "There is nothing to connect to here."}
	}
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	return cv.s.Connect(ctx, target)
}

const connectTime = 30 * time.Second

// switchProtocols sends the 101 head and then joins both sides.
func (cv *conversation) switchProtocols(ctx context.Context, body *requestBody) {
	res := &cv.ex.Response
	to := &Other{ReadWriteCloser: res.Tunnel, Idle: tunnelIdle}
	res.Tunnel = nil
	defer to.Close()
	if body != nil {
		return
	}
	// The watch holds the reader; what it has read stays there.
	cv.switched.Store(true)
	cv.conn.SetReadDeadline(time.Unix(1, 0))
	<-cv.gone
	cv.conn.SetReadDeadline(time.Time{})
	cv.out.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + cv.ex.Request.Upgrade + "\r\n")
	for _, f := range res.Header.Fields() {
		if !ofConnection(http.CanonicalHeaderKey(f.Name)) {
			writeField(cv.out, f)
		}
	}
	cv.out.WriteString("\r\n")
	cv.allowWrite()
	if cv.out.Flush() != nil {
		return
	}
	cv.conn.SetWriteDeadline(time.Time{})
	cv.join(ctx, to)
}

// join copies both ways until both sides have ended, one has failed, ctx ends or both are silent
// for too long. A side that has ended may still be written to.
func (cv *conversation) join(ctx context.Context, to *Other) {
	cut := sync.OnceFunc(func() { cv.conn.Close(); to.Close() })
	defer cut()
	defer context.AfterFunc(ctx, cut)()
	var moved atomic.Int64
	if to.Idle > 0 {
		defer watchIdle(&moved, to.Idle, cut)()
	}
	var up sync.WaitGroup
	up.Go(func() {
		if to.Early != "" {
			if _, err := io.WriteString(to, to.Early); err != nil {
				cut()
				return
			}
		}
		if pump(to, cv.in, &moved) != nil || closeWrite(to.ReadWriteCloser) != nil {
			cut()
		}
	})
	if pump(cv.conn, to, &moved) != nil || closeWrite(cv.conn) != nil {
		cut()
	}
	up.Wait()
}

// watchIdle calls cut when nothing has moved for a while; call what it returns in the end.
func watchIdle(moved *atomic.Int64, idle time.Duration, cut func()) (stop func()) {
	last := int64(-1)
	var t *time.Timer
	var mu sync.Mutex // guards t and last against the timer's own goroutine
	mu.Lock()
	defer mu.Unlock()
	t = time.AfterFunc(idle/2, func() {
		mu.Lock()
		defer mu.Unlock()
		if now := moved.Load(); now != last {
			last = now
			t.Reset(idle / 2)
			return
		}
		cut()
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		t.Stop()
	}
}

var errNoHalfClose = errors.New("cannot end one direction alone")

// closeWrite ends one direction. Where that is not possible the whole connection has to end.
func closeWrite(c any) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errNoHalfClose
}

// pump copies until from ends, which is no error.
func pump(to io.Writer, from io.Reader, moved *atomic.Int64) error {
	buf := buffers.Get().(*[copySize]byte)
	defer buffers.Put(buf)
	for {
		n, err := from.Read(buf[:])
		if n > 0 {
			moved.Add(1)
			if _, werr := to.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
