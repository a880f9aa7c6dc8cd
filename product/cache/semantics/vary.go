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

// Encodings are the content codings that origins are asked for, in order of preference.
var Encodings = []string{"br", "gzip", "zstd"}

// NormaliseEncoding reduces Accept-Encoding to those of Encodings that it accepts, always in the
// same order: every browser's way of saying the same thing selects the same response. "" asks for
// no coding.
func NormaliseEncoding(s string) string {
	refused, accepted, star := "", "", false
	for s != "" {
		var m string
		m, s = nextItem(s)
		coding, params, _ := strings.Cut(m, ";")
		coding = strings.ToLower(strings.TrimSpace(coding))
		if coding == "x-gzip" {
			coding = "gzip"
		}
		switch ok := weight(params) != 0; {
		case !ok:
			refused += coding + ","
		case coding == "*":
			star = true
		default:
			accepted += coding + ","
		}
	}
	out := ""
	for _, e := range Encodings {
		if has(accepted, e) || star && !has(refused, e) {
			if out != "" {
				out += ", "
			}
			out += e
		}
	}
	return out
}

func has(list, name string) bool {
	return strings.HasPrefix(list, name+",") || strings.Contains(list, ","+name+",")
}

// weight returns 0 if the parameters say q=0, otherwise 1: the order of preference is ours.
func weight(params string) int {
	for p := range strings.SplitSeq(params, ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(k, "q") && strings.Trim(v, "0.") == "" {
			return 0
		}
	}
	return 1
}
