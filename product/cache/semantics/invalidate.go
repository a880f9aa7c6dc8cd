package semantics

import (
	"net/url"
	"strings"

	"selvage/edge"
)

// Safe tells whether a method changes nothing (RFC 9110, 9.2.1). Unknown methods may.
func Safe(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return true
	}
	return false
}

// SameOrigin resolves a reference such as Location against a request, and returns path and query
// if it is of the same origin: only that may be invalidated (RFC 9111, 4.4).
func SameOrigin(r *edge.Request, reference string) (uri string, ok bool) {
	u, err := url.Parse(reference)
	if err != nil {
		return "", false
	}
	host := r.Host
	if r.Port != "" {
		host += ":" + r.Port
	}
	base, err := url.Parse(r.Scheme + "://" + host + r.URI())
	if err != nil {
		return "", false
	}
	u = base.ResolveReference(u)
	if u.Scheme != r.Scheme || !strings.EqualFold(u.Hostname(), r.Host) || u.Port() != r.Port {
		return "", false
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	if u.RawQuery != "" {
		path += "?" + u.RawQuery
	}
	return path, true
}
