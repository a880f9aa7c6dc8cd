package cache_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"selvage/edge"
	"selvage/product/cache"
	"selvage/product/cache/semantics"
)

func TestStatuses(t *testing.T) {
	s := newSite(t, cache.Options{}, everything)
	s.says("Cache-Control", "max-age=60, stale-while-revalidate=60, stale-if-error=600", "ETag", `"1"`)
	s.want(s.get("/a"), "MISS", "answer 1")
	s.want(s.get("/a"), "HIT", "answer 1")

	s.later(90 * time.Second)
	s.want(s.get("/a"), "UPDATING", "answer 1")
	eventually(t, func() bool { r := s.get("/a"); return r.body == "answer 2" && r.status == "HIT" })

	s.later(200 * time.Second)
	s.fails()
	s.want(s.get("/a"), "STALE", "answer 2")

	s.serve(func(_ context.Context, ex *edge.Exchange) error {
		if got := ex.Request.Header.Get("If-None-Match"); got != `"1"` {
			t.Errorf("If-None-Match = %q, want %q", got, `"1"`)
		}
		ex.Respond(304, edge.NewHeader("Cache-Control", "max-age=60", "X-New", "yes"), nil)
		return nil
	})
	r := s.get("/a")
	s.want(r, "REVALIDATED", "answer 2")
	if r.Header.Get("X-New") != "yes" {
		t.Error("a field of the 304 is missing")
	}
	s.want(s.get("/a"), "HIT", "answer 2")

	s.later(61 * time.Second)
	s.says("Cache-Control", "max-age=60")
	s.want(s.get("/a"), "EXPIRED", "answer 1")
}

func TestDefaultEligibility(t *testing.T) {
	s := newSite(t, cache.Options{})
	for _, c := range []struct {
		path, second string
		fields       []string
	}{
		{"/", "DYNAMIC", []string{"Cache-Control", "public, max-age=600"}},
		{"/page.html", "DYNAMIC", []string{"Cache-Control", "public, max-age=600"}},
		{"/style.css", "HIT", nil},
		{"/STYLE2.CSS", "HIT", nil},
		{"/robots.txt", "HIT", nil},
		{"/a.png", "HIT", []string{"Cache-Control", "max-age=5"}},
		{"/b.png", "BYPASS", []string{"Cache-Control", "no-store"}},
		{"/c.png", "BYPASS", []string{"Cache-Control", "private, max-age=60"}},
		{"/d.png", "BYPASS", []string{"Set-Cookie", "a=b", "Cache-Control", "max-age=60"}},
		{"/e.png", "MISS", []string{"Cache-Control", "max-age=0"}},
		{"/f.png", "MISS", []string{"Vary", "*", "Cache-Control", "max-age=60"}},
	} {
		s.says(c.fields...)
		first := s.get(c.path)
		if r := s.get(c.path); r.status != c.second {
			t.Errorf("%s with %q: second request is %s, want %s (first was %s)", c.path, c.fields, r.status, c.second, first.status)
		}
	}
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		name   string
		rules  []string
		fields []string
		want   string // of the second request for /page
	}{
		{"bypass", []string{`{"cache": false}`}, nil, "BYPASS"},
		{"default lifetime", []string{`{"cache": true}`}, nil, "HIT"},
		{"strict has none", []string{everything}, nil, "MISS"},
		{"bypass by default", []string{`{"cache": true, "edge_ttl": {"mode": "bypass_by_default"}}`}, nil, "MISS"},
		{"override beats no-store", []string{`{"cache": true, "edge_ttl": {"mode": "override_origin", "default": 60}}`}, []string{"Cache-Control", "no-store", "Set-Cookie", "a=b"}, "HIT"},
		{"status beats override", []string{`{"cache": true, "edge_ttl": {"mode": "override_origin", "default": 60, "status_code_ttl": [{"status_code": 200, "value": -1}]}}`}, nil, "BYPASS"},
		{"a later rule wins", []string{`{"cache": false}`, `http.request.uri.path eq "/page" => {"cache": true}`}, nil, "HIT"},
		{"a rule that does not match", []string{`http.request.uri.path eq "/other" => {"cache": true}`}, nil, "DYNAMIC"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, cache.Options{}, c.rules...)
			s.says(c.fields...)
			s.get("/page")
			r := s.get("/page")
			if r.status != c.want {
				t.Errorf("second request is %s, want %s (%s)", r.status, c.want, r.Header.Get("Cache-Status"))
			}
			if r.status == "HIT" && r.Header.Has("Set-Cookie") {
				t.Error("a stored response has a Set-Cookie")
			}
		})
	}
}

