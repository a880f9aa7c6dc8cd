package filter

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// set is the right side of "in": strings, or ranges of integers or addresses.
type set struct {
	texts []string // as written, for printing
	small []string // searched one by one when few
	index map[string]struct{}

	numbers []numRange // as written
	addrs   []addrRange

	sortedNumbers []numRange // merged and sorted, for searching
	sortedAddrs   []addrRange
}

// fewTexts is up to how many strings comparing one by one is faster than hashing.
const fewTexts = 6

type numRange struct{ from, to int64 }

// addrRange is a range of addresses of one family; from equals to for a single one. prefix is set
// if it was written as one.
type addrRange struct {
	from, to netip.Addr
	prefix   netip.Prefix
}

// ready builds what look-ups need once all elements are in.
func (s *set) ready() {
	if len(s.texts) > fewTexts {
		s.index = make(map[string]struct{}, len(s.texts))
		for _, t := range s.texts {
			s.index[t] = struct{}{}
		}
	} else {
		s.small = s.texts
	}
	s.sortedNumbers = slices.SortedFunc(slices.Values(s.numbers), func(a, b numRange) int {
		return int(min(1, max(-1, compareInts(a.from, b.from))))
	})
	s.sortedNumbers = merge(s.sortedNumbers, func(a *numRange, b numRange) bool {
		if b.from > a.to {
			return false
		}
		a.to = max(a.to, b.to)
		return true
	})
	s.sortedAddrs = slices.SortedFunc(slices.Values(s.addrs), func(a, b addrRange) int { return a.from.Compare(b.from) })
	s.sortedAddrs = merge(s.sortedAddrs, func(a *addrRange, b addrRange) bool {
		if b.from.Compare(a.to) > 0 {
			return false
		}
		if b.to.Compare(a.to) > 0 {
			a.to = b.to
		}
		return true
	})
}

func compareInts(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// merge joins neighbours for which join says that it took the second into the first.
func merge[T any](sorted []T, join func(*T, T) bool) []T {
	var out []T
	for _, r := range sorted {
		if len(out) == 0 || !join(&out[len(out)-1], r) {
			out = append(out, r)
		}
	}
	return out
}

func (s *set) hasText(t string) bool {
	if s.index != nil {
		_, ok := s.index[t]
		return ok
	}
	for _, have := range s.small {
		if have == t {
			return true
		}
	}
	return false
}

func (s *set) hasNumber(n int64) bool {
	lo, hi := 0, len(s.sortedNumbers)
	for lo < hi {
		mid := (lo + hi) / 2
		switch r := &s.sortedNumbers[mid]; {
		case n < r.from:
			hi = mid
		case n > r.to:
			lo = mid + 1
		default:
			return true
		}
	}
	return false
}

func (s *set) hasAddr(a netip.Addr) bool {
	lo, hi := 0, len(s.sortedAddrs)
	for lo < hi {
		mid := (lo + hi) / 2
		switch r := &s.sortedAddrs[mid]; {
		case a.Less(r.from):
			hi = mid
		case r.to.Less(a):
			lo = mid + 1
		default:
			return true
		}
	}
	return false
}

func (s *set) print(b *strings.Builder) {
	b.WriteByte('{')
	for i, t := range s.texts {
		gap(b, i)
		printText(b, t)
	}
	for i, r := range s.numbers {
		gap(b, i)
		b.WriteString(strconv.FormatInt(r.from, 10))
		if r.to != r.from {
			b.WriteString("..")
			b.WriteString(strconv.FormatInt(r.to, 10))
		}
	}
	for i, r := range s.addrs {
		gap(b, i)
		r.print(b)
	}
	b.WriteByte('}')
}

func (r addrRange) print(b *strings.Builder) {
	switch {
	case r.prefix.IsValid():
		b.WriteString(r.prefix.String())
	case r.from == r.to:
		b.WriteString(r.from.String())
	default:
		b.WriteString(r.from.String())
		b.WriteString("..")
		b.WriteString(r.to.String())
	}
}

func gap(b *strings.Builder, i int) {
	if i > 0 {
		b.WriteByte(' ')
	}
}
