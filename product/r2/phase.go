package r2

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"selvage/edge"
	"selvage/foundation/fault"
	"selvage/product/r2/store"
	"selvage/spec"
)

// Phase returns the phase that is the origin of public buckets. It stands behind the cache.
func (p *R2) Phase() edge.Phase { return edge.Phase{Name: "r2", Handle: p.handle} }

// handle answers for the bucket that is public at the request's host, or passes it on.
func (p *R2) handle(ctx context.Context, ex *edge.Exchange, next edge.Handler) error {
	at, ok := p.current.Load().public(ex)
	if !ok {
		return next(ctx, ex)
	}
	q := &ex.Request
	if q.Body != nil {
		// What is sent to a bucket by its public name is read no further.
		q.Body, q.Length = nil, 0
	}
	ex.Note.OriginAddr = "r2:" + at.bucket.Name
	own := func(ctx context.Context, ex *edge.Exchange) error { return p.serve(ctx, ex, at) }
	var err error
	if hands := p.o.Hands; hands != nil {
		err = hands.Public(ctx, ex, PublicName{ex.Zone.Zone.AccountID, ex.Zone.Zone.ID, q.Host}, own)
	} else {
		err = own(ctx, ex)
	}
	ex.Note.OriginStatus = ex.Response.Status
	return err
}

// PublicName is where a bucket may be public.
type PublicName struct{ Account, Zone, Host string }

// AnswerPublic answers a request at a public name that came to another process.
func (p *R2) AnswerPublic(ctx context.Context, ex *edge.Exchange, n PublicName) error {
	at, ok := p.current.Load().place(n)
	if !ok {
		notFound(ex)
		return nil
	}
	return p.serve(ctx, ex, at)
}

func (p *R2) serve(ctx context.Context, ex *edge.Exchange, at place) error {
	p.metrics.operation("public", strings.ToLower(ex.Request.Method))
	switch {
	case !at.enabled:
		page(ex, http.StatusNotFound, "This bucket is not public here", "Its owner switched this host name off.")
		return nil
	case ex.Request.Method == http.MethodOptions:
		preflight(ex, at.bucket)
		return nil
	case ex.Request.Method != http.MethodGet && ex.Request.Method != http.MethodHead:
		page(ex, http.StatusMethodNotAllowed, "Objects can only be read here", "To write use the S3 API, a Worker or wrangler.")
		ex.Response.Header.Add("Allow", "GET, HEAD, OPTIONS")
		return nil
	}
	key, err := url.PathUnescape(strings.TrimPrefix(ex.Request.Path, "/"))
	if err != nil || key == "" || len(key) > store.MaxKey || !utf8.ValidString(key) {
		notFound(ex)
		return nil
	}
	return p.give(ctx, ex, at.bucket, key)
}

// give answers with an object.
func (p *R2) give(ctx context.Context, ex *edge.Exchange, b *spec.Bucket, key string) error {
	do, h := p.on(b), &ex.Request.Header
	o := store.GetOptions{If: conditionOf(h), Range: rangeOf(h, func() (*store.Object, error) { return do.Head(ctx, key) })}
	r, err := do.Get(ctx, key, o)
	switch store.CodeOf(err) {
	case store.CodeNoSuchKey:
		notFound(ex)
		return nil
	case store.CodeInvalidRange:
		return p.unsatisfiable(ctx, ex, do, key)
	case store.CodeSSEC:
		page(ex, http.StatusForbidden, "This object is encrypted", "It is encrypted with a key of its owner's and cannot be read by a public name.")
		return nil
	}
	if err != nil {
		return p.failure(ctx, err)
	}
	ex.Response.Close()
	ex.Response = edge.Response{Status: http.StatusOK, Length: r.Range.Length, Body: r.Body}
	out := &ex.Response.Header
	out.Grow(12)
	describe(r.Object, out.Add)
	if r.Object.HTTP.ContentType == "" {
		out.Add("Content-Type", "application/octet-stream")
	}
	allowOrigin(ex, b, ex.Request.Method)
	if r.Body == nil {
		ex.Response.Status, ex.Response.Length = http.StatusNotModified, -1
		if r.Failed == store.Precondition {
			page(ex, http.StatusPreconditionFailed, "The object changed", "It is not the one that the request names.")
		}
		return nil
	}
	if o.Range != nil {
		ex.Response.Status = http.StatusPartialContent
		out.Add("Content-Range", contentRange(r.Range, r.Object.Size))
	}
	if ex.Request.Method == http.MethodHead {
		ex.Response.Body.Close()
		ex.Response.Body = nil
	}
	return nil
}

