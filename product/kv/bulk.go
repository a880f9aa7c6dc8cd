package kv

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/kv/store"
)

const (
	maxPairs      = 10_000   // of one request
	maxDeleteBody = 32 << 20 // 10,000 keys of 512 octets, each of which JSON may write with 6
	maxBulkBytes  = 100_000_000
	spoolBytes    = 1 << 20 // of a body that are kept in memory; more go into a file
	groupBytes    = 4 << 20 // of pairs that are handed to the store together
	groupPairs    = 1000
)

// bulkResult is how a change of many keys ends: all of them or an error.
type bulkResult struct {
	Count  int      `json:"successful_key_count"`
	Failed []string `json:"unsuccessful_keys"`
}

func done(n int) product.Reply { return product.Reply{Result: bulkResult{n, []string{}}} }

// bulkGet is a request for many keys, by script or API.
type bulkGet struct {
	Keys         []string        `json:"keys"`
	Type         string          `json:"type"` // text or json; empty is text
	WithMetadata bool            `json:"withMetadata"`
	CacheTTL     json.RawMessage `json:"cacheTtl"` // a number, which the runtime writes as a string
}

func (b *bulkGet) check() error {
	if b.Type != "" && b.Type != "text" && b.Type != "json" {
		return invalid(codeInvalid, "\"%.40s\" is not a valid type. Use \"json\" or \"text\"", b.Type)
	}
	if len(b.Keys) > maxGets {
		return invalid(codeInvalid, "You can request a maximum of %d keys", maxGets)
	}
	if len(b.Keys) == 0 {
		return invalid(codeInvalid, "You must request a minimum of 1 key")
	}
	for _, k := range b.Keys {
		if err := checkKey(k); err != nil {
			return err
		}
	}
	return checkCacheTTL(strings.Trim(string(b.CacheTTL), `"`))
}

// got is a value with what belongs to it.
type got struct {
	Value      json.RawMessage `json:"value"`
	Metadata   json.RawMessage `json:"metadata"`
	Expiration int64           `json:"expiration,omitempty"`
}

// getMany returns values by key as JSON, null for keys that are not there.
func (p *KV) getMany(ctx context.Context, sp store.Space, want bulkGet, expiry bool) (*ordered, error) {
	if err := want.check(); err != nil {
		return nil, err
	}
	values, total := &ordered{values: make(map[string]any, len(want.Keys))}, int64(0)
	for _, key := range want.Keys {
		e, text, err := p.read(ctx, sp, key, maxGetBytes-total)
		if err != nil {
			return nil, err
		}
		if e == nil {
			values.set(key, nil)
			continue
		}
		total += e.Size
		var value json.RawMessage
		if want.Type == "json" {
			if value = text; !json.Valid(text) {
				return nil, invalid(codeInvalid, "At least one of the requested keys corresponds to a non-json value")
			}
		} else if value, err = json.Marshal(decoded(text)); err != nil {
			return nil, err
		}
		if !want.WithMetadata {
			values.set(key, value)
			continue
		}
		g := got{Value: value, Metadata: e.Metadata}
		if expiry {
			g.Expiration = e.Expires
		}
		values.set(key, g)
	}
	return values, nil
}

// read returns a whole value, if it has at most left octets.
func (p *KV) read(ctx context.Context, sp store.Space, key string, left int64) (*store.Entry, []byte, error) {
	e, body, err := p.store.Open(ctx, sp, key)
	if body != nil {
		defer body.Close()
	}
	if e == nil || err != nil {
		return nil, nil, err
	}
	if e.Size > left {
		return nil, nil, fault.New(fault.TooMuch, "Total size of request exceeds the limit of %dMB", maxGetBytes>>20).WithCode(codeTooLarge)
	}
	if body == nil {
		return e, e.Data, nil
	}
	text := make([]byte, e.Size)
	_, err = io.ReadFull(body, text)
	return e, text, err
}

