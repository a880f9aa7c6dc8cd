package cache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"selvage/edge"
	"selvage/product/cache"
)

const shelf = "account\x00name"

// put keeps a response under a URI of the site.
func (s *site) put(uri, body string, fields ...string) bool {
	s.t.Helper()
	kept, err := s.keep(s.request("GET", uri), edge.Response{Status: 200, Header: edge.NewHeader(fields...), Length: -1, Body: io.NopCloser(strings.NewReader(body))})
	if err != nil {
		s.t.Errorf("Put(%s) = %v", uri, err)
	}
	return kept
}

func (s *site) keep(ex *edge.Exchange, res edge.Response) (bool, error) {
	return s.cache.API().Put(s.t.Context(), s.zone.Zone.ID, shelf, ex, &res)
}

// match looks for a URI in a space.
func (s *site) match(space, uri string, fields ...string) (reply, bool) {
	s.t.Helper()
	ex := s.request("GET", uri, fields...)
	if !s.cache.API().Match(s.zone.Zone.ID, space, ex) {
		return reply{}, false
	}
	r := reply{Response: ex.Response, status: ex.Response.Header.Get("CF-Cache-Status")}
	if r.Body != nil {
		var b bytes.Buffer
		_, r.err = io.Copy(&b, r.Body)
		r.Body.Close()
		r.body = b.String()
	}
	return r, true
}

func TestAPIKeepsAndForgets(t *testing.T) {
	s := newSite(t, cache.Options{})
	if _, ok := s.match(shelf, "/a?x=1"); ok {
		t.Error("found what nobody put")
	}
	if !s.put("/a?x=1", "kept", "Cache-Control", "max-age=60", "ETag", `"v1"`) {
		t.Fatal("not kept")
	}
	r, _ := s.match(shelf, "/a?x=1")
	s.want(r, "HIT", "kept")
	if r.Header.Get("Age") == "" {
		t.Error("a stored response has no Age")
	}
	for _, uri := range []string{"/a", "/a?x=2", "/b"} {
		if _, ok := s.match(shelf, uri); ok {
			t.Errorf("found %s", uri)
		}
	}
	if _, ok := s.match("other\x00name", "/a?x=1"); ok {
		t.Error("another account sees it")
	}
	if _, ok := s.match(shelf, "/a?x=1", "If-None-Match", `"v1"`); !ok {
		t.Error("a conditional request misses")
	}
	if r, _ := s.match(shelf, "/a?x=1", "If-None-Match", `"v1"`); r.Status != 304 {
		t.Errorf("If-None-Match got %d, want 304", r.Status)
	}
	if r, _ := s.match(shelf, "/a?x=1", "Range", "bytes=1-2"); r.Status != 206 || r.body != "ep" {
		t.Errorf("Range got %d %q, want 206 \"ep\"", r.Status, r.body)
	}
	s.later(61 * time.Second)
	if _, ok := s.match(shelf, "/a?x=1"); ok {
		t.Error("found what is too old")
	}
	if s.cache.API().Delete(s.zone.Zone.ID, shelf, s.request("GET", "/a?x=1")) {
		t.Error("Delete of what is too old = true")
	}
	s.put("/a?x=1", "again")
	if !s.cache.API().Delete(s.zone.Zone.ID, shelf, s.request("GET", "/a?x=1")) {
		t.Error("Delete of what is there = false")
	}
	if _, ok := s.match(shelf, "/a?x=1"); ok {
		t.Error("found what was deleted")
	}
}

