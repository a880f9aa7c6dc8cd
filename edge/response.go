package edge

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const copySize = 32 << 10

// send gives ex.Response to the client. An error means that the response is not whole.
func (cv *conversation) send() error {
	res := &cv.ex.Response
	if res.Tunnel != nil {
		return cv.tunnel()
	}
	defer res.Close()
	cv.writeHead()
	if res.Body == nil || cv.r.Method == http.MethodHead || !mayHaveBody(res.Status) {
		return nil
	}
	if err := cv.copyBody(); err != nil {
		return err
	}
	if res.Trailer == nil {
		return nil
	}
	h := res.Trailer()
	if h.Len() > 0 && cv.r.ProtoMajor == 1 {
		// A short body that net/http still holds would go out with a length, and after one of those
		// HTTP/1 has no place for trailers.
		if err := cv.flush(); err != nil {
			return err
		}
	}
	cv.settle()
	for _, f := range h.Fields() {
		if !hopByHop(f.Name) {
			cv.w.Header().Add(http.TrailerPrefix+f.Name, f.Value)
		}
	}
	return nil
}

// settle ends the flushing in the background: from here on net/http's writer is this goroutine's.
func (cv *conversation) settle() {
	cv.writing.Lock()
	cv.pending = false
	if cv.early != nil {
		cv.early.Stop()
	}
	cv.writing.Unlock()
}

