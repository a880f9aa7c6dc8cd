package s3

import (
	"encoding/xml"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"selvage/spec"
)

// corsConfiguration is a bucket's CORS rules in S3's XML.
type corsConfiguration struct {
	XMLName xml.Name   `xml:"CORSConfiguration"`
	Rules   []corsRule `xml:"CORSRule"`
}

type corsRule struct {
	ID            string   `xml:"ID"`
	Origins       []string `xml:"AllowedOrigin"`
	Methods       []string `xml:"AllowedMethod"`
	Headers       []string `xml:"AllowedHeader"`
	ExposeHeaders []string `xml:"ExposeHeader"`
	MaxAge        string   `xml:"MaxAgeSeconds"`
}

func (x *request) showCORS() error {
	if len(x.found.CORS) == 0 {
		return refuse(http.StatusNotFound, "NoSuchCORSConfiguration", "The CORS configuration does not exist.")
	}
	d := newDocument("CORSConfiguration")
	for _, r := range x.found.CORS {
		d.start("CORSRule")
		d.optional("ID", r.ID)
		for _, list := range []struct {
			name   string
			values []string
		}{{"AllowedOrigin", r.Allowed.Origins}, {"AllowedMethod", r.Allowed.Methods}, {"AllowedHeader", r.Allowed.Headers}, {"ExposeHeader", r.ExposeHeaders}} {
			for _, v := range list.values {
				d.text(list.name, v)
			}
		}
		if r.MaxAgeSeconds > 0 {
			d.number("MaxAgeSeconds", int64(r.MaxAgeSeconds))
		}
		d.end()
	}
	x.w.xml(http.StatusOK, d.finish())
	return nil
}

func (x *request) putCORS() error {
	data, err := x.readAll(maxCORSXML)
	if err != nil {
		return err
	}
	var in corsConfiguration
	if refusal := parseXML(data, "CORSConfiguration", &in); refusal != nil {
		return refusal
	}
	if len(in.Rules) == 0 {
		return malformedXML()
	}
	rules := make([]spec.CORSRule, len(in.Rules))
	for i, r := range in.Rules {
		rules[i] = spec.CORSRule{ID: r.ID, Allowed: spec.CORSAllowed{Origins: r.Origins, Methods: r.Methods, Headers: r.Headers}, ExposeHeaders: r.ExposeHeaders}
		if r.MaxAge == "" {
			continue
		}
		if rules[i].MaxAgeSeconds, err = strconv.Atoi(strings.TrimSpace(r.MaxAge)); err != nil {
			return malformedXML()
		}
	}
	return x.edit(http.StatusOK, func(b *spec.Bucket) { b.CORS = rules })
}

func (x *request) deleteCORS() error {
	return x.edit(http.StatusNoContent, func(b *spec.Bucket) { b.CORS = nil })
}

// edit changes the bucket and answers with nothing but status.
func (x *request) edit(status int, change func(b *spec.Bucket)) error {
	if err := x.s.o.Buckets.Edit(x.r.Context(), x.cred.Actor, x.found, change); err != nil {
		return err
	}
	x.w.empty(status)
	return nil
}

// preflight answers a browser that asks whether a page may send a request. It carries no credential, so
// without an account in the host's name all buckets of that name are looked at: their rules say who may
// ask, and no more is told.
func (x *request) preflight(snap *spec.Snapshot) error {
	h := x.r.Header
	origin, method := h.Get("Origin"), h.Get("Access-Control-Request-Method")
	if origin == "" || method == "" {
		return refuse(http.StatusBadRequest, "BadRequest", "Insufficient information. Origin request header needed.")
	}
	var headers []string
	for name := range strings.SplitSeq(h.Get("Access-Control-Request-Headers"), ",") {
		if name = strings.ToLower(strings.TrimSpace(name)); name != "" {
			headers = append(headers, name)
		}
	}
	out := x.w.Header()
	out["Vary"] = []string{"Origin, Access-Control-Request-Headers, Access-Control-Request-Method"}
	for _, b := range x.named(snap) {
		i := slices.IndexFunc(b.CORS, func(r spec.CORSRule) bool { return r.Matches(origin, method, headers) })
		if i < 0 {
			continue
		}
		r := &b.CORS[i]
		allowOrigin(out, r, origin)
		out.Set("Access-Control-Allow-Methods", strings.Join(r.Allowed.Methods, ", "))
		if len(headers) > 0 {
			out.Set("Access-Control-Allow-Headers", strings.Join(headers, ", "))
		}
		if r.MaxAgeSeconds > 0 {
			out.Set("Access-Control-Max-Age", strconv.Itoa(r.MaxAgeSeconds))
		}
		x.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return refuse(http.StatusForbidden, "AccessForbidden", "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.")
}

// named returns the buckets that a request without a credential may mean.
func (x *request) named(snap *spec.Snapshot) []*spec.Bucket {
	var all []*spec.Bucket
	for id, a := range snap.Storage {
		if b := a.Buckets[x.bucket]; b != nil && (x.target.account == "" || x.target.account == id) {
			all = append(all, b)
		}
	}
	return all
}

// allowOrigin lets a page of another origin read the answer if the bucket's rules say so.
func (x *request) allowOrigin() {
	origin := x.r.Header.Get("Origin")
	if origin == "" || x.found == nil {
		return
	}
	out := x.w.Header()
	out["Vary"] = []string{"Origin"}
	for i := range x.found.CORS {
		r := &x.found.CORS[i]
		if !r.MatchesOrigin(origin) || !slices.Contains(r.Allowed.Methods, x.r.Method) {
			continue
		}
		allowOrigin(out, r, origin)
		if len(r.ExposeHeaders) > 0 {
			out.Set("Access-Control-Expose-Headers", strings.Join(r.ExposeHeaders, ", "))
		}
		return
	}
}

func allowOrigin(out http.Header, r *spec.CORSRule, origin string) {
	if r.AnyOrigin() {
		out.Set("Access-Control-Allow-Origin", "*")
		return
	}
	out.Set("Access-Control-Allow-Origin", origin)
}
