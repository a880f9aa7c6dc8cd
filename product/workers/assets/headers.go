package assets

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"selvage/edge"
)

// headerRule is a block of _headers.
type headerRule struct {
	path  string
	set   []edge.Field // names in lower case, each once
	unset []string
}

// headerRules are the compiled rules of a site. All that match a request apply, in order.
type headerRules []compiledHeaders

type compiledHeaders struct {
	pattern
	headerRule
}

var (
	probablyPath = regexp.MustCompile(`^([^\s]+://|/)`)
	splatName    = regexp.MustCompile(`:splat(\W|$)`)
)

// parseHeaders reads a _headers file, leaving out what is not right.
func parseHeaders(text string) ([]headerRule, []Finding) {
	var p headerParser
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
		if !probablyPath.MatchString(line) {
			p.header(line, i+1)
			continue
		}
		p.skip = false
		if len(p.rules) >= maxHeaderRules {
			p.note(0, "Maximum number of rules supported is %d. Skipping remaining %d lines of file.", maxHeaderRules, len(lines)-i)
			break
		}
		p.finish(i + 1)
		p.begin(line, i+1)
	}
	p.finish(0)
	return p.rules, p.findings
}

type headerParser struct {
	rules    []headerRule
	findings []Finding
	rule     *headerRule // under way; nil before the first and after one that is not right
	skip     bool        // the path above was not right: its headers are left out without a word
}

func (p *headerParser) note(line int, format string, args ...any) {
	p.findings = append(p.findings, Finding{line, fmt.Sprintf(format, args...)})
}

// finish keeps the rule under way.
func (p *headerParser) finish(line int) {
	switch r := p.rule; {
	case r == nil:
	case len(r.set) == 0 && len(r.unset) == 0:
		p.note(line, "No headers specified")
	default:
		p.rules = append(p.rules, *r)
	}
	p.rule = nil
}

// begin starts the rule of a path.
func (p *headerParser) begin(line string, number int) {
	path, why := cleanURL(line, urlRule{})
	if why == "" {
		why = oneWildcard(path)
	}
	if why != "" {
		p.note(number, "%s", why)
		p.skip = true
		return
	}
	p.rule = &headerRule{path: path}
}

// oneWildcard says why a path has too many stars: they are all called splat.
func oneWildcard(path string) string {
	stars := strings.Count(path, "*")
	if stars > 1 {
		return fmt.Sprintf("Only one wildcard is allowed per rule. Use a named placeholder (e.g. :project) instead. Skipping %s.", path)
	}
	if stars > 0 && splatName.MatchString(path) {
		return fmt.Sprintf("Cannot combine a wildcard * with a :splat placeholder because wildcards are converted to :splat at runtime. Skipping %s.", path)
	}
	return ""
}

// header reads a line below a path.
func (p *headerParser) header(line string, number int) {
	if p.skip {
		return
	}
	rawName, value, pair := strings.Cut(line, ":")
	name, value := strings.ToLower(strings.TrimSpace(rawName)), strings.TrimSpace(value)
	switch {
	case !pair && p.rule == nil:
		p.note(number, "Expected a path beginning with at least one forward-slash")
	case !pair && strings.HasPrefix(line, "! "):
		p.rule.unset = append(p.rule.unset, strings.TrimSpace(line[2:]))
	case !pair:
		p.note(number, "Expected a colon-separated header pair (e.g. name: value)")
	case strings.Contains(name, " "):
		p.note(number, "Header name cannot include spaces")
	case name == "":
		p.note(number, "No header name specified")
	case value == "":
		p.note(number, "No header value specified")
	case p.rule == nil:
		p.note(number, "Path should come before header (%s: %s)", name, value)
	case !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value):
		p.note(number, "Header name or value has characters that HTTP does not allow (%q)", line)
	default:
		p.rule.put(name, value)
	}
}

// put sets a header, or joins it with the one of that name.
func (r *headerRule) put(name, value string) {
	for i := range r.set {
		if r.set[i].Name == name {
			r.set[i].Value += ", " + value
			return
		}
	}
	r.set = append(r.set, edge.Field{Name: name, Value: value})
}

// newHeaderRules compiles rules. Of two for the same path the later one counts, in the place of the
// earlier.
func newHeaderRules(rules []headerRule) headerRules {
	var hs headerRules
	for _, r := range rules {
		p, ok := compile(r.path)
		if !ok {
			continue
		}
		at := slices.IndexFunc(hs, func(h compiledHeaders) bool { return h.path == r.path })
		if at >= 0 {
			hs[at] = compiledHeaders{p, r}
			continue
		}
		hs = append(hs, compiledHeaders{p, r})
	}
	return hs
}

// apply changes a response's header as the rules that match say: a header that a rule sets takes
// the place of what was there, and stands beside what an earlier rule has set.
func (hs headerRules) apply(host, path string, h *edge.Header) {
	var done []string // names that rules have set
	for i := range hs {
		r := &hs[i]
		found, ok := r.match(host, path)
		if !ok {
			continue
		}
		for _, name := range r.unset {
			h.Del(name)
		}
		for _, f := range r.set {
			value := found.fill(f.Value)
			if !slices.Contains(done, f.Name) {
				h.Del(f.Name)
				done = append(done, f.Name)
			}
			h.Add(f.Name, value)
		}
	}
}
