package filter_test

import (
	"testing"

	"selvage/engine/filter"
)

// FuzzCompile checks that nothing panics, and that what compiles prints to a normal form that
// compiles to itself and matches the same.
func FuzzCompile(f *testing.F) {
	for _, src := range []string{
		`http.host eq "www.example.com" and not ip.src in {192.0.2.0/24 ::1..::9}`,
		`any(lower(http.request.headers.names[*])[*] == "accept") or ssl xor !ssl`,
		`all(not len(http.request.uri.args["filter"][*])[*] in {3 4..9 -0x1f})`,
		`http.request.uri.path matches r#"^/a"b[^"]$"# && http.host ~ "[\"x]\"" `,
		`http.host strict wildcard r"*\*a" || http.host wildcard "a*b" or http.host eq 61:62-63.64`,
		`concat(substring(url_decode(http.cookie, "ru"), -2, 5), "\x00\377") contains "\"\\"`,
		`lookup_json_integer(http.referer, "n", 1) & 3 or cidr(ip.src, 24, 64) ne 10.0.0.0`,
		`regex_replace(http.host, "(a)", "${1}$$") eq "b"`,
		`is_timed_hmac_valid_v0("k", http.request.uri, 100, http.request.timestamp.sec, 8, "s")`,
		`split(http.host, ".", 3)[1] in {"a" "b"}`,
	} {
		f.Add(src)
	}
	schema, r := filter.ResponseSchema(), example()
	f.Fuzz(func(t *testing.T, src string) {
		if e, err := filter.Compile(src, schema); err == nil {
			held := e.Match(r)
			if len(e.String()) > filter.MaxLength {
				return
			}
			again, err := filter.Compile(e.String(), schema)
			if err != nil {
				t.Fatalf("the normal form of %q, %q, does not compile:\n%v", src, e, err)
			}
			if again.String() != e.String() || again.Match(r) != held {
				t.Fatalf("%q prints as %q, and that as %q", src, e, again)
			}
		}
		if x, err := filter.CompileValue(src, schema); err == nil {
			x.Text(r)
			x.Int(r)
			x.IP(r)
		}
	})
}