func TestDevelopmentModeBypasses(t *testing.T) {
	s := newSite(t, cache.Options{}, everything)
	s.setting("development_mode", "on")
	s.says("Cache-Control", "max-age=60")
	s.want(s.get("/a.css"), "BYPASS", "answer 1")
	s.want(s.get("/a.css"), "BYPASS", "answer 2")
}

func TestBrowserTTL(t *testing.T) {
	const page = `{"cache": true, "browser_ttl": %s}`
	for _, c := range []struct {
		name, rule string
		zone       float64
		origin     string
		want       string
	}{
		{"origin", "{\"cache\": true}", 0, "max-age=10", "max-age=10"},
		{"zone lengthens", "{\"cache\": true}", 100, "max-age=10", "max-age=100"},
		{"zone does not shorten", "{\"cache\": true}", 100, "max-age=1000", "max-age=1000"},
		{"rule respects origin", fmt.Sprintf(page, `{"mode": "respect_origin"}`), 100, "max-age=10", "max-age=10"},
		{"rule overrides", fmt.Sprintf(page, `{"mode": "override_origin", "default": 5}`), 100, "max-age=10", "max-age=5"},
		{"rule bypasses", fmt.Sprintf(page, `{"mode": "bypass"}`), 0, "max-age=10", "no-store"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, cache.Options{}, c.rule)
			s.setting("browser_cache_ttl", c.zone)
			s.says("Cache-Control", c.origin)
			for _, status := range []string{"MISS", "HIT"} {
				r := s.get("/page")
				if got := r.Header.Get("Cache-Control"); got != c.want || r.status != status {
					t.Errorf("%s has Cache-Control %q, want %s %q", r.status, got, status, c.want)
				}
			}
		})
	}
}

// TestPoisoning: what is no part of the key must not change what others get, so what is known to
// sway origins is part of it.
func TestPoisoning(t *testing.T) {
	s := newSite(t, cache.Options{}, everything)
	s.serve(func(_ context.Context, ex *edge.Exchange) error {
		var seen []string
		for _, f := range ex.Request.Header.Fields() {
			seen = append(seen, f.Name+"="+f.Value)
		}
		ex.Respond(200, edge.NewHeader("Cache-Control", "max-age=60"), []byte(ex.Request.Host+ex.Request.URI()+" "+strings.Join(seen, " ")))
		return nil
	})
	for _, name := range []string{"X-Forwarded-Host", "X-Host", "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-Forwarded-Scheme", "X-Forwarded-Port", "X-Forwarded-SSL", "X-Url-Scheme", "Forwarded", "Origin"} {
		uri := "/" + name
		poisoned := s.get(uri, name, "evil.test")
		if r := s.get(uri); r.status != "MISS" || strings.Contains(r.body, "evil") {
			t.Errorf("after a request with %s others get %s %q", name, r.status, r.body)
		}
		if r := s.get(uri, name, "evil.test"); r.status != "HIT" || r.body != poisoned.body {
			t.Errorf("the same request again gets %s %q", r.status, r.body)
		}
	}
	// Paths are what they are: no two spellings share an answer.
	s.get("/a/b")
	for _, uri := range []string{"/a//b", "/a/./b", "/a%2Fb", "/A/b", "/a/b/", "/a/b?", "/a\\b"} {
		if r := s.get(uri); r.status == "HIT" && uri != "/a/b?" {
			t.Errorf("%s is answered with what was stored for /a/b", uri)
		}
	}
	// A GET with a body is not answered from what one without stored, nor the other way round.
	ex := s.request("GET", "/a/b")
	ex.Request.Body, ex.Request.Length = strings.NewReader("x"), 1
	if r := s.send(context.Background(), ex); r.status != "BYPASS" {
		t.Errorf("a GET with a body is %s, want BYPASS", r.status)
	}
}