func (p *R2) unsatisfiable(ctx context.Context, ex *edge.Exchange, do *bucket, key string) error {
	o, err := do.Head(ctx, key)
	if err != nil {
		notFound(ex)
		return nil
	}
	ex.Respond(http.StatusRequestedRangeNotSatisfiable, edge.NewHeader("Content-Range", "bytes */"+strconv.FormatInt(o.Size, 10)), nil)
	return nil
}

// failure makes an error page of what kept an object from being read.
func (p *R2) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.metrics.failed(err)
	if fault.KindOf(err) == fault.Unavailable {
		return &edge.Failure{Status: http.StatusServiceUnavailable, Reason: "r2_unavailable", Detail: "The objects of this site cannot be read at the moment. Try again.", Cause: err}
	}
	return &edge.Failure{Status: http.StatusInternalServerError, Reason: "r2_failed", Detail: "The object could not be read.", Cause: err}
}

func notFound(ex *edge.Exchange) {
	page(ex, http.StatusNotFound, "Object not found", "There is no object at this address, or it is not public.")
}

// page answers with a page for people.
func page(ex *edge.Exchange, status int, title, text string) {
	body := "<!doctype html><html lang=en><meta charset=utf-8><title>" + title + "</title><h1>" + title + "</h1><p>" + text + "\n"
	ex.Respond(status, edge.NewHeader("Content-Type", "text/html; charset=utf-8", "X-Content-Type-Options", "nosniff"), []byte(body))
	if ex.Request.Method == http.MethodHead && ex.Response.Body != nil {
		ex.Response.Body.Close()
		ex.Response.Body = nil
	}
}

// ruleFor returns the first rule that lets the request's origin send method with these headers.
func ruleFor(b *spec.Bucket, origin, method string, headers []string) *spec.CORSRule {
	for i := range b.CORS {
		if b.CORS[i].Matches(origin, method, headers) {
			return &b.CORS[i]
		}
	}
	return nil
}

// allowOrigin tells a browser whether the page that asks may read the answer.
func allowOrigin(ex *edge.Exchange, b *spec.Bucket, method string) {
	if len(b.CORS) == 0 {
		return
	}
	out := &ex.Response.Header
	out.Add("Vary", "Origin")
	origin := ex.Request.Header.Get("Origin")
	if origin == "" {
		return
	}
	if r := ruleFor(b, origin, method, nil); r != nil {
		addOrigin(out, r, origin)
		if len(r.ExposeHeaders) > 0 {
			out.Add("Access-Control-Expose-Headers", strings.Join(r.ExposeHeaders, ", "))
		}
	}
}

func addOrigin(out *edge.Header, r *spec.CORSRule, origin string) {
	if r.AnyOrigin() {
		out.Add("Access-Control-Allow-Origin", "*")
		return
	}
	out.Add("Access-Control-Allow-Origin", origin)
}

// preflight answers a browser that asks whether a page may send a request.
func preflight(ex *edge.Exchange, b *spec.Bucket) {
	h := &ex.Request.Header
	origin, method := h.Get("Origin"), h.Get("Access-Control-Request-Method")
	var headers []string
	for part := range strings.SplitSeq(h.Joined("Access-Control-Request-Headers"), ",") {
		if part = strings.ToLower(strings.TrimSpace(part)); part != "" {
			headers = append(headers, part)
		}
	}
	r := ruleFor(b, origin, method, headers)
	if r == nil {
		page(ex, http.StatusForbidden, "Not allowed", "The CORS rules of this bucket do not allow this request.")
		ex.Response.Header.Add("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
		return
	}
	out := edge.NewHeader("Access-Control-Allow-Methods", strings.Join(r.Allowed.Methods, ", "), "Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
	addOrigin(&out, r, origin)
	if len(headers) > 0 {
		out.Add("Access-Control-Allow-Headers", strings.Join(headers, ", "))
	}
	if r.MaxAgeSeconds > 0 {
		out.Add("Access-Control-Max-Age", strconv.Itoa(r.MaxAgeSeconds))
	}
	ex.Respond(http.StatusNoContent, out, nil)
}
