package r2

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"selvage/product/r2/store"
)

// parseRange reads a Range field. nil is the whole: no bytes, more than one range, or nonsense, which
// RFC 9110 (14.2) says to ignore.
func parseRange(field string) *store.Range {
	spec, ok := strings.CutPrefix(field, "bytes=")
	if !ok || strings.Contains(spec, ",") {
		return nil
	}
	from, to, ok := strings.Cut(strings.TrimSpace(spec), "-")
	if !ok {
		return nil
	}
	if from == "" {
		n, err := strconv.ParseInt(to, 10, 64)
		if err != nil || n < 0 {
			return nil
		}
		if n == 0 {
			return &store.Range{Offset: 1<<63 - 1, Length: -1} // asks for nothing: cannot be satisfied
		}
		return &store.Range{Suffix: n}
	}
	first, err := strconv.ParseInt(from, 10, 64)
	if err != nil || first < 0 {
		return nil
	}
	if to == "" {
		return &store.Range{Offset: first, Length: -1}
	}
	last, err := strconv.ParseInt(to, 10, 64)
	if err != nil || last < first {
		return nil
	}
	return &store.Range{Offset: first, Length: min(last-first, 1<<62) + 1}
}

// fields is where a request's header fields are found.
type fields interface{ Get(name string) string }

// conditionOf reads the conditional fields of a request (RFC 9110, 13).
func conditionOf(h fields) store.Condition {
	c := store.Condition{WholeSeconds: true}
	c.ETagMatches = tags(h.Get("If-Match"), false)
	c.ETagDoesNotMatch = tags(h.Get("If-None-Match"), true)
	if t, err := http.ParseTime(h.Get("If-Unmodified-Since")); err == nil && c.ETagMatches == nil {
		c.UploadedBefore = t.Add(time.Second) // "before" does not include the second itself
	}
	if t, err := http.ParseTime(h.Get("If-Modified-Since")); err == nil && c.ETagDoesNotMatch == nil {
		c.UploadedAfter = t
	}
	return c
}

// tags reads a list of entity tags; weak ones count only in a weak comparison.
func tags(field string, weak bool) []string {
	if field == "" {
		return nil
	}
	list := []string{}
	for part := range strings.SplitSeq(field, ",") {
		part = strings.TrimSpace(part)
		if bare, isWeak := strings.CutPrefix(part, "W/"); isWeak {
			if !weak {
				list = append(list, part) // matches nothing
				continue
			}
			part = bare
		}
		list = append(list, strings.Trim(part, `"`))
	}
	return list
}

// rangeOf returns the range that a request asks for, nil for the whole: that is so, too, if If-Range
// names another content.
func rangeOf(h fields, o func() (*store.Object, error)) *store.Range {
	r := parseRange(h.Get("Range"))
	cond := h.Get("If-Range")
	if r == nil || cond == "" {
		return r
	}
	have, err := o()
	if err != nil {
		return r
	}
	if t, err := http.ParseTime(cond); err == nil {
		if have.Uploaded.Truncate(time.Second).After(t) {
			return nil
		}
		return r
	}
	if cond != quoted(have.ETag) {
		return nil
	}
	return r
}

func quoted(etag string) string { return `"` + etag + `"` }

// describe yields the header fields that an object is served with.
func describe(o *store.Object, yield func(name, value string)) {
	m := &o.HTTP
	for _, f := range [...][2]string{
		{"Content-Type", m.ContentType}, {"Content-Language", m.ContentLanguage}, {"Content-Disposition", m.ContentDisposition},
		{"Content-Encoding", m.ContentEncoding}, {"Cache-Control", m.CacheControl},
	} {
		if f[1] != "" && !strings.ContainsAny(f[1], "\r\n\x00") {
			yield(f[0], f[1])
		}
	}
	if !m.CacheExpiry.IsZero() {
		yield("Expires", m.CacheExpiry.UTC().Format(http.TimeFormat))
	}
	yield("ETag", quoted(o.ETag))
	yield("Last-Modified", o.Uploaded.UTC().Format(http.TimeFormat))
	yield("Accept-Ranges", "bytes")
}

// contentRange says which part of an object follows.
func contentRange(r store.Range, size int64) string {
	return "bytes " + strconv.FormatInt(r.Offset, 10) + "-" + strconv.FormatInt(r.Offset+r.Length-1, 10) + "/" + strconv.FormatInt(size, 10)
}
