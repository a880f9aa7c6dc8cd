package kv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"

	"selvage/foundation/budget"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/kv/store"
)

// maxValueBody is the body of a put: a value that is a little too large is told its length.
const maxValueBody = store.MaxValue + 2<<20

// listKeys lists keys, with a cursor to the next page.
func (p *KV) listKeys(ctx context.Context, c *product.Call) (r product.Reply, err error) {
	defer func() { p.count("api", "list", false, err) }()
	_, sp, err := p.space(c, "list keys")
	if err != nil {
		return r, err
	}
	q, err := listing("limit", c.Query.Get("limit"), c.Query.Get("prefix"), c.Query.Get("cursor"))
	if err != nil {
		return r, err
	}
	page, err := p.store.List(ctx, sp, q)
	if err != nil {
		return r, err
	}
	type line struct {
		Name       string          `json:"name"`
		Expiration int64           `json:"expiration,omitempty"`
		Metadata   json.RawMessage `json:"metadata,omitempty"`
	}
	lines := make([]line, len(page.Keys))
	for i, k := range page.Keys {
		lines[i] = line{k.Name, k.Expires, k.Metadata}
	}
	return product.Reply{Result: lines, Info: &product.PageInfo{Count: len(lines), PerPage: q.Limit, Cursor: cursorOf(&page), ByCursor: true}}, nil
}

// keyOf returns the key that a call names.
func keyOf(c *product.Call) (string, error) {
	key := c.Params["key_name"]
	return key, checkKey(key)
}

func noKey() error { return fault.New(fault.NotFound, "get: 'key not found'").WithCode(codeNoKey) }

func (p *KV) getValue(ctx context.Context, c *product.Call) (r product.Reply, err error) {
	defer func() { p.count("api", "get", fault.KindOf(err) == fault.NotFound, err) }()
	_, sp, err := p.space(c, "get")
	if err != nil {
		return r, err
	}
	key, err := keyOf(c)
	if err != nil {
		return r, err
	}
	e, body, err := p.store.Open(ctx, sp, key)
	if err != nil {
		return r, err
	}
	if e == nil {
		return r, noKey()
	}
	h := http.Header{"Content-Length": {strconv.FormatInt(e.Size, 10)}}
	if e.Expires != 0 {
		h.Set("Expiration", strconv.FormatInt(e.Expires, 10))
	}
	return product.Reply{Raw: &product.Raw{ContentType: "application/octet-stream", Header: h, Write: writer(ctx, e, body)}}, nil
}

// writer returns what sends a value. A body that nobody asks for is closed at the request's end.
func writer(ctx context.Context, e *store.Entry, body io.ReadCloser) func(context.Context, io.Writer) error {
	if body == nil {
		return func(_ context.Context, w io.Writer) error {
			_, err := w.Write(e.Data)
			return err
		}
	}
	mine := context.AfterFunc(ctx, func() { body.Close() })
	return func(ctx context.Context, w io.Writer) error {
		if !mine() {
			return ctx.Err()
		}
		defer body.Close()
		_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{body}, make([]byte, 64<<10))
		return err
	}
}

func (p *KV) putValue(ctx context.Context, c *product.Call) (r product.Reply, err error) {
	defer func() { p.count("api", "put", false, err) }()
	_, sp, err := p.space(c, "put")
	if err != nil {
		return r, err
	}
	w := store.Write{}
	if w.Key, err = keyOf(c); err != nil {
		return r, err
	}
	if w.Expires, err = expiry(p.o.Clock.Now().Unix(), c.Query.Get("expiration"), c.Query.Get("expiration_ttl")); err != nil {
		return r, err
	}
	var body io.Reader = bytes.NewReader(nil)
	if c.Body != nil {
		body = c.Body
	}
	if kind, params, err := mime.ParseMediaType(c.Header.Get("Content-Type")); err == nil && kind == "multipart/form-data" {
		if body, err = formValue(multipart.NewReader(body, params["boundary"]), &w); err != nil {
			return r, err
		}
	}
	err = p.store.Put(ctx, sp, w, body)
	var large *store.TooLarge
	if errors.As(err, &large) {
		err = valueTooLarge(large.Size)
	}
	return product.Reply{}, err
}

// formValue returns the value of a form, whose metadata stands before it or behind it.
func formValue(form *multipart.Reader, w *store.Write) (io.Reader, error) {
	for {
		part, err := nextPart(form)
		if err != nil {
			return nil, err
		}
		if part == nil {
			return nil, invalid(codeInvalid, "The form has no part called value.").At("value")
		}
		if part.FormName() == "value" {
			if w.Metadata == nil {
				w.Late = func(w *store.Write) error { return lateMetadata(form, w) }
			}
			return formPart{part}, nil
		}
		if w.Metadata, err = partMetadata(part); err != nil {
			return nil, err
		}
	}
}

func nextPart(form *multipart.Reader) (*multipart.Part, error) {
	part, err := form.NextRawPart()
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, formFault(err)
	}
	if name := part.FormName(); name != "value" && name != "metadata" {
		return nil, invalid(codeInvalid, "There is no field %.40q in the form of a put; known are value and metadata.", name)
	}
	return part, nil
}

func formFault(err error) error {
	if fault.KindOf(err) != fault.Internal {
		return err
	}
	return fault.Wrap(err, fault.Invalid, "The form is not complete, or not one.").WithCode(codeInvalid)
}

// formPart tells a form that breaks off from a disk that does.
type formPart struct{ part io.Reader }

func (f formPart) Read(b []byte) (int, error) {
	n, err := f.part.Read(b)
	if err != nil && err != io.EOF {
		err = formFault(err)
	}
	return n, err
}

func partMetadata(part *multipart.Part) ([]byte, error) {
	text, err := io.ReadAll(budget.Reader("The metadata", part, 64*maxMetadata))
	if err != nil {
		return nil, formFault(err)
	}
	return metadataOf(text)
}

// lateMetadata reads what stands behind the value.
func lateMetadata(form *multipart.Reader, w *store.Write) error {
	for {
		part, err := nextPart(form)
		if part == nil || err != nil {
			return err
		}
		if part.FormName() == "value" {
			return invalid(codeInvalid, "The form has two parts called value.").At("value")
		}
		if w.Metadata, err = partMetadata(part); err != nil {
			return err
		}
	}
}

func (p *KV) deleteValue(ctx context.Context, c *product.Call) (r product.Reply, err error) {
	defer func() { p.count("api", "delete", false, err) }()
	_, sp, err := p.space(c, "delete")
	if err != nil {
		return r, err
	}
	key, err := keyOf(c)
	if err != nil {
		return r, err
	}
	return product.Reply{}, p.store.Delete(ctx, sp, key)
}

func (p *KV) getMetadata(ctx context.Context, c *product.Call) (r product.Reply, err error) {
	defer func() { p.count("api", "metadata", fault.KindOf(err) == fault.NotFound, err) }()
	_, sp, err := p.space(c, "get metadata")
	if err != nil {
		return r, err
	}
	key, err := keyOf(c)
	if err != nil {
		return r, err
	}
	e, err := p.store.Get(ctx, sp, key)
	if err != nil {
		return r, err
	}
	if e == nil {
		return r, noKey()
	}
	if e.Metadata == nil {
		return product.Reply{}, nil
	}
	return product.Reply{Result: json.RawMessage(e.Metadata)}, nil
}
