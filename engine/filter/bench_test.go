package filter_test

import (
	"net/netip"
	"testing"

	"selvage/engine/filter"
)

// fast answers without maps, so that what is measured is the expression.
type fast struct{ request }

func (r *fast) String(f filter.Field) string {
	switch f {
	case filter.HTTPHost:
		return "www.example.com"
	case filter.HTTPPath:
		return "/articles/2008/index.html"
	case filter.HTTPExtension:
		return "html"
	}
	return ""
}
func (r *fast) IP(filter.Field) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, 7}) }
func (r *fast) At(_ filter.Field, _ string, i int) (string, bool) {
	return "application/json", i == 0
}
func (r *fast) Append(dst []string, _ filter.Field, _ string) []string {
	return append(dst, "text/html", "application/xhtml+xml", "application/json")
}

func BenchmarkMatch(b *testing.B) {
	for _, bench := range []struct{ name, src string }{
		{"eq", `http.host eq "www.example.com"`},
		{"and", `http.host eq "www.example.com" and starts_with(http.request.uri.path, "/articles/")`},
		{"extension", `http.request.uri.path.extension in {"js" "css" "jpg" "jpeg" "png" "gif" "svg" "webp" "avif" "woff" "woff2" "ico" "html"}`},
		{"country and address", `http.host eq "www.example.com" and not ip.src in {192.0.2.0/24 198.51.100.0/25 203.0.113.0/24 2001:db8::/32}`},
		{"wildcard", `http.request.uri.path wildcard "/articles/*/index.*"`},
		{"contains lower", `lower(http.request.uri.path) contains "wp-login.php"`},
		{"header", `http.request.headers["accept"][0] eq "application/json"`},
		{"any header", `any(http.request.headers["accept"][*] eq "application/json")`},
		{"regex", `http.request.uri.path matches "^/articles/200[7-8]/"`},
	} {
		b.Run(bench.name, func(b *testing.B) {
			e, err := filter.Compile(bench.src, filter.RequestSchema())
			if err != nil {
				b.Fatal(err)
			}
			r := &fast{}
			b.ReportAllocs()
			for b.Loop() {
				e.Match(r)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	schema := filter.RequestSchema()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := filter.Compile(`http.host eq "www.example.com" and not ip.src in {192.0.2.0/24} and starts_with(http.request.uri.path, "/a")`, schema); err != nil {
			b.Fatal(err)
		}
	}
}
