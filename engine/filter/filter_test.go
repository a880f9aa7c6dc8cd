package filter_test

import (
	"net/netip"
	"strings"
	"sync"
	"testing"

	"selvage/engine/filter"
	"selvage/foundation/fault"
)

// request is a fixed request for tests.
type request struct {
	texts  map[filter.Field]string
	maps   map[filter.Field]map[string][]string
	arrays map[filter.Field][]string
	addr   netip.Addr
	secure bool
	code   int64
}

func (r *request) Bool(filter.Field) bool       { return r.secure }
func (r *request) Int(filter.Field) int64       { return r.code }
func (r *request) String(f filter.Field) string { return r.texts[f] }
func (r *request) IP(filter.Field) netip.Addr   { return r.addr }
func (r *request) all(f filter.Field, key string) []string {
	if a, ok := r.arrays[f]; ok {
		return a
	}
	return r.maps[f][key]
}
func (r *request) At(f filter.Field, key string, i int) (string, bool) {
	if a := r.all(f, key); i < len(a) {
		return a[i], true
	}
	return "", false
}
func (r *request) Append(dst []string, f filter.Field, key string) []string {
	return append(dst, r.all(f, key)...)
}

func example() *request {
	return &request{
		texts: map[filter.Field]string{
			filter.HTTPHost:      "www.example.com",
			filter.HTTPMethod:    "GET",
			filter.HTTPURI:       "/blog/First.html?filter=waf&filter=botm&filter=cdn",
			filter.HTTPPath:      "/blog/First.html",
			filter.HTTPExtension: "html",
			filter.HTTPQuery:     "filter=waf&filter=botm&filter=cdn",
			filter.HTTPFullURI:   "https://www.example.com/blog/First.html?filter=waf&filter=botm&filter=cdn",
			filter.HTTPUserAgent: `curl/8.0 {"company":"cloudflare","n":{"ids":["a","b"],"v":42,"f":4.5}}`,
			filter.HTTPReferer:   `{"company":"cloudflare","n":{"ids":["a","b"],"v":-42,"f":4.5},"l":[1,{"x":"y"}]}`,
			filter.HTTPCookie:    "John%20Doe+x%2520y%u2601",
			filter.ClientCountry: "DE",
		},
		maps: map[filter.Field]map[string][]string{
			filter.HTTPArgs:    {"filter": {"waf", "botm", "cdn"}},
			filter.HTTPHeaders: {"accept": {"application/json"}, "x-list": {"a,b,,c"}, "client_id": {"MTIzYWJj"}},
		},
		arrays: map[filter.Field][]string{filter.HTTPHeaderNames: {"Host", "Accept", "X-List"}},
		addr:   netip.MustParseAddr("198.51.100.5"),
		secure: true,
		code:   404,
	}
}

