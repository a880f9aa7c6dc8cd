package semantics

import (
	"strings"

	"selvage/edge"
)

// NotModified tells whether a GET or HEAD with these preconditions gets a 304 from a response with
// the header stored (RFC 9110, 13.2.2): If-None-Match if there is one, otherwise
// If-Modified-Since.
func NotModified(request, stored *edge.Header) bool {
	if request.Has("If-None-Match") {
		return matches(request.Joined("If-None-Match"), stored.Get("ETag"))
	}
	since, ok := ParseDate(request.Get("If-Modified-Since"))
	if !ok {
		return false
	}
	modified, ok := ParseDate(stored.Get("Last-Modified"))
	return ok && !modified.After(since)
}

// matches compares weakly (RFC 9110, 8.8.3.2).
func matches(list, etag string) bool {
	if strings.TrimSpace(list) == "*" {
		return true
	}
	if etag == "" {
		return false
	}
	etag = strings.TrimPrefix(etag, "W/")
	for list != "" {
		var tag string
		if tag, list = nextTag(list); strings.TrimPrefix(tag, "W/") == etag {
			return true
		}
	}
	return false
}

// nextTag takes the first entity-tag off a list; a backslash escapes nothing in one.
func nextTag(s string) (tag, rest string) {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			return strings.Trim(s[:i], " \t"), s[i+1:]
		}
	}
	return strings.Trim(s, " \t"), ""
}

// Validators sets the preconditions that ask whether a stored response is still good, and takes
// the client's own away. It returns false, with no precondition set, if there is nothing to ask by.
func Validators(request, stored *edge.Header) bool {
	DropPreconditions(request)
	etag, modified := stored.Get("ETag"), stored.Get("Last-Modified")
	if etag != "" {
		request.Set("If-None-Match", etag)
	}
	if modified != "" {
		request.Set("If-Modified-Since", modified)
	}
	return etag != "" || modified != ""
}

// DropPreconditions takes the preconditions that a cache answers itself, and Range, off a request.
func DropPreconditions(request *edge.Header) {
	for _, name := range [...]string{"If-None-Match", "If-Modified-Since", "If-Range", "Range"} {
		if request.Has(name) {
			request.Del(name)
		}
	}
}

// RangeApplies tells whether If-Range, if there is one, lets Range count (RFC 9110, 13.1.5): a
// strong entity-tag or the exact Last-Modified date.
func RangeApplies(request, stored *edge.Header) bool {
	v := request.Get("If-Range")
	if v == "" {
		return true
	}
	if strings.HasPrefix(v, `"`) {
		return v == stored.Get("ETag")
	}
	return !strings.HasPrefix(v, "W/") && v == stored.Get("Last-Modified")
}

// describing are the fields of a 304 that must not touch what is stored, for they describe the
// bytes of a body that a 304 does not bring.
var describing = []string{"Content-Encoding", "Content-Range", "Content-Length", "Set-Cookie"}

// Freshen returns the stored header updated by a response to a validation (RFC 9111, 3.2 and
// 4.3.4): each field of update takes the place of all of that name.
func Freshen(stored, update *edge.Header) edge.Header {
	keep := func(name string) bool { return !listed(name, describing) }
	var out edge.Header
	for _, f := range stored.Fields() {
		if !update.Has(f.Name) || !keep(f.Name) {
			out.Add(f.Name, f.Value)
		}
	}
	for _, f := range update.Fields() {
		if keep(f.Name) {
			out.Add(f.Name, f.Value)
		}
	}
	return out
}

// Without returns a copy of h without the named fields.
func Without(h *edge.Header, names []string) edge.Header {
	var out edge.Header
	for _, f := range h.Fields() {
		if !listed(f.Name, names) {
			out.Add(f.Name, f.Value)
		}
	}
	return out
}