func TestTenantsNeverShare(t *testing.T) {
	s := newSite(t, cache.Options{}, everything)
	s.says("Cache-Control", "max-age=60")
	s.want(s.get("/a"), "MISS", "answer 1")
	other := *s.zone
	z := *other.Zone
	z.ID = strings.Repeat("d", 32)
	rs := ruleset(z.ID, everything)
	s.update(changeOf(&z), changeOf(rs))
	s.zone = s.snap.Zones[z.ID]
	s.want(s.get("/a"), "MISS", "answer 2")
}

func TestCacheKey(t *testing.T) {
	custom := func(key string) string { return `{"cache": true, "cache_key": {"custom_key": ` + key + `}}` }
	for _, c := range []struct {
		name, rule string
		a, b       string   // URIs
		fa, fb     []string // fields
		same       bool
	}{
		{"query counts", everything, "/p?a=1", "/p?a=2", nil, nil, false},
		{"no query and an empty one", everything, "/p", "/p?", nil, nil, true},
		{"include", custom(`{"query_string": {"include": {"list": ["a"]}}}`), "/p?a=1&b=2", "/p?b=3&a=1", nil, nil, true},
		{"include differs", custom(`{"query_string": {"include": {"list": ["a"]}}}`), "/p?a=1", "/p?a=2", nil, nil, false},
		{"exclude", custom(`{"query_string": {"exclude": {"list": ["utm"]}}}`), "/p?a=1&utm=x", "/p?a=1", nil, nil, true},
		{"exclude all", custom(`{"query_string": {"exclude": {"all": true}}}`), "/p?a=1", "/p", nil, nil, true},
		{"order", `{"cache": true, "cache_key": {"ignore_query_strings_order": true}}`, "/p?a=1&b=2", "/p?b=2&a=1", nil, nil, true},
		{"header", custom(`{"header": {"include": ["X-Plan"]}}`), "/p", "/p", []string{"X-Plan", "free"}, []string{"X-Plan", "pro"}, false},
		{"header presence", custom(`{"header": {"check_presence": ["X-Plan"]}}`), "/p", "/p", []string{"X-Plan", "free"}, []string{"X-Plan", "pro"}, true},
		{"header contains", custom(`{"header": {"contains": {"Accept": ["image/webp"]}}}`), "/p", "/p", []string{"Accept", "image/webp,*/*"}, []string{"Accept", "*/*"}, false},
		{"cookie", custom(`{"cookie": {"include": ["lang"]}}`), "/p", "/p", []string{"Cookie", "x=1; lang=de"}, []string{"Cookie", "lang=en"}, false},
		{"other cookies", custom(`{"cookie": {"include": ["lang"]}}`), "/p", "/p", []string{"Cookie", "x=1; lang=de"}, []string{"Cookie", "lang=de; x=2"}, true},
		{"device", custom(`{"user": {"device_type": true}}`), "/p", "/p", []string{"User-Agent", "Mozilla/5.0 (iPhone) Mobile"}, []string{"User-Agent", "Mozilla/5.0 (X11)"}, false},
		{"language", custom(`{"user": {"lang": true}}`), "/p", "/p", []string{"Accept-Language", "de, en"}, []string{"Accept-Language", "en"}, false},
		{"without Origin", custom(`{"header": {"exclude_origin": true}}`), "/p", "/p", []string{"Origin", "https://a.test"}, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, cache.Options{}, c.rule)
			s.says("Cache-Control", "max-age=60")
			s.get(c.a, c.fa...)
			if hit := s.get(c.b, c.fb...).status == "HIT"; hit != c.same {
				t.Errorf("%s %q and %s %q share an answer: %v, want %v", c.a, c.fa, c.b, c.fb, hit, c.same)
			}
		})
	}
}

