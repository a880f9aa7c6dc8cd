package product

import (
	"net/url"
	"strconv"

	"selvage/foundation/fault"
)

// Paging says how many entries a page of a listing has.
type Paging struct {
	Default int // without per_page; 0 means 20
	Max     int // a larger per_page is cut to it, as Cloudflare does; 0 means 50
}

// Page returns the entries of the page that q asks for with page and per_page, and the
// result_info that goes with it. Beyond the last page the list is empty, never nil: clients read on
// until they meet []. Anything that is not a whole number from 1 is refused.
func Page[T any](items []T, q url.Values, p Paging) ([]T, *PageInfo, error) {
	if p.Default == 0 {
		p.Default = 20
	}
	if p.Max == 0 {
		p.Max = 50
	}
	page, err := countParam(q, "page", 1)
	if err != nil {
		return nil, nil, err
	}
	per, err := countParam(q, "per_page", p.Default)
	if err != nil {
		return nil, nil, err
	}
	per = min(per, p.Max)
	pages := (len(items) + per - 1) / per
	part := []T{}
	if page <= pages {
		from := (page - 1) * per
		part = items[from:min(from+per, len(items))]
	}
	return part, &PageInfo{Page: page, PerPage: per, TotalPages: pages, Count: len(part), TotalCount: len(items)}, nil
}

// countParam returns a query parameter that is a whole number from 1, or def if it is absent.
func countParam(q url.Values, name string, def int) (int, error) {
	s := q.Get(name)
	if s == "" {
		return def, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, fault.New(fault.Invalid, "The parameter %s is %.40q; it must be a whole number from 1.", name, s).At(name)
	}
	return n, nil
}