// malformed gives the faults of a body Cloudflare's code for one that cannot be read.
func malformed(err error) error {
	var all []error
	for _, f := range fault.All(err) {
		if f.Kind == fault.Invalid {
			f = f.WithCode(codeBody)
		}
		all = append(all, f)
	}
	return cmp.Or(errors.Join(all...), err)
}

func (p *KV) bulkGet(ctx context.Context, c *product.Call) (r product.Reply, err error) {
	defer func() { p.count("api", "bulk_get", false, err) }()
	_, sp, err := p.space(c, "get")
	if err != nil {
		return r, err
	}
	var want bulkGet
	if err := c.Decode(&want); err != nil {
		return r, malformed(err)
	}
	values, err := p.getMany(ctx, sp, want, true)
	if err != nil {
		return r, err
	}
	return product.Reply{Result: map[string]any{"values": values}}, nil
}

func (p *KV) bulkDelete(ctx context.Context, c *product.Call) (r product.Reply, err error) {
	defer func() { p.count("api", "bulk_delete", false, err) }()
	_, sp, err := p.space(c, "delete")
	if err != nil {
		return r, err
	}
	var keys []string
	if err := c.Decode(&keys); err != nil {
		return r, malformed(err)
	}
	if len(keys) > maxPairs {
		return r, invalid(codeInvalid, "The request has %d keys, the limit is %d.", len(keys), maxPairs)
	}
	for _, k := range keys {
		if err := checkKey(k); err != nil {
			return r, err
		}
	}
	if err := p.store.Delete(ctx, sp, keys...); err != nil {
		return r, err
	}
	return done(len(keys)), nil
}

// pair is one of a bulk put. Fields that are not known are passed over, as wrangler promises.
type pair struct {
	Key        *string         `json:"key"`
	Value      *string         `json:"value"`
	Expiration json.Number     `json:"expiration"`
	TTL        json.Number     `json:"expiration_ttl"`
	Metadata   json.RawMessage `json:"metadata"`
	Base64     bool            `json:"base64"`
}

// write checks a pair.
func (b *pair) write(now int64) (w store.Write, err error) {
	if b.Key == nil {
		return w, invalid(codeBody, "A pair needs a key.").At("key")
	}
	if b.Value == nil {
		return w, invalid(codeBody, "A pair needs a value.").At("value")
	}
	w.Key = *b.Key
	if err := checkKey(w.Key); err != nil {
		return w, err
	}
	if w.Expires, err = expiry(now, b.Expiration.String(), b.TTL.String()); err != nil {
		return w, err
	}
	if w.Metadata, err = metadataOf(b.Metadata); err != nil {
		return w, err
	}
	w.Value = []byte(*b.Value)
	if b.Base64 {
		if w.Value, err = base64.StdEncoding.DecodeString(*b.Value); err != nil {
			return w, invalid(codeBody, "The value is not Base64.").At("value")
		}
	}
	if len(w.Value) > store.MaxValue {
		return w, valueTooLarge(int64(len(w.Value)))
	}
	return w, nil
}

// bulkPut checks the whole body before it puts the first pair; large bodies wait in a file for that.
func (p *KV) bulkPut(ctx context.Context, c *product.Call) (r product.Reply, err error) {
	defer func() { p.count("api", "bulk_put", false, err) }()
	_, sp, err := p.space(c, "put")
	if err != nil {
		return r, err
	}
	body, err := p.spoolInTurn(ctx, c)
	if err != nil {
		return r, err
	}
	defer body.Close()
	select {
	case p.bulk <- struct{}{}:
		defer func() { <-p.bulk }()
	case <-ctx.Done():
		return r, ctx.Err()
	}
	now := p.o.Clock.Now().Unix()
	n, err := eachPair(body, func(b *pair) error {
		_, err := b.write(now)
		return err
	})
	if err != nil {
		return r, err
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return r, err
	}
	g := &group{ctx: ctx, p: p, space: sp}
	if _, err := eachPair(body, func(b *pair) error {
		w, err := b.write(now)
		if err != nil {
			return err
		}
		return g.add(w)
	}); err != nil {
		return r, err
	}
	return done(n), g.flush()
}

