package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"selvage/edge"
	"selvage/product/cache/semantics"
	"selvage/product/cache/storage"
)

const (
	// orphanBytes is how much may be missing for a fetch that nobody waits for any more to be
	// finished for the cache's sake. More, and asking and hanging up would be a way to make an
	// origin send for nobody.
	orphanBytes = 4 << 20

	// crowd is how many of those that waited for a response that was not for them may wait for the
	// origin at once.
	crowd = 64
)

// errDone cancels a fetch that is complete or that nobody wants any more.
var errDone = errors.New("nobody waits for this fetch")

// flight is one fetch from an origin on behalf of all requests that ask for the same while it is
// under way. It runs on a goroutine of its own: the request that started it, its leader, may go.
type flight struct {
	c       *Cache
	key     storage.Key
	zone    string
	fill    *storage.Fill
	stale   *storage.Object // what it validates; nil if nothing is stored
	ctx     context.Context
	cancel  context.CancelCauseFunc
	landed  chan struct{} // closed when result stands
	result  result        // written before landed is closed
	turns   chan struct{} // of those let through to the origin after a response for the leader alone
	silent  bool          // in the background: nobody waits, and nobody leaving ends it
	private bool          // nobody may join

	mu        sync.Mutex // guards the fields below
	waiting   int        // requests that wait for the head
	leader    context.Context
	inform    func(status int, h *edge.Header) // the leader's, nil once it is gone
	abandoned bool                             // nothing of it may be stored
}

// result is what became of a flight: an error, an object, a fill under meta, or a response that
// only the leader may have.
type result struct {
	err    error
	object *storage.Object
	meta   *storage.Meta
	reader *storage.Reader // the leader's
	length int64           // of the fill, -1 if unknown

	own edge.Response
	why string // it is not stored

	label  string // for CF-Cache-Status
	status int    // of the origin's response
	note   edge.Note
}

// join returns the flight for the request's key, and whether this request leads it; nil if what is
// stored has changed since stale was found.
func (q *request) join(ctx context.Context, stale *storage.Object) (f *flight, leads bool) {
	c := q.c
	private := q.ex.Request.Header.Has("Authorization")
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[q.key]; f != nil && !private && !c.store.Since(f.zone, f.fill.Seq()) && f.board() {
		return f, false
	}
	if o := c.store.Held(q.key, &q.ex.Request.Header); o != nil && o != stale {
		return nil, false
	}
	f = c.newFlight(ctx, q, stale)
	f.private = private
	f.waiting, f.leader, f.inform = 1, ctx, q.ex.Inform
	if !private {
		c.flights[q.key] = f
	}
	c.start(f, q)
	return f, true
}

// revalidate validates a stored response in the background, unless somebody does already.
func (q *request) revalidate(ctx context.Context, o *storage.Object) {
	c := q.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flights[q.key] != nil || q.ex.Request.Header.Has("Authorization") {
		return
	}
	f := c.newFlight(ctx, q, o)
	f.silent = true
	c.flights[q.key] = f
	c.start(f, q)
}

func (c *Cache) newFlight(ctx context.Context, q *request, stale *storage.Object) *flight {
	f := &flight{c: c, key: q.key, zone: q.ex.Zone.Zone.ID, stale: stale, landed: make(chan struct{}), turns: make(chan struct{}, crowd)}
	f.fill = c.store.Begin()
	f.ctx, f.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	return f
}

// start runs the flight with a copy of the request's exchange; c.mu is held.
func (c *Cache) start(f *flight, q *request) {
	own := &edge.Exchange{
		ID: q.ex.ID, Start: q.ex.Start, Client: q.ex.Client, TLS: q.ex.TLS, Country: q.ex.Country,
		Request: q.ex.Request, Zone: q.ex.Zone, Target: q.ex.Target, Inform: f.interim,
	}
	own.Request.Header = q.ex.Request.Header.Clone()
	plan, next := q.plan, q.next
	c.fetches.Go(func() {
		defer context.AfterFunc(c.base, func() { f.cancel(errDone) })()
		defer f.end()
		f.fly(own, &plan, next)
	})
}

// interim passes a 1xx response on to the leader.
func (f *flight) interim(status int, h *edge.Header) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inform != nil {
		f.inform(status, h)
	}
}

// board adds a request to those that wait; false if the flight has been given up.
func (f *flight) board() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.abandoned || f.ctx.Err() != nil {
		return false
	}
	f.waiting++
	return true
}