func mayHaveBody(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// writeHead sends status line and header fields, or hands them to net/http to send with the body.
func (cv *conversation) writeHead() {
	cv.mu.Lock()
	cv.final = true
	cv.mu.Unlock()
	res := &cv.ex.Response
	out := cv.w.Header()
	// Without these two net/http would guess a type from the body. Date it rightly adds.
	out["Content-Type"] = nil
	cv.values = putHeader(out, &res.Header, append(cv.values[:0], cv.ray, ""))
	out["Server"], out["CF-Ray"] = serverName, cv.values[0:1:1]
	// Trailers need a chunked body in HTTP/1, whatever an HTTP/2 origin said of its length.
	trailers := res.Trailer != nil && cv.r.ProtoMajor == 1 && cv.r.Method != http.MethodHead
	if res.Length >= 0 && !trailers && (res.Length > 0 || res.Status != http.StatusNotModified && cv.r.Method != http.MethodHead) && res.Status != http.StatusNoContent {
		cv.values[1] = strconv.FormatInt(res.Length, 10)
		out["Content-Length"] = cv.values[1:2:2]
	}
	if cv.mustClose() {
		out["Connection"] = closing
	}
	if cv.r.ProtoMajor == 1 && res.Body == nil {
		cv.allowWrite() // with a body every write does
	}
	cv.w.WriteHeader(res.Status)
	cv.writing.Lock()
	cv.pending = true
	cv.writing.Unlock()
}

var (
	serverName = []string{"selvage"}
	closing    = []string{"close"}
)

// putHeader copies fields into net/http's map; the one-value slices in it are parts of values, which
// it returns grown. Names that begin in lower case are put into the usual form, so that net/http
// recognises the ones it treats specially.
func putHeader(out http.Header, h *Header, values []string) []string {
	fields := h.Fields()
	values = slices.Grow(values, len(fields)) // must not move below: parts of it are in the map
	for _, f := range fields {
		if hopByHop(f.Name) {
			continue
		}
		name := f.Name
		if name != "" && name[0] >= 'a' && name[0] <= 'z' {
			name = http.CanonicalHeaderKey(name)
		}
		if old := out[name]; old != nil {
			out[name] = append(old, f.Value)
			continue
		}
		values = append(values, f.Value)
		out[name] = values[len(values)-1 : len(values) : len(values)]
	}
	return values
}

// allowWrite gives an HTTP/1 client time for the next write. net/http takes the deadline away at
// the end of the request.
func (cv *conversation) allowWrite() {
	cv.control.SetWriteDeadline(time.Now().Add(cv.s.limits.WriteIdle))
}

// copyBody streams the body to the client. A body of unknown length is flushed as it comes: it may
// be a stream of events.
func (cv *conversation) copyBody() error {
	res := &cv.ex.Response
	file, fromFile := res.Body.(fileBacked)
	if fromFile && cv.r.ProtoMajor == 1 && cv.ex.TLS == nil && res.Length > copySize {
		return cv.sendFile(file.File(), res.Length)
	}
	if from, ok := res.Body.(io.WriterTo); ok && !fromFile && res.Length >= 0 {
		return cv.writeFrom(from)
	}
	if cv.buf == nil {
		cv.buf = make([]byte, copySize)
	}
	for {
		cv.flushSoon()
		n, err := res.Body.Read(cv.buf)
		if n > 0 {
			if werr := cv.write(cv.buf[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return cv.whole()
		}
		if err != nil {
			return &originBroke{err}
		}
		if n > 0 && res.Length < 0 {
			if err := cv.flush(); err != nil {
				return err
			}
		}
	}
}

// fileBacked is a body that a plain connection can send without copying it through this process.
// The file stands at the first byte to send.
type fileBacked interface{ File() *os.File }

// piece is how much a slow reader has to take within WriteIdle.
const piece = 256 << 10

// writeFrom lets a body write itself, which saves a copy of what is in memory.
func (cv *conversation) writeFrom(body io.WriterTo) error {
	cv.flushSoon()
	w := bodyWriter{cv: cv}
	if _, err := body.WriteTo(&w); w.err != nil {
		return w.err
	} else if err != nil {
		return &originBroke{err}
	}
	return cv.whole()
}

// bodyWriter writes in pieces and remembers whether it was the client that failed.
type bodyWriter struct {
	cv  *conversation
	err error
}

// Write writes all of p.
func (w *bodyWriter) Write(p []byte) (n int, err error) {
	for n < len(p) && w.err == nil {
		next := p[n:min(n+piece, len(p))]
		if w.err = w.cv.write(next); w.err == nil {
			n += len(next)
		}
	}
	w.cv.flushSoon()
	return n, w.err
}

// sendFile lets the kernel copy, in pieces small enough for a slow reader to take in time.
func (cv *conversation) sendFile(f *os.File, length int64) error {
	to, ok := cv.w.(io.ReaderFrom)
	if !ok {
		return errors.New("response writer cannot send files")
	}
	for sent := int64(0); sent < length; {
		cv.allowWrite()
		n, err := to.ReadFrom(&io.LimitedReader{R: f, N: min(piece, length-sent)})
		sent += n
		cv.sent += n
		if err != nil {
			return err
		}
		if n == 0 {
			return &originBroke{io.ErrUnexpectedEOF}
		}
	}
	return nil
}

// whole reports a body that ended before its length was reached.
func (cv *conversation) whole() error {
	if want := cv.ex.Response.Length; want >= 0 && cv.sent < want {
		return &originBroke{io.ErrUnexpectedEOF}
	}
	return nil
}

// originBroke is a response body that broke off, as opposed to a client that went away.
type originBroke struct{ cause error }

// Error returns the cause.
func (e *originBroke) Error() string { return "response body broke off: " + e.cause.Error() }

// Unwrap returns the cause.
func (e *originBroke) Unwrap() error { return e.cause }

// headPatience is how long what was written may wait for more of the body before it is sent.
const headPatience = 5 * time.Millisecond

// flushSoon sends the head, and what net/http holds back of the body, if the next piece is long in
// coming: a client may be waiting for the head alone.
func (cv *conversation) flushSoon() {
	cv.writing.Lock()
	defer cv.writing.Unlock()
	if !cv.pending {
		return
	}
	if cv.early == nil {
		cv.early = time.AfterFunc(headPatience, cv.flushPending)
		return
	}
	cv.early.Reset(headPatience)
}

// flushPending runs on the timer, maybe late, when the conversation is over or another.
func (cv *conversation) flushPending() {
	cv.writing.Lock()
	defer cv.writing.Unlock()
	if cv.pending {
		cv.pending = false
		cv.guard()
		cv.control.Flush() // an error shows again at the next write
		cv.dog.Disarm()
	}
}

func (cv *conversation) write(p []byte) error {
	cv.writing.Lock()
	defer cv.writing.Unlock()
	cv.guard()
	n, err := cv.w.Write(p)
	cv.dog.Disarm()
	cv.sent += int64(n)
	cv.pending = true
	return err
}

func (cv *conversation) flush() error {
	cv.writing.Lock()
	defer cv.writing.Unlock()
	cv.guard()
	err := cv.control.Flush()
	cv.dog.Disarm()
	cv.pending = false
	return err
}

// guard bounds the next write. HTTP/1 has the socket's deadline; an HTTP/2 stream waits for its
// window, and a deadline on the stream would also end one that has nothing to send.
func (cv *conversation) guard() {
	if cv.r.ProtoMajor == 1 {
		cv.allowWrite()
		return
	}
	cv.dog.Arm(cv.s.limits.WriteIdle)
}

// tunnel sends the 101 head and then copies both ways until either side ends.
func (cv *conversation) tunnel() error {
	res := &cv.ex.Response
	cv.mu.Lock()
	cv.final = true
	cv.mu.Unlock()
	client, rw, err := cv.control.Hijack()
	if err != nil {
		res.Close()
		return err
	}
	head := strings.Builder{}
	head.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + cv.ex.Request.Upgrade + "\r\n")
	res.Header.Set("Server", "selvage")
	res.Header.Set("CF-Ray", cv.ray)
	for _, f := range res.Header.Fields() {
		if !hopByHop(f.Name) && !strings.ContainsAny(f.Name+f.Value, "\r\n") {
			head.WriteString(f.Name + ": " + f.Value + "\r\n")
		}
	}
	head.WriteString("\r\n")
	client.SetDeadline(time.Now().Add(cv.s.limits.WriteIdle))
	t := &tunnel{client: client, origin: res.Tunnel}
	res.Tunnel = nil
	cv.s.addTunnel(t)
	defer cv.s.dropTunnel(t)
	if _, err := io.WriteString(client, head.String()); err != nil {
		t.Close()
		return nil
	}
	client.SetDeadline(time.Time{})
	// What the client sent right behind the request waits in the reader; it goes first.
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	cv.sent = t.run(early, cv.s.limits.TunnelIdle)
	return nil
}

// tunnel is a connection that speaks another protocol now.
type tunnel struct {
	client net.Conn
	origin io.ReadWriteCloser
	once   sync.Once
}

// Close ends both sides.
func (t *tunnel) Close() {
	t.once.Do(func() {
		t.client.Close()
		t.origin.Close()
	})
}

// run copies until one side ends or both are silent for idle; it returns the bytes sent to the
// client.
func (t *tunnel) run(early []byte, idle time.Duration) int64 {
	quiet := &watchdog{bite: t.Close}
	quiet.Arm(idle)
	defer quiet.Stop()
	defer t.Close()
	var up sync.WaitGroup
	up.Go(func() {
		defer t.Close()
		if _, err := t.origin.Write(early); err == nil {
			pump(t.origin, t.client, quiet, idle)
		}
	})
	n := pump(t.client, t.origin, quiet, idle)
	t.Close()
	up.Wait()
	return n
}

// pump copies and pushes the watchdog's deadline forward with every piece.
func pump(to io.Writer, from io.Reader, quiet *watchdog, idle time.Duration) (total int64) {
	buf := buffers.Get().(*[copySize]byte)
	defer buffers.Put(buf)
	for {
		n, err := from.Read(buf[:])
		if n > 0 {
			quiet.Arm(idle)
			m, werr := to.Write(buf[:n])
			total += int64(m)
			if werr != nil {
				return total
			}
		}
		if err != nil {
			return total
		}
	}
}

var buffers = sync.Pool{New: func() any { return new([copySize]byte) }}

func (s *Server) addTunnel(t *tunnel) {
	s.mu.Lock()
	s.tunnels[t] = struct{}{}
	s.tunnelled.Add(1)
	s.mu.Unlock()
}

func (s *Server) dropTunnel(t *tunnel) {
	s.mu.Lock()
	delete(s.tunnels, t)
	s.mu.Unlock()
	s.tunnelled.Done()
}
