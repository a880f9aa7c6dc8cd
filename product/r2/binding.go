package r2

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"selvage/edge"
	"selvage/engine/isolate"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/r2/store"
	"selvage/spec"
)

// Fields of the runtime's R2 client. Source: workerd src/workerd/api/r2-rpc.c++, util/http-util.
const (
	fieldRequest      = "CF-R2-Request"       // JSON of what is asked, in a GET
	fieldMetadataSize = "CF-R2-Metadata-Size" // bytes of JSON in front of the body, in a PUT and in answers
	fieldError        = "CF-R2-Error"         // JSON of what is wrong
)

const (
	maxCall         = 2 << 20   // bytes of JSON in front of a put's body: a thousand keys to delete
	maxListMetadata = 900 << 10 // bytes of a listing: the runtime takes 1 MiB
)

// Bindings returns the binding type r2_bucket.
func (p *R2) Bindings() []product.BindingType {
	return []product.BindingType{{
		Type: "r2_bucket", Kind: isolate.R2, Check: p.checkBinding,
		Handle: func(user product.BindingUser, b *spec.WorkerBinding) edge.Handler {
			return (&binding{p: p, account: user.AccountID, bucket: boundBucket(b)}).handle
		},
		Refuse: func(ex *edge.Exchange, f *edge.Failure) {
			respondWireError(ex, fault.New(fault.Unavailable, "%s", f.Detail), nil)
		},
	}}
}

// boundTo is what a binding says: which bucket it is to.
type boundTo struct {
	Bucket       string `json:"bucket_name"`
	Jurisdiction string `json:"jurisdiction"`
}

func boundBucket(b *spec.WorkerBinding) (to boundTo) {
	_ = json.Unmarshal(b.Extra, &to) // what is no bucket's name is found nowhere
	return to
}

func (p *R2) checkBinding(_ context.Context, accountID string, b *spec.WorkerBinding) error {
	to := boundBucket(b)
	if to.Bucket == "" {
		return fault.New(fault.Invalid, "The R2 binding %s names no bucket.", b.Name).WithCode(10021).At("bucket_name")
	}
	if _, err := to.in(p.o.State.Snapshot(), accountID); err != nil {
		return fault.New(fault.Invalid, "R2 bucket '%.80s' not found. Create it first: wrangler r2 bucket create %.80s.", to.Bucket, to.Bucket).WithCode(10085).At("bucket_name")
	}
	return nil
}

// in returns the bucket that the binding is to.
func (to boundTo) in(snap *spec.Snapshot, accountID string) (*spec.Bucket, error) {
	h := http.Header{}
	if to.Jurisdiction != "" {
		h.Set("cf-r2-jurisdiction", to.Jurisdiction)
	}
	return bucketIn(snap, accountID, to.Bucket, h)
}

// binding answers one script's client for one bucket.
type binding struct {
	p       *R2
	account string
	bucket  boundTo
}

// errBadArgument is what the runtime's client never sends.
var errBadArgument = fault.New(fault.Invalid, "Metadata missing or invalid").WithCode(store.CodeInvalidArgument)

func (b *binding) handle(ctx context.Context, ex *edge.Exchange) error {
	err := b.answer(ctx, ex)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	b.p.metrics.failed(err)
	respondWireError(ex, err, nil)
	return nil
}

// answer does what is asked. Errors become the client's.
func (b *binding) answer(ctx context.Context, ex *edge.Exchange) error {
	c, body, err := readCall(&ex.Request)
	if err != nil {
		return err
	}
	bucket, err := b.bucket.in(b.p.o.State.Snapshot(), b.account)
	if err != nil {
		return err
	}
	do := b.p.on(bucket)
	b.p.metrics.operation("binding", c.Method)
	if ex.Request.Method == http.MethodGet {
		return b.read(ctx, ex, do, c)
	}
	return b.write(ctx, ex, do, c, body)
}

// readCall reads what is asked: from a field of a GET, from before the body of a PUT.
func readCall(q *edge.Request) (*call, io.Reader, error) {
	text, body := []byte(q.Header.Get(fieldRequest)), q.Body
	if q.Method == http.MethodPut {
		size, err := strconv.Atoi(q.Header.Get(fieldMetadataSize))
		if err != nil || size < 2 || size > maxCall || q.Body == nil {
			return nil, nil, errBadArgument
		}
		text = make([]byte, size)
		if _, err := io.ReadFull(q.Body, text); err != nil {
			return nil, nil, errBadArgument
		}
	}
	c := new(call)
	if err := json.Unmarshal(text, c); err != nil {
		return nil, nil, errBadArgument
	}
	if q.Method == http.MethodPut && q.Length >= 0 {
		c.bodySize = max(q.Length-int64(len(text)), 0)
	} else {
		c.bodySize = -1
	}
	return c, body, nil
}

