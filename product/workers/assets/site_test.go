package assets_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"selvage/edge"
	"selvage/product/workers/assets"
	"selvage/spec"
)

func TestConditionalRequests(t *testing.T) {
	k := newKit(t)
	site := k.site([]string{"/a.txt"}, `{}`, spec.WorkerVersion{})
	first := exchange("GET", "/a.txt", nil)
	if _, err := site.Serve(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	first.Response.Close()
	etag := first.Response.Header.Get("ETag")
	for held, want := range map[string]int{etag: 304, "W/" + etag: 304, `"other"`: 200, strings.Trim(etag, `"`): 200, "*": 200} {
		ex := exchange("GET", "/a.txt", map[string]string{"If-None-Match": held})
		if _, err := site.Serve(t.Context(), ex); err != nil {
			t.Fatal(err)
		}
		ex.Response.Close()
		h := &ex.Response.Header
		if ex.Response.Status != want || h.Get("ETag") != etag || h.Get("Cache-Control") != "public, max-age=0, must-revalidate" {
			t.Errorf("If-None-Match %s: %d, ETag %s, want %d", held, ex.Response.Status, h.Get("ETag"), want)
		}
		if want == 304 && (ex.Response.Length != -1 || ex.Response.Body != nil) {
			t.Errorf("304 with Length %d", ex.Response.Length)
		}
	}
}

func TestHeadSaysTheLength(t *testing.T) {
	site := newKit(t).site([]string{"/a.txt"}, `{}`, spec.WorkerVersion{})
	ex := exchange("HEAD", "/a.txt", nil)
	if _, err := site.Serve(t.Context(), ex); err != nil || ex.Response.Status != 200 || ex.Response.Length != 6 || ex.Response.Body != nil {
		t.Errorf("HEAD = %d with Length %d, %v", ex.Response.Status, ex.Response.Length, err)
	}
}

// A body can go out by sendfile: the edge finds a file in it that stands at its beginning.
func TestBodyIsAFile(t *testing.T) {
	site := newKit(t).site([]string{"/a.txt"}, `{}`, spec.WorkerVersion{})
	ex := exchange("GET", "/a.txt", nil)
	if _, err := site.Serve(t.Context(), ex); err != nil {
		t.Fatal(err)
	}
	defer ex.Response.Close()
	backed, ok := ex.Response.Body.(interface{ File() *os.File })
	if !ok {
		t.Fatal("the body is no file")
	}
	if content, err := io.ReadAll(backed.File()); string(content) != "/a.txt" || err != nil {
		t.Errorf("the file reads %q, %v", content, err)
	}
}

// The binding of a Worker never falls through to it, and any host will do.
func TestFetchNeverFallsThrough(t *testing.T) {
	k := newKit(t)
	site := k.site([]string{"/a.txt", "/index.html"}, `{"run_worker_first":true}`, spec.WorkerVersion{Main: "index.mjs"})
	spa := k.site([]string{"/a.txt", "/index.html"}, `{"not_found_handling":"single-page-application"}`, spec.WorkerVersion{Main: "index.mjs"})
	for _, c := range []struct {
		site   *assets.Site
		path   string
		status int
	}{{site, "/a.txt", 200}, {site, "/nope", 404}, {spa, "/nope", 200}, {site, "/index.html", 307}} {
		ex := exchange("GET", c.path, nil)
		ex.Request.Host = "assets.local"
		if err := c.site.Fetch(t.Context(), ex); err != nil || ex.Response.Status != c.status {
			t.Errorf("Fetch(%s) = %d, %v; want %d", c.path, ex.Response.Status, err, c.status)
		}
		ex.Response.Close()
	}
	if served, err := site.Serve(t.Context(), exchange("GET", "/a.txt", nil)); served || err != nil {
		t.Errorf("Serve where the Worker comes first = %v, %v", served, err)
	}
}

func TestOddTargets(t *testing.T) {
	k := newKit(t)
	site := k.site([]string{"/index.html", "/404.html"}, `{"not_found_handling":"404-page","_redirects":"/x/:a https://:a.test/"}`, spec.WorkerVersion{})
	for target, want := range map[string]int{"*": 405, "": 307, "/x/a|b": 500, "/x/%20": 500, "/x/ok": 302, "/\x00\xff": 307, "/%2500%25FF": 404} {
		method := "GET"
		if target == "*" {
			method = "OPTIONS"
		}
		ex := exchange(method, target, nil)
		if err := site.Fetch(t.Context(), ex); err != nil || ex.Response.Status != want {
			t.Errorf("%s %q = %d, %v; want %d", method, target, ex.Response.Status, err, want)
		}
		ex.Response.Close()
	}
}

func TestMissingContentIsAnError(t *testing.T) {
	k := newKit(t)
	site := k.site([]string{"/a.txt"}, `{}`, spec.WorkerVersion{})
	files := map[string]bool{}
	if err := k.blobs.Walk(func(digest string, size int64, _ time.Time) error {
		files[digest] = size == int64(len("/a.txt"))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := site.Fetch(t.Context(), exchange("GET", "/nope", nil)); err != nil {
		t.Fatal(err) // the manifest is in memory from here on
	}
	for digest, isFile := range files {
		if isFile {
			k.blobs.Delete(digest)
		}
	}
	ex := exchange("GET", "/a.txt", nil)
	if served, err := site.Serve(t.Context(), ex); err == nil {
		t.Errorf("Serve without the content = %v, %d", served, ex.Response.Status)
	}
	gone := k.store.Site(alice, &spec.WorkerVersion{Assets: &spec.WorkerAssets{Manifest: strings.Repeat("0", 64)}})
	if served, err := gone.Serve(t.Context(), exchange("GET", "/", nil)); served || err == nil {
		t.Errorf("Serve without a manifest = %v, %v", served, err)
	}
}

// Sites are loaded when they are asked for, and given up when there are too many.
func TestManySites(t *testing.T) {
	k := newKit(t)
	store, err := assets.Open(assets.Options{Dir: t.TempDir(), Blobs: k.blobs, CacheBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	k.store = store
	var sites []*assets.Site
	for i := range 20 {
		sites = append(sites, k.site([]string{fmt.Sprintf("/%d.txt", i)}, `{}`, spec.WorkerVersion{}))
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i, s := range sites {
				ex := exchange("GET", fmt.Sprintf("/%d.txt", i), nil)
				if err := s.Fetch(t.Context(), ex); err != nil || ex.Response.Status != 200 {
					t.Errorf("site %d: %d, %v", i, ex.Response.Status, err)
				}
				ex.Response.Close()
			}
		})
	}
	group.Wait()
	if k.store.Site(alice, &spec.WorkerVersion{}) != nil {
		t.Error("a version without assets has a site")
	}
}

func BenchmarkServe(b *testing.B) {
	k := newKit(b)
	var files []string
	for i := range 5000 {
		files = append(files, fmt.Sprintf("/dir%d/page%d.html", i%50, i))
	}
	files = append(files, "/app.js", "/index.html")
	plain := k.site(files, `{}`, spec.WorkerVersion{Main: "index.mjs"})
	ruled := k.site(files, `{"_redirects":"/old/* /new/:splat\n/u/:id /user/:id","_headers":"/*\n  X-Frame-Options: DENY\n/assets/*\n  Cache-Control: immutable"}`, spec.WorkerVersion{Main: "index.mjs"})
	for _, c := range []struct {
		name, path string
		site       *assets.Site
		header     map[string]string
	}{
		{"file", "/app.js", plain, nil},
		{"page", "/dir7/page7", plain, nil},
		{"page of a site with rules", "/dir7/page7", ruled, nil},
		{"not modified", "/app.js", plain, map[string]string{"If-None-Match": etagOf(b, plain, "/app.js")}},
		{"redirect", "/index.html", plain, nil},
		{"falls through", "/api/users", plain, nil},
	} {
		b.Run(c.name, func(b *testing.B) {
			ex := exchange("GET", c.path, c.header)
			b.ReportAllocs()
			for b.Loop() {
				ex.Response = edge.Response{}
				if _, err := c.site.Serve(context.Background(), ex); err != nil {
					b.Fatal(err)
				}
				if ex.Response.Body != nil {
					io.Copy(io.Discard, ex.Response.Body)
				}
				ex.Response.Close()
			}
		})
	}
}

func etagOf(t testing.TB, s *assets.Site, path string) string {
	ex := exchange("HEAD", path, nil)
	if err := s.Fetch(context.Background(), ex); err != nil {
		t.Fatal(err)
	}
	return ex.Response.Header.Get("ETag")
}