func TestDeceptionArmour(t *testing.T) {
	s := newSite(t, cache.Options{}, `{"cache": true, "cache_key": {"cache_deception_armor": true}}`)
	for path, c := range map[string]struct{ typ, want string }{
		"/account/x.css": {"text/html; charset=utf-8", "MISS"},
		"/a.css":         {"text/css", "HIT"},
		"/a.png":         {"text/html", "MISS"},
		"/b.png":         {"image/webp", "HIT"},
		"/a.js":          {"application/json", "MISS"},
		"/b.js":          {"text/javascript", "HIT"},
		"/page":          {"text/html", "HIT"},
	} {
		s.says("Cache-Control", "max-age=60", "Content-Type", c.typ)
		s.get(path)
		if r := s.get(path); r.status != c.want {
			t.Errorf("%s of type %s: second request is %s, want %s", path, c.typ, r.status, c.want)
		}
	}
}

func TestConditionalsAndRanges(t *testing.T) {
	s := newSite(t, cache.Options{}, everything)
	const lm = "Wed, 01 Jan 2020 00:00:00 GMT"
	body := "0123456789"
	s.serve(func(_ context.Context, ex *edge.Exchange) error {
		if ex.Request.Header.Has("Range") && ex.Request.Path != "/far" {
			t.Errorf("the origin is asked for %s", ex.Request.Header.Get("Range"))
		}
		ex.Respond(200, edge.NewHeader("Cache-Control", "max-age=60", "ETag", `"v1"`, "Last-Modified", lm, "Content-Type", "text/plain"), []byte(body))
		return nil
	})
	for _, c := range []struct {
		name   string
		fields []string
		status int
		body   string
		rng    string // Content-Range
	}{
		{"match", []string{"If-None-Match", `"v1"`}, 304, "", ""},
		{"weak match", []string{"If-None-Match", `"x", W/"v1"`}, 304, "", ""},
		{"star", []string{"If-None-Match", `*`}, 304, "", ""},
		{"no match", []string{"If-None-Match", `"v2"`}, 200, body, ""},
		{"not since", []string{"If-Modified-Since", lm}, 304, "", ""},
		{"since", []string{"If-Modified-Since", "Tue, 31 Dec 2019 00:00:00 GMT"}, 200, body, ""},
		{"etag goes first", []string{"If-None-Match", `"v2"`, "If-Modified-Since", lm}, 200, body, ""},
		{"range", []string{"Range", "bytes=2-4"}, 206, "234", "bytes 2-4/10"},
		{"open range", []string{"Range", "bytes=7-"}, 206, "789", "bytes 7-9/10"},
		{"suffix", []string{"Range", "bytes=-2"}, 206, "89", "bytes 8-9/10"},
		{"beyond", []string{"Range", "bytes=20-30"}, 416, "", "bytes */10"},
		{"too long", []string{"Range", "bytes=5-100"}, 206, "56789", "bytes 5-9/10"},
		{"another unit", []string{"Range", "lines=1-2"}, 200, body, ""},
		{"overlapping", []string{"Range", "bytes=0-9,0-9"}, 200, body, ""},
		{"if-range fits", []string{"Range", "bytes=0-0", "If-Range", `"v1"`}, 206, "0", "bytes 0-0/10"},
		{"if-range differs", []string{"Range", "bytes=0-0", "If-Range", `"v2"`}, 200, body, ""},
		{"if-range date", []string{"Range", "bytes=0-0", "If-Range", lm}, 206, "0", "bytes 0-0/10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			for _, path := range []string{"/" + c.name, "/" + c.name} { // first from the fill, then stored
				if c.name == "suffix" && path == "/suffix" {
					s.get(path) // a suffix that is not stored goes to the origin as it is
				}
				r := s.get(path, c.fields...)
				if r.err != nil || r.Status != c.status || r.body != c.body || r.Header.Get("Content-Range") != c.rng {
					t.Errorf("%s: got %d %q %q (%v), want %d %q %q", r.status, r.Status, r.body, r.Header.Get("Content-Range"), r.err, c.status, c.body, c.rng)
				}
				if r.Status == 206 && r.Length != int64(len(c.body)) {
					t.Errorf("length is %d, want %d", r.Length, len(c.body))
				}
			}
		})
	}
	t.Run("multipart", func(t *testing.T) {
		s.get("/multi")
		r := s.get("/multi", "Range", "bytes=0-1, 8-9")
		_, boundary, _ := strings.Cut(r.Header.Get("Content-Type"), "boundary=")
		want := "--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n--B--\r\n"
		if got := strings.ReplaceAll(r.body, boundary, "B"); r.Status != 206 || got != want || r.Length != int64(len(r.body)) {
			t.Errorf("got %d, length %d\n%q, want\n%q", r.Status, r.Length, got, want)
		}
	})
	t.Run("far range passes through", func(t *testing.T) {
		before := s.fetches.Load()
		s.get("/far", "Range", "bytes=5000000-")
		s.get("/far", "Range", "bytes=-5")
		if got := s.fetches.Load() - before; got != 2 {
			t.Errorf("%d fetches, want 2", got)
		}
	})
	t.Run("preconditions for the origin", func(t *testing.T) {
		if r := s.get("/match", "If-Match", `"v1"`); r.status != "BYPASS" {
			t.Errorf("If-Match is %s, want BYPASS", r.status)
		}
	})
	t.Run("HEAD", func(t *testing.T) {
		if r := s.do("HEAD", "/match"); r.status != "HIT" || r.body != "" || r.Length != 10 || r.Status != 200 {
			t.Errorf("HEAD: got %s %d %q length %d", r.status, r.Status, r.body, r.Length)
		}
		if r := s.do("HEAD", "/headfirst"); r.status != "MISS" || r.body != "" {
			t.Errorf("HEAD: got %s %q", r.status, r.body)
		}
		eventually(t, func() bool { return s.get("/headfirst").status == "HIT" })
	})
	t.Run("only-if-cached", func(t *testing.T) {
		r := s.get("/nothing", "Cache-Control", "only-if-cached")
		if f, ok := r.err.(*edge.Failure); !ok || f.Status != 504 {
			t.Errorf("got %v, want a 504", r.err)
		}
	})
}

