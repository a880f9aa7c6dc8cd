package semantics_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"selvage/edge"
	"selvage/product/cache/semantics"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// fields makes a header of lines "Name: value".
func fields(lines ...string) *edge.Header {
	var h edge.Header
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		h.Add(name, value)
	}
	return &h
}

func TestJudge(t *testing.T) {
	strict := semantics.Policy{Control: semantics.ControlStrict}
	override := semantics.Policy{Mode: semantics.OverrideOrigin, TTL: time.Hour}
	date := "Date: " + semantics.FormatDate(now)
	for _, c := range []struct {
		name     string
		status   int
		policy   semantics.Policy
		auth     bool
		header   []string
		why      string // not stored
		lifetime time.Duration
		validate bool
		strict   bool
	}{
		{name: "max-age", header: []string{"Cache-Control: max-age=60"}, lifetime: time.Minute},
		{name: "s-maxage first", header: []string{"Cache-Control: max-age=60, s-maxage=120"}, lifetime: 2 * time.Minute, strict: true},
		{name: "expires", header: []string{date, "Expires: " + semantics.FormatDate(now.Add(time.Hour))}, lifetime: time.Hour},
		{name: "max-age before expires", header: []string{date, "Cache-Control: max-age=60", "Expires: " + semantics.FormatDate(now.Add(time.Hour))}, lifetime: time.Minute},
		{name: "invalid expires is past", policy: strict, header: []string{date, "Expires: 0"}, why: "no-freshness"},
		{name: "two expires are past", policy: strict, header: []string{date, "Expires: " + semantics.FormatDate(now.Add(time.Hour)), "Expires: " + semantics.FormatDate(now.Add(time.Hour))}, why: "no-freshness"},
		{name: "default for 200", lifetime: 120 * time.Minute},
		{name: "default for 302", status: 302, lifetime: 20 * time.Minute},
		{name: "default for 404", status: 404, lifetime: 3 * time.Minute},
		{name: "no default for 500", status: 500, why: "no-freshness"},
		{name: "no default for 403", status: 403, why: "no-freshness"},
		{name: "explicit for 500", status: 500, header: []string{"Cache-Control: max-age=5"}, lifetime: 5 * time.Second},
		{name: "strict has no default", policy: strict, why: "no-freshness"},
		{name: "strict is heuristic", policy: strict, header: []string{date, "Last-Modified: " + semantics.FormatDate(now.Add(-100*time.Minute))}, lifetime: 10 * time.Minute},
		{name: "heuristic is bounded", policy: strict, header: []string{date, "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT"}, lifetime: 24 * time.Hour},
		{name: "heuristic not for 403", policy: strict, status: 403, header: []string{date, "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT"}, why: "no-freshness"},
		{name: "heuristic for public", policy: strict, status: 599, header: []string{date, "Cache-Control: public", "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT"}, lifetime: 24 * time.Hour},
		{name: "no-store", header: []string{"Cache-Control: no-store, max-age=60"}, why: "no-store"},
		{name: "no-store understood", header: []string{"Cache-Control: no-store, must-understand, max-age=60"}, lifetime: time.Minute},
		{name: "must-understand", status: 599, header: []string{"Cache-Control: must-understand, max-age=60"}, why: "must-understand"},
		{name: "private", header: []string{"Cache-Control: private, max-age=60"}, why: "private"},
		{name: "private fields", header: []string{`Cache-Control: private="x-user", max-age=60`, "X-User: me"}, lifetime: time.Minute},
		{name: "no-cache without validator", header: []string{"Cache-Control: no-cache, max-age=60"}, why: "no-freshness"},
		{name: "no-cache", header: []string{"Cache-Control: no-cache", `ETag: "a"`}, validate: true, strict: true},
		{name: "no-cache, lax", policy: semantics.Policy{Control: semantics.ControlLax}, header: []string{"Cache-Control: no-cache", `ETag: "a"`}, why: "no-cache"},
		{name: "must-revalidate", header: []string{"Cache-Control: max-age=60, must-revalidate"}, lifetime: time.Minute, strict: true},
		{name: "must-revalidate, lax", policy: semantics.Policy{Control: semantics.ControlLax}, header: []string{"Cache-Control: max-age=60, must-revalidate"}, lifetime: time.Minute},
		{name: "proxy-revalidate", header: []string{"Cache-Control: max-age=60, proxy-revalidate"}, lifetime: time.Minute, strict: true},
		{name: "set-cookie", header: []string{"Cache-Control: max-age=60", "Set-Cookie: a=b"}, why: "set-cookie"},
		{name: "set-cookie set aside", header: []string{`Cache-Control: max-age=60, no-cache="Set-Cookie"`, "Set-Cookie: a=b"}, lifetime: time.Minute},
		{name: "vary star", header: []string{"Cache-Control: max-age=60", "Vary: a, *"}, why: "vary"},
		{name: "partial", status: 206, header: []string{"Cache-Control: max-age=60"}, why: "status"},
		{name: "authorized", auth: true, header: []string{"Cache-Control: max-age=60"}, why: "authorization"},
		{name: "authorized, public", auth: true, header: []string{"Cache-Control: max-age=60, public"}, lifetime: time.Minute},
		{name: "authorized, s-maxage", auth: true, header: []string{"Cache-Control: s-maxage=60"}, lifetime: time.Minute, strict: true},
		{name: "authorized, must-revalidate", auth: true, header: []string{"Cache-Control: max-age=60, must-revalidate"}, lifetime: time.Minute, strict: true},
		{name: "authorized, override", auth: true, policy: override, why: "authorization"},
		{name: "override", policy: override, header: []string{"Cache-Control: private, no-store", "Set-Cookie: a=b"}, lifetime: time.Hour},
		{name: "override not for errors", policy: override, status: 503, why: "no-freshness"},
		{name: "override for 404", policy: override, status: 404, lifetime: time.Hour},
		{name: "status no-store", policy: semantics.Policy{StatusTTL: []semantics.StatusTTL{{From: 200, To: 299, TTL: -time.Second}}}, header: []string{"Cache-Control: max-age=60"}, why: "rule"},
		{name: "status no-cache", policy: semantics.Policy{StatusTTL: []semantics.StatusTTL{{From: 200, To: 299}}}, header: []string{"Cache-Control: max-age=60", `ETag: "a"`}, validate: true, strict: true},
		{name: "status for errors", status: 503, policy: semantics.Policy{StatusTTL: []semantics.StatusTTL{{From: 500, To: 599, TTL: time.Second}}}, lifetime: time.Second},
		{name: "bypass by default", policy: semantics.Policy{Mode: semantics.BypassByDefault}, why: "no-freshness"},
		{name: "targeted", header: []string{"CDN-Cache-Control: max-age=600", "Cache-Control: no-store"}, lifetime: 10 * time.Minute},
		{name: "more targeted", header: []string{"Cloudflare-CDN-Cache-Control: max-age=6", "CDN-Cache-Control: max-age=600"}, lifetime: 6 * time.Second},
		{name: "targeted no-store", header: []string{"CDN-Cache-Control: no-store", "Cache-Control: max-age=60"}, why: "no-store"},
		{name: "targeted, wrong type", header: []string{`CDN-Cache-Control: max-age="600"`, "Cache-Control: max-age=60"}, lifetime: time.Minute},
		{name: "targeted, wrong case", header: []string{"CDN-Cache-Control: Max-Age=600", "Cache-Control: max-age=60"}, lifetime: time.Minute},
		{name: "targeted, not valid", header: []string{"CDN-Cache-Control: max-age=600, &&&", "Cache-Control: max-age=60"}, lifetime: time.Minute},
		{name: "targeted hides expires", policy: strict, header: []string{date, "CDN-Cache-Control: public", "Expires: " + semantics.FormatDate(now.Add(time.Hour))}, why: "no-freshness"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.status == 0 {
				c.status = 200
			}
			v := semantics.Judge(semantics.Exchange{Authorized: c.auth, Status: c.status, Header: fields(c.header...), Got: now}, c.policy)
			if v.Store != (c.why == "") || v.Why != c.why {
				t.Fatalf("Store = %v, Why = %q, want %q", v.Store, v.Why, c.why)
			}
			if v.Store && (v.Lifetime != c.lifetime || v.Validate != c.validate || v.Strict != c.strict) {
				t.Errorf("got %v, validate %v, strict %v; want %v, %v, %v", v.Lifetime, v.Validate, v.Strict, c.lifetime, c.validate, c.strict)
			}
		})
	}
}