// read answers a GET.
func (b *binding) read(ctx context.Context, ex *edge.Exchange, do *bucket, c *call) error {
	switch c.Method {
	case "head":
		o, err := do.Head(ctx, c.Object)
		if err != nil {
			return err
		}
		w := asWire(o, true, true)
		w.Range = &wireSpan{0, number(o.Size)}
		return respondWire(ex, w, nil, 0)
	case "get":
		return b.get(ctx, ex, do, c)
	case "list":
		return b.list(ctx, ex, do, c)
	}
	return errBadArgument
}

func (b *binding) get(ctx context.Context, ex *edge.Exchange, do *bucket, c *call) error {
	key, err := c.SSEC.key()
	if err != nil {
		return err
	}
	o := store.GetOptions{If: c.OnlyIf.condition(), SSECKey: key}
	switch {
	case c.RangeHeader != "":
		o.Range = parseRange(c.RangeHeader)
	case c.Range != nil:
		if o.Range, err = c.Range.span(); err != nil {
			return err
		}
	}
	r, err := do.Get(ctx, c.Object, o)
	if err != nil {
		return err
	}
	w := asWire(r.Object, true, true)
	if r.Body == nil {
		w.Range = &wireSpan{0, number(r.Object.Size)}
		respondWireError(ex, errPrecondition, &w)
		return nil
	}
	w.Range = &wireSpan{number(r.Range.Offset), number(r.Range.Length)}
	return respondWire(ex, w, r.Body, r.Range.Length)
}

// span returns the range that is asked for.
func (r *wireRange) span() (*store.Range, error) {
	s := &store.Range{Length: -1}
	if r.Suffix != nil {
		if *r.Suffix == 0 {
			return nil, errRange
		}
		return &store.Range{Suffix: int64(*r.Suffix)}, nil
	}
	if r.Offset != nil {
		s.Offset = int64(*r.Offset)
	}
	if r.Length != nil {
		if s.Length = int64(*r.Length); s.Length == 0 {
			return nil, errRange
		}
	}
	return s, nil
}

var (
	errRange        = fault.New(fault.Invalid, "The requested range is not satisfiable").WithCode(store.CodeInvalidRange)
	errPrecondition = fault.New(fault.Conflict, "At least one of the pre-conditions you specified did not hold.").WithCode(store.CodePreconditionFailed)
)

// wireListing is one page of a bucket.
type wireListing struct {
	Objects   []wireObject `json:"objects"`
	Truncated bool         `json:"truncated"`
	Cursor    string       `json:"cursor,omitempty"`
	Prefixes  []string     `json:"delimitedPrefixes"`
}

func (b *binding) list(ctx context.Context, ex *edge.Exchange, do *bucket, c *call) error {
	limit := store.MaxList
	if c.Limit != nil {
		limit = int(min(*c.Limit, store.MaxList+1))
	}
	if limit < 1 || limit > store.MaxList {
		return fault.New(fault.Invalid, "MaxKeys params must be positive integer <= 1000.").WithCode(store.CodeInvalidMaxKeys)
	}
	http, custom := slices.Contains(c.Include, 0), slices.Contains(c.Include, 1)
	if http || custom {
		limit = min(limit, 100) // so that metadata fits in, as at Cloudflare
	}
	after, err := openCursor(c.Cursor)
	if err != nil {
		return err
	}
	page, err := do.List(ctx, store.ListOptions{Prefix: c.Prefix, Delimiter: c.Delimiter, After: max(after, c.StartAfter), Limit: limit})
	if err != nil {
		return err
	}
	out := wireListing{Objects: []wireObject{}, Prefixes: page.Prefixes, Truncated: page.Truncated}
	if out.Prefixes == nil {
		out.Prefixes = []string{}
	}
	for _, o := range page.Objects {
		out.Objects = append(out.Objects, asWire(o, http, custom))
	}
	if page.Truncated {
		out.Cursor = sealCursor(page.Next)
	}
	return respondWire(ex, out, nil, 0)
}