func TestVary(t *testing.T) {
	s := newSite(t, cache.Options{}, everything)
	s.serve(func(_ context.Context, ex *edge.Exchange) error {
		enc := ex.Request.Header.Get("Accept-Encoding")
		h := edge.NewHeader("Cache-Control", "max-age=60", "Vary", "Accept-Encoding")
		if strings.Contains(enc, "gzip") {
			h.Add("Content-Encoding", "gzip")
		}
		ex.Respond(200, h, []byte("for "+enc))
		return nil
	})
	s.want(s.get("/a", "Accept-Encoding", "gzip, deflate"), "MISS", "for gzip")
	s.want(s.get("/a", "Accept-Encoding", "deflate;q=0.5,GZIP"), "HIT", "for gzip")
	s.want(s.get("/a", "Accept-Encoding", "gzip, br"), "MISS", "for br, gzip")
	s.want(s.get("/a", "Accept-Encoding", "br;q=0.1, gzip;q=1.0, zstd;q=0"), "HIT", "for br, gzip")
	s.want(s.get("/a"), "MISS", "for ")
	s.want(s.get("/a", "Accept-Encoding", "identity"), "MISS", "for identity")
	s.want(s.get("/a", "Accept-Encoding", "gzip"), "HIT", "for gzip")
}

