package assets

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of _redirects and _headers, as Cloudflare's.
const (
	maxStaticRedirects  = 2000
	maxDynamicRedirects = 100
	maxHeaderRules      = 100
	maxLine             = 2000 // characters of a line
)

// Finding is what is wrong with a line of _redirects or _headers.
type Finding struct {
	Line    int // counts from 1; 0 if it is about no line in particular
	Message string
}

// String returns the finding as users read it.
func (f Finding) String() string {
	if f.Line == 0 {
		return f.Message
	}
	return "Line " + strconv.Itoa(f.Line) + ": " + f.Message
}

// redirect is a line of _redirects. A status of 200 serves another path without a redirect.
type redirect struct {
	from, to string
	status   int
	line     int
}

// redirects are the rules of a site in the order they are tried: the static ones before the first
// dynamic one are looked up first, then the others one by one.
type redirects struct {
	static  map[string]redirect
	dynamic []dynamicRedirect
}

type dynamicRedirect struct {
	pattern
	redirect
}

var (
	inlineComment = regexp.MustCompile(`\s+#.*$`)
	toIndex       = regexp.MustCompile(`/index(\.html)?$`)
	withScheme    = regexp.MustCompile(`^\w+://`)
)

// parseRedirects reads a _redirects file, leaving out lines that are not right.
func parseRedirects(text string, html HTMLHandling) ([]redirect, []Finding) {
	p := redirectParser{html: html, seen: map[string]bool{}}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if utf8.RuneCountInString(line) > maxLine {
			p.note(0, "Ignoring line %d as it exceeds the maximum allowed length of %d.", i+1, maxLine)
			continue
		}
		if !p.line(line, i+1, len(lines)-i) {
			break
		}
	}
	return p.rules, p.findings
}

type redirectParser struct {
	html            HTMLHandling
	rules           []redirect
	findings        []Finding
	seen            map[string]bool // where rules lead from
	static, dynamic int             // rules counted so far
}

func (p *redirectParser) note(line int, format string, args ...any) {
	p.findings = append(p.findings, Finding{line, fmt.Sprintf(format, args...)})
}

// line reads one rule; left is the number of lines from this one on. It returns false when no
// further rule counts.
func (p *redirectParser) line(line string, number, left int) bool {
	tokens := strings.Fields(inlineComment.ReplaceAllString(line, ""))
	if len(tokens) < 2 || len(tokens) > 3 {
		p.note(number, "Expected exactly 2 or 3 whitespace-separated tokens. Got %d.", len(tokens))
		return true
	}
	from, why := cleanURL(tokens[0], urlRule{relative: true})
	if why != "" {
		p.note(number, "%s", why)
		return true
	}
	if more, ok := p.count(from, left); !ok {
		return more
	}
	to, why := cleanURL(tokens[1], urlRule{ports: true, search: true})
	if why != "" {
		p.note(number, "%s", why)
		return true
	}
	status := 302
	if len(tokens) == 3 {
		switch tokens[2] {
		case "200", "301", "302", "303", "307", "308":
			status, _ = strconv.Atoi(tokens[2])
		default:
			p.note(number, "Valid status codes are 200, 301, 302 (default), 303, 307, or 308. Got %s.", tokens[2])
			return true
		}
	}
	p.add(redirect{from, to, status, number})
	return true
}

// count charges a rule to the static or the dynamic ones: all that follow a dynamic one are
// dynamic. ok is false if it is one too many, more if others may still count.
func (p *redirectParser) count(from string, left int) (more, ok bool) {
	if p.dynamic == 0 && !dynamic(from) {
		if p.static++; p.static > maxStaticRedirects {
			p.note(0, "Maximum number of static rules supported is %d. Skipping line.", maxStaticRedirects)
			return true, false
		}
		return true, true
	}
	if p.dynamic++; p.dynamic > maxDynamicRedirects {
		p.note(0, "Maximum number of dynamic rules supported is %d. Skipping remaining %d lines of file.", maxDynamicRedirects, left)
		return false, false
	}
	return true, true
}

