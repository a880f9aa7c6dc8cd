package edge

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// LoopName is how Selvage calls itself in CDN-Loop (RFC 8586).
const LoopName = "selvage"

// Looped tells whether a request has been at the node called id before: then an origin points back
// at the edge.
func Looped(h *Header, id string) bool {
	for _, f := range h.Fields() {
		if !strings.EqualFold(f.Name, "CDN-Loop") {
			continue
		}
		for part := range strings.SplitSeq(f.Value, ",") {
			if strings.TrimSpace(part) == id {
				return true
			}
		}
	}
	return false
}

// request makes the request for the origin: the client's as it came, and what the edge knows.
func (o *Origins) request(ctx context.Context, a *attempt) *http.Request {
	q := &a.ex.Request
	r := (&http.Request{
		Method: q.Method, Host: hostField(a.ex), URL: &url.URL{Scheme: "http", Host: a.lane.key()},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header, q.Header.Len()+10),
	}).WithContext(ctx)
	if a.lane.secure {
		r.URL.Scheme = "https"
	}
	putTarget(r.URL, q)
	putHeader(r.Header, &q.Header, nil)
	if _, ok := r.Header["User-Agent"]; !ok {
		r.Header["User-Agent"] = nil // otherwise net/http would name itself
	}
	o.addOwnFields(r.Header, a.ex)
	if q.Upgrade != "" {
		r.Header["Connection"] = []string{"Upgrade"}
		r.Header["Upgrade"] = []string{q.Upgrade}
	} else if hasToken(q.Header.Values("Te"), "trailers") {
		r.Header["Te"] = []string{"trailers"}
	}
	if a.body != nil {
		a.body.attach(r, a)
	}
	return r
}

// hostField is the Host as the client sent it, unless a rule said otherwise. The port is left out
// where it is the scheme's own.
func hostField(ex *Exchange) string {
	q := &ex.Request
	if ex.Target.Host != "" {
		return ex.Target.Host
	}
	host := q.Host
	if strings.IndexByte(host, ':') >= 0 {
		host = "[" + host + "]"
	}
	if q.Port == "" {
		return host
	}
	return host + ":" + q.Port
}

// putTarget sets path and query so that they go out byte for byte as they came in.
func putTarget(u *url.URL, q *Request) {
	u.RawQuery = q.Query
	if !strings.HasPrefix(q.Path, "//") {
		u.Opaque = q.Path
		return
	}
	// An opaque part with two slashes would be taken for an authority. Percent-encoding is normalised
	// on this way, where the path has bytes that should have been encoded.
	if path, err := url.PathUnescape(q.Path); err == nil {
		u.Path, u.RawPath = path, q.Path
		return
	}
	u.Path = q.Path
}

// addOwnFields adds what the edge tells origins. Fields of the same name from clients were dropped
// when the request came in.
func (o *Origins) addOwnFields(h http.Header, ex *Exchange) {
	client := ex.Client.Addr().String()
	visitor := `{"scheme":"http"}`
	if ex.Request.Scheme == "https" {
		visitor = `{"scheme":"https"}`
	}
	values := [...]string{client, ex.ID + "-" + o.o.PoP, visitor, ex.Request.Scheme, client, o.o.LoopID}
	h["CF-Connecting-IP"] = values[0:1:1]
	h["CF-Ray"] = values[1:2:2]
	h["CF-Visitor"] = values[2:3:3]
	h["X-Forwarded-Proto"] = values[3:4:4]
	if before := h["X-Forwarded-For"]; len(before) > 0 {
		values[4] = strings.Join(before, ", ") + ", " + client
	}
	h["X-Forwarded-For"] = values[4:5:5]
	if before := h["Cdn-Loop"]; len(before) > 0 {
		values[5] = strings.Join(before, ", ") + ", " + o.o.LoopID
	}
	h["Cdn-Loop"] = values[5:6:6]
}

// maxReplay is how much of a request body is remembered, so that the request can be sent again when
// a kept connection turns out to be dead before anything was written to it.
const maxReplay = 16 << 10

var errBodyGone = errors.New("request body cannot be sent again")

// originBody is a request body on its way to an origin. The transport reads it from goroutines of
// its own, which may outlive the exchange, and may read it again from the start.
type originBody struct {
	length  int64
	body    io.Reader
	trailer func() Header

	reading sync.Mutex // held while the client is waited for

	mu   sync.Mutex // guards the fields below
	kept []byte     // what was read so far
	lost bool       // more was read than is kept
	err  error      // of the client's body, io.EOF at its end
}

func newOriginBody(q *Request) *originBody {
	return &originBody{length: q.Length, body: q.Body, trailer: q.Trailer}
}

// touched tells whether anything was read that is not kept.
func (b *originBody) touched() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost
}

// failed returns why the client's body ended early, nil if it did not.
func (b *originBody) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == io.EOF {
		return nil
	}
	return b.err
}

// attach makes b the body of r.
func (b *originBody) attach(r *http.Request, a *attempt) {
	if b.trailer != nil {
		announced := b.trailer()
		r.Trailer = make(http.Header, announced.Len())
		for _, f := range announced.Fields() {
			r.Trailer[f.Name] = nil
		}
	}
	trailer := r.Trailer
	r.ContentLength = b.length
	r.Body = &bodyReader{b: b, a: a, trailer: trailer}
	r.GetBody = func() (io.ReadCloser, error) {
		if b.touched() {
			return nil, errBodyGone
		}
		return &bodyReader{b: b, a: a, trailer: trailer}, nil
	}
}

// bodyReader reads an originBody once from its start.
type bodyReader struct {
	b       *originBody
	a       *attempt
	trailer http.Header
	at      int // in b.kept
}

// Read reads what is kept, then what comes.
func (r *bodyReader) Read(p []byte) (int, error) {
	r.b.reading.Lock()
	defer r.b.reading.Unlock()
	if n, err, ok := r.again(p); ok {
		return n, err
	}
	r.a.waitForClient()
	n, err := r.b.body.Read(p)
	r.a.waitForOrigin()
	r.at += n
	r.b.keep(p[:n], err)
	if err == io.EOF {
		r.finish()
	}
	return n, err
}

// again reads what was read before; ok is false where that ends.
func (r *bodyReader) again(p []byte) (n int, err error, ok bool) {
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.lost && r.at < len(b.kept) {
		n = copy(p, b.kept[r.at:])
		r.at += n
		return n, nil, true
	}
	if b.err == io.EOF {
		r.finish()
	}
	return 0, b.err, b.err != nil
}

// finish fills in the trailers that net/http sends after the end.
func (r *bodyReader) finish() {
	if r.trailer == nil {
		return
	}
	h := r.b.trailer()
	clear(r.trailer)
	for _, f := range h.Fields() {
		if f.Value != "" && !hopByHop(f.Name) {
			r.trailer.Add(f.Name, f.Value)
		}
	}
}

func (b *originBody) keep(p []byte, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
	if b.lost {
		return
	}
	if len(b.kept)+len(p) > maxReplay {
		b.kept, b.lost = nil, true
		return
	}
	b.kept = append(b.kept, p...)
}

// Close does nothing: the body belongs to the server.
func (r *bodyReader) Close() error { return nil }
