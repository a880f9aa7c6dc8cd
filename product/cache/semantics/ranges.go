package semantics

import "strings"

// MaxRanges is the most ranges of one request that are served; a request for more gets the whole
// (RFC 9110, 14.2 lets a server ignore Range): many small ranges are an attack, not a need.
const MaxRanges = 16

// Span is a range of octets: Length octets from First.
type Span struct{ First, Length int64 }

// RangeSpec is one range as asked for: from First to Last, or the last Suffix octets.
type RangeSpec struct {
	First, Last int64 // Last is -1 if open
	Suffix      int64 // -1 unless it is a suffix
}

// ParseRange reads a Range field (RFC 9110, 14.1.1). false means that it is to be ignored: another
// unit, a fault of syntax, or more than MaxRanges.
func ParseRange(s string) ([]RangeSpec, bool) {
	if len(s) < 6 || !strings.EqualFold(s[:6], "bytes=") {
		return nil, false
	}
	var out []RangeSpec
	for part := range strings.SplitSeq(s[6:], ",") {
		part = strings.Trim(part, " \t")
		if part == "" {
			continue
		}
		r, ok := parseSpec(part)
		if !ok || len(out) == MaxRanges {
			return nil, false
		}
		out = append(out, r)
	}
	return out, len(out) > 0
}

func parseSpec(s string) (RangeSpec, bool) {
	first, last, ok := strings.Cut(s, "-")
	if !ok {
		return RangeSpec{}, false
	}
	r := RangeSpec{Last: -1, Suffix: -1}
	if first == "" {
		r.Suffix, ok = position(last)
		return r, ok
	}
	if r.First, ok = position(first); !ok {
		return r, false
	}
	if last == "" {
		return r, true
	}
	r.Last, ok = position(last)
	return r, ok && r.Last >= r.First
}

// position reads an octet position; more than 18 digits are beyond every file.
func position(s string) (int64, bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}

// Resolve applies ranges to a body of size octets. None satisfiable gives an empty list: 416. Ranges
// that together ask for more than there is give false: serve the whole.
func Resolve(specs []RangeSpec, size int64) ([]Span, bool) {
	spans := make([]Span, 0, len(specs))
	var total int64
	for _, r := range specs {
		s := r.resolve(size)
		if s.Length > 0 {
			spans = append(spans, s)
			total += s.Length
		}
	}
	return spans, total <= size
}

func (r RangeSpec) resolve(size int64) Span {
	if r.Suffix >= 0 {
		n := min(r.Suffix, size)
		return Span{size - n, n}
	}
	last := size - 1
	if r.Last >= 0 {
		last = min(last, r.Last)
	}
	return Span{r.First, max(last-r.First+1, 0)}
}
