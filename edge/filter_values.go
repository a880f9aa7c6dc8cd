package edge

import (
	"cmp"
	"crypto/tls"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"selvage/engine/filter"
)

// FilterValues returns ex as rule expressions see it: the fields of filter.RequestSchema and, once
// there is a response, of filter.ResponseSchema. It costs nothing: fields are read when asked for.
func FilterValues(ex *Exchange) filter.Values { return (*filterValues)(ex) }

// filterValues is an Exchange that answers for the fields of expressions.
type filterValues Exchange

var _ filter.Values = (*filterValues)(nil)

// Bool answers for ssl.
func (v *filterValues) Bool(f filter.Field) bool {
	return f == filter.ClientSecure && v.TLS != nil
}

// Int answers for the numbers of a request and its response.
func (v *filterValues) Int(f filter.Field) int64 {
	switch f {
	case filter.HTTPTimeSeconds:
		return v.Start.Unix()
	case filter.HTTPTimeMillis:
		return int64(v.Start.Nanosecond() / 1e6)
	case filter.ResponseCode:
		return int64(v.Response.Status)
	}
	return 0
}

// IP answers for ip.src.
func (v *filterValues) IP(filter.Field) netip.Addr { return v.Client.Addr() }

// String answers for everything that is one string.
func (v *filterValues) String(f filter.Field) string {
	switch f {
	case filter.HTTPHost:
		return v.Request.Host
	case filter.HTTPMethod:
		return v.Request.Method
	case filter.HTTPURI:
		return v.Request.URI()
	case filter.HTTPPath:
		return v.Request.Path
	case filter.HTTPExtension:
		return extension(v.Request.Path)
	case filter.HTTPQuery:
		return v.Request.Query
	case filter.HTTPFullURI:
		return v.fullURI()
	case filter.HTTPCookie:
		return v.Request.Header.Get("Cookie")
	case filter.HTTPUserAgent:
		return v.Request.Header.Get("User-Agent")
	case filter.HTTPReferer:
		return v.Request.Header.Get("Referer")
	case filter.HTTPForwardedFor:
		return v.Request.Header.Joined("X-Forwarded-For")
	case filter.HTTPVersion:
		return v.Request.Proto
	}
	return v.known(f)
}

// known is the part of String that is not of the request itself.
func (v *filterValues) known(f filter.Field) string {
	switch f {
	case filter.ClientCountry:
		return v.Country
	case filter.TLSVersion:
		if v.TLS == nil {
			return "none"
		}
		return strings.Replace(tls.VersionName(v.TLS.Version), "TLS ", "TLSv", 1)
	case filter.TLSCipher:
		if v.TLS == nil {
			return "NONE"
		}
		return cipherName(v.TLS.Cipher)
	case filter.ZoneName:
		if v.Zone != nil {
			return v.Zone.Zone.Name
		}
	case filter.RayID:
		return v.ID
	case filter.ResponseMediaType:
		media, _, _ := strings.Cut(v.Response.Header.Get("Content-Type"), ";")
		return strings.ToLower(strings.TrimSpace(media))
	}
	return ""
}

func (v *filterValues) fullURI() string {
	host := v.Request.Host
	if v.Request.Port != "" {
		host += ":" + v.Request.Port
	}
	if v.Request.Query == "" {
		return v.Request.Scheme + "://" + host + v.Request.Path
	}
	return v.Request.Scheme + "://" + host + v.Request.Path + "?" + v.Request.Query
}

// extension returns what follows the last dot of the last segment, in lower case; a segment that
// only begins with a dot has none.
func extension(path string) string {
	segment := path[strings.LastIndexByte(path, '/')+1:]
	if i := strings.LastIndexByte(segment, '.'); i > 0 {
		return strings.ToLower(segment[i+1:])
	}
	return ""
}

// At answers for one element of arrays and maps.
func (v *filterValues) At(f filter.Field, key string, i int) (string, bool) {
	if f == filter.HTTPHeaders || f == filter.ResponseHeaders {
		return v.headerAt(f, key, i)
	}
	// A bound for arrays of usual size; larger ones move to the heap.
	var room [16]string
	if all := v.Append(room[:0], f, key); i < len(all) {
		return all[i], true
	}
	return "", false
}

func (v *filterValues) headerAt(f filter.Field, key string, i int) (string, bool) {
	h := &v.Response.Header
	if f == filter.HTTPHeaders {
		h = &v.Request.Header
		if strings.EqualFold(key, "host") {
			return v.Request.Host, i == 0
		}
	}
	for _, field := range h.Fields() {
		if !strings.EqualFold(field.Name, key) {
			continue
		}
		if i == 0 {
			return field.Value, true
		}
		i--
	}
	return "", false
}

