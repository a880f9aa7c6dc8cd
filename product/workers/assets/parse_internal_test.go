package assets

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"selvage/edge"
)

func show(rules []redirect) string {
	var b strings.Builder
	for _, r := range rules {
		fmt.Fprintf(&b, "%d %s %s %d\n", r.line, r.from, r.to, r.status)
	}
	return b.String()
}

func showFindings(findings []Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

func TestParseRedirects(t *testing.T) {
	const loop = "Infinite loop detected in this rule. This would cause a redirect to strip `.html` or `/index` and end up triggering this rule again.\n"
	for _, c := range []struct {
		name, text, rules, findings string
		html                        HTMLHandling
	}{
		{name: "one", text: "/a /b 301", rules: "1 /a /b 301\n"},
		{name: "blank lines", text: "\n/a /b 301\n\n", rules: "2 /a /b 301\n"},
		{name: "windows", text: "/a /b 301\r\n/c /d\r\n", rules: "1 /a /b 301\n2 /c /d 302\n"},
		{name: "comments", text: "# x\n  # y\n/a /b\n# z", rules: "3 /a /b 302\n"},
		{name: "query and fragment", text: "/a /b?query=string 302\n/c?this=rejected /d 301\n/ext https://some.domain:1234/route?q=string#anchor",
			rules: "1 /a /b?query=string 302\n2 /c /d 301\n3 /ext https://some.domain:1234/route?q=string#anchor 302\n"},
		{name: "hash in fragment", text: "/a /b##blah-1 302\n/c https://example.com/b##blah-1", rules: "1 /a /b##blah-1 302\n2 /c https://example.com/b##blah-1 302\n"},
		{name: "proxy", text: "/a /b 200\n/* /foo 200", rules: "1 /a /b 200\n2 /* /foo 200\n"},
		{name: "absolute", text: "/foo https://bar.com/index.html 302\n/cat https://cat.com:12345", rules: "1 /foo https://bar.com/index.html 302\n2 /cat https://cat.com:12345/ 302\n"},
		{name: "inline comments", text: "/a /b 301 # x\n/c /d # y\n/e /f#s 307 #z\n/g /h #", rules: "1 /a /b 301\n2 /c /d 302\n3 /e /f#s 307\n4 /g /h 302\n"},
		{name: "tokens", text: "/c\n/d /e 302 !important", findings: "Line 1: Expected exactly 2 or 3 whitespace-separated tokens. Got 1.\nLine 2: Expected exactly 2 or 3 whitespace-separated tokens. Got 4.\n"},
		{name: "status", text: "/a /b 301\n/c /d 418", rules: "1 /a /b 301\n", findings: "Line 2: Valid status codes are 200, 301, 302 (default), 303, 307, or 308. Got 418.\n"},
		{name: "duplicate", text: "/a /b\n/b /a\n/a /c", rules: "1 /a /b 302\n2 /b /a 302\n", findings: "Line 3: Ignoring duplicate rule for path /a.\n"},
		{name: "odd URLs", text: "/some%20page /somewhere%20else\n/://so;`me /nons:/&@%+~{}ense\nhttps://yeah.com https://nah.com\n/nah https://yeah.com\nyeah.com https://nah.com\n/x y",
			rules:    "1 /some%20page /somewhere%20else 302\n2 /://so;%60me /nons:/&@%+~%7B%7Dense 302\n4 /nah https://yeah.com/ 302\n5 /yeah.com https://nah.com/ 302\n",
			findings: "Line 3: Only relative URLs are allowed. Skipping absolute URL https://yeah.com.\nLine 6: URLs should either be relative (e.g. begin with a forward-slash), or use HTTPS (e.g. begin with \"https://\").\n"},
		{name: "proxy elsewhere", text: "/a https://example.com/b 200", findings: "Line 1: Proxy (200) redirects can only point to relative paths. Got https://example.com/b\n"},
		{name: "loops", text: "/* /index.html 200\n/* /index 200\n/ /index.html\n/ /index", findings: "Line 1: " + loop + "Line 2: " + loop + "Line 3: " + loop + "Line 4: " + loop},
		{name: "no loop without HTML handling", html: HTMLNone, text: "/* /index.html 200\n/ /index.html\n/ /index", rules: "2 / /index.html 302\n",
			findings: "Line 1: " + loop + "Line 3: Ignoring duplicate rule for path /.\n"},
		{name: "long line", text: "/" + strings.Repeat("a", 2000) + " /b", findings: "Ignoring line 1 as it exceeds the maximum allowed length of 2000.\n"},
		{name: "dots", text: "/a/../b/./c /%2e%2E/d/..", rules: "1 /b/c / 302\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rules, findings := parseRedirects(c.text, c.html)
			if got := show(rules); got != c.rules {
				t.Errorf("rules:\n%swant\n%s", got, c.rules)
			}
			if got := showFindings(findings); got != c.findings {
				t.Errorf("findings:\n%swant\n%s", got, c.findings)
			}
		})
	}
}