func dynamic(from string) bool {
	return strings.Contains(from, "*") || placeholder.MatchString(from)
}

// add keeps a rule unless it would loop, repeats another, or proxies to another host.
func (p *redirectParser) add(r redirect) {
	index := toIndex.MatchString(r.to)
	loops := index && (strings.HasSuffix(r.from, "/*") || strings.HasSuffix(r.from, "/") && p.html != HTMLNone)
	switch {
	case loops && !hasHost(r.to):
		p.note(r.line, "Infinite loop detected in this rule. This would cause a redirect to strip `.html` or `/index` and end up triggering this rule again.")
	case p.seen[r.from]:
		p.note(r.line, "Ignoring duplicate rule for path %s.", r.from)
	case r.status == 200 && hasHost(r.to):
		p.seen[r.from] = true
		p.note(r.line, "Proxy (200) redirects can only point to relative paths. Got %s", r.to)
	default:
		p.seen[r.from] = true
		p.rules = append(p.rules, r)
	}
}

// newRedirects compiles rules.
func newRedirects(rules []redirect) redirects {
	rs := redirects{static: make(map[string]redirect, len(rules))}
	for _, r := range rules {
		if len(rs.dynamic) == 0 && !dynamic(r.from) {
			rs.static[r.from] = r
			continue
		}
		// One that cannot match stands in the list, too: what follows it is not static.
		p, ok := compile(r.from)
		if !ok {
			p = pattern{prefix: "\x00"}
		}
		rs.dynamic = append(rs.dynamic, dynamicRedirect{p, r})
	}
	return rs
}

// match returns where a request is sent to, and the status; 0 if nowhere.
func (rs *redirects) match(host, path string) (to string, status int) {
	if r, ok := rs.static[path]; ok {
		return r.to, r.status
	}
	for i := range rs.dynamic {
		r := &rs.dynamic[i]
		found, ok := r.match(host, path)
		if !ok {
			continue
		}
		to := strings.TrimSpace(found.fill(r.to))
		if !withScheme.MatchString(to) {
			to = collapse(to)
		}
		return to, r.status
	}
	return "", 0
}

// urlRule says what a URL in a rule may have.
type urlRule struct {
	relative bool // no host
	ports    bool // a port in the host
	search   bool // query and fragment, which are dropped otherwise
}

var withHost = regexp.MustCompile(`^https://+([^/]+)/?(.*)`)

func hasHost(url string) bool { return withHost.MatchString(url) }

// cleanURL returns a URL of a rule in the form in which it is compared, or why it is not one.
func cleanURL(token string, rule urlRule) (url, why string) {
	if m := withHost.FindStringSubmatch(token); m != nil {
		if rule.relative {
			return "", fmt.Sprintf("Only relative URLs are allowed. Skipping absolute URL %s.", token)
		}
		if at := strings.LastIndexByte(m[1], ':'); !rule.ports && at >= 0 && digits(m[1][at+1:]) {
			return "", fmt.Sprintf("Specifying ports is not supported. Skipping absolute URL %s.", token)
		}
		return "https://" + m[1] + cleanPath(m[2], rule.search), ""
	}
	if !strings.HasPrefix(token, "/") {
		if !rule.relative {
			return "", `URLs should either be relative (e.g. begin with a forward-slash), or use HTTPS (e.g. begin with "https://").`
		}
		token = "/" + token
	}
	return cleanPath(token, rule.search), ""
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// cleanPath normalizes path, query and fragment, and drops the latter two if search is false.
func cleanPath(path string, search bool) string {
	path, fragment, hasFragment := strings.Cut(path, "#")
	path, query, _ := strings.Cut(path, "?")
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	path = normalize(path, false)
	if !search {
		return path
	}
	if query != "" {
		path += "?" + escapeQuery(query)
	}
	if hasFragment && fragment != "" {
		path += "#" + escapeFragment(fragment)
	}
	return path
}
