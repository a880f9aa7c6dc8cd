package r2

import (
	"cmp"
	"context"
	"crypto/md5"
	"encoding/base64"
	"io"
	"net/http"
	"strconv"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/r2/store"
)

const (
	objectsPath = bucketPath + "/objects"
	objectPath  = objectsPath + "/{object_key...}"
)

// objectRoutes are what wrangler and the dashboard do with objects. Contents are raw bodies.
func (p *R2) objectRoutes() []product.Route {
	return []product.Route{
		{Method: "GET", Path: objectsPath, Permission: readStorage, Summary: "List the objects of a bucket.", Handle: p.listObjects},
		{Method: "DELETE", Path: objectsPath, Permission: writeStorage, Summary: "Delete the objects whose keys are listed.", MaxBody: 2 << 20, Handle: p.deleteObjects},
		{Method: "GET", Path: objectPath, Permission: readStorage, Summary: "Read an object.", Handle: p.getObject},
		{Method: "HEAD", Path: objectPath, Permission: readStorage, Summary: "Show what is known of an object.", Handle: p.headObject},
		{Method: "PUT", Path: objectPath, Permission: writeStorage, Summary: "Store an object: the body is its content.", MaxBody: store.MaxPut, Handle: p.putObject},
		{Method: "DELETE", Path: objectPath, Permission: writeStorage, Summary: "Delete an object.", Handle: p.deleteObject},
	}
}

// objectReply is an object as the API shows it.
type objectReply struct {
	Key          string            `json:"key"`
	ETag         string            `json:"etag"`
	LastModified string            `json:"last_modified"`
	Size         int64             `json:"size"`
	Version      string            `json:"version"`
	HTTP         map[string]string `json:"http_metadata"`
	Custom       map[string]string `json:"custom_metadata"`
	StorageClass string            `json:"storage_class"`
	SSEC         bool              `json:"ssec"`
}

func asObjectReply(o *store.Object) objectReply {
	r := objectReply{
		Key: o.Key, ETag: o.ETag, LastModified: asDate(o.Uploaded), Size: o.Size, Version: o.Version, StorageClass: o.StorageClass,
		SSEC: o.SSECKeyMD5 != "", HTTP: map[string]string{}, Custom: o.Custom,
	}
	if r.Custom == nil {
		r.Custom = map[string]string{}
	}
	for name, v := range map[string]string{
		"contentType": o.HTTP.ContentType, "contentLanguage": o.HTTP.ContentLanguage, "contentDisposition": o.HTTP.ContentDisposition,
		"contentEncoding": o.HTTP.ContentEncoding, "cacheControl": o.HTTP.CacheControl,
	} {
		if v != "" {
			r.HTTP[name] = v
		}
	}
	if !o.HTTP.CacheExpiry.IsZero() {
		r.HTTP["cacheExpiry"] = asDate(o.HTTP.CacheExpiry)
	}
	return r
}

func (p *R2) listObjects(ctx context.Context, c *product.Call) (product.Reply, error) {
	b, err := p.bucketOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	per, err := pageSize(c.Query, store.MaxList)
	if err != nil {
		return product.Reply{}, err
	}
	after, err := openCursor(c.Query.Get("cursor"))
	if err != nil {
		return product.Reply{}, err
	}
	p.metrics.operation("api", "list")
	page, err := p.on(b).List(ctx, store.ListOptions{
		Prefix: c.Query.Get("prefix"), Delimiter: c.Query.Get("delimiter"), After: max(after, c.Query.Get("start_after")), Limit: per,
	})
	if err != nil {
		return product.Reply{}, err
	}
	list := make([]objectReply, len(page.Objects))
	for i, o := range page.Objects {
		list[i] = asObjectReply(o)
	}
	info := &product.PageInfo{Count: len(list), PerPage: per, Objects: &product.ObjectsInfo{Truncated: page.Truncated, Delimited: page.Prefixes}}
	if page.Truncated {
		info.Cursor = sealCursor(page.Next)
	}
	return product.Reply{Result: list, Info: info}, nil
}

func (p *R2) headObject(ctx context.Context, c *product.Call) (product.Reply, error) {
	b, err := p.bucketOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	p.metrics.operation("api", "head")
	o, err := p.on(b).Head(ctx, c.Params["object_key"])
	if err != nil {
		return product.Reply{}, err
	}
	h := headerOf(o)
	h.Set("Content-Length", strconv.FormatInt(o.Size, 10))
	return product.Reply{Raw: &product.Raw{Header: h, Write: func(context.Context, io.Writer) error { return nil }}}, nil
}