func TestMatch(t *testing.T) {
	tests := []struct {
		src  string
		want bool
	}{
		{`true`, true},
		{`false`, false},
		{`ssl`, true},
		{`not ssl`, false},
		{`!ssl`, false},
		{`!(ssl)`, false},
		{`not not ssl`, true},
		{`http.host eq "www.example.com"`, true},
		{`http.host == "example.com"`, false},
		{`http.host ne "example.com"`, true},
		{`http.host != "www.example.com"`, false},
		{`http.host lt "x"`, true},
		{`http.host le "www.example.com"`, true},
		{`http.host gt "www.example.com"`, false},
		{`http.host >= "www.example.com"`, true},
		{`http.host contains "example"`, true},
		{`http.host matches "^(www|store|blog)\.example\.com"`, true},
		{`http.host ~ r"^\w+\.example\.com$"`, true},
		{`http.host ~ r#"""#`, false},
		{`http.request.uri.path matches "[\"x]"`, false},
		{`http.host in {"example.com" "www.example.com"}`, true},
		{`http.host in {"a" "b" "c" "d" "e" "f" "g" "www.example.com"}`, true},
		{`http.host in {"a" "b" "c" "d" "e" "f" "g" "h"}`, false},
		{`http.request.method eq 47:45:54`, true},
		{`http.request.method in {47:45:54 "PUT"}`, true},
		{`http.request.method eq "\x47\105T"`, true},
		{`ip.src eq 198.51.100.5`, true},
		{`ip.src ne 198.51.100.5`, false},
		{`ip.src == ::ffff:198.51.100.5`, true},
		{`ip.src in {198.51.100.1 198.51.100.3..198.51.100.7 192.0.2.0/24 2001:0db8::/32}`, true},
		{`ip.src in {198.51.100.1 198.51.100.6..198.51.100.7 192.0.2.0/24 2001:0db8::/32}`, false},
		{`ip.src in {0.0.0.0/0}`, true},
		{`ip.src in {::/0}`, false},
		{`http.response.code eq 404`, true},
		{`http.response.code in {200..299 400..499}`, true},
		{`http.response.code in {0x190..0x193 0644}`, false},
		{`http.response.code & 4`, true},
		{`http.response.code bitwise_and 3`, false},
		{`http.response.code ge 400 and http.response.code lt 500`, true},
		{`http.request.full_uri wildcard "https://*.EXAMPLE.com/*"`, true},
		{`http.request.full_uri strict wildcard "https://*.EXAMPLE.com/*"`, false},
		{`http.request.uri.path strict wildcard "/blog/*.html"`, true},
		{`http.request.uri.path wildcard r"/blog/\*"`, false},
		{`ssl and ssl or false and false`, true},
		{`false and ssl or ssl`, true},
		{`false and (ssl or ssl)`, false},
		{`ssl xor ssl or ssl`, true},
		{`ssl or ssl xor ssl`, true},
		{`(ssl or ssl) ^^ ssl`, false},
		{`not false and false`, false},
		{`ssl && !false || false`, true},
		{`http.host eq "www.example.com"and ssl`, true},
		{`starts_with(http.request.uri.path, "/blog")`, true},
		{`ends_with(http.request.uri.path, ".html")`, true},
		{`lower(http.request.uri.path) contains "first"`, true},
		{`upper(http.host) eq "WWW.EXAMPLE.COM"`, true},
		{`len(http.host) eq 15`, true},
		{`concat(http.host, http.request.uri.path) eq "www.example.com/blog/First.html"`, true},
		{`concat("String1", " ", "String", "2") eq "String1 String2"`, true},
		{`substring(http.host, 4, 7) eq "exa"`, true},
		{`substring(http.host, -3) eq "com"`, true},
		{`substring(http.host, 0, -4) eq "www.example"`, true},
		{`substring(http.host, 9, 2) eq ""`, true},
		{`substring(http.host, -100, 100) eq "www.example.com"`, true},
		{`url_decode(http.cookie) eq "John Doe x%20y%u2601"`, true},
		{`url_decode(http.cookie, "ru") eq "John Doe x y☁"`, true},
		{`url_decode("%ud83d%ude00", "u") eq "😀"`, true},
		{`remove_bytes(http.host, "\x2e\x77") eq "examplecom"`, true},
		{`to_string(ip.src) eq "198.51.100.5"`, true},
		{`to_string(ssl) eq "true"`, true},
		{`to_string(len(http.host)) eq "15"`, true},
		{`cidr(ip.src, 24, 24) eq 198.51.100.0`, true},
		{`cidr6(ip.src, 24) eq 198.51.100.5`, true},
		{`lookup_json_string(http.referer, "company") eq "cloudflare"`, true},
		{`lookup_json_string(http.referer, "n", "ids", 1) eq "b"`, true},
		{`lookup_json_string(http.referer, "l", 1, "x") eq "y"`, true},
		{`lookup_json_string(http.referer, "n", "ids", 2) ne "b"`, false},
		{`lookup_json_string(http.user_agent, "company") eq "cloudflare"`, false},
		{`lookup_json_integer(http.referer, "n", "v") eq -42`, true},
		{`lookup_json_integer(http.referer, "n", "f") ge 0`, false},
		{`decode_base64(http.request.headers["client_id"][0]) eq "123abc"`, true},
		{`encode_base64("123abc") eq "MTIzYWJj"`, true},
		{`any(decode_base64(http.request.headers["client_id"][*])[*] eq "123abc")`, true},
		{`join(http.request.headers.names, ",") eq "Host,Accept,X-List"`, true},
		{`len(split(http.request.headers["x-list"][0], ",", 64)) eq 4`, true},
		{`split(http.request.headers["x-list"][0], ",", 3)[2] eq ",c"`, true},
		{`has_key(http.request.headers, "accept")`, true},
		{`has_key(http.request.headers, "nope")`, false},
		{`has_value(http.request.headers.names, "Accept")`, true},

		{`http.request.headers["accept"][0] eq "application/json"`, true},
		{`http.request.headers["accept"][1] eq "application/json"`, false},
		{`http.request.headers["accept"][1] ne "application/json"`, false}, // missing values compare to nothing
		{`not http.request.headers["nope"][0] eq "x"`, true},
		{`http.request.headers.names[0] == "Host"`, true},
		{`any(http.request.headers.names[*] == "Accept")`, true},
		{`any(http.request.headers.names[*] == "accept")`, false},
		{`any(lower(http.request.headers.names[*])[*] == "accept")`, true},
		{`any(starts_with(http.request.headers.names[*], "X-"))`, true},
		{`any(starts_with(http.request.headers.names[*], "X-")[*])`, true},
		{`all(len(http.request.uri.args["filter"][*])[*] in {3 4})`, true},
		{`all(not len(http.request.uri.args["filter"][*])[*] in {3 4})`, false},
		{`len(http.request.uri.args["filter"]) >= 0`, true},
		{`not len(http.request.uri.args["order"]) >= 0`, true},
		{`len(http.request.uri.args["filter"][1]) eq 4`, true},
		{`any(http.request.uri.args["nope"][*] ne "x")`, false},
		{`any(http.request.uri.args["filter"][*] eq "waf" and http.request.uri.args["filter"][*] contains "w")`, true},
		{`any(http.request.uri.args["filter"][*] eq "waf" and http.request.uri.args["filter"][*] eq "cdn")`, false},
		{`any(http.request.uri.args["filter"][*] eq "waf" xor http.request.uri.args["filter"][*] eq "cdn")`, true},
		{`all(http.request.uri.args["filter"][*] eq "waf" or not http.request.uri.args["filter"][*] eq "waf")`, true},
		{`any(concat(http.request.uri.args["filter"][*], http.host)[*] eq "wafwww.example.com")`, true},
		{`len(http.request.uri.args["filter"][*])[1] eq 4`, true},
		{`lower(http.request.headers.names[*])[2] eq "x-list"`, true},
		{`starts_with(http.request.headers.names[*], "H")[0]`, true},
		{`len(lower(http.request.headers.names[*])) eq 3`, true},
		{`any(concat(http.request.headers.names[*], to_string(any(http.request.headers.names[*] eq "Host")))[*] eq "Accepttrue")`, true},

		{"(\n (http.host eq \"api.example.com\" and http.request.uri.path eq \"/api/v2/auth\") or\n (http.host matches \"^(www|store|blog)\\.example\\.com\" and http.request.uri.path contains \"wp-login.php\") or\n ip.geoip.country in {\"CN\" \"TH\" \"US\" \"ID\" \"KR\" \"MY\" \"IT\" \"SG\" \"GB\"}\n) and not ip.src in {11.22.33.0/24}", false},
	}
	schema := filter.ResponseSchema()
	r := example()
	for _, test := range tests {
		e, err := filter.Compile(test.src, schema)
		if err != nil {
			t.Errorf("Compile(%q):\n%v", test.src, err)
			continue
		}
		if got := e.Match(r); got != test.want {
			t.Errorf("%s = %v, want %v", test.src, got, test.want)
		}
		again, err := filter.Compile(e.String(), schema)
		if err != nil {
			t.Errorf("the normal form of %q, %q, does not compile:\n%v", test.src, e, err)
			continue
		}
		if again.String() != e.String() || again.Match(r) != test.want {
			t.Errorf("%q prints as %q, and that as %q (match %v)", test.src, e, again, again.Match(r))
		}
	}
}