func TestStale(t *testing.T) {
	const m = time.Minute
	for _, c := range []struct {
		cc      string
		age     time.Duration
		state   semantics.State
		onError bool
		offline bool
	}{
		{"max-age=60", m - 1, semantics.Fresh, true, true},
		{"max-age=60", m, semantics.Stale, false, true},
		{"max-age=60", 25 * time.Hour, semantics.Stale, false, false},
		{"max-age=60, must-revalidate", m, semantics.Stale, false, false},
		{"max-age=60, proxy-revalidate", m, semantics.Stale, false, false},
		{"s-maxage=60", m, semantics.Stale, false, false},
		{"max-age=60, stale-while-revalidate=60", 2*m - 1, semantics.Revalidating, false, true},
		{"max-age=60, stale-while-revalidate=60", 2 * m, semantics.Stale, false, true},
		{"s-maxage=60, stale-while-revalidate=60", m, semantics.Revalidating, false, true},
		{"max-age=60, stale-while-revalidate=60, must-revalidate", m, semantics.Stale, false, false},
		{"max-age=60, stale-if-error=60", 2*m - 1, semantics.Stale, true, true},
		{"max-age=60, stale-if-error=60", 2 * m, semantics.Stale, false, true},
		{"max-age=60, stale-if-error=60, no-cache", m - 1, semantics.Stale, false, false},
	} {
		v := semantics.Judge(semantics.Exchange{Status: 200, Header: fields("Cache-Control: "+c.cc, `ETag: "a"`), Got: now}, semantics.Policy{})
		if v.StateAt(c.age) != c.state || v.UsableOnError(c.age) != c.onError || v.UsableDisconnected(c.age) != c.offline {
			t.Errorf("%s at %v: state %v, on error %v, offline %v; want %v, %v, %v", c.cc, c.age, v.StateAt(c.age), v.UsableOnError(c.age), v.UsableDisconnected(c.age), c.state, c.onError, c.offline)
		}
	}
}

