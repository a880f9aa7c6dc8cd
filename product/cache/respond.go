package cache

import (
	"context"
	"crypto/rand"
	"io"
	"strconv"
	"strings"
	"time"

	"selvage/edge"
	"selvage/product/cache/semantics"
	"selvage/product/cache/storage"
)

// respondStored answers from a stored response; false if its body has gone: look again.
func (q *request) respondStored(o *storage.Object, label string, st semantics.Status) bool {
	s := q.shape(&o.Header, o.Status, o.Length, true)
	h := q.head(o.Meta, &s)
	if !s.body {
		q.ex.Respond(s.status, h, nil)
		q.ex.Response.Length = s.length
	} else if body, held := o.Bytes(); held && s.parts == nil {
		q.ex.Respond(s.status, h, body[s.span.First:s.span.First+s.span.Length])
	} else {
		r, err := q.open(o, &s, &h)
		if err != nil {
			q.c.store.Remove(o)
			return false
		}
		q.ex.Response.Close()
		q.ex.Response = edge.Response{Status: s.status, Header: h, Length: s.length, Body: r}
	}
	q.label(label, st)
	return true
}

// open returns a body read from o's file, or one of several parts.
func (q *request) open(o *storage.Object, s *shape, h *edge.Header) (io.ReadCloser, error) {
	if s.parts == nil {
		return o.Open(s.span)
	}
	m := newMultipart(o, s.parts, h.Get("Content-Type"))
	if err := m.first(); err != nil {
		return nil, err
	}
	h.Set("Content-Type", "multipart/byteranges; boundary="+m.boundary)
	s.length = m.length()
	return m, nil
}

// respondFill answers from a response that is still coming.
func (q *request) respondFill(m *storage.Meta, body *storage.Reader, length int64, label string, st semantics.Status) {
	s := q.shape(&m.Header, m.Status, length, false)
	h := q.head(m, &s)
	q.ex.Response.Close()
	q.ex.Response = edge.Response{Status: s.status, Header: h, Length: s.length}
	if s.body {
		if s.status == 206 {
			body.Limit(s.span)
		}
		q.ex.Response.Body = body
	} else {
		body.Close()
	}
	q.label(label, st)
}

// respondOwn answers the leader of a flight with a response that is not stored.
func (q *request) respondOwn(ctx context.Context, f *flight, st semantics.Status) {
	res := f.result.own
	s := q.shape(&res.Header, res.Status, res.Length, false)
	lease := &leased{ReadCloser: res.Body, f: f, stop: context.AfterFunc(ctx, func() { f.cancel(context.Cause(ctx)) })}
	res.Body = lease
	if lease.ReadCloser == nil || !s.body {
		lease.Close()
		res.Body = nil
	}
	s.apply(&res.Header)
	if s.body && s.status == 206 {
		res.Body = &cut{ReadCloser: lease, skip: s.span.First, left: s.span.Length}
		res.Trailer = nil
	}
	res.Status, res.Length = s.status, s.length
	q.ex.Response.Close()
	q.ex.Response = res
	q.finish(&q.ex.Response.Header)
	q.label(f.result.label, st)
}

// leased is the body of a flight's response, in the hands of its leader.
type leased struct {
	io.ReadCloser
	f    *flight
	stop func() bool
}

// Close ends the fetch.
func (l *leased) Close() error {
	var err error
	if l.ReadCloser != nil {
		err = l.ReadCloser.Close()
	}
	l.stop()
	l.f.cancel(errDone)
	return err
}

// cut is a part of a body.
type cut struct {
	io.ReadCloser
	skip, left int64
}

