package cache

import (
	"context"
	"strings"

	"selvage/edge"
	"selvage/product/cache/semantics"
	"selvage/product/cache/storage"
)

// The values of CF-Cache-Status.
const (
	statusHit         = "HIT"         // fresh, from the cache
	statusMiss        = "MISS"        // from the origin
	statusExpired     = "EXPIRED"     // from the origin, for what is stored was too old
	statusRevalidated = "REVALIDATED" // from the cache, after the origin said it is still good
	statusStale       = "STALE"       // from the cache, too old, for the origin failed
	statusUpdating    = "UPDATING"    // from the cache, too old, while the origin is asked
	statusBypass      = "BYPASS"      // from the origin: not to be cached, by rule, request or response
	statusDynamic     = "DYNAMIC"     // from the origin: nothing said that it may be cached
)

// farRange is up to which offset a range that is not stored is cut out of a fetch of the whole.
// Ranges further on are asked of the origin as they are: nobody should wait for a gigabyte to
// arrive to see its end, nor be able to make an origin send one for a few octets.
const farRange = 1 << 20

// handle is a request's way through the cache.
func (c *Cache) handle(ctx context.Context, ex *edge.Exchange, next edge.Handler) error {
	if ex.Zone == nil {
		return next(ctx, ex)
	}
	z := c.zones.Load().byID.Get(ex.Zone.Zone.ID)
	if z == nil {
		return next(ctx, ex)
	}
	q := &request{c: c, ex: ex, next: next, zone: z, plan: z.plan(ex)}
	p := &q.plan
	if !semantics.Safe(ex.Request.Method) {
		return q.unsafe(ctx)
	}
	switch {
	case !p.eligible && !p.decided || ex.Request.Method != "GET" && ex.Request.Method != "HEAD":
		return q.pass(ctx, statusDynamic, "")
	case !p.eligible:
		return q.pass(ctx, statusBypass, "rule")
	}
	if why := unfit(&ex.Request); why != "" {
		return q.pass(ctx, statusBypass, why)
	}
	q.key = p.key.key(ex)
	return q.serve(ctx)
}

// unfit returns why a request cannot be answered from a cache, whatever is stored: it changes
// protocols, has a body that might matter, or preconditions that only an origin can judge.
func unfit(r *edge.Request) string {
	switch {
	case r.Upgrade != "":
		return "upgrade"
	case r.Body != nil:
		return "body"
	case r.Header.Has("If-Match") || r.Header.Has("If-Unmodified-Since"):
		return "precondition"
	}
	return ""
}

// request is one request on its way through the cache.
type request struct {
	c    *Cache
	ex   *edge.Exchange
	next edge.Handler
	zone *zone
	plan plan
	key  storage.Key
}

// maxTurns is how often a request looks again after what it waited for turned out not to be for
// it; then it asks the origin itself.
const maxTurns = 3

// serve answers from what is stored, or from what the origin says to this request or to another
// one that asks for the same.
func (q *request) serve(ctx context.Context) error {
	for range maxTurns {
		o := q.c.store.Lookup(q.key, &q.ex.Request.Header)
		if o == nil {
			if done, err := q.fetch(ctx, nil); done {
				return err
			}
			continue
		}
		age := o.Age(q.c.now())
		switch o.Verdict.StateAt(age) {
		case semantics.Fresh:
			if q.respondStored(o, statusHit, semantics.Status{Hit: true, TTL: o.Verdict.Lifetime - age}) {
				return nil
			}
			continue
		case semantics.Revalidating:
			if q.respondStored(o, statusUpdating, semantics.Status{Hit: true, TTL: o.Verdict.Lifetime - age, Detail: "updating"}) {
				q.revalidate(ctx, o)
				return nil
			}
			continue
		}
		if done, err := q.fetch(ctx, o); done {
			return err
		}
	}
	return q.direct(ctx)
}

// fetch gets the response from the origin, together with whoever asks for the same; stale is what
// is stored and has to be validated, nil if nothing is. done is false if the response turned out
// not to be for this request: look again.
func (q *request) fetch(ctx context.Context, stale *storage.Object) (done bool, err error) {
	r := &q.ex.Request
	if cc := r.Header.Get("Cache-Control"); strings.Contains(strings.ToLower(cc), "only-if-cached") && semantics.ParseCacheControl(&r.Header, "Cache-Control").OnlyIfCached {
		return true, &edge.Failure{Status: 504, Reason: "only_if_cached", Detail: "The request asks for a stored response only (only-if-cached), and there is none that is fresh."}
	}
	if stale == nil && (q.c.hopeless.has(q.key, q.c.now()) || r.Header.Has("Range") && !near(r.Header.Get("Range"))) {
		return true, q.direct(ctx)
	}
	f, leads := q.join(ctx, stale)
	if f == nil {
		return false, nil
	}
	if !f.wait(ctx, leads, q.c.options.LockTimeout) {
		f.alight()
		if ctx.Err() != nil {
			return true, &edge.Failure{Status: 499, Reason: "client_gone", Detail: "The client closed the connection.", Cause: context.Cause(ctx)}
		}
		q.c.metrics.waits.WithLabelValues("timeout").Inc()
		return true, q.direct(ctx)
	}
	return q.arrive(ctx, f, leads, stale)
}