func TestParseCacheControl(t *testing.T) {
	d := func(n int64) semantics.Delta { return semantics.Delta{Seconds: n, Set: true} }
	for _, c := range []struct {
		in   string
		want semantics.Directives
	}{
		{"", semantics.Directives{}},
		{" , ,", semantics.Directives{}},
		{"MAX-AGE=5", semantics.Directives{Present: true, MaxAge: d(5)}},
		{`max-age="5"`, semantics.Directives{Present: true, MaxAge: d(5)}},
		{"max-age='5'", semantics.Directives{Present: true, MaxAge: d(0)}},
		{"max-age=-5", semantics.Directives{Present: true, MaxAge: d(0)}},
		{"max-age=5.5", semantics.Directives{Present: true, MaxAge: d(0)}},
		{"max-age", semantics.Directives{Present: true, MaxAge: d(0)}},
		{"max-age=99999999999999999999", semantics.Directives{Present: true, MaxAge: d(1 << 31)}},
		{"max-age=1, max-age=2", semantics.Directives{Present: true, MaxAge: d(1)}},
		{"max-age =5", semantics.Directives{Present: true}},
		{`x="max-age=5, no-store", public`, semantics.Directives{Present: true, Public: true}},
		{`no-cache="a, b"`, semantics.Directives{Present: true, NoCacheFields: []string{"a", "b"}}},
		{`no-cache=""`, semantics.Directives{Present: true, NoCache: true}},
		{`private, no-cache="Set-Cookie`, semantics.Directives{Present: true, Private: true, NoCacheFields: []string{`"Set-Cookie`}}},
	} {
		if got := semantics.ParseCacheControl(fields("Cache-Control: "+c.in), "Cache-Control"); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q = %+v, want %+v", c.in, got, c.want)
		}
	}
}

func TestParseDate(t *testing.T) {
	for in, ok := range map[string]bool{
		"Sun, 06 Nov 1994 08:49:37 GMT": true, "SUN, 06 NOV 1994 08:49:37 gmt": true,
		"Sunday, 06-Nov-94 08:49:37 GMT": true, "Sun Nov  6 08:49:37 1994": true,
		"Sun, 06 Nov 1994 08:49:37 UTC": false, "Sun, 06 Nov 94 08:49:37 GMT": false, "Sun 06 Nov 1994 08:49:37 GMT": false,
		"Sun, 06  Nov 1994 08:49:37 GMT": false, "Sun, 06-Nov-1994 08:49:37 GMT": false, "Sun, 06 Nov 1994 08.49.37 GMT": false,
		"Sun, 06 Nov 1994 8:49:37 GMT": false, "0": false, "": false, "Sun, 36 Nov 1994 08:49:37 GMT": false,
	} {
		got, valid := semantics.ParseDate(in)
		if valid != ok || ok && got.Unix() != 784111777 {
			t.Errorf("ParseDate(%q) = %v, %v, want valid %v", in, got, valid, ok)
		}
	}
}