func sealCursor(next string) string { return base64.RawURLEncoding.EncodeToString([]byte(next)) }

func openCursor(s string) (string, error) {
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return "", badCursor()
	}
	return string(raw), nil
}

// write answers a PUT.
func (b *binding) write(ctx context.Context, ex *edge.Exchange, do *bucket, c *call, body io.Reader) error {
	switch c.Method {
	case "put":
		o, err := c.putOptions()
		if err != nil {
			return err
		}
		o.Size = c.bodySize
		made, err := do.Put(ctx, c.Object, body, o)
		if err != nil {
			return err
		}
		return respondWire(ex, asWire(made, true, true), nil, 0)
	case "delete":
		keys := c.Objects
		if keys == nil {
			keys = []string{c.Object}
		}
		if err := do.Delete(ctx, keys); err != nil {
			return err
		}
		ex.Respond(http.StatusOK, edge.Header{}, nil)
		return nil
	}
	return b.multipart(ctx, ex, do, c, body)
}

// multipart answers what is asked of uploads.
func (b *binding) multipart(ctx context.Context, ex *edge.Exchange, do *bucket, c *call, body io.Reader) error {
	switch c.Method {
	case "createMultipartUpload":
		o, err := c.putOptions()
		if err != nil {
			return err
		}
		up, err := do.CreateUpload(ctx, c.Object, store.UploadOptions{HTTP: o.HTTP, Custom: o.Custom, StorageClass: o.StorageClass, SSECKey: o.SSECKey})
		if err != nil {
			return err
		}
		return respondWire(ex, map[string]string{"uploadId": up.ID}, nil, 0)
	case "uploadPart":
		key, err := c.SSEC.key()
		if err != nil {
			return err
		}
		part, err := do.PutPart(ctx, c, body, store.PartOptions{SSECKey: key, Size: c.bodySize})
		if err != nil {
			return err
		}
		return respondWire(ex, map[string]string{"etag": part.ETag}, nil, 0)
	case "completeMultipartUpload":
		o, err := do.completed(ctx, c)
		if err != nil {
			return err
		}
		made, err := do.Complete(ctx, c.Object, c.UploadID, o)
		if err != nil {
			return err
		}
		return respondWire(ex, asWire(made, true, true), nil, 0)
	case "abortMultipartUpload":
		if err := do.Abort(ctx, c.Object, c.UploadID); err != nil {
			return err
		}
		ex.Respond(http.StatusOK, edge.Header{}, nil)
		return nil
	}
	return errBadArgument
}

// respondWire answers with JSON and, behind it, size bytes of body, which it hands over.
func respondWire(ex *edge.Exchange, v any, body io.ReadCloser, size int64) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("answer a binding: %w", err)
	}
	h := edge.NewHeader("Content-Type", "application/json", fieldMetadataSize, strconv.Itoa(len(text)))
	if body == nil {
		ex.Respond(http.StatusOK, h, text)
		return nil
	}
	ex.Response.Close()
	ex.Response = edge.Response{Status: http.StatusOK, Header: h, Length: int64(len(text)) + size, Body: &prefixed{text, body}}
	return nil
}

// prefixed is a body behind some bytes.
type prefixed struct {
	first []byte
	io.ReadCloser
}

// Read reads what is in front first.
func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.first) == 0 {
		return p.ReadCloser.Read(b)
	}
	n := copy(b, p.first)
	p.first = p.first[n:]
	return n, nil
}

// respondWireError tells the client what is wrong; with told it gets what is known of the object too.
func respondWireError(ex *edge.Exchange, err error, told *wireObject) {
	code, status, message := wireError(err)
	problem, _ := json.Marshal(map[string]any{"version": 1, "v4code": code, "message": message})
	h := edge.NewHeader(fieldError, string(asciiJSON(problem)))
	if told == nil {
		ex.Respond(status, h, nil)
		return
	}
	text, _ := json.Marshal(told)
	h.Add(fieldMetadataSize, strconv.Itoa(len(text)))
	h.Add("Content-Type", "application/json")
	ex.Respond(status, h, text)
}

// asciiJSON escapes what may not stand in a header field.
func asciiJSON(text []byte) []byte {
	if !bytes.ContainsFunc(text, func(r rune) bool { return r > 126 }) {
		return text
	}
	var out []byte
	for _, r := range string(text) {
		switch {
		case r < 127:
			out = append(out, byte(r))
		case r > 0xffff:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