// Append answers for arrays, and for what stands under a key of a map. Keys of headers match in
// any case, those of arguments and cookies exactly; arguments are not decoded.
func (v *filterValues) Append(dst []string, f filter.Field, key string) []string {
	switch f {
	case filter.HTTPHeaders:
		if strings.EqualFold(key, "host") {
			return append(dst, v.Request.Host)
		}
		return appendHeader(dst, &v.Request.Header, key)
	case filter.HTTPHeaderNames:
		return appendFields(append(dst, "Host"), &v.Request.Header, true)
	case filter.HTTPHeaderValues:
		return appendFields(append(dst, v.Request.Host), &v.Request.Header, false)
	case filter.ResponseHeaders:
		return appendHeader(dst, &v.Response.Header, key)
	case filter.ResponseHeaderNames:
		return appendFields(dst, &v.Response.Header, true)
	case filter.ResponseHeaderValues:
		return appendFields(dst, &v.Response.Header, false)
	case filter.HTTPArgs, filter.HTTPArgNames, filter.HTTPArgValues:
		return appendArgs(dst, v.Request.Query, f, key)
	case filter.HTTPCookies:
		return appendCookies(dst, &v.Request.Header, key)
	case filter.HTTPLanguages:
		return appendLanguages(dst, v.Request.Header.Joined("Accept-Language"))
	}
	return dst
}

func appendHeader(dst []string, h *Header, key string) []string {
	for _, field := range h.Fields() {
		if strings.EqualFold(field.Name, key) {
			dst = append(dst, field.Value)
		}
	}
	return dst
}

func appendFields(dst []string, h *Header, names bool) []string {
	for _, field := range h.Fields() {
		if names {
			dst = append(dst, field.Name)
		} else {
			dst = append(dst, field.Value)
		}
	}
	return dst
}

// appendArgs reads the query: f says whether names, values, or the values under key are wanted.
func appendArgs(dst []string, query string, f filter.Field, key string) []string {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		switch {
		case pair == "":
		case f == filter.HTTPArgNames:
			dst = append(dst, name)
		case f == filter.HTTPArgValues || name == key:
			dst = append(dst, value)
		}
	}
	return dst
}

// appendCookies compares names after URL decoding, values stay as they are.
func appendCookies(dst []string, h *Header, key string) []string {
	for _, field := range h.Fields() {
		if !strings.EqualFold(field.Name, "Cookie") {
			continue
		}
		for rest := field.Value; rest != ""; {
			var pair string
			pair, rest, _ = strings.Cut(rest, ";")
			name, value, found := strings.Cut(strings.TrimSpace(pair), "=")
			if found && cookieName(name) == key {
				dst = append(dst, value)
			}
		}
	}
	return dst
}

func cookieName(name string) string {
	if strings.IndexByte(name, '%') < 0 {
		return name
	}
	if decoded, err := url.PathUnescape(name); err == nil {
		return decoded
	}
	return name
}

// appendLanguages appends the languages of an Accept-Language field, most wanted first.
func appendLanguages(dst []string, accept string) []string {
	type language struct {
		tag string
		q   float64
	}
	var ls []language
	for part := range strings.SplitSeq(accept, ",") {
		tag, parameter, _ := strings.Cut(strings.TrimSpace(part), ";")
		q := 1.0
		if weight, ok := strings.CutPrefix(strings.TrimSpace(parameter), "q="); ok {
			q, _ = strconv.ParseFloat(weight, 64)
		}
		if tag = strings.TrimSpace(tag); tag != "" && q > 0 {
			ls = append(ls, language{tag, q})
		}
	}
	slices.SortStableFunc(ls, func(a, b language) int { return cmp.Compare(b.q, a.q) })
	for _, l := range ls {
		dst = append(dst, l.tag)
	}
	return dst
}

// cipherName is OpenSSL's name of a cipher suite, as rules know them.
func cipherName(id uint16) string {
	switch id {
	case tls.TLS_AES_128_GCM_SHA256:
		return "AEAD-AES128-GCM-SHA256"
	case tls.TLS_AES_256_GCM_SHA384:
		return "AEAD-AES256-GCM-SHA384"
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		return "AEAD-CHACHA20-POLY1305-SHA256"
	}
	name := strings.TrimPrefix(tls.CipherSuiteName(id), "TLS_")
	name = strings.NewReplacer("_RSA_WITH_", "-RSA-", "_ECDSA_WITH_", "-ECDSA-", "RSA_WITH_", "", "AES_128", "AES128",
		"AES_256", "AES256", "CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305", "_CBC", "", "_", "-").Replace(name)
	return name
}