func TestBirth(t *testing.T) {
	for _, c := range []struct {
		header []string
		delay  time.Duration
		age    time.Duration
	}{
		{nil, 0, 0},
		{nil, 5 * time.Second, 5 * time.Second},
		{[]string{"Age: 30"}, 5 * time.Second, 35 * time.Second},
		{[]string{"Age: 30, 0"}, 0, 30 * time.Second},
		{[]string{"Age: 30", "Age: 0"}, 0, 30 * time.Second},
		{[]string{"Age: -30"}, 0, 0},
		{[]string{"Age: 3.5"}, 0, 0},
		{[]string{"Age: 30", "Date: " + semantics.FormatDate(now.Add(-time.Minute))}, 0, time.Minute},
		{[]string{"Date: " + semantics.FormatDate(now.Add(time.Minute))}, 0, 0},
	} {
		if got := now.Sub(semantics.Birth(fields(c.header...), now.Add(-c.delay), now)); got != c.age {
			t.Errorf("%q after %v: age %v, want %v", c.header, c.delay, got, c.age)
		}
	}
}

func TestSelecting(t *testing.T) {
	for _, c := range []struct {
		vary string
		a, b []string
		same bool
	}{
		{"Foo", []string{"Foo: 1, 2"}, []string{"Foo: 1", "Foo: 2"}, true},
		{"Foo", []string{"Foo: 1,2"}, []string{"foo:  1 ,  2 "}, true},
		{"Foo", []string{"Foo: 1,2"}, []string{"Foo: 2,1"}, false},
		{"Foo", nil, []string{"Foo: "}, false},
		{"Foo", []string{`Foo: "a,b"`}, []string{`Foo: "a", "b"`}, false},
		{"Accept-Language", []string{"Accept-Language: en, de"}, []string{"Accept-Language: DE,en"}, true},
		{"Accept-Language", []string{"Accept-Language: en, de;q=0.5"}, []string{"Accept-Language: en;q=0.5, de"}, false},
		{"Accept-Encoding", []string{"Accept-Encoding: gzip, deflate, br"}, []string{"Accept-Encoding: br;q=0.5, x-gzip"}, true},
		{"Accept-Encoding", []string{"Accept-Encoding: *"}, []string{"Accept-Encoding: zstd, br, gzip"}, true},
		{"Accept-Encoding", []string{"Accept-Encoding: *, br;q=0"}, []string{"Accept-Encoding: zstd, gzip"}, true},
		{"Accept-Encoding", []string{"Accept-Encoding: gzip"}, nil, false},
	} {
		names := semantics.ParseVary(fields("Vary: " + c.vary))
		if same := semantics.Selects(names, semantics.Selecting(names, fields(c.a...)), fields(c.b...)); same != c.same {
			t.Errorf("Vary %s: %q and %q select the same: %v, want %v", c.vary, c.a, c.b, same, c.same)
		}
	}
	if got := semantics.ParseVary(fields("Content-Encoding: gzip")); !reflect.DeepEqual(got, []string{"accept-encoding"}) {
		t.Errorf("a coded response without Vary varies by %q", got)
	}
	for _, v := range []string{"*", "*, *", ", *", "a, *", "*, a"} {
		if got := semantics.ParseVary(fields("Vary: " + v)); !reflect.DeepEqual(got, []string{"*"}) {
			t.Errorf("Vary %q is %q", v, got)
		}
	}
}

func TestFreshen(t *testing.T) {
	stored := fields("A: 1", "A: 2", "B: 1", "Content-Encoding: gzip", "Cache-Control: max-age=1")
	got := semantics.Freshen(stored, fields("a: 3", "Cache-Control: max-age=9", "Content-Encoding: br", "Set-Cookie: x=y", "C: 1"))
	want := []edge.Field{{Name: "B", Value: "1"}, {Name: "Content-Encoding", Value: "gzip"}, {Name: "a", Value: "3"}, {Name: "Cache-Control", Value: "max-age=9"}, {Name: "C", Value: "1"}}
	if !reflect.DeepEqual(got.Fields(), want) {
		t.Errorf("got %v, want %v", got.Fields(), want)
	}
}