// Read reads the part only.
func (c *cut) Read(p []byte) (int, error) {
	if c.skip > 0 {
		n, err := io.CopyN(io.Discard, c.ReadCloser, c.skip)
		c.skip -= n
		if err != nil {
			return 0, io.ErrUnexpectedEOF
		}
	}
	if c.left == 0 {
		return 0, io.EOF
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// shape is the form that a response takes for one request.
type shape struct {
	status int
	body   bool
	span   semantics.Span   // of the body, if it is one
	parts  []semantics.Span // of the body, if they are several
	length int64            // of what is sent, -1 unknown
	total  int64            // of the body, -1 unknown
}

// shape says how a stored response of this status and length answers the request: whole, in part,
// or as a 304 (RFC 9110, 13.2.2). many allows several parts.
func (q *request) shape(h *edge.Header, status int, length int64, many bool) shape {
	r := &q.ex.Request
	s := shape{status: status, length: length, total: length, span: semantics.Span{Length: length}}
	s.body = r.Method != "HEAD" && status != 204 && status != 304
	if status != 200 {
		return s
	}
	if semantics.NotModified(&r.Header, h) {
		s.status, s.body, s.length = 304, false, -1
		return s
	}
	v := r.Header.Get("Range")
	if v == "" || r.Method != "GET" || length < 0 || !semantics.RangeApplies(&r.Header, h) {
		return s
	}
	specs, ok := semantics.ParseRange(v)
	if !ok {
		return s
	}
	spans, ok := semantics.Resolve(specs, length)
	switch {
	case !ok || len(spans) > 1 && !many:
	case len(spans) == 0:
		s.status, s.body, s.length = 416, false, 0
	case len(spans) > 1:
		s.status, s.parts = 206, spans
	default:
		s.status, s.span, s.length = 206, spans[0], spans[0].Length
	}
	return s
}

// apply puts the fields that the shape asks for into h.
func (s *shape) apply(h *edge.Header) {
	switch {
	case s.status == 304:
		for _, name := range [...]string{"Content-Type", "Content-Encoding", "Content-Language", "Content-Range"} {
			h.Del(name)
		}
	case s.status == 416:
		h.Del("Content-Encoding")
		h.Set("Content-Range", "bytes */"+strconv.FormatInt(s.total, 10))
	case s.status == 206 && s.parts == nil:
		h.Set("Content-Range", contentRange(s.span, s.total))
	}
}

func contentRange(p semantics.Span, total int64) string {
	return "bytes " + strconv.FormatInt(p.First, 10) + "-" + strconv.FormatInt(p.First+p.Length-1, 10) + "/" + strconv.FormatInt(total, 10)
}

// head returns a stored header as this request gets it.
func (q *request) head(m *storage.Meta, s *shape) edge.Header {
	var h edge.Header
	h.Grow(m.Header.Len() + 4)
	for _, f := range m.Header.Fields() {
		if !hidden(f.Name) {
			h.Add(f.Name, f.Value)
		}
	}
	// Not for the first-hand response that the origin has just made.
	if age := q.c.now().Sub(m.Born) / time.Second; age > 0 || q.ex.Note.OriginStatus == 0 {
		h.Add("Age", strconv.FormatInt(int64(max(age, 0)), 10))
	}
	s.apply(&h)
	q.tellBrowser(&h, s.status)
	return h
}

// hidden tells whether a field of the origin is for the cache alone.
func hidden(name string) bool {
	return len(name) == 9 && strings.EqualFold(name, "Cache-Tag") || len(name) == 28 && strings.EqualFold(name, semantics.TargetedFields[0])
}

func hide(h *edge.Header) {
	for _, name := range [...]string{"Cache-Tag", semantics.TargetedFields[0]} {
		if h.Has(name) {
			h.Del(name)
		}
	}
}

// finish makes the header of a response that was not stored fit for the client.
func (q *request) finish(h *edge.Header) {
	hide(h)
	q.tellBrowser(h, q.ex.Response.Status)
}

// tellBrowser changes what clients are told about how long to keep the response.
func (q *request) tellBrowser(h *edge.Header, status int) {
	b := q.plan.browser
	switch {
	case b.mode == browserBypass:
		b.ttl = 0
		h.Set("Cache-Control", "no-store")
		h.Del("Expires")
		return
	case b.mode == browserOverride:
	case b.mode == browserRespect || q.zone.browserTTL == 0:
		return
	default:
		b.ttl = q.zone.browserTTL
		// As at Cloudflare, the zone's setting only ever lengthens what the origin says, and says
		// nothing where the origin forbids.
		d := semantics.ParseCacheControl(h, "Cache-Control")
		if d.NoStore || d.NoCache || d.Private || d.MaxAge.Set && d.MaxAge.Duration() >= b.ttl {
			return
		}
	}
	if status < 400 {
		h.Set("Cache-Control", "max-age="+strconv.Itoa(int(b.ttl/time.Second)))
		h.Del("Expires")
	}
}

// label says what the cache did: to the client, the log and the metrics.
func (q *request) label(status string, st semantics.Status) {
	h := &q.ex.Response.Header
	h.Set("CF-Cache-Status", status)
	h.Add("Cache-Status", st.String())
	q.ex.Note.CacheStatus = status
	q.c.metrics.count(status)
}

// note takes over what the flight's exchange learned about the origin.
func (q *request) note(n *edge.Note) {
	to := &q.ex.Note
	to.OriginAddr, to.OriginStatus, to.OriginDuration, to.OriginReused = n.OriginAddr, n.OriginStatus, n.OriginDuration, n.OriginReused
	to.Broken = append(to.Broken, n.Broken...)
}

// multipart is a body of several parts (RFC 9110, 14.6), opened one after the other.
type multipart struct {
	o        *storage.Object
	spans    []semantics.Span
	boundary string
	heads    []string // before each part, and one at the end
	at       int      // the part being read; its head was read if body is not nil
	head     string   // what is left of a head
	body     io.ReadCloser
}

func newMultipart(o *storage.Object, spans []semantics.Span, contentType string) *multipart {
	m := &multipart{o: o, spans: spans, boundary: rand.Text()}
	for i, s := range spans {
		h := "--" + m.boundary + "\r\n"
		if i > 0 {
			h = "\r\n" + h
		}
		if contentType != "" {
			h += "Content-Type: " + contentType + "\r\n"
		}
		m.heads = append(m.heads, h+"Content-Range: "+contentRange(s, o.Length)+"\r\n\r\n")
	}
	m.heads = append(m.heads, "\r\n--"+m.boundary+"--\r\n")
	m.head = m.heads[0]
	return m
}

func (m *multipart) length() int64 {
	var n int64
	for _, h := range m.heads {
		n += int64(len(h))
	}
	for _, s := range m.spans {
		n += s.Length
	}
	return n
}

// first opens the first part, so that a file that has gone is noticed in time.
func (m *multipart) first() (err error) {
	m.body, err = m.part(0)
	return err
}

func (m *multipart) part(i int) (io.ReadCloser, error) {
	s := m.spans[i]
	if b, held := m.o.Bytes(); held {
		return io.NopCloser(strings.NewReader(string(b[s.First : s.First+s.Length]))), nil
	}
	return m.o.Open(s)
}

// Read reads heads and parts in turn.
func (m *multipart) Read(p []byte) (int, error) {
	for {
		if m.head != "" {
			n := copy(p, m.head)
			m.head = m.head[n:]
			return n, nil
		}
		if m.at == len(m.spans) {
			return 0, io.EOF
		}
		if m.body == nil {
			var err error
			if m.body, err = m.part(m.at); err != nil {
				return 0, err
			}
		}
		n, err := m.body.Read(p)
		if err == io.EOF {
			m.body.Close()
			m.body = nil
			m.at++
			m.head = m.heads[m.at]
			err = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Close closes the part being read.
func (m *multipart) Close() error {
	if m.body == nil {
		return nil
	}
	return m.body.Close()
}