// TestJoinedTextIsBounded: naming a long field many times makes nothing that is longer still.
func TestJoinedTextIsBounded(t *testing.T) {
	r := example()
	r.texts[filter.HTTPPath] = "/" + strings.Repeat("x", 20_000)
	for src, want := range map[string]bool{
		`len(concat(` + strings.Repeat("http.request.uri.path,", 2) + `"")) gt 40000`: true,
		`len(concat(` + strings.Repeat("http.request.uri.path,", 4) + `"")) ge 0`:     false,
		`len(join(split(http.request.uri.path, "y", 9), "y")) gt 20000`:               true,
	} {
		e, err := filter.Compile(src, filter.RequestSchema())
		if err != nil {
			t.Errorf("Compile(%q): %v", src, err)
			continue
		}
		if got := e.Match(r); got != want {
			t.Errorf("%s = %v, want %v", src, got, want)
		}
	}
}

func TestFaults(t *testing.T) {
	schema := filter.RequestSchema()
	tests := []struct {
		src  string
		want string // within the message
	}{
		{``, `The expression is empty; to match everything, write "true".`},
		{`http.hots eq "x"`, "Filter parsing error (1:1):\nhttp.hots eq \"x\"\n^^^^^^^^^ unknown field http.hots; did you mean http.host?"},
		{`ssl and path eq "/"`, "did you mean http.request.uri.path?"},
		{`cf.bot_management.score lt 30`, "field cf.bot_management.score is not available here"},
		{`lowwer(http.host) eq "x"`, "unknown function lowwer; did you mean lower?"},
		{`http.host`, "this gives String where a condition is needed"},
		{`http.host eq`, "the expression ends here, expected a string in double quotes"},
		{`http.host eq 'x'`, "strings are written in double quotes"},
		{`http.host eq "x`, "lacks its closing double quote"},
		{`http.host eq "\d"`, "not a valid escape"},
		{`http.host like "x"`, "found \"like\", expected and, or, xor or the end"},
		{`ssl eq true`, "eq does not work on Boolean; a Boolean stands alone or after not"},
		{`http.host in {"a", "b"}`, "separated by spaces, not commas"},
		{`http.host in {}`, "an empty set never matches"},
		{`http.host in {"a"`, "lacks its closing brace"},
		{`http.host in $bad`, "lists are not available yet"},
		{`http.host matches "("`, "not a valid regular expression: missing closing )"},
		{`http.host matches "(a{500}){3}"`, "not a valid regular expression: invalid repeat count"},
		{`http.host matches "(?:.{0,900}x)"`, "the limit is 1000"},
		{`http.host wildcard "a**"`, `"**" is not valid`},
		{`http.host wildcard r"a\b"`, "in a wildcard pattern a backslash"},
		{`http.host wildcard "*a*a*a*a*a*a*a*a*"`, `the pattern has 9 "*", the limit is 8`},
		{`ip.src eq 192.0.2.0/24`, "a range of addresses cannot be compared; write: in {192.0.2.0/24}"},
		{`ip.src eq "192.0.2.1"`, "expected an IP address such as 192.0.2.1, without quotes"},
		{`ip.src in {192.0.2.0/33}`, "between 0 and 32"},
		{`ip.src in {192.0.2.9..192.0.2.1}`, "the range ends before it begins"},
		{`ip.src in {192.0.2.1..2001:db8::1}`, "different address families"},
		{`ip.src lt 192.0.2.1`, "lt does not work on IP address; eq, ne or in"},
		{`http.request.timestamp.sec eq 99999999999999999999`, "not an integer between"},
		{`http.request.headers["a"][*] eq "b"`, "use any() or all() to make one condition of many"},
		{`http.request.headers["a"] eq "b"`, "eq does not work on Array<String>"},
		{`http.request.headers[0] eq "b"`, "Map<Array<String>> cannot be indexed by 0"},
		{`any(http.request.headers[*] eq "b")`, "[*] needs an array"},
		{`http.host[0] eq "b"`, "String cannot be indexed by 0"},
		{`http.host["a"] eq "b"`, "String has no keys"},
		{`any(http.host eq "b")`, "argument conditions of any(conditions) has to be Array<Boolean>; this is Boolean"},
		{`any(http.request.headers.names[*] eq "b" and ssl)`, "one side of and is Array<Boolean>, the other Boolean"},
		{`starts_with(http.host) `, "starts_with needs more arguments: starts_with(source, substring)"},
		{`lower(http.host, "x") eq "y"`, "too many arguments for lower(source)"},
		{`starts_with(http.host, http.request.headers.names[*])`, "only in the first argument"},
		{`cidr(ip.src, 33, 1) eq 192.0.2.1`, "between 1 and 32"},
		{`regex_replace(http.host, "a", "b") eq "c"`, "is for values of rewrites"},
		{`(ssl`, "or the closing parenthesis of the one at character 1"},
		{`ssl)`, `found ")"`},
		{`ssl and`, "the expression ends here, expected a field such as http.host"},
		{`ssl # why`, `found "#"`},
		{"ssl and\n  http.hots eq \"x\"", "(2:3):\n  http.hots eq \"x\"\n  ^^^^^^^^^ unknown"},
		{strings.Repeat("(", 65) + "ssl" + strings.Repeat(")", 65), "nested more than 64 deep"},
		{strings.Repeat("!", 65) + "ssl", "nested more than 64 deep"},
		{strings.Repeat(`http.host ~ "a" or `, 64) + `http.host ~ "a"`, "more than 64 regular expressions"},
		{strings.Repeat(" ", 4097), "The expression's length in characters is 4097, the limit is 4096."},
	}
	for _, test := range tests {
		_, err := filter.Compile(test.src, schema)
		if err == nil {
			t.Errorf("Compile(%q) succeeded, want a fault with %q", test.src, test.want)
			continue
		}
		if !strings.Contains(err.Error(), test.want) {
			t.Errorf("Compile(%q) =\n%v\nwant it to contain %q", test.src, err, test.want)
		}
		if k := fault.KindOf(err); k != fault.Invalid && k != fault.TooMuch {
			t.Errorf("Compile(%q) has kind %v", test.src, k)
		}
	}
}

