package s3

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"selvage/product/r2/store"
	"selvage/spec"
)

// source is what a copy is made of.
type source struct {
	bucket *spec.Bucket
	key    string
}

func (s *source) stored() store.Bucket {
	return store.Bucket{Account: s.bucket.AccountID, ID: s.bucket.ID}
}

// copySource finds the object that a copy is made of: /bucket/key, percent-encoded, in the request's
// account.
func (x *request) copySource() (s source, refusal *Error) {
	raw := x.r.Header.Get("X-Amz-Copy-Source")
	path, query, versioned := strings.Cut(raw, "?")
	if versioned && strings.HasPrefix(query, "versionId=") && query != "versionId=null" {
		return s, notImplemented("Copying a version of an object")
	}
	decoded, err := url.PathUnescape(path)
	if err != nil {
		decoded = path
	}
	bucket, key, ok := strings.Cut(strings.TrimPrefix(decoded, "/"), "/")
	if !ok || bucket == "" || key == "" {
		return s, invalidArgument("copy source bucket name")
	}
	if !x.readable(bucket, key) {
		return s, accessDenied("the credential lacks the right to read the copy's source.")
	}
	if s.bucket = x.s.o.Buckets.Snapshot().StorageOf(x.account).Buckets[bucket]; s.bucket == nil {
		return s, noBucket()
	}
	s.key = key
	return s, nil
}

func (x *request) copyObject() error {
	h := x.r.Header
	directive := cmp.Or(h.Get("X-Amz-Metadata-Directive"), "COPY")
	if directive != "COPY" && directive != "REPLACE" && directive != "MERGE" {
		return invalidArgument("metadata directive %s.", directive)
	}
	n, refusal := x.readNewObject()
	if refusal != nil {
		return refusal
	}
	sourceKey, refusal := customerKey(h, "X-Amz-Copy-Source-")
	if refusal != nil {
		return refusal
	}
	from, refusal := x.copySource()
	if refusal != nil {
		return refusal
	}
	o := store.CopyOptions{
		IfSource: conditions(h, "X-Amz-Copy-Source-"), If: conditions(h, "Cf-Copy-Destination-"),
		Replace: directive != "COPY", HTTP: n.http, Custom: n.custom, StorageClass: cmp.Or(n.class, x.found.StorageClass), SourceSSECKey: sourceKey, SSECKey: n.key,
	}
	if v := h.Get("X-Amz-Checksum-Algorithm"); v != "" {
		k := kindNamed(v)
		if k == nil {
			return invalidRequest("Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
		}
		o.Compute = []string{k.name}
	}
	if directive == "MERGE" {
		if err := x.merge(&from, &o); err != nil {
			return err
		}
	}
	obj, err := x.s.o.Objects.Copy(x.r.Context(), from.stored(), from.key, store.Target{Bucket: x.stored(), Key: x.key}, o)
	if err != nil {
		return err
	}
	if n.key != nil {
		x.answerKey()
	}
	d := newDocument("CopyObjectResult")
	d.time("LastModified", obj.Uploaded)
	d.tag("ETag", obj.ETag)
	documentSums(d, &obj.Checksums, len(obj.Parts))
	x.w.xml(http.StatusOK, d.finish())
	return nil
}

// merge takes the metadata that the request does not name from the source. If the source is replaced
// meanwhile, its condition fails.
func (x *request) merge(from *source, o *store.CopyOptions) error {
	obj, err := x.s.o.Objects.Head(x.r.Context(), from.stored(), from.key)
	if err != nil {
		return err
	}
	if o.IfSource.Test(obj) != store.Held {
		return preconditionFailed()
	}
	o.IfSource.ETagMatches = []string{obj.ETag}
	custom := maps.Clone(obj.Custom)
	if custom == nil {
		custom = map[string]string{}
	}
	maps.Copy(custom, o.Custom)
	o.Custom = custom
	for _, f := range []struct{ mine, its *string }{
		{&o.HTTP.ContentType, &obj.HTTP.ContentType}, {&o.HTTP.ContentLanguage, &obj.HTTP.ContentLanguage}, {&o.HTTP.CacheControl, &obj.HTTP.CacheControl},
		{&o.HTTP.ContentDisposition, &obj.HTTP.ContentDisposition}, {&o.HTTP.ContentEncoding, &obj.HTTP.ContentEncoding},
	} {
		*f.mine = cmp.Or(*f.mine, *f.its)
	}
	if o.HTTP.CacheExpiry.IsZero() {
		o.HTTP.CacheExpiry = obj.HTTP.CacheExpiry
	}
	return nil
}

func (x *request) copyPart() error {
	h := x.r.Header
	number, refusal := x.partNumber()
	if refusal != nil {
		return refusal
	}
	o := store.CopyPartOptions{IfSource: conditions(h, "X-Amz-Copy-Source-")}
	if o.SSECKey, refusal = customerKey(h, "X-Amz-"); refusal != nil {
		return refusal
	}
	if o.SourceSSECKey, refusal = customerKey(h, "X-Amz-Copy-Source-"); refusal != nil {
		return refusal
	}
	from, refusal := x.copySource()
	if refusal != nil {
		return refusal
	}
	if o.Range, refusal = copyRange(h.Get("X-Amz-Copy-Source-Range")); refusal != nil {
		return refusal
	}
	part, err := x.s.o.Objects.CopyPart(x.r.Context(), x.part(number), from.stored(), from.key, o)
	if err != nil {
		return err
	}
	if o.SSECKey != nil {
		x.answerKey()
	}
	d := newDocument("CopyPartResult")
	d.time("LastModified", part.Uploaded)
	d.tag("ETag", part.ETag)
	documentSums(d, &part.Checksums, 0)
	x.w.xml(http.StatusOK, d.finish())
	return nil
}

// copyRange reads bytes=first-last, the one form that a part's copy may have.
func copyRange(s string) (*store.Range, *Error) {
	if s == "" {
		return nil, nil
	}
	set, ok := strings.CutPrefix(s, "bytes=")
	first, last, dash := strings.Cut(set, "-")
	from, err1 := strconv.ParseInt(first, 10, 64)
	to, err2 := strconv.ParseInt(last, 10, 64)
	if !ok || !dash || !digits(first) || !digits(last) || err1 != nil || err2 != nil || to == 1<<63-1 {
		return nil, invalidArgument("Invalid x-amz-copy-source-range: %s", s)
	}
	if to < from {
		return nil, invalidArgument("x-amz-copy-source-range must be positive.")
	}
	return &store.Range{Offset: from, Length: to - from + 1}, nil
}
