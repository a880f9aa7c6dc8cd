package s3

import (
	"bytes"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// unreserved are the bytes that SigV4 leaves as they are.
func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' || c == '~'
}

// appendEncoded appends s percent-encoded as SigV4 does. Slashes are kept if slash says so.
func appendEncoded(b []byte, s string, slash bool) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		if unreserved(c) || slash && c == '/' {
			b = append(b, c)
			continue
		}
		b = append(b, '%', digits[c>>4], digits[c&15])
	}
	return b
}

// appendQuery appends the canonical form of a query: decoded, encoded in one way, sorted. A presigned
// request's own signature is left out.
func appendQuery(b []byte, raw string, presigned bool) []byte {
	if raw == "" {
		return b
	}
	type pair struct{ name, value []byte }
	var pairs []pair
	for raw != "" {
		var part string
		part, raw, _ = strings.Cut(raw, "&")
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name = unescapeQuery(name)
		if presigned && name == querySignature {
			continue
		}
		pairs = append(pairs, pair{appendEncoded(nil, name, false), appendEncoded(nil, unescapeQuery(value), false)})
	}
	slices.SortStableFunc(pairs, func(x, y pair) int {
		if c := bytes.Compare(x.name, y.name); c != 0 {
			return c
		}
		return bytes.Compare(x.value, y.value)
	})
	for i, p := range pairs {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(append(append(b, p.name...), '='), p.value...)
	}
	return b
}

// unescapeQuery decodes what can be decoded; readTarget has refused the rest already.
func unescapeQuery(s string) string {
	if d, err := url.QueryUnescape(s); err == nil {
		return d
	}
	return s
}

// appendHeader appends the canonical value of a header: values joined by commas, trimmed, runs of
// spaces made one.
func appendHeader(b []byte, r *http.Request, name string) []byte {
	switch name {
	case "host":
		return appendTrimmed(b, r.Host)
	case "content-length":
		return strconv.AppendInt(b, max(0, r.ContentLength), 10)
	case "transfer-encoding": // net/http takes it out of the fields
		return append(b, strings.Join(r.TransferEncoding, ",")...)
	}
	for i, v := range r.Header[http.CanonicalHeaderKey(name)] {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendTrimmed(b, v)
	}
	return b
}

func appendTrimmed(b []byte, s string) []byte {
	s = strings.TrimSpace(s)
	if !strings.Contains(s, "  ") {
		return append(b, s...)
	}
	for i := range len(s) {
		if s[i] != ' ' || s[i-1] != ' ' {
			b = append(b, s[i])
		}
	}
	return b
}
