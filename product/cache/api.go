package cache

import (
	"context"
	"crypto/sha256"
	"io"
	"strings"

	"selvage/edge"
	"selvage/product/cache/semantics"
	"selvage/product/cache/storage"
)

// API is the cache as the Cache API of Workers sees it: programs put responses in and find them
// again; no origin is ever asked. What they put has keys of its own and never answers a request of
// a client, but it lies with its zone: purges reach it. Safe for concurrent use.
//
// zone is a zone's ID, or any other name for what belongs to none. space is a cache in it that
// others do not see: whoever calls puts account and name of the cache into it.
type API struct{ c *Cache }

// API returns the door for the Cache API.
func (c *Cache) API() API { return API{c} }

// Match answers ex from what was put under its URL, whole, in part or with 304 as the request's
// fields ask. It returns false, with no response, if nothing fresh is there.
func (a API) Match(zone, space string, ex *edge.Exchange) bool {
	q := &request{c: a.c, ex: ex, zone: noZone, key: spaceKey(zone, space, &ex.Request)}
	for range maxTurns {
		o := a.c.store.Lookup(q.key, &ex.Request.Header)
		if o == nil {
			return false
		}
		age := o.Age(a.c.now())
		if o.Verdict.StateAt(age) != semantics.Fresh {
			return false
		}
		if q.respondStored(o, statusHit, semantics.Status{Hit: true, TTL: o.Verdict.Lifetime - age}) {
			return true
		}
	}
	return false
}

// noZone stands where a zone's settings would: there are none for what programs keep.
var noZone = &zone{}

// Put keeps res under the URL of ex if its header lets a shared cache; the fields of ex select it
// where it has Vary. It reads the body to its end, or closes it at once, and returns whether the
// response is kept. An error is that of the body: then nothing is kept.
func (a API) Put(ctx context.Context, zone, space string, ex *edge.Exchange, res *edge.Response) (bool, error) {
	defer res.Close()
	c, now := a.c, a.c.now()
	v := semantics.Judge(semantics.Exchange{Status: res.Status, Header: &res.Header, Got: now}, semantics.Policy{})
	if !v.Store || res.Length > c.options.MaxObject {
		return false, nil
	}
	v.WhileRevalidate, v.IfError = 0, 0 // nobody is there to be asked
	fill := c.store.Begin()
	defer fill.End(errDone)
	fill.Expect(res.Length)
	body := io.Reader(res.Body)
	if body == nil {
		body = strings.NewReader("")
	}
	n, err := fill.ReadFrom(body)
	switch {
	case err != nil:
		c.metrics.aborted.Inc()
		return false, err
	case res.Length >= 0 && n != res.Length:
		c.metrics.aborted.Inc()
		return false, io.ErrUnexpectedEOF
	case n > c.options.MaxObject || ctx.Err() != nil:
		return false, ctx.Err()
	}
	r := &ex.Request
	vary := semantics.ParseVary(&res.Header)
	fill.Store(&storage.Meta{
		Key:    spaceKey(zone, space, r),
		Place:  storage.Place{Zone: zone, Scheme: r.Scheme, Host: r.Host, URI: r.URI(), Tags: tagsOf(&res.Header)},
		Status: res.Status, Header: semantics.Without(&res.Header, v.Strip), Verdict: v,
		Born: semantics.Birth(&res.Header, now, now), Vary: vary, Selected: semantics.Selecting(vary, &r.Header),
	})
	return true, nil
}

// Delete forgets every variant of what was put under the URL of ex. It returns whether anything
// fresh was there for it.
func (a API) Delete(zone, space string, ex *edge.Exchange) bool {
	key := spaceKey(zone, space, &ex.Request)
	o := a.c.store.Lookup(key, &ex.Request.Header)
	a.c.store.RemoveKey(key)
	return o != nil && o.Verdict.StateAt(o.Age(a.c.now())) == semantics.Fresh
}

// spaceKey names what is put under a URL; no key of a client's request begins like it.
func spaceKey(zone, space string, r *edge.Request) storage.Key {
	k := keyHash{b: make([]byte, 0, 256)}
	k.add('A', zone)
	k.add('S', space)
	k.add('s', r.Scheme)
	k.add('h', r.Host)
	if r.Port != "" && r.Port != defaultPorts[r.Scheme] {
		k.add('t', r.Port)
	}
	k.add('p', r.Path)
	if r.Query != "" {
		k.add('q', r.Query)
	}
	return sha256.Sum256(k.b)
}
