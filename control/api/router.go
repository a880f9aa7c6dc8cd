package api

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"selvage/product"
)

// entry is a line of the table.
type entry struct {
	product.Route
	public bool     // answered without a token
	names  []string // of the path's parameters, in order
}

func asEntries(routes []product.Route) []entry {
	entries := make([]entry, len(routes))
	for i, r := range routes {
		entries[i].Route, entries[i].public = r, r.Public
	}
	return entries
}

// table routes on the escaped path: a "%2F" in a parameter is part of it. Read-only once made.
type table struct {
	entries []entry // sorted by path and method
	root    branch
}

// branch is one segment of the paths below it.
type branch struct {
	fixed   map[string]*branch
	param   *branch
	rest    *branch // of {name...}: all that is left of the path, slashes and all
	methods map[string]*entry
}

func newTable(entries []entry) (*table, error) {
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method))
	})
	t := &table{entries: entries}
	for i := range entries {
		if err := t.add(&entries[i]); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *table) add(e *entry) error {
	if e.Method == "" || !strings.HasPrefix(e.Path, "/") || e.Handle == nil || e.Summary == "" {
		return fmt.Errorf("route %s %s lacks method, path, summary or handler", e.Method, e.Path)
	}
	b := &t.root
	for seg := range strings.SplitSeq(e.Path[1:], "/") {
		name, isParam := strings.CutPrefix(seg, "{")
		if whole, isRest := strings.CutSuffix(name, "...}"); isParam && isRest {
			e.names = append(e.names, whole)
			if b.rest == nil {
				b.rest = &branch{}
			}
			b = b.rest
			continue
		}
		if isParam {
			e.names = append(e.names, strings.TrimSuffix(name, "}"))
			if b.param == nil {
				b.param = &branch{}
			}
			b = b.param
			continue
		}
		if b.fixed == nil {
			b.fixed = map[string]*branch{}
		}
		if b.fixed[seg] == nil {
			b.fixed[seg] = &branch{}
		}
		b = b.fixed[seg]
	}
	if b.methods == nil {
		b.methods = map[string]*entry{}
	}
	if old := b.methods[e.Method]; old != nil {
		return fmt.Errorf("two routes for %s: %s and %s", e.Method, old.Path, e.Path)
	}
	b.methods[e.Method] = e
	return nil
}

// find returns the route of an escaped path and its unescaped parameters. allowed is set instead
// if the path exists without the method; everything is nil if the path does not exist.
func (t *table) find(method, path string) (e *entry, params map[string]string, allowed []string) {
	if !strings.HasPrefix(path, "/") {
		return nil, nil, nil
	}
	segs := strings.SplitN(path[1:], "/", maxSegments)
	b, values := t.root.walk(segs, nil)
	if b == nil {
		return nil, nil, nil
	}
	if method == http.MethodHead && b.methods[method] == nil {
		method = http.MethodGet
	}
	e = b.methods[method]
	if e == nil {
		for m := range b.methods {
			allowed = append(allowed, m)
		}
		slices.Sort(allowed)
		return nil, nil, allowed
	}
	params = make(map[string]string, len(values))
	for i, name := range e.names {
		v, err := url.PathUnescape(values[i])
		if err != nil || name == "zone_id" && !isID(v) || name == "account_id" && !isID(v) {
			return nil, nil, nil
		}
		params[name] = v
	}
	return e, params, nil
}

// maxSegments bounds the walk; no path of the table is as long. What lies beyond stands in the last
// segment, for a {name...} to take.
const maxSegments = 32

// walk follows segs, fixed names first. It goes back where a fixed name leads nowhere.
func (b *branch) walk(segs []string, values []string) (*branch, []string) {
	if len(segs) == 0 {
		if b.methods == nil {
			return nil, nil
		}
		return b, values
	}
	if next := b.fixed[segs[0]]; next != nil {
		if found, vs := next.walk(segs[1:], values); found != nil {
			return found, vs
		}
	}
	if b.param != nil && segs[0] != "" && !strings.Contains(segs[0], "/") {
		if found, vs := b.param.walk(segs[1:], append(values[:len(values):len(values)], segs[0])); found != nil {
			return found, vs
		}
	}
	if rest := strings.Join(segs, "/"); b.rest != nil && rest != "" {
		return b.rest, append(values[:len(values):len(values)], rest)
	}
	return nil, nil
}

// isID tells whether s has the form of an ID: 32 hex digits.
func isID(s string) bool {
	if len(s) != 32 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