func TestRedirectLimits(t *testing.T) {
	var text strings.Builder
	text.WriteString("# comments do not count\n")
	for i := range maxStaticRedirects + 50 {
		fmt.Fprintf(&text, "/a/%d /b/%d\n", i, i)
	}
	for i := range maxDynamicRedirects + 50 {
		fmt.Fprintf(&text, "/a/%d/* /b/%d/:splat\n", i, i)
	}
	rules, findings := parseRedirects(text.String(), "")
	if len(rules) != maxStaticRedirects+maxDynamicRedirects || len(findings) != 51 {
		t.Errorf("%d rules and %d findings, want %d and 51", len(rules), len(findings), maxStaticRedirects+maxDynamicRedirects)
	}
	if got, want := findings[50].Message, "Maximum number of dynamic rules supported is 100. Skipping remaining 51 lines of file."; got != want {
		t.Errorf("last finding %q, want %q", got, want)
	}
	// What follows a dynamic rule is charged to the dynamic ones.
	rules, findings = parseRedirects("/x/* /y\n"+strings.Repeat("/a /b\n", 1)+text.String(), "")
	if len(rules) != maxDynamicRedirects || len(findings) != 1 {
		t.Errorf("%d rules and %d findings, want %d and 1", len(rules), len(findings), maxDynamicRedirects)
	}
}