func TestAPIRefuses(t *testing.T) {
	s := newSite(t, cache.Options{MaxObject: 1 << 10})
	for _, fields := range [][]string{{"Cache-Control", "no-store"}, {"Cache-Control", "private"}, {"Cache-Control", "max-age=0"}, {"Set-Cookie", "a=b"}, {"Vary", "*"}, {"Expires", "Thu, 01 Jan 1970 00:00:00 GMT"}} {
		if s.put("/no", "x", fields...) {
			t.Errorf("kept a response with %v", fields)
		}
	}
	if !s.put("/cookie", "x", "Set-Cookie", "a=b", "Cache-Control", "private=Set-Cookie, max-age=9") {
		t.Error("private=Set-Cookie is not kept")
	}
	if r, _ := s.match(shelf, "/cookie"); r.Header.Has("Set-Cookie") {
		t.Error("a cookie was kept")
	}
	if s.put("/large", strings.Repeat("x", 2<<10)) {
		t.Error("kept a body over the limit")
	}
	if _, ok := s.match(shelf, "/large"); ok {
		t.Error("found a body over the limit")
	}
	broken := errors.New("broken")
	kept, err := s.keep(s.request("GET", "/broken"), edge.Response{Status: 200, Length: -1, Body: io.NopCloser(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)))})
	if kept || !errors.Is(err, broken) {
		t.Errorf("Put of a broken body = %v, %v", kept, err)
	}
	kept, err = s.keep(s.request("GET", "/short"), edge.Response{Status: 200, Length: 9, Body: io.NopCloser(strings.NewReader("half"))})
	if kept || err == nil {
		t.Errorf("Put of a short body = %v, %v", kept, err)
	}
	for _, uri := range []string{"/broken", "/short"} {
		if _, ok := s.match(shelf, uri); ok {
			t.Errorf("found half a body at %s", uri)
		}
	}
}

func TestAPIVaries(t *testing.T) {
	s := newSite(t, cache.Options{})
	for _, lang := range []string{"de", "fr"} {
		ex := s.request("GET", "/v", "Accept-Language", lang)
		if kept, err := s.keep(ex, edge.Response{Status: 200, Header: edge.NewHeader("Vary", "Accept-Language"), Length: 2, Body: io.NopCloser(strings.NewReader(lang))}); !kept || err != nil {
			t.Fatalf("Put = %v, %v", kept, err)
		}
	}
	for _, lang := range []string{"de", "fr"} {
		r, _ := s.match(shelf, "/v", "Accept-Language", lang)
		s.want(r, "HIT", lang)
	}
	if _, ok := s.match(shelf, "/v", "Accept-Language", "it"); ok {
		t.Error("found a variant that nobody put")
	}
}

func TestAPIIsPurgedWithItsZoneAndServesNoClient(t *testing.T) {
	s := newSite(t, cache.Options{}, everything)
	s.says("Cache-Control", "max-age=60")
	s.put("/p.css", "from a program", "Cache-Control", "max-age=60", "Cache-Tag", "news")
	s.want(s.get("/p.css"), "MISS", "answer 1")
	if err := s.purge(`{"tags": ["news"]}`); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.match(shelf, "/p.css"); ok {
		t.Error("a purged tag is found")
	}
	s.put("/p.css", "from a program")
	if err := s.purge(`{"purge_everything": true}`); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.match(shelf, "/p.css"); ok {
		t.Error("found after everything was purged")
	}
}

func TestWishes(t *testing.T) {
	s := newSite(t, cache.Options{})
	s.says("Cache-Control", "no-store")
	ask := func(uri string, w *edge.CacheWish) reply {
		ex := s.request("GET", uri)
		ex.Wish = w
		return s.send(context.Background(), ex)
	}
	s.want(ask("/page", nil), "DYNAMIC", "answer 1")
	w := &edge.CacheWish{Everything: true, Forced: true, TTL: time.Minute, Tags: []string{"Mine"}}
	s.want(ask("/page", w), "MISS", "answer 2")
	s.want(ask("/page", w), "HIT", "answer 2")
	s.later(61 * time.Second)
	s.want(ask("/page", w), "EXPIRED", "answer 3")
	if err := s.purge(`{"tags": ["mine"]}`); err != nil {
		t.Fatal(err)
	}
	s.want(ask("/page", w), "MISS", "answer 4")
	s.want(ask("/page", &edge.CacheWish{Never: true}), "BYPASS", "answer 5")
	keyed := &edge.CacheWish{Everything: true, Forced: true, TTL: time.Minute, Key: "one"}
	s.want(ask("/x", keyed), "MISS", "answer 6")
	s.want(ask("/y?z", keyed), "HIT", "answer 6")
	byStatus := &edge.CacheWish{Everything: true, ByStatus: []edge.StatusTTL{{From: 200, To: 299, TTL: time.Hour}}}
	s.want(ask("/status", byStatus), "MISS", "answer 7")
	s.want(ask("/status", byStatus), "HIT", "answer 7")
}
