package dns

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// list answers GET /zones/{zone_id}/dns_records.
func (s *Server) list(_ context.Context, c *product.Call) (product.Reply, error) {
	match, err := readFilter(c.Query)
	if err != nil {
		return product.Reply{}, err
	}
	var found []*spec.Record
	for _, r := range c.Zone.Records {
		if match(r) {
			found = append(found, r)
		}
	}
	if err := order(found, c.Query); err != nil {
		return product.Reply{}, err
	}
	page, info, err := product.Page(found, c.Query, product.Paging{Default: 100, Max: 5_000_000})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: viewsOf(page), Info: info}, nil
}

func viewsOf(records []*spec.Record) []recordView {
	views := make([]recordView, 0, len(records))
	for _, r := range records {
		views = append(views, viewOf(r))
	}
	return views
}

// predicate is one condition on a record.
type predicate func(r *spec.Record) bool

// readFilter reads all conditions of a listing and combines them as match and tag_match say.
func readFilter(q url.Values) (predicate, error) {
	all, err := matchAll(q, "match")
	if err != nil {
		return nil, err
	}
	tagAll, err := matchAll(q, "tag_match")
	if err != nil {
		return nil, err
	}
	conds := textConditions(q, "name", func(r *spec.Record) string { return r.Name })
	conds = append(conds, textConditions(q, "content", func(r *spec.Record) string { return r.Content })...)
	conds = append(conds, textConditions(q, "comment", func(r *spec.Record) string { return r.Comment })...)
	conds = append(conds, presence(q, "comment", func(r *spec.Record, _ string) bool { return r.Comment != "" })...)
	if tags := tagConditions(q); len(tags) > 0 {
		conds = append(conds, combine(tags, tagAll))
	}
	if typ := q.Get("type"); typ != "" {
		conds = append(conds, func(r *spec.Record) bool { return strings.EqualFold(r.Type, typ) })
	}
	if v := q.Get("proxied"); v != "" {
		want, err := strconv.ParseBool(v)
		if err != nil {
			return nil, fault.New(fault.Invalid, "The parameter proxied is %.20q; it is true or false.", v).At("proxied")
		}
		conds = append(conds, func(r *spec.Record) bool { return r.Proxied == want })
	}
	match := combine(conds, all)
	// Search stands beside the others, whatever match says.
	if words := strings.ToLower(q.Get("search")); words != "" {
		return func(r *spec.Record) bool { return match(r) && searched(r, words) }, nil
	}
	return match, nil
}

func matchAll(q url.Values, param string) (bool, error) {
	switch v := q.Get(param); v {
	case "", "all":
		return true, nil
	case "any":
		return false, nil
	default:
		return false, fault.New(fault.Invalid, "The parameter %s is %.20q; it is any or all.", param, v).At(param)
	}
}

func combine(conds []predicate, all bool) predicate {
	return func(r *spec.Record) bool {
		for _, c := range conds {
			if c(r) != all {
				return !all
			}
		}
		return all || len(conds) == 0
	}
}

// texts are the ways to compare a text; the empty one is how older clients ask for exact.
var texts = []struct {
	suffix string
	holds  func(s, want string) bool
}{
	{"", func(s, want string) bool { return s == want }},
	{".exact", func(s, want string) bool { return s == want }},
	{".contains", strings.Contains},
	{".startswith", strings.HasPrefix},
	{".endswith", strings.HasSuffix},
}

func textConditions(q url.Values, param string, of func(*spec.Record) string) []predicate {
	var conds []predicate
	for _, t := range texts {
		want := strings.ToLower(q.Get(param + t.suffix))
		if want == "" {
			continue
		}
		if param == "name" && (t.suffix == "" || t.suffix == ".exact") {
			if ascii, err := asciiName(want); err == nil {
				want = ascii
			}
		}
		conds = append(conds, func(r *spec.Record) bool { return t.holds(strings.ToLower(of(r)), want) })
	}
	return conds
}

// presence reads param.present and param.absent.
func presence(q url.Values, param string, has func(r *spec.Record, name string) bool) []predicate {
	var conds []predicate
	for suffix, want := range map[string]bool{".present": true, ".absent": false} {
		if q.Has(param + suffix) {
			name := strings.ToLower(q.Get(param + suffix))
			conds = append(conds, func(r *spec.Record) bool { return has(r, name) == want })
		}
	}
	return conds
}

func tagConditions(q url.Values) []predicate {
	conds := presence(q, "tag", func(r *spec.Record, name string) bool {
		return hasTag(r, name, func(string) bool { return true })
	})
	for _, t := range texts {
		for _, v := range q["tag"+t.suffix] {
			name, want, _ := strings.Cut(strings.ToLower(v), ":")
			conds = append(conds, func(r *spec.Record) bool {
				return hasTag(r, name, func(value string) bool { return t.holds(value, want) })
			})
		}
	}
	return conds
}

func hasTag(r *spec.Record, name string, holds func(value string) bool) bool {
	return slices.ContainsFunc(r.Tags, func(tag string) bool {
		n, value, _ := strings.Cut(strings.ToLower(tag), ":")
		return n == name && holds(value)
	})
}

// searched tells whether every word is somewhere in the record.
func searched(r *spec.Record, words string) bool {
	text := strings.ToLower(r.Name + "\n" + r.Type + "\n" + r.Content + "\n" + r.Comment + "\n" + strings.Join(r.Tags, "\n"))
	for w := range strings.FieldsSeq(words) {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

var orders = map[string]func(a, b *spec.Record) int{
	"type":    func(a, b *spec.Record) int { return strings.Compare(a.Type, b.Type) },
	"name":    func(a, b *spec.Record) int { return strings.Compare(a.Name, b.Name) },
	"content": func(a, b *spec.Record) int { return strings.Compare(a.Content, b.Content) },
	"ttl":     func(a, b *spec.Record) int { return cmp.Compare(a.TTL, b.TTL) },
	"proxied": func(a, b *spec.Record) int {
		switch {
		case a.Proxied == b.Proxied:
			return 0
		case b.Proxied:
			return -1
		}
		return 1
	},
}

// order sorts a listing. Without an order it stays as it is stored: by name, type and ID.
func order(records []*spec.Record, q url.Values) error {
	by := q.Get("order")
	if by == "" {
		by = "name"
	}
	compare := orders[by]
	if compare == nil {
		return fault.New(fault.Invalid, "The parameter order is %.20q; it is one of type, name, content, ttl, proxied.", by).At("order")
	}
	switch d := q.Get("direction"); d {
	case "", "asc":
		slices.SortStableFunc(records, compare)
	case "desc":
		slices.SortStableFunc(records, func(a, b *spec.Record) int { return compare(b, a) })
	default:
		return fault.New(fault.Invalid, "The parameter direction is %.20q; it is asc or desc.", d).At("direction")
	}
	return nil
}