func TestParseHeaders(t *testing.T) {
	for _, c := range []struct{ name, text, rules, findings string }{
		{name: "one", text: "/a\n  Name: Value", rules: "/a name=Value\n"},
		{name: "exclamation mark", text: "/a\n  !Name: Value", rules: "/a !name=Value\n"},
		{name: "spaces", text: "\n      /a\n   Name    :    Value\r\n\n", rules: "/a name=Value\n"},
		{name: "comments", text: "# x\n/a\n # y\nName: Value", rules: "/a name=Value\n"},
		{name: "joined", text: "/a\nSet-Cookie: a=b; c\nset-cookie: d\n/b\nA: ABBA\nB: BA:BA", rules: "/a set-cookie=a=b; c, d\n/b a=ABBA b=BA:BA\n"},
		{name: "hosts", text: "https://example.com\na: a\nhttps://example.com/\nb: b\nhttps://example.com/blog\nc: c\n/blog\nd:d\nhttps://:subdomain.example.*/path\ne:e",
			rules: "https://example.com/ a=a\nhttps://example.com/ b=b\nhttps://example.com/blog c=c\n/blog d=d\nhttps://:subdomain.example.*/path e=e\n"},
		{name: "unset", text: "/a\nName: Value\n! Place", rules: "/a name=Value -Place\n"},
		{name: "no headers", text: "/a\n/b\nx: y\n/c", rules: "/b x=y\n", findings: "Line 2: No headers specified\nNo headers specified\n"},
		{name: "no path", text: "x: y\nz", findings: "Line 1: Path should come before header (x: y)\nLine 2: Expected a path beginning with at least one forward-slash\n"},
		{name: "malformed", text: "/a\nx y: z\n: z\nx:\nnone\nq: r", rules: "/a q=r\n",
			findings: "Line 2: Header name cannot include spaces\nLine 3: No header name specified\nLine 4: No header value specified\nLine 5: Expected a colon-separated header pair (e.g. name: value)\n"},
		{name: "ports", text: "https://example.com:8080/\na: b\nhttp://x.test/\nc: d",
			findings: "Line 1: Specifying ports is not supported. Skipping absolute URL https://example.com:8080/.\nLine 3: URLs should either be relative (e.g. begin with a forward-slash), or use HTTPS (e.g. begin with \"https://\").\n"},
		{name: "wildcards", text: "/*/*\na: b\n/:splat/*\nc: d\n/:splats/*\ne: f", rules: "/:splats/* e=f\n",
			findings: "Line 1: Only one wildcard is allowed per rule. Use a named placeholder (e.g. :project) instead. Skipping /*/*.\nLine 3: Cannot combine a wildcard * with a :splat placeholder because wildcards are converted to :splat at runtime. Skipping /:splat/*.\n"},
		{name: "not HTTP", text: "/a\nna(me: x\nname: a\x01b\nok: ok", rules: "/a ok=ok\n",
			findings: "Line 2: Header name or value has characters that HTTP does not allow (\"na(me: x\")\nLine 3: Header name or value has characters that HTTP does not allow (\"name: a\\x01b\")\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rules, findings := parseHeaders(c.text)
			var b strings.Builder
			for _, r := range rules {
				b.WriteString(r.path)
				for _, f := range r.set {
					fmt.Fprintf(&b, " %s=%s", f.Name, f.Value)
				}
				for _, name := range r.unset {
					b.WriteString(" -" + name)
				}
				b.WriteByte('\n')
			}
			if b.String() != c.rules {
				t.Errorf("rules:\n%swant\n%s", b.String(), c.rules)
			}
			if got := showFindings(findings); got != c.findings {
				t.Errorf("findings:\n%swant\n%s", got, c.findings)
			}
		})
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		rule, host, path, template, want string // want is "-" where nothing matches
	}{
		{"/test", "example.com", "/test", "1", "1"},
		{"/test", "example.com", "/test/", "1", "-"},
		{"/some%20page", "example.com", "/some page", "2", "2"},
		{"https://custom.domain/test", "custom.domain", "/test", "3", "3"},
		{"https://another.domain/test", "custom.domain", "/test", "4", "-"},
		{"//fake.host/actually-a-path", "example.com", "//fake.host/actually-a-path", "5", "5"},
		{"/$~.%20/!+-/[bo|%7Bo%7D]...()", "example.com", `/$~. \!+-/[bo|{o}]...()`, "1", "1"},
		{"/foo/test/*", "e", "/foo/test/yes", "1/:splat", "1/yes"},
		{"/foo/*", "e", "/foo/test/yes", "2/:splat", "2/test/yes"},
		{"/foo/*", "e", "/foo/", "2/:splat", "2/"},
		{"/foo/*", "e", "/foo", "2/:splat", "-"},
		{"/blog/:code/:name", "e", "/blog/123/tricycle", "3/:name/:code", "3/tricycle/123"},
		{"/blog/:code/:name", "e", "/blog/123/", "3/:name/:code", "-"},
		{"https://:subdomain.pages.:tld/*", "my.pages.dev", "/magic", "5/:subdomain/:tld/:splat", "5/my/dev/magic"},
		{"https://:subdomain.pages.:tld/*", "next.my.pages.dev", "/magic", "5/:subdomain/:tld/:splat", "-"},
		{"https://next.:subdomain.pages.:tld/*", "next.my.pages.dev", "/magic", "6/:subdomain/", "6/my/"},
		{"/*.html", "e", "/a/b.html", ":splat", "a/b"},
		{"/a*a", "e", "/a", ":splat", "-"},
		{"/*/x/*", "e", "/1/x/2", ":splat", "-"}, // two splats name the same
		{"/:a/:a", "e", "/1/1", ":a", "-"},
		{"/x/:a", "e", "/x/é", ":a", "%C3%A9"},
	} {
		p, ok := compile(c.rule)
		got := "-"
		if found, matched := p.match(c.host, normalize(c.path, true)); ok && matched {
			got = found.fill(c.template)
		}
		if got != c.want {
			t.Errorf("%s on %s%s: %q, want %q", c.rule, c.host, c.path, got, c.want)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		rule, path string
		want       bool
	}{
		{"/some/path", "/some/path", true}, {"/some/*", "/some/path", true}, {"/some/*", "/path", false},
		{"/", "/", true}, {"/", "/foo", false}, {"/foo", "/foo/", false}, {"/foo", "/foobar", false},
		{"/:placeholder", "/foo", false}, {"/:placeholder", "/:placeholder", true},
		{"/foo*", "/foo", true}, {"/foo*", "/foo/bar", true}, {"/foo*", "/baz/foo", false},
		{"/*.html", "/foo/bar.html", true}, {"/*.html", "/foo", false},
		{"/*", "/", true}, {"*/*", "/a/b", true}, {"/a*b*c", "/abbc", true}, {"/a*b*c", "/acb", false},
		{"/a*a", "/a", false}, {"/a*ab*b", "/aab", false},
	} {
		if got := glob(c.rule, c.path); got != c.want {
			t.Errorf("glob(%q, %q) = %v", c.rule, c.path, got)
		}
	}
}

