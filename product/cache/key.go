package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"

	"selvage/edge"
	"selvage/product/cache/semantics"
	"selvage/product/cache/storage"
)

// swayed are request fields that origins are known to act on although they are no part of the URL.
// Where they are present they are part of every key, as at Cloudflare: what somebody gets by
// sending one is never what others get who do not.
var swayed = []string{
	"Origin", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Forwarded-Host",
	"X-Host", "X-Forwarded-Scheme", "X-Forwarded-Server", "X-Forwarded-Prefix", "X-Forwarded-Port",
	"X-Forwarded-Ssl", "X-Url-Scheme", "X-Original-URL",
	"X-Original-Host", "X-Rewrite-URL", "Forwarded",
}

// selection says what part of a set of names belongs to the key.
type selection struct {
	all   bool
	names []string
}

func (s selection) has(name string) bool { return s.all || slices.Contains(s.names, name) }

// keyPlan says what makes up a cache key beside zone, scheme, host, path and query.
type keyPlan struct {
	queryInclude    *selection // nil includes all
	queryExclude    *selection // nil excludes none
	sortQuery       bool
	headers         []string
	headerPresence  []string
	headerContains  map[string][]string // value counts only if it contains one of these
	excludeOrigin   bool
	cookies         []string
	cookiePresence  []string
	resolvedHost    bool
	byDevice        bool
	byCountry       bool
	byLanguage      bool
	deceptionArmour bool
	custom          string // stands for all of it: a program's own key
}

// key returns the cache key of a request. The zone is always part of it: no rule of one tenant can
// reach what another has stored. Paths are not normalised: "/a" and "/%61" may be two things to an
// origin.
func (p *keyPlan) key(ex *edge.Exchange) storage.Key {
	k := keyHash{b: make([]byte, 0, 512)}
	r := &ex.Request
	k.add('z', ex.Zone.Zone.ID)
	if p.custom != "" {
		k.add('u', p.custom)
		return sha256.Sum256(k.b)
	}
	k.add('s', r.Scheme)
	k.add('h', r.Host)
	if port := r.Port; port != "" && port != defaultPorts[r.Scheme] {
		// The port may decide which origin is asked.
		k.add('t', port)
	}
	if p.resolvedHost {
		k.add('r', ex.Target.Hostname)
	}
	k.add('p', r.Path)
	if q, has := p.query(r.Query); has {
		k.add('q', q)
	}
	for _, name := range swayed {
		if r.Header.Has(name) && !(p.excludeOrigin && name == "Origin") {
			k.add('w', name)
			k.add('v', r.Header.Joined(name))
		}
	}
	p.addHeaders(&k, &r.Header)
	p.addCookies(&k, &r.Header)
	if p.byDevice {
		k.add('d', deviceOf(r.Header.Get("User-Agent")))
	}
	if p.byCountry {
		k.add('g', ex.Country)
	}
	if p.byLanguage {
		k.add('l', languageOf(r.Header.Get("Accept-Language")))
	}
	return sha256.Sum256(k.b)
}

var defaultPorts = map[string]string{"http": "80", "https": "443"}

// keyHash gathers parts, each with its sort and length so that no two lists of parts look alike.
type keyHash struct{ b []byte }

func (k *keyHash) add(sort byte, value string) {
	k.b = append(k.b, sort)
	k.b = binary.AppendUvarint(k.b, uint64(len(value)))
	k.b = append(k.b, value...)
}

// query returns the part of the query that counts; has is false if nothing does.
func (p *keyPlan) query(q string) (part string, has bool) {
	if q == "" || p.queryInclude == nil && p.queryExclude == nil && !p.sortQuery {
		return q, q != ""
	}
	var kept []string
	for pair := range strings.SplitSeq(q, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if p.queryInclude != nil && !p.queryInclude.has(name) || p.queryExclude != nil && p.queryExclude.has(name) {
			continue
		}
		kept = append(kept, pair)
	}
	if p.sortQuery {
		slices.Sort(kept)
	}
	return strings.Join(kept, "&"), len(kept) > 0
}

func (p *keyPlan) addHeaders(k *keyHash, h *edge.Header) {
	for _, name := range p.headers {
		if h.Has(name) {
			k.add('n', name)
			k.add('v', h.Joined(name))
		}
	}
	for _, name := range p.headerPresence {
		if h.Has(name) {
			k.add('e', name)
		}
	}
	if len(p.headerContains) == 0 {
		return
	}
	for _, name := range sortedKeys(p.headerContains) {
		v := h.Joined(name)
		for _, part := range p.headerContains[name] {
			if strings.Contains(v, part) {
				k.add('c', name)
				k.add('v', part)
			}
		}
	}
}

func (p *keyPlan) addCookies(k *keyHash, h *edge.Header) {
	if len(p.cookies) == 0 && len(p.cookiePresence) == 0 {
		return
	}
	for _, pair := range cookiesOf(h) {
		name, value, _ := strings.Cut(pair, "=")
		if slices.Contains(p.cookies, name) {
			k.add('k', name)
			k.add('v', value)
		}
		if slices.Contains(p.cookiePresence, name) {
			k.add('o', name)
		}
	}
}

// cookiesOf returns the request's cookies, sorted, so that their order does not matter.
func cookiesOf(h *edge.Header) []string {
	var out []string
	for _, line := range h.Values("Cookie") {
		for c := range strings.SplitSeq(line, ";") {
			out = append(out, strings.TrimSpace(c))
		}
	}
	slices.Sort(out)
	return out
}

// deviceOf sorts a User-Agent into mobile, tablet and desktop.
func deviceOf(agent string) string {
	a := strings.ToLower(agent)
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(a, w) })
	}
	switch {
	case has("ipad", "tablet", "kindle", "playbook", "silk/") || has("android") && !has("mobile"):
		return "tablet"
	case has("mobile", "iphone", "ipod", "android", "blackberry", "windows phone", "opera mini"):
		return "mobile"
	}
	return "desktop"
}

// languageOf returns the first language asked for.
func languageOf(accept string) string {
	list := semantics.ListOf(strings.ToLower(accept))
	if len(list) == 0 {
		return ""
	}
	tag, _, _ := strings.Cut(list[0], ";")
	return strings.TrimSpace(tag)
}