// group gathers pairs that are put together.
type group struct {
	ctx    context.Context // of the one request that it lives for
	p      *KV
	space  store.Space
	writes []store.Write
	bytes  int
}

func (g *group) add(w store.Write) error {
	g.writes = append(g.writes, w)
	if g.bytes += len(w.Value); g.bytes < groupBytes && len(g.writes) < groupPairs {
		return nil
	}
	return g.flush()
}

func (g *group) flush() error {
	err := g.p.store.PutMany(g.ctx, g.space, g.writes)
	g.writes, g.bytes = g.writes[:0], 0
	return err
}

// coming is the large requests that come in, by account: a body takes as long as its sender likes, so nobody waits
// for another's. The zero value is ready.
type coming struct {
	mu        sync.Mutex // guards the field below
	byAccount map[string]chan struct{}
}

// of returns a channel with an element for each of an account's.
func (c *coming) of(accountID string) chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byAccount == nil {
		c.byAccount = map[string]chan struct{}{}
	}
	if c.byAccount[accountID] == nil {
		c.byAccount[accountID] = make(chan struct{}, maxBulk)
	}
	return c.byAccount[accountID]
}

// spoolInTurn takes the body of a call in when it is the account's turn.
func (p *KV) spoolInTurn(ctx context.Context, c *product.Call) (spooled, error) {
	turn := p.coming.of(c.Account.ID)
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return p.spool(c.Body)
}

// spooled is a body that can be read twice.
type spooled interface {
	io.ReadSeeker
	io.Closer
}

type inMemory struct{ *bytes.Reader }

// Close does nothing.
func (inMemory) Close() error { return nil }

// spool takes a body in. A file of its is gone when it is closed, or when the node ends.
func (p *KV) spool(body io.Reader) (spooled, error) {
	if body == nil {
		return inMemory{bytes.NewReader(nil)}, nil
	}
	head, err := io.ReadAll(io.LimitReader(body, spoolBytes))
	if err != nil {
		return nil, err
	}
	if len(head) < spoolBytes {
		return inMemory{bytes.NewReader(head)}, nil
	}
	f, err := os.CreateTemp(p.o.Dir, "bulk-")
	if err != nil {
		return nil, err
	}
	if err = os.Remove(f.Name()); err == nil {
		_, err = io.Copy(f, io.MultiReader(bytes.NewReader(head), body))
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, store.AsFull(err, p.o.Dir)
	}
	return f, nil
}

// eachPair calls f with each pair of a body and returns how many there are.
func eachPair(body io.Reader, f func(*pair) error) (n int, err error) {
	dec := json.NewDecoder(body)
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return 0, invalid(codeBody, "The request body must be a list of pairs of key and value.")
	}
	for ; dec.More(); n++ {
		if n == maxPairs {
			return n, invalid(codeInvalid, "The request has more pairs than the limit of %d.", maxPairs)
		}
		var b pair
		if err := dec.Decode(&b); err != nil {
			return n, badPair(err, n)
		}
		if err := f(&b); err != nil {
			return n, inPair(err, n)
		}
	}
	if _, err := dec.Token(); err != nil {
		return n, invalid(codeBody, "The request body ends in the middle of its list.")
	}
	return n, nil
}

func badPair(err error, n int) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return invalid(codeBody, "%s of pair %d cannot be this %s.", wrong.Field, n, wrong.Value)
	}
	return invalid(codeBody, "Pair %d is not valid JSON: %v.", n, err)
}

// inPair says which pair is at fault.
func inPair(err error, n int) error {
	all := fault.All(err)
	if len(all) != 1 || all[0].Kind == fault.Unavailable || all[0].Kind == fault.Internal {
		return err
	}
	f := *all[0]
	f.Message = "Pair " + strconv.Itoa(n) + ": " + f.Message
	return &f
}
