package assets

import (
	"net/http"
	"strings"

	"selvage/edge"
	"selvage/foundation/filebody"
)

// cacheControl has browsers ask each time whether what they hold is still good.
const cacheControl = "public, max-age=0, must-revalidate"

// view is a request as the rules see it.
type view struct {
	method, scheme, host, port string
	path                       string // normalized, begins with "/"
	query                      string // with "?", or empty
	header                     *edge.Header
}

func newView(q *edge.Request) view {
	v := view{method: q.Method, scheme: q.Scheme, host: q.Host, port: q.Port, path: q.Path, header: &q.Header}
	if q.Query != "" {
		v.query = "?" + escapeQuery(q.Query)
	}
	if strings.HasPrefix(v.path, "/") {
		v.path = normalize(v.path, true)
	}
	return v
}

// kind is what an outcome is.
type kind uint8

const (
	nothing    kind = iota // no file and no redirect
	bare                   // a status without a body
	redirected             // to location
	content                // a file
)

// outcome is what the assets answer to a request, before headers.
type outcome struct {
	kind     kind
	status   int
	location string
	file     *File
}

// look finds what the assets answer. miss says what answers where no file is.
func (s *site) look(v *view, miss NotFoundHandling) outcome {
	path := v.path
	to, status := s.redirects.match(v.host, path)
	proxied := status == http.StatusOK
	if status != 0 {
		t, ok := resolveTarget(to, v)
		if !ok {
			return outcome{kind: bare, status: http.StatusInternalServerError}
		}
		if !proxied {
			return outcome{kind: redirected, status: status, location: t.location(v)}
		}
		path = t.path
	}
	decoded := decode(path)
	in := s.resolve(decoded, miss, false)
	switch {
	case !in.found() && proxied:
		return outcome{kind: bare, status: http.StatusNotFound}
	case !in.found():
		return outcome{status: http.StatusNotFound}
	case v.method != http.MethodGet && v.method != http.MethodHead:
		return outcome{kind: bare, status: http.StatusMethodNotAllowed}
	case in.moved:
		return outcome{kind: redirected, status: http.StatusTemporaryRedirect, location: encode(in.redirect) + v.query}
	}
	// A file has one way to write its path.
	if canonical := encode(decoded); canonical != path {
		return outcome{kind: redirected, status: http.StatusTemporaryRedirect, location: canonical + v.query}
	}
	return outcome{kind: content, status: in.status, file: in.file}
}

// target is where a rule sends a request.
type target struct {
	origin          string // scheme://host, empty if it is the request's own
	path            string
	query, fragment string // with their signs, or empty
}

// resolveTarget takes a rule's destination apart. It returns false if that is no URL.
func resolveTarget(to string, v *view) (target, bool) {
	var t target
	to, t.fragment = cutBefore(to, '#')
	to, t.query = cutBefore(to, '?')
	scheme, rest, absolute := strings.Cut(to, "://")
	if absolute = absolute && withScheme.MatchString(to); !absolute && strings.HasPrefix(to, "//") {
		scheme, rest, absolute = v.scheme, to[2:], true
	}
	if !absolute {
		t.path = normalize(to, true)
		return t, strings.HasPrefix(to, "/")
	}
	host, path := rest, ""
	if at := strings.IndexAny(rest, `/\`); at >= 0 {
		host, path = rest[:at], rest[at:]
	}
	host, scheme = strings.ToLower(host), strings.ToLower(scheme)
	if host == "" || strings.ContainsAny(host, "<>^|% \"") {
		return t, false
	}
	host = strings.TrimSuffix(host, ":"+defaultPort(scheme))
	t.path = normalize("/"+strings.TrimPrefix(path, "/"), true)
	if own := v.origin(); scheme+"://"+host != own {
		t.origin = scheme + "://" + host
	}
	return t, true
}

func cutBefore(s string, sign byte) (before, from string) {
	if at := strings.IndexByte(s, sign); at >= 0 {
		if at == len(s)-1 {
			return s[:at], ""
		}
		return s[:at], s[at:]
	}
	return s, ""
}

func defaultPort(scheme string) string {
	if scheme == "http" {
		return "80"
	}
	return "443"
}

// origin returns scheme and host, with the port if it is not the scheme's.
func (v *view) origin() string {
	if v.port == "" || v.port == defaultPort(v.scheme) {
		return v.scheme + "://" + v.host
	}
	return v.scheme + "://" + v.host + ":" + v.port
}

// location returns the Location field: the query of the request stays unless the rule has its own.
func (t *target) location(v *view) string {
	query := t.query
	if query == "" {
		query = v.query
	}
	return t.origin + t.path + query + t.fragment
}

// answer writes an outcome into the exchange.
func (s *Site) answer(ex *edge.Exchange, l *site, v *view, o *outcome) error {
	ex.Response.Close()
	r := edge.Response{Status: o.status}
	r.Header.Grow(6)
	switch o.kind {
	case redirected:
		r.Header.Add("Location", o.location)
	case content:
		if err := s.content(&r, v, o); err != nil {
			return err
		}
		ex.Note.CacheStatus = "HIT"
	}
	l.headers.apply(v.host, v.path, &r.Header)
	ex.Response = r
	return nil
}

// content fills in a response that is a file.
func (s *Site) content(r *edge.Response, v *view, o *outcome) error {
	f := o.file
	etag := `"` + f.Hash + `"`
	r.Header.Add("ETag", etag)
	if f.Type != "" {
		r.Header.Add("Content-Type", f.Type)
	}
	if !v.header.Has("Authorization") && !v.header.Has("Range") {
		r.Header.Add("Cache-Control", cacheControl)
	}
	r.Header.Add("CF-Cache-Status", "HIT")
	if held := v.header.Get("If-None-Match"); held == etag || held == "W/"+etag {
		r.Status, r.Length = http.StatusNotModified, -1
		return nil
	}
	r.Length = f.Size
	if v.method == http.MethodHead || f.Size == 0 {
		return nil
	}
	file, err := s.store.o.Blobs.Open(f.Digest)
	if err != nil {
		return err
	}
	r.Body = filebody.New(file, f.Size)
	return nil
}
