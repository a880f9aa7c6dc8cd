package semantics

import (
	"slices"
	"strings"

	"selvage/edge"
)

// ParseVary returns the field names of Vary in lower case, sorted and without doubles; "*" alone
// if it is among them. A response with a Content-Encoding varies by Accept-Encoding whether it
// says so or not: an origin that forgets must not hand gzip to those who did not ask for it.
func ParseVary(h *edge.Header) []string {
	var names []string
	for _, f := range h.Fields() {
		if strings.EqualFold(f.Name, "Vary") {
			for _, n := range ListOf(f.Value) {
				names = append(names, strings.ToLower(n))
			}
		}
	}
	if slices.Contains(names, "*") {
		return []string{"*"}
	}
	if enc := h.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		names = append(names, "accept-encoding")
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Selecting returns the values of the request fields that Vary names, each in a normal form, so
// that requests that mean the same select the same response (RFC 9111, 4.1).
func Selecting(names []string, request *edge.Header) []string {
	values := make([]string, len(names))
	for i, n := range names {
		values[i] = normalise(n, request)
	}
	return values
}

// Selects tells whether request has the values that a stored response was selected by.
func Selects(names, values []string, request *edge.Header) bool {
	for i, n := range names {
		if normalise(n, request) != values[i] {
			return false
		}
	}
	return true
}

// absent stands for a field that is not there, which differs from an empty one.
const absent = "\x00"

func normalise(name string, h *edge.Header) string {
	if !h.Has(name) {
		return absent
	}
	v := h.Joined(name)
	switch name {
	case "accept-encoding":
		return NormaliseEncoding(v)
	case "accept-language":
		members := ListOf(strings.ToLower(v))
		for i, m := range members {
			members[i] = strings.ReplaceAll(m, " ", "")
		}
		slices.Sort(members)
		return strings.Join(members, ",")
	}
	if !strings.ContainsAny(v, ", \t") {
		return v
	}
	return strings.Join(ListOf(v), ",")
}

// codings are the content codings that origins are asked for; the index is the bit in a set.
var codings = [...]string{"br", "gzip", "zstd"}

// codingSets holds the normal form of every set of codings.
var codingSets = [1 << len(codings)]string{"", "br", "gzip", "br, gzip", "zstd", "br, zstd", "gzip, zstd", "br, gzip, zstd"}

// NormaliseEncoding reduces Accept-Encoding to those codings that origins are asked for, always in
// the same order: every browser's way of saying the same thing selects the same response. "" asks
// for no coding.
func NormaliseEncoding(s string) string {
	const all = 1<<len(codings) - 1
	accepted, refused, star := 0, 0, 0
	for s != "" {
		var m string
		m, s = nextItem(s)
		coding, params, _ := strings.Cut(m, ";")
		coding = strings.TrimSpace(coding)
		set := 0
		for i, c := range codings {
			if strings.EqualFold(coding, c) || c == "gzip" && strings.EqualFold(coding, "x-gzip") {
				set = 1 << i
			}
		}
		switch zero := refuses(params); {
		case coding == "*" && !zero:
			star = all
		case zero:
			refused |= set
		default:
			accepted |= set
		}
	}
	return codingSets[accepted|star&^refused]
}

// refuses tells whether the parameters say q=0. Other weights do not matter: the order of
// preference is ours.
func refuses(params string) bool {
	for params != "" {
		var p string
		p, params, _ = strings.Cut(params, ";")
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(k, "q") && strings.Trim(v, "0.") == "" {
			return true
		}
	}
	return false
}