func TestRanges(t *testing.T) {
	type span = semantics.Span
	for _, c := range []struct {
		in    string
		size  int64
		spans []span
		fits  bool // whether Range counts
	}{
		{"bytes=0-0", 10, []span{{0, 1}}, true},
		{"BYTES=0-", 10, []span{{0, 10}}, true},
		{"bytes=-3", 10, []span{{7, 3}}, true},
		{"bytes=-30", 10, []span{{0, 10}}, true},
		{"bytes=-0", 10, []span{}, true},
		{"bytes=10-", 10, []span{}, true},
		{"bytes=5-2", 10, nil, false},
		{"bytes=", 10, nil, false},
		{"bytes=a-b", 10, nil, false},
		{"bytes=1", 10, nil, false},
		{"bytes= 0-1 , 3-4", 10, []span{{0, 2}, {3, 2}}, true},
		{"bytes=0-1,20-30", 10, []span{{0, 2}}, true},
		{"bytes=0-5,0-5", 10, nil, false},
		{"bytes=9999999999999999999-", 10, nil, false},
		{"bytes=" + strings.Repeat("0-0,", 17), 1000, nil, false},
		{"items=0-1", 10, nil, false},
	} {
		specs, ok := semantics.ParseRange(c.in)
		var spans []span
		if ok {
			spans, ok = semantics.Resolve(specs, c.size)
		}
		if ok != c.fits || ok && !reflect.DeepEqual(spans, c.spans) {
			t.Errorf("%q of %d = %v, %v, want %v, %v", c.in, c.size, spans, ok, c.spans, c.fits)
		}
	}
}

func TestSameOrigin(t *testing.T) {
	r := &edge.Request{Scheme: "https", Host: "a.test", Path: "/x/y", Query: "q"}
	for in, want := range map[string]string{
		"z": "/x/z", "/z?a=b": "/z?a=b", "https://a.test/z": "/z", "https://A.test": "/", "//a.test/z#f": "/z", "/%41%2f": "/%41%2f",
		"http://a.test/z": "", "https://b.test/z": "", "https://a.test:444/z": "", "https://a.test@b.test/": "", ":": "", "": "/x/y?q",
	} {
		got, ok := semantics.SameOrigin(r, in)
		if ok != (want != "") || got != want && ok {
			t.Errorf("SameOrigin(%q) = %q, %v, want %q", in, got, ok, want)
		}
	}
}

func FuzzCacheControl(f *testing.F) {
	for _, s := range []string{`max-age=1, no-cache="a,b"`, `private="x`, `a="\"`, "s-maxage=99999999999", ",,=,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d := semantics.ParseCacheControl(fields("Cache-Control: "+s), "Cache-Control")
		for _, n := range []semantics.Delta{d.MaxAge, d.SMaxAge, d.StaleIfError, d.StaleWhileRevalidate} {
			if n.Seconds < 0 || n.Seconds > 1<<31 || !n.Set && n.Seconds != 0 {
				t.Errorf("%q gives %+v", s, n)
			}
		}
		semantics.ParseResponse(fields("CDN-Cache-Control: "+s, "Cache-Control: max-age=1"))
		v := semantics.Judge(semantics.Exchange{Status: 200, Header: fields("Cache-Control: "+s, "CDN-Cache-Control: "+s), Got: now}, semantics.Policy{})
		if v.Store && v.Lifetime < 0 {
			t.Errorf("%q: lifetime %v", s, v.Lifetime)
		}
	})
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-1", "bytes=-5", "bytes=1-,3-4", "bytes=999999999999999999-"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, s string, size int64) {
		specs, ok := semantics.ParseRange(s)
		if !ok || size < 0 || size > 1<<50 {
			return
		}
		spans, _ := semantics.Resolve(specs, size)
		for _, p := range spans {
			if p.First < 0 || p.Length <= 0 || p.First+p.Length > size || p.First+p.Length < 0 {
				t.Errorf("%q of %d gives %+v", s, size, p)
			}
		}
	})
}

func FuzzVary(f *testing.F) {
	f.Add("Accept-Encoding, foo", "gzip;q=0, *", "1, \"2")
	f.Fuzz(func(t *testing.T, vary, encoding, foo string) {
		names := semantics.ParseVary(fields("Vary: " + vary))
		request := fields("Accept-Encoding: "+encoding, "Foo: "+foo, "Accept-Language: "+foo)
		if !semantics.Selects(names, semantics.Selecting(names, request), request) {
			t.Errorf("Vary %q: a request does not select its own response", vary)
		}
		once := semantics.NormaliseEncoding(encoding)
		if again := semantics.NormaliseEncoding(once); again != once {
			t.Errorf("%q becomes %q, then %q", encoding, once, again)
		}
	})
}

func FuzzDate(f *testing.F) {
	f.Add("Sun, 06 Nov 1994 08:49:37 GMT")
	f.Add("Sun Nov  6 08:49:37 1994")
	f.Fuzz(func(t *testing.T, s string) { semantics.ParseDate(s) })
}