// wait waits until the flight has landed; false if the client went or, for others than the leader,
// it took too long. Call alight after it.
func (f *flight) wait(ctx context.Context, leads bool, most time.Duration) bool {
	var late <-chan time.Time
	if !leads {
		timer := time.NewTimer(most)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-f.landed:
		return true
	case <-ctx.Done():
		return leads && !f.abdicate()
	case <-late:
		return false
	}
}

// abdicate takes the leader off; false if the flight has landed, and there is something for it to
// take or close.
func (f *flight) abdicate() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leader, f.inform = nil, nil
	return !f.hasLanded()
}

func (f *flight) hasLanded() bool {
	select {
	case <-f.landed:
		return true
	default:
		return false
	}
}

// alight takes a request off those that wait; the last one to go ends a flight that is not worth
// finishing.
func (f *flight) alight() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting--
	if !f.hasLanded() || f.result.meta != nil && !f.fill.Wanted(orphanBytes) {
		f.endUnwanted()
	}
}

// readerClosed is called when a reader of the fill has gone.
func (f *flight) readerClosed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.fill.Wanted(orphanBytes) {
		f.endUnwanted()
	}
}

// endUnwanted ends the flight unless somebody waits; f.mu is held, so that nobody boards meanwhile.
func (f *flight) endUnwanted() {
	if f.waiting == 0 && !f.silent {
		f.abandoned = true
		f.cancel(errDone)
	}
}

// abandon makes sure that nothing of a flight under way is stored.
func (c *Cache) abandon(key storage.Key) {
	c.mu.Lock()
	f := c.flights[key]
	delete(c.flights, key)
	c.mu.Unlock()
	if f != nil {
		f.mu.Lock()
		f.abandoned = true
		f.mu.Unlock()
	}
}

func (f *flight) isAbandoned() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.abandoned
}

// reason says why the request had to go on, in the words of RFC 9211.
func (f *flight) reason() string {
	if f.stale != nil {
		return "stale"
	}
	return "uri-miss"
}

