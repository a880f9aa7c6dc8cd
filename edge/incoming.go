package edge

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// conversation is one request on net/http's server turned into an Exchange (this file), and the
// response on its way back (response.go). Besides server.go nothing else here knows net/http's server.
// Conversations are pooled: nothing may hold on to one after serveHTTP.
type conversation struct {
	ex      Exchange
	s       *Server
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController
	dog     watchdog
	sent    int64 // bytes of the response's body
	body    *clientBody
	ray     string
	values  []string // of the response's fields; net/http copies them
	buf     []byte   // for copying; like values kept between requests

	mu    sync.Mutex // guards final, and w's header until final is set
	final bool       // the final response began: no more 1xx

	writing sync.Mutex // guards pending, and w while the body is copied
	pending bool       // something was written and not flushed
	early   *time.Timer
}

var conversations = sync.Pool{New: func() any {
	cv := &conversation{}
	cv.ex.Inform = cv.inform
	cv.dog.bite = cv.bite
	return cv
}}

// serveHTTP is one request from the first byte to the log.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	cv := conversations.Get().(*conversation)
	cv.begin(s, w, r)
	defer cv.release()
	err := cv.accept()
	if err == nil {
		err = s.call(r.Context(), &cv.ex)
	}
	if err != nil {
		cv.fail(err)
	}
	err = cv.send()
	s.observeRequest(cv, err)
	if err != nil {
		cv.ex.Response.Close()
		// Cuts the connection or resets the stream: a response that broke off must never look whole.
		panic(http.ErrAbortHandler)
	}
}

// call runs the handler; a panic in it (the phases have their own net) becomes an error.
func (s *Server) call(ctx context.Context, ex *Exchange) (err error) {
	defer func() {
		if p := recover(); p != nil {
			ex.Response.Close()
			ex.Response = Response{}
			s.log.Error("request handler panicked", "ray", ex.ID, "panic", p)
			err = ErrBroken
		}
	}()
	if err := s.handler(ctx, ex); err != nil {
		return err
	}
	if status := ex.Response.Status; status < 200 && ex.Response.Tunnel == nil || status > 999 {
		ex.Response.Close()
		return fmt.Errorf("no phase gave a response, or one that cannot be sent: status %d", status)
	}
	return nil
}

func (cv *conversation) begin(s *Server, w http.ResponseWriter, r *http.Request) {
	cv.s, cv.w, cv.r = s, w, r
	cv.control = http.NewResponseController(w)
	cv.ray = newRay(s.pop)
	cv.ex.ID = cv.ray[:rayDigits]
	cv.ex.Start = time.Now()
	if info, ok := r.Context().Value(connInfoKey{}).(*connInfo); ok {
		cv.ex.Client = info.client
		if info.secure {
			info.once.Do(func() { info.tls = convertTLS(r) })
			cv.ex.TLS = info.tls
		}
	}
	s.metrics.active.Inc()
}

// release empties the conversation and puts it back. Runs also when serveHTTP panics.
func (cv *conversation) release() {
	cv.s.metrics.active.Dec()
	if cv.body != nil {
		cv.body.detach()
	}
	cv.dog.Stop()
	cv.settle()
	header := cv.ex.Request.Header
	header.Reset()
	cv.ex = Exchange{Inform: cv.ex.Inform, Request: Request{Header: header}}
	cv.mu.Lock()
	cv.s, cv.w, cv.r, cv.control, cv.body = nil, nil, nil, nil, nil
	cv.sent, cv.final = 0, false
	clear(cv.values)
	cv.mu.Unlock()
	conversations.Put(cv)
}

const rayDigits = 16

// newRay returns 16 hex digits, a hyphen and the name of this place. Not a secret: it has to be
// unique, not unguessable.
func newRay(pop string) string {
	text := make([]byte, rayDigits, rayDigits+1+len(pop))
	var raw [rayDigits / 2]byte
	binary.BigEndian.PutUint64(raw[:], rand.Uint64())
	hex.Encode(text, raw[:])
	return string(append(append(text, '-'), pop...))
}

func convertTLS(r *http.Request) *TLS {
	if r.TLS == nil {
		return nil
	}
	return &TLS{
		Version: r.TLS.Version, Cipher: r.TLS.CipherSuite, ServerName: strings.ToLower(r.TLS.ServerName),
		ALPN: r.TLS.NegotiatedProtocol, Resumed: r.TLS.DidResume,
	}
}

