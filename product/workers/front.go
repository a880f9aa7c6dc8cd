package workers

import (
	"context"
	"net/http"
	"strings"

	"selvage/edge"
	"selvage/engine/isolate"
)

// front stands before a script that others are bound to: a fetch() of its default export meets the
// script's assets first, as a request from outside does. RPC and named exports go to the script.
type front struct {
	host
	w       *Workers
	account string
	script  string
}

// Fetch answers from the assets of the version that a names, or asks the script.
func (f *front) Fetch(ctx context.Context, a isolate.Address, r *isolate.Request) (*isolate.Response, error) {
	if v := f.version(a); v != nil && v.site != nil && r.Upgrade == "" {
		ex := f.exchange(r)
		served, err := v.site.Serve(ctx, ex)
		if err != nil {
			return nil, err
		}
		if served {
			return asResponse(ex), nil
		}
	}
	return f.host.Fetch(ctx, a, r)
}

// version returns the version in force that an address of the default export leads to, or nil.
func (f *front) version(a isolate.Address) *version {
	callee := f.w.current.Load().find(f.account, f.script)
	if callee == nil || a.Entrypoint != "" {
		return nil
	}
	for _, sh := range callee.shares {
		if sh.version.name == a.Program && sh.version.unit == strings.TrimSuffix(a.Unit, tracedSuffix) {
			return sh.version
		}
	}
	return nil
}

// exchange makes what assets are asked with. The request's body stays where it is.
func (f *front) exchange(r *isolate.Request) *edge.Exchange {
	ex := &edge.Exchange{Inform: func(int, *edge.Header) {}}
	q := &ex.Request
	q.Method, q.Scheme, q.Proto = r.Method, r.Scheme, "HTTP/1.1"
	q.Host, q.Port, _ = edge.ParseAuthority(r.Host)
	q.Path, q.Query, _ = strings.Cut(r.Target, "?")
	for name, value := range r.Header {
		q.Header.Add(name, value)
	}
	return ex
}

func asResponse(ex *edge.Exchange) *isolate.Response {
	from := &ex.Response
	to := &isolate.Response{Status: from.Status, Length: from.Length, Body: from.Body}
	if to.Body == nil {
		to.Body = http.NoBody
	}
	for _, h := range from.Header.Fields() {
		to.Header = append(to.Header, isolate.Field{Name: h.Name, Value: h.Value})
	}
	return to
}
