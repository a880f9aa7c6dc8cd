package assets

import (
	"regexp"
	"slices"
	"strings"
)

// pattern is a compiled path of _headers or _redirects: "*" matches anything, also slashes, and is
// called splat; ":name" matches one segment.
type pattern struct {
	host bool // begins with https://: host name and path are matched, whatever the request's scheme

	// Without a regular expression the pattern has no placeholder: it matches what equals prefix, or
	// with star what begins with prefix and ends with suffix.
	star           bool
	prefix, suffix string

	expr  *regexp.Regexp
	names []string // of expr's groups, in order
}

// values are what the names of a pattern stood for in a path.
type values []struct{ name, value string }

var (
	special         = regexp.MustCompile(`[-/\\^$*+?.()|[\]{}]`)
	placeholder     = regexp.MustCompile(`:[A-Za-z]\w*`)
	hostPlaceholder = regexp.MustCompile(`:([A-Za-z]\w*)\\`)
)

// compile returns the pattern of a rule. Rules that name something twice match nothing: ok is false.
func compile(rule string) (p pattern, ok bool) {
	p.host = strings.HasPrefix(rule, "https://")
	stars := strings.Count(rule, "*")
	if stars < 2 && !placeholder.MatchString(rule) {
		p.prefix, p.suffix, p.star = strings.Cut(rule, "*")
		return p, true
	}
	parts := strings.Split(rule, "*")
	for i := range parts {
		parts[i] = special.ReplaceAllString(parts[i], `\$0`)
	}
	expr := strings.Join(parts, "(?<splat>.*)")
	// In the host a placeholder ends at dots and slashes, in the path at slashes. The expression is
	// rewritten as text, name by name: what is written ":a" in ":ab" is taken for ":a" if that came
	// first.
	if rest, isHost := strings.CutPrefix(expr, `https:\/\/`); isHost {
		host, _, _ := strings.Cut(rest, "/")
		for _, m := range hostPlaceholder.FindAllStringSubmatch(host, -1) {
			expr = strings.ReplaceAll(expr, ":"+m[1], "(?<"+m[1]+">[^/.]+)")
		}
	}
	for _, m := range placeholder.FindAllString(expr, -1) {
		expr = strings.ReplaceAll(expr, m, "(?<"+m[1:]+">[^/]+)")
	}
	var err error
	if p.expr, err = regexp.Compile("^(?s:" + expr + ")$"); err != nil {
		return pattern{}, false
	}
	p.names = p.expr.SubexpNames()[1:]
	for i, name := range p.names {
		if slices.Contains(p.names[:i], name) {
			return pattern{}, false
		}
	}
	p.prefix = literal(rule)
	return p, true
}

// literal returns what a rule begins with before its first star or placeholder.
func literal(rule string) string {
	rule, _, _ = strings.Cut(rule, "*")
	if at := placeholder.FindStringIndex(rule); at != nil {
		rule = rule[:at[0]]
	}
	return rule
}

// match tells whether the pattern matches a request for path at host.
func (p *pattern) match(host, path string) (values, bool) {
	if p.host {
		path = "https://" + host + path
	}
	if !strings.HasPrefix(path, p.prefix) {
		return nil, false
	}
	if p.expr == nil {
		return p.simple(path)
	}
	at := p.expr.FindStringSubmatchIndex(path)
	if at == nil {
		return nil, false
	}
	found := make(values, len(p.names))
	for i, name := range p.names {
		found[i].name, found[i].value = name, path[at[2*i+2]:at[2*i+3]]
	}
	return found, true
}

// simple matches a path that begins with prefix.
func (p *pattern) simple(path string) (values, bool) {
	rest := path[len(p.prefix):]
	if !p.star {
		return nil, rest == ""
	}
	splat, ok := strings.CutSuffix(rest, p.suffix)
	if !ok {
		return nil, false
	}
	return values{{"splat", splat}}, true
}

// fill puts values into a text in place of their names.
func (v values) fill(text string) string {
	for _, x := range v {
		text = strings.ReplaceAll(text, ":"+x.name, x.value)
	}
	return text
}

// glob tells whether path matches a rule in which only "*" is special.
func glob(rule, path string) bool {
	parts := strings.Split(rule, "*")
	path, ok := strings.CutPrefix(path, parts[0])
	if !ok || len(parts) == 1 {
		return ok && path == ""
	}
	for _, part := range parts[1 : len(parts)-1] {
		_, after, found := strings.Cut(path, part)
		if !found {
			return false
		}
		path = after
	}
	return strings.HasSuffix(path, parts[len(parts)-1])
}
