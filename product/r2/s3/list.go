package s3

import (
	"encoding/base64"
	"net/http"

	"selvage/product/r2/store"
)

// listObjects answers both versions of a listing.
func (x *request) listObjects() error {
	q, v2 := x.query, x.op.name == "ListObjectsV2"
	encode, refusal := x.encoding()
	if refusal != nil {
		return refusal
	}
	limit := store.MaxList
	if q.Has("max-keys") {
		if limit, refusal = maxKeys(q.Get("max-keys")); refusal != nil {
			return refusal
		}
	}
	prefix, delimiter := q.Get("prefix"), q.Get("delimiter")
	if !x.cred.Only.under(prefix) {
		return accessDenied("the temporary credential is not for this prefix.")
	}
	after := q.Get("start-after")
	if !v2 {
		after = q.Get("marker")
	}
	if token := q.Get("continuation-token"); token != "" {
		raw, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil {
			return invalidArgument("The continuation token provided is incorrect")
		}
		after = string(raw)
	}
	// A page of nothing says whether there is anything.
	page, err := x.s.o.Objects.List(x.r.Context(), x.stored(), store.ListOptions{Prefix: prefix, Delimiter: delimiter, After: after, Limit: max(1, min(limit, store.MaxList))})
	if err != nil {
		return err
	}
	if limit == 0 {
		page = &store.Listing{Truncated: len(page.Objects)+len(page.Prefixes) > 0}
	}
	d := newDocument("ListBucketResult")
	d.text("Name", x.bucket)
	d.text("Prefix", encode(prefix))
	last := ""
	for _, o := range page.Objects {
		d.start("Contents")
		d.text("Key", encode(o.Key))
		d.time("LastModified", o.Uploaded)
		d.tag("ETag", o.ETag)
		d.number("Size", o.Size)
		d.text("StorageClass", className(o.StorageClass))
		if !v2 || q.Get("fetch-owner") == "true" {
			x.owner(d)
		}
		d.end()
		last = o.Key
	}
	d.truth("IsTruncated", page.Truncated)
	for _, p := range page.Prefixes {
		d.start("CommonPrefixes")
		d.text("Prefix", encode(p))
		d.end()
		last = max(last, p)
	}
	d.optional("Delimiter", encode(delimiter))
	d.number("MaxKeys", int64(limit))
	d.optional("EncodingType", q.Get("encoding-type"))
	if v2 {
		d.number("KeyCount", int64(len(page.Objects)+len(page.Prefixes)))
		d.optional("StartAfter", encode(q.Get("start-after")))
		if q.Has("continuation-token") {
			d.text("ContinuationToken", q.Get("continuation-token"))
		}
		if page.Truncated && page.Next != "" {
			d.text("NextContinuationToken", base64.RawURLEncoding.EncodeToString([]byte(page.Next)))
		}
	} else {
		d.text("Marker", encode(q.Get("marker")))
		if page.Truncated {
			d.optional("NextMarker", encode(last))
		}
	}
	x.w.xml(http.StatusOK, d.finish())
	return nil
}

// stored names the request's bucket to the store.
func (x *request) stored() store.Bucket {
	return store.Bucket{Account: x.found.AccountID, ID: x.found.ID}
}

// encoding returns how keys are written: as they are, or percent-encoded.
func (x *request) encoding() (func(string) string, *Error) {
	switch v := x.query.Get("encoding-type"); {
	case v == "url":
		return func(s string) string { return string(appendEncoded(nil, s, false)) }, nil
	case v != "" || x.query.Has("encoding-type"):
		return nil, notImplemented("Unrecognized encoding-type %q", v)
	}
	return func(s string) string { return s }, nil
}