// enter lets a request through to the origin when fewer than crowd are there; leave gives the
// place back.
func (f *flight) enter(ctx context.Context, most time.Duration) bool {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case f.turns <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

func (f *flight) leave() { <-f.turns }

// fly asks the origin and lands with what it says. It returns when the body has arrived.
func (f *flight) fly(ex *edge.Exchange, p *plan, next edge.Handler) {
	r := &ex.Request
	authorized := r.Header.Has("Authorization")
	original := r.Header.Clone()
	validating := f.prepare(r)
	asked := f.c.now()
	err := f.ask(ex, next)
	f.result.note, f.result.status = ex.Note, ex.Response.Status
	if err != nil {
		f.failed(ex, err)
		return
	}
	res := &ex.Response
	got := f.c.now()
	switch {
	case semantics.IsError(res.Status) && f.stale != nil && f.stale.Verdict.UsableOnError(f.stale.Age(got)):
		res.Close()
		f.fallBack()
		return
	case res.Status == 304 && validating:
		f.validated(ex, p, asked, got)
		return
	}
	f.result.label = statusMiss
	if f.stale != nil {
		f.result.label = statusExpired
	}
	v := semantics.Judge(semantics.Exchange{Authorized: authorized, Status: res.Status, Header: &res.Header, Got: got}, p.policy)
	switch {
	case p.key.deceptionArmour && deceives(r.Path, &res.Header):
		v.Store, v.Why = false, "deception"
	case res.Length > f.c.options.MaxObject:
		v.Store, v.Why = false, "too-large"
	}
	if !v.Store || f.isAbandoned() {
		f.keepToLeader(res, p, v.Why)
		return
	}
	vary := semantics.ParseVary(&res.Header)
	f.receive(res, &storage.Meta{
		Key:    f.key,
		Place:  storage.Place{Zone: f.zone, Scheme: r.Scheme, Host: r.Host, URI: r.URI(), Tags: p.withTags(tagsOf(&res.Header))},
		Status: res.Status, Header: semantics.Without(&res.Header, v.Strip), Verdict: v,
		Born: semantics.Birth(&res.Header, asked, got),
		Vary: vary, Selected: semantics.Selecting(vary, &original),
	})
}

// prepare makes the request one for the whole of a resource: a GET, without the client's own
// preconditions, with those that validate what is stored, and asking for codings in a form that
// all clients share.
func (f *flight) prepare(r *edge.Request) (validating bool) {
	r.Method = "GET"
	if f.stale != nil {
		validating = semantics.Validators(&r.Header, &f.stale.Header)
	} else {
		semantics.DropPreconditions(&r.Header)
	}
	if r.Header.Has("Accept-Encoding") {
		codings := semantics.NormaliseEncoding(r.Header.Joined("Accept-Encoding"))
		if codings == "" {
			codings = "identity"
		}
		r.Header.Set("Accept-Encoding", codings)
	}
	return validating
}

// ask calls next. Nothing below may bring the process down from a goroutine of ours.
func (f *flight) ask(ex *edge.Exchange, next edge.Handler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return next(f.ctx, ex)
}

// failed lands with what is stored if it may be used, otherwise with the error.
func (f *flight) failed(ex *edge.Exchange, err error) {
	ex.Response.Close()
	if f.stale != nil && f.stale.Verdict.UsableDisconnected(f.stale.Age(f.c.now())) {
		f.fallBack()
		return
	}
	var verdict *edge.Failure
	if !errors.As(err, &verdict) {
		err = &edge.Failure{Status: 520, Reason: "origin_failed", Detail: "The origin could not be asked.", Cause: err}
	}
	f.result.err = err
	f.land()
}

// fallBack lands with the stale response, for the origin fails (RFC 5861, 4).
func (f *flight) fallBack() {
	f.result.object, f.result.label = f.stale, statusStale
	f.land()
}

// validated lands with the stored response under the header that the origin's 304 makes of it.
func (f *flight) validated(ex *edge.Exchange, p *plan, asked, got time.Time) {
	old, update := f.stale, &ex.Response.Header
	ex.Response.Close()
	merged := semantics.Freshen(&old.Header, update)
	v := semantics.Judge(semantics.Exchange{Status: old.Status, Header: &merged, Got: got}, p.policy)
	vary := semantics.ParseVary(&merged)
	m := &storage.Meta{
		Key: old.Key, Place: old.Place, Status: old.Status, Header: semantics.Without(&merged, v.Strip), Verdict: v,
		Born: semantics.Birth(update, asked, got), Vary: vary, Selected: old.Selected,
	}
	if tags := tagsOf(update); tags != nil {
		m.Place.Tags = p.withTags(tags)
	}
	if len(vary) != len(old.Vary) || strings.Join(vary, ",") != strings.Join(old.Vary, ",") {
		m.Vary, m.Selected = old.Vary, old.Selected
	}
	fresh := f.c.store.Freshen(old, m, f.fill.Seq())
	if !v.Store || f.isAbandoned() {
		f.c.store.Remove(fresh)
	}
	f.fill.End(errDone)
	f.result.object, f.result.label = fresh, statusRevalidated
	f.land()
}

// keepToLeader lands with a response that is not stored: its leader streams it, the others ask for
// themselves, and for a while nobody waits for another with this key.
func (f *flight) keepToLeader(res *edge.Response, p *plan, why string) {
	if f.stale != nil && res.Status < 500 {
		f.c.store.Remove(f.stale)
	}
	f.c.hopeless.add(f.key, f.c.now())
	f.fill.End(errDone)
	f.withdraw()
	f.result.why = why
	if bypasses(why, p) {
		f.result.label = statusBypass
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leader == nil {
		res.Close()
	} else {
		f.result.own = *res
		*res = edge.Response{}
	}
	f.landLocked()
}

// receive lands with the head, then takes in the body while those who wait stream it.
func (f *flight) receive(res *edge.Response, m *storage.Meta) {
	f.c.hopeless.clear(f.key)
	f.fill.Expect(res.Length)
	f.result.meta, f.result.length = m, res.Length
	f.mu.Lock()
	if f.leader != nil {
		f.result.reader, _ = f.fill.NewReader(f.leader, f.readerClosed)
	}
	f.landLocked()
	f.mu.Unlock()
	body := res.Body
	if body == nil {
		body = io.NopCloser(strings.NewReader(""))
	}
	_, err := f.fill.ReadFrom(body)
	body.Close()
	switch {
	case err != nil:
		f.c.metrics.aborted.Inc()
	case !f.isAbandoned():
		// m is shared with those who read: what is stored is a copy that Store completes.
		stored := *m
		f.fill.Store(&stored)
	}
	// Stored first, off the list next, complete last: who has seen the end finds it stored.
	f.withdraw()
	f.fill.End(err)
}

// land makes a result known that is not a fill: whoever comes from now on asks anew.
func (f *flight) land() {
	f.withdraw()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.landLocked()
}

func (f *flight) landLocked() {
	f.inform = nil
	close(f.landed)
}

// withdraw takes the flight off the list of those that can be joined.
func (f *flight) withdraw() {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.c.flights[f.key] == f {
		delete(f.c.flights, f.key)
	}
}

// end frees what the flight holds.
func (f *flight) end() {
	f.withdraw()
	f.fill.End(errDone)
	if f.result.own.Status == 0 {
		f.cancel(errDone)
	}
}
