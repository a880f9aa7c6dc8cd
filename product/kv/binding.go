package kv

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"selvage/edge"
	"selvage/foundation/budget"
	"selvage/foundation/fault"
	"selvage/product/kv/store"
)

// Fields of the runtime's own client.
const (
	metadataField   = "CF-KV-Metadata"
	expirationField = "CF-Expiration"
)

// maxDrained bounds how much of a value that is too large is taken in, so that its sender reads why.
const maxDrained = 256 << 20

// maxBulkGet bounds the body of a bulk get: 100 keys, each octet of which JSON may write with 6.
const maxBulkGet = 1 << 20

// bound answers the runtime's client for one binding. The key is the path, percent-encoded; scripts see
// status and text of what is refused.
type bound struct {
	p                  *KV
	space              store.Space
	account, namespace string
	valid              bool
}

func (b *bound) handle(ctx context.Context, ex *edge.Exchange) error {
	operation, err := b.answer(ctx, ex)
	none := err == nil && ex.Response.Status == http.StatusNotFound
	b.p.count("binding", operation, none, err)
	if err == nil {
		return nil
	}
	var large *store.TooLarge
	if errors.As(err, &large) {
		err = valueTooLarge(large.Size)
	}
	status, text := b.explain(err)
	refuse(ex, status, text)
	return nil
}

// refuse answers an error: the client makes an exception of status and text.
func refuse(ex *edge.Exchange, status int, text string) {
	ex.Respond(status, edge.NewHeader("Content-Type", "text/plain; charset=utf-8"), []byte(text))
	ex.Response.Text = text
}

// explain turns an error into what the script sees.
func (b *bound) explain(err error) (status int, text string) {
	status = http.StatusInternalServerError
	faults := fault.All(err)
	if len(faults) == 0 || faults[0].Kind == fault.Internal {
		if !errors.Is(err, context.Canceled) {
			b.p.o.Observe.Logger().Error("kv operation of a script failed", "account", b.account, "namespace", b.namespace, "error", err)
		}
		return status, http.StatusText(status)
	}
	f := faults[0]
	switch {
	case f.Code == codeKeyTooLong:
		status = http.StatusRequestURITooLong
	case f.Kind == fault.TooMuch:
		status = http.StatusRequestEntityTooLarge
	case f.Kind == fault.Unavailable:
		status = http.StatusServiceUnavailable
	default: // not 404: the runtime would take that for a key that is not there
		status = http.StatusBadRequest
	}
	return status, f.Message
}

func (b *bound) answer(ctx context.Context, ex *edge.Exchange) (operation string, err error) {
	q := &ex.Request
	if !b.valid || !b.p.exists(b.account, b.namespace) {
		return "any", fault.New(fault.NotFound, "namespace not found")
	}
	params, err := url.ParseQuery(q.Query)
	if err != nil {
		return "any", invalid(codeInvalid, "The query cannot be read.")
	}
	if q.Method == http.MethodPost && q.Path == "/bulk/get" {
		return "bulk_get", b.bulkGet(ctx, ex)
	}
	if q.Method == http.MethodGet && q.Path == "/" {
		return "list", b.list(ctx, ex, params)
	}
	key, err := url.PathUnescape(strings.TrimPrefix(q.Path, "/"))
	if err != nil {
		return "any", invalid(codeInvalid, "Could not URL-decode key name")
	}
	switch q.Method {
	case http.MethodGet:
		return "get", b.get(ctx, ex, key, params)
	case http.MethodPut:
		return "put", b.put(ctx, ex, key, params)
	case http.MethodDelete:
		err := checkKey(key)
		if err == nil {
			err = b.p.store.Delete(ctx, b.space, key)
		}
		if err == nil {
			ex.Respond(http.StatusOK, edge.Header{}, nil)
		}
		return "delete", err
	}
	return "any", fault.New(fault.Unsupported, "KV knows no %.20s.", q.Method)
}

func (b *bound) get(ctx context.Context, ex *edge.Exchange, key string, params url.Values) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if params.Has("cache_ttl") {
		if err := checkCacheTTL(params.Get("cache_ttl")); err != nil {
			return err
		}
	}
	e, body, err := b.p.store.Open(ctx, b.space, key)
	if err != nil {
		return err
	}
	if e == nil {
		ex.Respond(http.StatusNotFound, edge.Header{}, nil)
		return nil
	}
	var h edge.Header
	h.Grow(2)
	if e.Expires != 0 {
		h.Add(expirationField, strconv.FormatInt(e.Expires, 10))
	}
	if e.Metadata != nil {
		h.Add(metadataField, string(e.Metadata))
	}
	if body == nil {
		ex.Respond(http.StatusOK, h, e.Data)
		return nil
	}
	ex.Response = edge.Response{Status: http.StatusOK, Header: h, Length: e.Size, Body: body}
	return nil
}

func (b *bound) put(ctx context.Context, ex *edge.Exchange, key string, params url.Values) error {
	body := ex.Request.Body
	if body == nil {
		body = strings.NewReader("")
	}
	w := store.Write{Key: key}
	err := checkKey(key)
	if err == nil {
		w.Expires, err = expiry(b.p.o.Clock.Now().Unix(), params.Get("expiration"), params.Get("expiration_ttl"))
	}
	if err == nil {
		w.Metadata, err = metadataOf([]byte(ex.Request.Header.Get(metadataField)))
	}
	if err == nil && ex.Request.Length > store.MaxValue {
		err = valueTooLarge(ex.Request.Length)
	}
	if err != nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(body, maxDrained))
		return err
	}
	if err := b.p.store.Put(ctx, b.space, w, body); err != nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(body, maxDrained))
		return err
	}
	ex.Respond(http.StatusOK, edge.Header{}, nil)
	return nil
}

// listedKey is a line of a list. The runtime's client parses the metadata.
type listedKey struct {
	Name       string `json:"name"`
	Expiration int64  `json:"expiration,omitempty"`
	Metadata   string `json:"metadata,omitempty"`
}

func (b *bound) list(ctx context.Context, ex *edge.Exchange, params url.Values) error {
	q, err := listing("key_count_limit", params.Get("key_count_limit"), params.Get("prefix"), params.Get("cursor"))
	if err != nil {
		return err
	}
	page, err := b.p.store.List(ctx, b.space, q)
	if err != nil {
		return err
	}
	answer := struct {
		Keys     []listedKey `json:"keys"`
		Complete bool        `json:"list_complete"`
		Cursor   string      `json:"cursor,omitempty"`
		Cache    *string     `json:"cacheStatus"`
	}{Keys: make([]listedKey, len(page.Keys)), Complete: !page.More, Cursor: cursorOf(&page)}
	for i, k := range page.Keys {
		answer.Keys[i] = listedKey{k.Name, k.Expires, string(k.Metadata)}
	}
	return respondJSON(ex, answer)
}

func respondJSON(ex *edge.Exchange, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	ex.Respond(http.StatusOK, edge.NewHeader("Content-Type", "application/json"), text)
	return nil
}

func (b *bound) bulkGet(ctx context.Context, ex *edge.Exchange) error {
	if ex.Request.Body == nil {
		return invalid(codeInvalid, "You must request a minimum of 1 key")
	}
	text, err := io.ReadAll(budget.Reader("The request", ex.Request.Body, maxBulkGet))
	if err != nil {
		return err
	}
	var want bulkGet
	if err := json.Unmarshal(text, &want); err != nil {
		return invalid(codeInvalid, "The request cannot be read.")
	}
	values, err := b.p.getMany(ctx, b.space, want, false)
	if err != nil {
		return err
	}
	return respondJSON(ex, values)
}