func TestNormalForm(t *testing.T) {
	tests := []struct{ src, want string }{
		{`((ssl))&&http.host=="a"`, `ssl and http.host eq "a"`},
		{`ssl and (ssl and ssl)`, `ssl and ssl and ssl`},
		{`(ssl or ssl) and ssl`, `(ssl or ssl) and ssl`},
		{`ssl or (ssl and ssl)`, `ssl or ssl and ssl`},
		{`not (ssl or ssl)`, `not (ssl or ssl)`},
		{`not (not (ssl))`, `not not ssl`},
		{`http.host~"a\"b"`, `http.host matches r#"a"b"#`},
		{`http.host eq 61:62`, `http.host eq "ab"`},
		{`http.host eq r"a\b"`, `http.host eq "a\\b"`},
		{`http.host eq "\xff\n"`, ``},
		{`http.host strict   wildcard "a*"`, `http.host strict wildcard r"a*"`},
		{`ip.src in {10.1.2.3/8   192.0.2.1..192.0.2.4 ::1}`, `ip.src in {10.0.0.0/8 192.0.2.1..192.0.2.4 ::1}`},
		{`http.request.timestamp.sec in {0x10 017 1..3}`, `http.request.timestamp.sec in {16 15 1..3}`},
		{`any(http.request.headers[ "a" ][ * ]=="b")`, `any(http.request.headers["a"][*] eq "b")`},
	}
	for _, test := range tests {
		e, err := filter.Compile(test.src, filter.RequestSchema())
		if test.want == "" {
			if err == nil {
				t.Errorf("Compile(%q) succeeded as %q, want a fault", test.src, e)
			}
			continue
		}
		if err != nil {
			t.Errorf("Compile(%q):\n%v", test.src, err)
			continue
		}
		if e.String() != test.want {
			t.Errorf("%q prints as %q, want %q", test.src, e, test.want)
		}
	}
}