// headerOf returns the fields that an object is served with by the API.
func headerOf(o *store.Object) http.Header {
	h := http.Header{}
	describe(o, func(name, value string) { h.Set(name, value) })
	h.Set("Etag", quoted(o.ETag))
	h.Set("Content-Type", cmp.Or(o.HTTP.ContentType, "application/octet-stream"))
	h.Set("Cf-R2-Storage-Class", o.StorageClass)
	return h
}

func (p *R2) getObject(ctx context.Context, c *product.Call) (product.Reply, error) {
	b, err := p.bucketOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	p.metrics.operation("api", "get")
	do, key := p.on(b), c.Params["object_key"]
	o := store.GetOptions{If: conditionOf(c.Header), Range: rangeOf(c.Header, func() (*store.Object, error) { return do.Head(ctx, key) })}
	r, err := do.Get(ctx, key, o)
	if err != nil {
		return product.Reply{}, err
	}
	h := headerOf(r.Object)
	if r.Body == nil {
		if r.Failed == store.Precondition {
			return product.Reply{}, errPrecondition
		}
		return product.Reply{Status: http.StatusNotModified, Raw: &product.Raw{Header: h, Write: func(context.Context, io.Writer) error { return nil }}}, nil
	}
	status := http.StatusOK
	if o.Range != nil {
		status = http.StatusPartialContent
		h.Set("Content-Range", contentRange(r.Range, r.Object.Size))
	}
	h.Set("Content-Length", strconv.FormatInt(r.Range.Length, 10))
	return product.Reply{Status: status, Raw: &product.Raw{Header: h, Write: func(_ context.Context, w io.Writer) error {
		defer r.Body.Close()
		p.objects.Leave(ctx)
		return copyPieces(w, r.Body)
	}}}, nil
}

// copySize is large, for each piece is flushed.
const copySize = 256 << 10

func copyPieces(w io.Writer, body io.Reader) error {
	buf := make([]byte, copySize)
	for {
		n, err := io.ReadFull(body, buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (p *R2) putObject(ctx context.Context, c *product.Call) (product.Reply, error) {
	b, err := p.bucketOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	o := store.PutOptions{HTTP: metadataOf(c.Header), StorageClass: c.Header.Get("cf-r2-storage-class"), Size: c.Length, If: conditionOf(c.Header)}
	if v := c.Header.Get("Expires"); v != "" {
		if o.HTTP.CacheExpiry, err = parseExpiry(v); err != nil {
			return product.Reply{}, err
		}
	}
	if v := c.Header.Get("Content-MD5"); v != "" {
		if o.Expect.MD5, err = base64.StdEncoding.DecodeString(v); err != nil || len(o.Expect.MD5) != md5.Size {
			return product.Reply{}, fault.New(fault.Invalid, "The field Content-MD5 is %.60q; it is the MD5 of the content, base64.", v).WithCode(codeInvalidDigest)
		}
	}
	p.metrics.operation("api", "put")
	made, err := p.on(b).Put(ctx, c.Params["object_key"], c.Body, o)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: asObjectReply(made)}, nil
}

func metadataOf(h http.Header) store.HTTPMetadata {
	return store.HTTPMetadata{
		ContentType: h.Get("Content-Type"), ContentLanguage: h.Get("Content-Language"), ContentDisposition: h.Get("Content-Disposition"),
		ContentEncoding: h.Get("Content-Encoding"), CacheControl: h.Get("Cache-Control"),
	}
}

// parseExpiry reads a date as HTTP or RFC 3339 write it.
func parseExpiry(v string) (time.Time, error) {
	t, err := http.ParseTime(v)
	if err != nil {
		t, err = time.Parse(time.RFC3339, v)
	}
	if err != nil {
		return t, fault.New(fault.Invalid, "The field Expires is %.60q; it is a date such as Thu, 26 Nov 2026 08:00:00 GMT.", v).WithCode(codeBadArgument)
	}
	return t, nil
}

func (p *R2) deleteObject(ctx context.Context, c *product.Call) (product.Reply, error) {
	return p.deleteKeys(ctx, c, []string{c.Params["object_key"]})
}

func (p *R2) deleteObjects(ctx context.Context, c *product.Call) (product.Reply, error) {
	var keys []string
	if err := c.Decode(&keys); err != nil {
		return product.Reply{}, err
	}
	return p.deleteKeys(ctx, c, keys)
}

func (p *R2) deleteKeys(ctx context.Context, c *product.Call, keys []string) (product.Reply, error) {
	b, err := p.bucketOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	p.metrics.operation("api", "delete")
	if err := p.on(b).Delete(ctx, keys); err != nil {
		return product.Reply{}, err
	}
	type deleted struct {
		Key string `json:"key"`
	}
	list := make([]deleted, len(keys))
	for i, k := range keys {
		list[i] = deleted{k}
	}
	if len(list) == 1 {
		return product.Reply{Result: list[0]}, nil
	}
	return product.Reply{Result: list}, nil
}