func TestUnsafeMethodsInvalidate(t *testing.T) {
	s := newSite(t, cache.Options{}, everything)
	s.says("Cache-Control", "max-age=60", "Location", "/b?x=1", "Content-Location", "https://other.test/c")
	prime := func() {
		for _, p := range []string{"/a", "/b?x=1", "/c"} {
			s.get(p)
			if r := s.get(p); r.status != "HIT" {
				t.Fatalf("%s is %s, want HIT", p, r.status)
			}
		}
	}
	prime()
	if r := s.do("POST", "/a"); r.status != "DYNAMIC" {
		t.Errorf("POST is %s, want DYNAMIC", r.status)
	}
	for p, want := range map[string]string{"/a": "MISS", "/b?x=1": "MISS", "/c": "HIT"} {
		if r := s.get(p); r.status != want {
			t.Errorf("after POST /a: %s is %s, want %s", p, r.status, want)
		}
	}
	s.serve(func(_ context.Context, ex *edge.Exchange) error { ex.Respond(500, edge.Header{}, nil); return nil })
	s.do("DELETE", "/a")
	if r := s.get("/a"); r.status != "HIT" {
		t.Errorf("after a DELETE that failed: %s, want HIT", r.status)
	}
}

func TestCacheTagsStayInside(t *testing.T) {
	s := newSite(t, cache.Options{}, everything)
	s.says("Cache-Control", "max-age=60", "Cache-Tag", "a,b", "Cloudflare-CDN-Cache-Control", "max-age=600", "CDN-Cache-Control", "max-age=1")
	for range 2 {
		r := s.get("/a")
		if r.Header.Has("Cache-Tag") || r.Header.Has("Cloudflare-CDN-Cache-Control") || !r.Header.Has("CDN-Cache-Control") {
			t.Errorf("%s: got %v", r.status, r.Header.Fields())
		}
	}
	s.later(30 * time.Second)
	s.want(s.get("/a"), "HIT", "answer 1")
}

func TestCacheStatusField(t *testing.T) {
	s := newSite(t, cache.Options{}, everything)
	s.says("Cache-Control", "max-age=60")
	first := s.get("/a")
	if got := first.Header.Get("Cache-Status"); got != "selvage; fwd=uri-miss; fwd-status=200; stored" {
		t.Errorf("on a miss: %q", got)
	}
	s.later(10 * time.Second)
	r := s.get("/a")
	if got := r.Header.Get("Cache-Status"); got != "selvage; hit; ttl=49" && got != "selvage; hit; ttl=50" {
		t.Errorf("on a hit: %q", got)
	}
	if age := r.Header.Get("Age"); age != "10" {
		t.Errorf("Age is %q, want 10", age)
	}
	if _, ok := semantics.ParseDate(r.Header.Get("Date")); r.Header.Has("Date") && !ok {
		t.Error("Date is no date")
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("did not happen in time")
		}
	}
}

func TestZoneSettings(t *testing.T) {
	for _, c := range []struct {
		id    string
		value any
		a, b  string
		want  string // of the second request
	}{
		{"cache_level", "aggressive", "/a.css?1", "/a.css?2", "MISS"},
		{"cache_level", "simplified", "/a.css?1", "/a.css?2", "HIT"},
		{"cache_level", "basic", "/a.css?1", "/a.css?1", "DYNAMIC"},
		{"cache_level", "basic", "/a.css", "/a.css", "HIT"},
		{"sort_query_string_for_cache", "off", "/a.css?x&y", "/a.css?y&x", "MISS"},
		{"sort_query_string_for_cache", "on", "/a.css?x&y", "/a.css?y&x", "HIT"},
	} {
		s := newSite(t, cache.Options{})
		s.setting(c.id, c.value)
		s.says("Cache-Control", "max-age=60")
		s.get(c.a)
		if r := s.get(c.b); r.status != c.want {
			t.Errorf("%s %v: %s after %s is %s, want %s", c.id, c.value, c.b, c.a, r.status, c.want)
		}
	}
}
