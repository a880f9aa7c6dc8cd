package s3

import (
	"cmp"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"selvage/product/r2/store"
)

const metaPrefix = "X-Amz-Meta-"

// httpMetadata reads what an object is to be served with.
func httpMetadata(h http.Header) store.HTTPMetadata {
	m := store.HTTPMetadata{
		ContentType: h.Get("Content-Type"), ContentLanguage: h.Get("Content-Language"), ContentDisposition: h.Get("Content-Disposition"),
		ContentEncoding: strings.Join(h.Values("Content-Encoding"), ","), CacheControl: strings.Join(h.Values("Cache-Control"), ", "),
	}
	m.ContentEncoding = withoutChunked(m.ContentEncoding)
	if at, err := http.ParseTime(h.Get("Expires")); err == nil {
		m.CacheExpiry = at.UTC()
	}
	return m
}

// withoutChunked takes aws-chunked out of an encoding: it is how the body came, not what it is.
func withoutChunked(encoding string) string {
	if !strings.Contains(encoding, "aws-chunked") {
		return encoding
	}
	var kept []string
	for e := range strings.SplitSeq(encoding, ",") {
		if e = strings.TrimSpace(e); e != "" && e != "aws-chunked" {
			kept = append(kept, e)
		}
	}
	return strings.Join(kept, ",")
}

// customMetadata reads x-amz-meta-*. Values may be encoded as RFC 2047 says.
func customMetadata(h http.Header) (map[string]string, *Error) {
	var m map[string]string
	size := 0
	for name, values := range h {
		key, ok := strings.CutPrefix(name, metaPrefix)
		if !ok {
			continue
		}
		v := strings.Join(values, ",")
		if strings.Contains(v, "=?") {
			if decoded, err := new(mime.WordDecoder).DecodeHeader(v); err == nil {
				v = decoded
			}
		}
		if !utf8.ValidString(v) {
			return nil, invalidArgument("The value of x-amz-meta-%s is not UTF-8.", strings.ToLower(key))
		}
		if m == nil {
			m = map[string]string{}
		}
		m[strings.ToLower(key)] = v
		size += len(key) + len(v)
	}
	if size > store.MaxMetadata {
		return nil, byCode(store.CodeMetadataTooLarge)
	}
	return m, nil
}

// writeMetadata puts what an object is served with into an answer. Custom metadata whose names are no
// header's is left out and counted, as at R2.
func writeMetadata(h http.Header, o *store.Object) {
	h["Content-Type"] = []string{cmp.Or(o.HTTP.ContentType, "application/octet-stream")}
	for _, f := range [...][2]string{
		{"Content-Language", o.HTTP.ContentLanguage}, {"Content-Disposition", o.HTTP.ContentDisposition},
		{"Content-Encoding", o.HTTP.ContentEncoding}, {"Cache-Control", o.HTTP.CacheControl},
	} {
		if f[1] != "" {
			h[f[0]] = []string{f[1]}
		}
	}
	if !o.HTTP.CacheExpiry.IsZero() {
		h["Expires"] = []string{httpTime(o.HTTP.CacheExpiry)}
	}
	missing := 0
	for name, value := range o.Custom {
		if !token(name) {
			missing++
			continue
		}
		h["x-amz-meta-"+name] = []string{headerText(value)} // as it stands: botocore keeps the case
	}
	if missing > 0 {
		h["X-Amz-Missing-Meta"] = []string{strconv.Itoa(missing)}
	}
}

func httpTime(at time.Time) string { return at.UTC().Format(http.TimeFormat) }

// headerText writes text so that a header can hold it.
func headerText(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return strings.ReplaceAll(mime.BEncoding.Encode("UTF-8", s), "\r\n", "")
		}
	}
	return s
}

// token tells whether s can be a header's name. Source: RFC 9110, section 5.6.2.
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// conditions reads what has to hold. prefix is empty, or that of the conditions on a copy's ends. A
// matching ETag goes before a date, as in RFC 9110, section 13.2.2.
func conditions(h http.Header, prefix string) store.Condition {
	c := store.Condition{WholeSeconds: true}
	c.ETagMatches = etags(h.Values(prefix + "If-Match"))
	c.ETagDoesNotMatch = etags(h.Values(prefix + "If-None-Match"))
	if at, err := http.ParseTime(h.Get(prefix + "If-Unmodified-Since")); err == nil && c.ETagMatches == nil {
		c.UploadedBefore = at.Add(time.Second) // that second is still in time
	}
	if at, err := http.ParseTime(h.Get(prefix + "If-Modified-Since")); err == nil && c.ETagDoesNotMatch == nil {
		c.UploadedAfter = at
	}
	return c
}

// etags reads lists of ETags, without their quotes. Nobody's ETag holds a comma.
func etags(values []string) []string {
	var list []string
	for _, v := range values {
		for e := range strings.SplitSeq(v, ",") {
			e = strings.TrimPrefix(strings.TrimSpace(e), "W/")
			if e = strings.Trim(e, `"`); e != "" {
				list = append(list, e)
			}
		}
	}
	return list
}