func TestNormalize(t *testing.T) {
	for _, c := range []struct{ path, want string }{
		{"/", "/"}, {"/a/b.html", "/a/b.html"}, {"/a/../b", "/b"}, {"/../../b", "/b"}, {"/a/%2E%2e/b", "/b"}, {"/a/.%2e", "/"},
		{"/a/./b/.", "/a/b/"}, {"/a/..", "/"}, {"/..a/...", "/..a/..."}, {"/.well-known/x", "/.well-known/x"},
		{`/a\..\b`, "/b"}, {"/a b", "/a%20b"}, {"/ü", "/%C3%BC"}, {"//a//b", "//a//b"}, {"/%zz", "/%zz"}, {"/[x]|", "/[x]|"},
	} {
		if got := normalize(c.path, true); got != c.want {
			t.Errorf("normalize(%q) = %q, want %q", c.path, got, c.want)
		}
		if got := normalize(normalize(c.path, true), true); got != c.want {
			t.Errorf("normalize(%q) twice = %q, want %q", c.path, got, c.want)
		}
	}
}

func TestExtension(t *testing.T) {
	for path, want := range map[string]string{"/a.txt": "txt", "/a.b/c": "", "/.env": "", "/a.": "", "/x.tar.gz": "gz", "/a": ""} {
		if got := extension(path); got != want {
			t.Errorf("extension(%q) = %q, want %q", path, got, want)
		}
	}
}

func FuzzParseRedirects(f *testing.F) {
	f.Add("/a /b 301\n/x/* /y/:splat\n/:a/:b https://:a.test/:b?q#f 308 # c", "/x/y", "h.test")
	f.Add("/:a/:ab/*/* //x/:splat 200", `/%2e/\x`, "")
	f.Fuzz(func(t *testing.T, text, path, host string) {
		rules, _ := parseRedirects(text, "")
		compiled := newRedirects(rules)
		v := view{method: "GET", scheme: "https", host: host, path: normalize("/"+path, true)}
		s := &site{files: map[string]*File{"/index.html": {Hash: "x"}}, redirects: compiled}
		o := s.look(&v, NotFoundSPA)
		if strings.ContainsAny(o.location, "\r\n\x00") {
			t.Errorf("Location %q of %q", o.location, text)
		}
		if len(compiled.dynamic) > maxDynamicRedirects || len(compiled.static) > maxStaticRedirects {
			t.Errorf("%d static and %d dynamic rules", len(compiled.static), len(compiled.dynamic))
		}
	})
}

func FuzzParseHeaders(f *testing.F) {
	f.Add("/a\n X: y\n! z\nhttps://:h.test/*\nSet-Cookie: :h:splat", "/a", "x.test")
	f.Fuzz(func(t *testing.T, text, path, host string) {
		rules, _ := parseHeaders(text)
		if len(rules) > maxHeaderRules+1 {
			t.Errorf("%d rules", len(rules))
		}
		h := newFuzzHeader()
		newHeaderRules(rules).apply(host, normalize("/"+path, true), &h)
		for _, field := range h.Fields() {
			if strings.ContainsAny(field.Name+field.Value, "\r\n\x00") && !strings.ContainsAny(host, "\r\n\x00") {
				t.Errorf("field %q of %q", field, text)
			}
		}
	})
}

func FuzzNormalize(f *testing.F) {
	f.Add("/a/../b%2e")
	f.Fuzz(func(t *testing.T, path string) {
		got := normalize("/"+path, true)
		if !strings.HasPrefix(got, "/") || normalize(got, true) != got {
			t.Errorf("normalize(%q) = %q, again %q", path, got, normalize(got, true))
		}
		if slices.ContainsFunc(strings.Split(got, "/"), func(s string) bool { return dotSegment(s) > 0 }) {
			t.Errorf("normalize(%q) = %q has dot segments", path, got)
		}
		if encode(decode(got)) != "" && strings.Contains(encode(decode(got)), "//") {
			t.Errorf("canonical path of %q has a double slash", got)
		}
	})
}

func newFuzzHeader() edge.Header { return edge.NewHeader("ETag", `"x"`, "Content-Type", "text/html") }