// accept fills in ex.Request, or says why the request is refused. net/http has checked the syntax
// of the head; what is refused here could be read in two ways by two programs.
func (cv *conversation) accept() error {
	r, q := cv.r, &cv.ex.Request
	q.Method, q.Proto, q.Scheme = r.Method, proto(r), "http"
	if cv.ex.TLS != nil {
		q.Scheme = "https"
	}
	host, port, ok := ParseAuthority(r.Host)
	if !ok {
		return refuse(http.StatusBadRequest, "bad_host", "The Host field of the request is not a host name.")
	}
	q.Host, q.Port = host, port
	if err := cv.acceptTarget(); err != nil {
		return err
	}
	if field, ok := r.Header["Host"]; ok && (len(field) != 1 || field[0] != r.Host) { // HTTP/2 may have both
		return refuse(http.StatusBadRequest, "authority_mismatch", "Host and :authority of the request name different hosts.")
	}
	q.Upgrade = upgradeOf(r)
	convertHeader(&q.Header, r.Header, spoofed)
	cv.acceptBody()
	return nil
}

// acceptTarget takes path and query as they came on the request line.
func (cv *conversation) acceptTarget() error {
	r, q := cv.r, &cv.ex.Request
	switch r.Method {
	case http.MethodConnect, http.MethodTrace:
		return refuse(http.StatusMethodNotAllowed, "bad_method", "This method is not for proxies to pass on.")
	}
	if r.ProtoMajor == 2 && !httpguts.ValidHeaderFieldName(r.Method) { // both are tokens; in HTTP/1 net/http checks it
		return refuse(http.StatusBadRequest, "bad_method", "The method of the request is not a token.")
	}
	target := r.RequestURI
	if r.URL.Host != "" && r.ProtoMajor == 1 { // absolute-form: the authority in it stands for Host (RFC 9112, 3.2.2)
		if r.URL.User != nil || r.URL.Scheme != "http" && r.URL.Scheme != "https" {
			return refuse(http.StatusBadRequest, "bad_target", "The request target has user information or is not an http URL.")
		}
		target = afterAuthority(target)
	}
	if target == "*" && r.Method != http.MethodOptions || target == "" || target[0] != '/' && target != "*" || strings.ContainsFunc(target, splitsTarget) {
		return refuse(http.StatusBadRequest, "bad_target", "The request target is not a path.")
	}
	q.Path, q.Query, _ = strings.Cut(target, "?")
	return nil
}

// splitsTarget tells what ends a path for somebody: HTTP/2 can carry a space, which on an origin's
// HTTP/1.1 request line would begin the version.
func splitsTarget(c rune) bool { return c <= ' ' || c == '#' || c == 0x7f }

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

// upgradeOf returns "websocket" if the client asks for it. Other upgrades are not passed on: h2c
// would carry requests past every phase.
func upgradeOf(r *http.Request) string {
	if r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.Method != http.MethodGet || r.ContentLength != 0 {
		return ""
	}
	if !hasToken(r.Header["Connection"], "upgrade") {
		return ""
	}
	if v := r.Header["Upgrade"]; len(v) == 1 && strings.EqualFold(v[0], "websocket") {
		return "websocket"
	}
	return ""
}

func proto(r *http.Request) string {
	switch {
	case r.ProtoMajor == 2:
		return "HTTP/2"
	case r.ProtoMinor == 0:
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}

// acceptBody sets length, body and trailers.
func (cv *conversation) acceptBody() {
	r, q := cv.r, &cv.ex.Request
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return
	}
	q.Length = r.ContentLength
	cv.body = &clientBody{open: true, body: r.Body, idle: cv.s.limits.BodyIdle, control: cv.control}
	cv.body.dog.bite = cv.body.stop
	q.Body = cv.body
	if len(r.Trailer) > 0 {
		q.Trailer = func() Header {
			var h Header
			convertHeader(&h, r.Trailer, nil)
			for name, values := range r.Trailer {
				if len(values) == 0 {
					h.Add(name, "") // announced, and not here yet
				}
			}
			return h
		}
	}
	if r.ProtoMajor == 1 {
		// Lets the origin answer while the client still sends; without it net/http would first read
		// what is left of the body.
		cv.control.EnableFullDuplex()
	}
}

// bite ends a wait for the client to accept a response.
func (cv *conversation) bite() {
	cv.control.SetWriteDeadline(time.Unix(1, 0))
}

// inform sends a 1xx response at once.
func (cv *conversation) inform(status int, h *Header) {
	cv.mu.Lock()
	defer cv.mu.Unlock()
	if cv.final || cv.r == nil || !cv.r.ProtoAtLeast(1, 1) || status < 102 || status > 199 {
		return
	}
	out := cv.w.Header()
	for _, f := range h.Fields() {
		if !hopByHop(f.Name) {
			out.Add(f.Name, f.Value)
		}
	}
	cv.w.WriteHeader(status)
	clear(out)
}

// clientBody reads a request body with a limit on pauses. Whoever sends to the origin may still
// hold it when the exchange is over: then it fails.
type clientBody struct {
	body  io.ReadCloser
	idle  time.Duration
	n     atomic.Int64 // read so far
	whole atomic.Bool  // its end was reached

	control *http.ResponseController

	dog watchdog

	mu   sync.Mutex // guards open; held while reading
	open bool
}

