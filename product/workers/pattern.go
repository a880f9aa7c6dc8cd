package workers

import (
	"cmp"
	"slices"
	"strings"

	"selvage/edge"
	"selvage/foundation/fault"
	"selvage/spec"
)

// maxPattern is the most bytes of a route's pattern.
const maxPattern = 2048

// pattern is a route's pattern, [scheme://]host[/path], taken apart. Source: Cloudflare's "Matching
// behavior" of routes: a * may begin the host and end the path; host names compare without case.
type pattern struct {
	scheme   string // empty is either
	host     string // without its star
	below    bool   // *host: the name and whatever ends with it; "*.host" keeps its dot
	path     string // without its star
	open     bool   // the path ended in *
	anything bool   // no path was given: as if it were /
}

// parsePattern takes a pattern apart. A fault says what is wrong with it.
func parsePattern(s string) (pattern, error) {
	bad := func(why string) error {
		return fault.New(fault.Invalid, "The route pattern %.200q %s. Write it as example.com/path* or *.example.com/*.", s, why).WithCode(10022).At("pattern")
	}
	if len(s) > maxPattern {
		return pattern{}, fault.New(fault.TooMuch, "The route pattern has %d bytes, the limit is %d.", len(s), maxPattern).At("pattern")
	}
	var p pattern
	rest := s
	if before, after, ok := strings.Cut(s, "://"); ok {
		if p.scheme, rest = strings.ToLower(before), after; p.scheme != "http" && p.scheme != "https" {
			if p.scheme != "*" {
				return p, bad("has a scheme other than http and https")
			}
			p.scheme = ""
		}
	}
	host, path, hasPath := strings.Cut(rest, "/")
	p.host, p.below = strings.CutPrefix(strings.ToLower(host), "*")
	p.path, p.anything = "/"+path, !hasPath
	if p.path, p.open = strings.CutSuffix(p.path, "*"); strings.Contains(p.path, "*") {
		return p, bad("has a * within its path; it may only end it")
	}
	if strings.Contains(p.host, "*") {
		return p, bad("has a * within its host name; it may only begin it")
	}
	if strings.ContainsAny(p.path, "?#") {
		return p, bad("has a query or fragment; patterns end with the path")
	}
	if strings.Contains(p.host, ":") {
		return p, bad("names a port; routes hold for every port")
	}
	name := strings.TrimPrefix(p.host, ".")
	if name == "" || spec.CheckHostname(name) != nil {
		return p, bad("has no valid host name")
	}
	return p, nil
}

// in tells whether every host that the pattern matches belongs to the zone of that name.
func (p *pattern) in(zone string) bool {
	name := strings.TrimPrefix(p.host, ".")
	return name == zone || strings.HasSuffix(name, "."+zone)
}

func (p *pattern) matches(q *edge.Request) bool {
	if p.scheme != "" && p.scheme != q.Scheme {
		return false
	}
	if p.below {
		if !strings.HasSuffix(q.Host, p.host) {
			return false
		}
	} else if q.Host != p.host {
		return false
	}
	if p.open {
		return strings.HasPrefix(q.Path, p.path)
	}
	return q.Path == p.path || p.anything && q.Path == ""
}

// route is a pattern and where it leads.
type route struct {
	pattern
	script string // empty: to no Worker
}

// compileRoutes returns a zone's routes, the most specific first: exact hosts before wildcards,
// longer hosts before shorter ones, then longer paths, then exact ones, then one scheme before both.
func compileRoutes(routes []*spec.WorkerRoute) ([]route, error) {
	list := make([]route, 0, len(routes))
	for _, r := range routes {
		p, err := parsePattern(r.Pattern)
		if err != nil {
			return nil, err
		}
		list = append(list, route{p, r.Script})
	}
	slices.SortStableFunc(list, func(a, b route) int {
		return cmp.Or(
			last(a.below, b.below), cmp.Compare(len(b.host), len(a.host)), cmp.Compare(len(b.path), len(a.path)),
			last(a.open, b.open), last(a.scheme == "", b.scheme == ""),
		)
	})
	return list, nil
}

// last orders what is true behind what is false.
func last(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