// near tells whether a Range begins early enough to be cut out of a fetch of the whole.
func near(v string) bool {
	specs, ok := semantics.ParseRange(v)
	if !ok {
		return true // it will be ignored
	}
	for _, s := range specs {
		if s.Suffix >= 0 || s.First > farRange {
			return false
		}
	}
	return true
}

// arrive answers from a flight that has landed. stale is what this request found stored.
func (q *request) arrive(ctx context.Context, f *flight, leads bool, stale *storage.Object) (done bool, err error) {
	res := &f.result
	body := res.reader
	if !leads && res.meta != nil && semantics.Selects(res.meta.Vary, res.meta.Selected, &q.ex.Request.Header) {
		body, err = f.fill.NewReader(ctx, f.readerClosed)
	}
	f.alight()
	if leads {
		q.note(&res.note)
	}
	st := semantics.Status{Fwd: f.reason(), FwdStatus: res.status, Collapsed: !leads}
	switch {
	case res.err != nil:
		if stale != nil && stale.Verdict.UsableDisconnected(stale.Age(q.c.now())) && q.respondStored(stale, statusStale, st) {
			return true, nil
		}
		return true, res.err
	case res.object != nil:
		if !semantics.Selects(res.object.Vary, res.object.Selected, &q.ex.Request.Header) {
			return false, nil
		}
		return q.respondStored(res.object, res.label, st), nil
	case res.meta != nil && err != nil:
		return true, q.direct(ctx)
	case res.meta != nil && (leads || body != res.reader):
		st.Stored = true
		q.respondFill(res.meta, body, res.length, res.label, st)
		return true, nil
	case res.meta != nil:
		return false, nil
	case leads:
		st.Detail = res.why
		q.respondOwn(ctx, f, st)
		return true, nil
	}
	// The response was for the other request alone. So many ask that they are let through in turn.
	if !f.enter(ctx, q.c.options.LockTimeout) {
		q.c.metrics.waits.WithLabelValues("refused").Inc()
		return true, &edge.Failure{Status: 503, Reason: "origin_crowded", Detail: "Too many requests for the same uncacheable page wait for the origin. Try again in a moment."}
	}
	defer f.leave()
	return true, q.direct(ctx)
}

// direct asks the origin for this request alone; nothing is stored.
func (q *request) direct(ctx context.Context) error {
	asked := q.c.now()
	if err := q.next(ctx, q.ex); err != nil {
		return err
	}
	res := &q.ex.Response
	v := semantics.Judge(semantics.Exchange{Authorized: q.ex.Request.Header.Has("Authorization"), Status: res.Status, Header: &res.Header, Got: asked}, q.plan.policy)
	status, why := statusMiss, v.Why
	switch {
	case v.Store:
		q.c.hopeless.clear(q.key)
		why = ""
	case bypasses(why, &q.plan):
		status = statusBypass
	}
	reason := "uri-miss"
	if res.Status == 206 {
		reason, why = "partial", ""
	}
	q.label(status, semantics.Status{Fwd: reason, FwdStatus: res.Status, Detail: why})
	q.finish(&res.Header)
	return nil
}

// bypasses tells whether a response that is not stored was refused by its own word.
func bypasses(why string, p *plan) bool {
	switch why {
	case "no-store", "private", "no-cache", "authorization", "rule", "must-understand":
		return true
	case "set-cookie":
		return !p.everything
	}
	return false
}

// pass hands the request on without looking at what is stored.
func (q *request) pass(ctx context.Context, status, why string) error {
	if err := q.next(ctx, q.ex); err != nil {
		return err
	}
	q.label(status, semantics.Status{Fwd: "bypass", FwdStatus: q.ex.Response.Status, Detail: why})
	hide(&q.ex.Response.Header)
	return nil
}

// unsafe hands on a request that changes something; when it succeeds, what is stored of its URL
// and of those that the response names is forgotten (RFC 9111, 4.4).
func (q *request) unsafe(ctx context.Context) error {
	if err := q.pass(ctx, statusDynamic, "method"); err != nil {
		return err
	}
	res := &q.ex.Response
	if res.Status < 200 || res.Status > 399 {
		return nil
	}
	q.invalidate(q.ex.Request.URI())
	for _, name := range [...]string{"Location", "Content-Location"} {
		if v := res.Header.Get(name); v != "" {
			if uri, ok := semantics.SameOrigin(&q.ex.Request, v); ok {
				q.invalidate(uri)
			}
		}
	}
	return nil
}

// invalidate forgets what is stored under the key that a plain GET of uri has, and what is on its
// way there.
func (q *request) invalidate(uri string) {
	r := q.ex.Request
	r.Method, r.Header = "GET", edge.Header{}
	r.Path, r.Query, _ = strings.Cut(uri, "?")
	probe := &edge.Exchange{Request: r, Zone: q.ex.Zone, Target: q.ex.Target, Client: q.ex.Client, Start: q.ex.Start, TLS: q.ex.TLS, Country: q.ex.Country}
	p := q.zone.plan(probe)
	if !p.eligible {
		return
	}
	key := p.key.key(probe)
	q.c.abandon(key)
	q.c.store.RemoveKey(key)
}