// Read reads the next piece, waiting no longer than the limit.
func (b *clientBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return 0, http.ErrBodyReadAfterClose
	}
	b.dog.Arm(b.idle)
	n, err := b.body.Read(p)
	b.dog.Disarm()
	b.n.Add(int64(n))
	if err == io.EOF {
		b.whole.Store(true)
	}
	return n, err
}

// stop makes a read that waits fail.
func (b *clientBody) stop() { b.control.SetReadDeadline(time.Unix(1, 0)) }

// bodyLinger is how long net/http may go on reading a body that nobody wanted. A connection that is
// closed with bytes unread can take the response with it.
const bodyLinger = 2 * time.Second

// detach makes further reads fail and ends one that still waits.
func (b *clientBody) detach() {
	if !b.mu.TryLock() {
		b.stop()
		b.mu.Lock()
	}
	b.open = false
	b.mu.Unlock()
	b.dog.Stop()
	if !b.whole.Load() {
		b.control.SetReadDeadline(time.Now().Add(bodyLinger))
	}
}

// mustClose tells whether an HTTP/1 connection cannot be used for another request: where the next
// one begins is only sure after the end of a well-formed body. HTTP/1.0 knows no chunked bodies, but
// a client that sends one means something else by it than we do. So may one that sends a length
// beside the chunks; net/http does not tell, so every chunked request is its connection's last
// (RFC 9112, 6.1).
func (cv *conversation) mustClose() bool {
	if cv.s.draining.Load() {
		return true
	}
	r := cv.r
	return r.ProtoMajor == 1 && (r.ProtoMinor == 0 || len(r.TransferEncoding) > 0 || cv.body != nil && !cv.body.whole.Load())
}

// hopByHop tells whether a field concerns only one connection (RFC 9110, 7.6.1), or frames the
// message, which every hop does anew.
func hopByHop(name string) bool {
	switch len(name) {
	case 2:
		return strings.EqualFold(name, "Te")
	case 4:
		return strings.EqualFold(name, "Host")
	case 7:
		return strings.EqualFold(name, "Trailer") || strings.EqualFold(name, "Upgrade")
	case 10:
		return strings.EqualFold(name, "Connection") || strings.EqualFold(name, "Keep-Alive")
	case 14:
		return strings.EqualFold(name, "Content-Length") || strings.EqualFold(name, "Http2-Settings")
	case 16:
		return strings.EqualFold(name, "Proxy-Connection")
	case 17:
		return strings.EqualFold(name, "Transfer-Encoding")
	case 19:
		return strings.EqualFold(name, "Proxy-Authorization")
	case 18:
		return strings.EqualFold(name, "Proxy-Authenticate")
	}
	return false
}

// spoofed tells whether a field of a request is one that only the edge may set. Clients may send
// the CF-Access ones that carry their own credentials. Underscores count as hyphens: in the variables
// of CGI and WSGI both are the same, and a client's CF_Connecting_IP would pass for the edge's.
func spoofed(name string) bool {
	if strings.IndexByte(name, '_') >= 0 {
		name = strings.ReplaceAll(name, "_", "-")
		if strings.EqualFold(name, "X-Forwarded-For") || strings.EqualFold(name, "X-Forwarded-Proto") || strings.EqualFold(name, "Cdn-Loop") {
			return true // with hyphens these are taken over or replaced
		}
	}
	if len(name) > 3 && strings.EqualFold(name[:3], "Cf-") {
		return !strings.EqualFold(name, "Cf-Access-Client-Id") && !strings.EqualFold(name, "Cf-Access-Client-Secret") && !strings.EqualFold(name, "Cf-Access-Token")
	}
	return strings.EqualFold(name, "True-Client-Ip")
}

// convertHeader appends what is for the next one in line: not the fields of this connection, not
// those that Connection names, not those that drop (may be nil) tells. "TE: trailers" stays, for gRPC.
func convertHeader(h *Header, from map[string][]string, drop func(name string) bool) {
	named := from["Connection"]
	for name, values := range from {
		switch {
		case hopByHop(name):
			if name == "Te" && hasToken(values, "trailers") {
				h.Add("Te", "trailers")
			}
			continue
		case drop != nil && drop(name), len(named) > 0 && hasToken(named, name):
			continue
		}
		for _, v := range values {
			h.Add(name, v)
		}
	}
}

// hasToken tells whether one of the comma-separated lists has token, ignoring case.
func hasToken(lists []string, token string) bool {
	for _, list := range lists {
		for part := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// refuse returns a Failure for a request that is wrong in itself.
func refuse(status int, reason, detail string) error {
	return &Failure{Status: status, Reason: reason, Detail: detail}
}