func TestValue(t *testing.T) {
	tests := []struct{ src, want string }{
		{`"fixed"`, "fixed"},
		{`http.request.uri.path`, "/blog/First.html"},
		{`concat("https://", http.host, "/new")`, "https://www.example.com/new"},
		{`regex_replace("/foo/bar", "/bar$", "/baz")`, "/foo/baz"},
		{`regex_replace("/x", "^/y$", "/mumble")`, "/x"},
		{`regex_replace("/foo", "^/FOO$", "/x")`, "/foo"},
		{`regex_replace("/a/a", "/a", "/b")`, "/b/a"},
		{`regex_replace("/b", "^/b$", "/b$$")`, "/b$"},
		{`regex_replace("/foo/a/path", "^/foo/([^/]*)/(.*)$", "/bar/${2}/${1}/")`, "/bar/path/a/"},
		{`regex_replace(http.host, "\\.", "\\")`, `www\example.com`},
		{`wildcard_replace("https://apps.example.com/calendar/admin?expand=true", "https://*.example.com/*/*", "https://example.com/${1}/${2}/${3}")`, "https://example.com/apps/calendar/admin?expand=true"},
		{`wildcard_replace("/calendar", "/*", "/apps/${1}")`, "/apps/calendar"},
		{`wildcard_replace("/Apps/calendar", "/apps/*", "/${1}")`, "/calendar"},
		{`wildcard_replace("/Apps/calendar", "/apps/*", "/${1}", "s")`, "/Apps/calendar"},
		{`wildcard_replace("/apps/calendar/login", "/apps/*/login", "/${1}/login")`, "/calendar/login"},
		{`remove_query_args("order=asc&country=GB", "country")`, "order=asc"},
		{`remove_query_args("category=Foo&order=desc&category=Bar", "category")`, "order=desc"},
		{`remove_query_args("order=asc", "search")`, "order=asc"},
		{`len(http.host)`, "15"},
		{`ip.src`, "198.51.100.5"},
		{`ssl and not ssl`, "false"},
		{`42`, "42"},
	}
	for _, test := range tests {
		x, err := filter.CompileValue(test.src, filter.RequestSchema())
		if err != nil {
			t.Errorf("CompileValue(%q):\n%v", test.src, err)
			continue
		}
		if got, ok := x.Text(example()); got != test.want || !ok {
			t.Errorf("%s = %q, %v, want %q", test.src, got, ok, test.want)
		}
		again, err := filter.CompileValue(x.String(), filter.RequestSchema())
		if err != nil || again.String() != x.String() {
			t.Errorf("%q prints as %q, which gives %v, %v", test.src, x, again, err)
		}
	}
	if x, err := filter.CompileValue(`http.request.headers["nope"][0]`, filter.RequestSchema()); err != nil {
		t.Error(err)
	} else if got, ok := x.Text(example()); ok {
		t.Errorf("a missing header has the value %q", got)
	}
	for src, want := range map[string]string{
		`http.request.headers.names`:                                     "index it, or use join()",
		`http.request.headers.names[*]`:                                  "gives one value for each element",
		`regex_replace(http.host, "a", "${1}")`:                          "the pattern has no group 1",
		`regex_replace(http.host, "a", "$1")`:                            "write $$ for the character itself",
		`concat(regex_replace("a","b","c"), regex_replace("a","b","c"))`: "may be used once",
		`wildcard_replace(http.host, "*", "x", "i")`:                     `the only flag of wildcard_replace is "s"`,
	} {
		if _, err := filter.CompileValue(src, filter.RequestSchema()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("CompileValue(%q) = %v, want a fault with %q", src, err, want)
		}
	}
}

// TestMatchTogether matches one expression for different requests at once: what an evaluation needs
// must not leak into another.
func TestMatchTogether(t *testing.T) {
	e, err := filter.Compile(`any(lower(http.request.headers.names[*])[*] eq "x-me") and all(len(http.request.uri.args["a"][*])[*] in {2})`, filter.RequestSchema())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			r := example()
			r.arrays[filter.HTTPHeaderNames] = []string{"A", "B", "C", "x-Other"}
			r.maps[filter.HTTPArgs]["a"] = []string{"12", "34"}
			if i%2 == 0 {
				r.arrays[filter.HTTPHeaderNames] = []string{"x-Me"}
			}
			for range 1000 {
				if got := e.Match(r); got != (i%2 == 0) {
					t.Errorf("request %d matched: %v", i, got)
					return
				}
			}
		})
	}
	wg.Wait()
}
