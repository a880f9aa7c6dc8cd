package filter

import (
	"math"
	"net/netip"
	"strconv"
	"strings"
)

// scanner reads the tokens of an expression. What a run of characters means depends on what is
// expected: 61:62 is two bytes beside a String and an address beside an IP.
type scanner struct {
	src string
	pos int
}

func (s *scanner) fail(from int, format string, args ...any) error {
	return faultAt(s.src, from, s.pos, format, args...)
}

func (s *scanner) space() {
	for s.pos < len(s.src) && strings.IndexByte(" \t\r\n", s.src[s.pos]) >= 0 {
		s.pos++
	}
}

// peek returns the byte at the position, 0 at the end.
func (s *scanner) peek() byte {
	if s.pos < len(s.src) {
		return s.src[s.pos]
	}
	return 0
}

// eat moves over token if it comes next.
func (s *scanner) eat(token string) bool {
	if !strings.HasPrefix(s.src[s.pos:], token) {
		return false
	}
	s.pos += len(token)
	return true
}

// name returns the identifier that comes next without moving: letters, digits, "_", and dots
// between them.
func (s *scanner) name() string {
	rest := s.src[s.pos:]
	end := 0
	for end < len(rest) && (isWord(rest[end]) || rest[end] == '.' && end > 0 && end+1 < len(rest) && isWord(rest[end+1])) {
		end++
	}
	if end > 0 && isDigit(rest[0]) {
		return ""
	}
	return rest[:end]
}

// found describes what comes next, for messages.
func (s *scanner) found() string {
	if s.pos >= len(s.src) {
		return "the expression ends here"
	}
	end := s.pos
	for end < len(s.src) && end < s.pos+30 && strings.IndexByte(" \t\r\n(){}[],", s.src[end]) < 0 {
		end++
	}
	return "found " + strconv.Quote(s.src[s.pos:max(end, s.pos+1)])
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isWord(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
}

// text reads a quoted or a raw string. bytes also allows 61:62:63, which is "abc".
func (s *scanner) text(bytes bool) (string, error) {
	rest := s.src[s.pos:]
	switch {
	case strings.HasPrefix(rest, `"`):
		return s.quoted()
	case strings.HasPrefix(rest, `r"`), strings.HasPrefix(rest, "r#"):
		return s.raw()
	case bytes && len(rest) > 2 && isHex(rest[0]) && isHex(rest[1]) && isSeparator(rest[2]):
		return s.bytes()
	}
	from := s.pos
	if s.eat("'") {
		return "", s.fail(from, `strings are written in double quotes, such as "example.com"`)
	}
	return "", s.fail(from, `%s, expected a string in double quotes such as "example.com"`, s.found())
}

func (s *scanner) quoted() (string, error) {
	from := s.pos
	s.pos++
	var b strings.Builder
	for s.pos < len(s.src) {
		c := s.src[s.pos]
		s.pos++
		switch c {
		case '"':
			return b.String(), nil
		case '\\':
			if err := s.escape(&b); err != nil {
				return "", err
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", s.fail(from, "the string that begins here lacks its closing double quote")
}

// escape reads what follows a backslash: itself, a quote, xHH, or three octal digits.
func (s *scanner) escape(b *strings.Builder) error {
	from := s.pos - 1
	rest := s.src[s.pos:]
	digits, base := "", 0
	switch {
	case rest == "":
		return s.fail(from, "the string ends after a backslash")
	case rest[0] == '"' || rest[0] == '\\':
		b.WriteByte(rest[0])
		s.pos++
		return nil
	case rest[0] == 'x' && len(rest) >= 3:
		digits, base = rest[1:3], 16
		s.pos += 3
	case '0' <= rest[0] && rest[0] <= '7' && len(rest) >= 3:
		digits, base = rest[:3], 8
		s.pos += 3
	}
	n, err := strconv.ParseUint(digits, max(base, 2), 8)
	if err != nil || strings.ContainsAny(digits, "+_") {
		s.pos = max(s.pos, from+2)
		return s.fail(from, `not a valid escape: a backslash stands before ", another backslash, xHH or three octal digits; patterns are best written as raw strings such as r"\d+"`)
	}
	b.WriteByte(byte(n))
	return nil
}

// raw reads r"..." or r#"..."# with any number of marks up to 255; nothing in it is special.
func (s *scanner) raw() (string, error) {
	from := s.pos
	s.pos++
	marks := 0
	for s.peek() == '#' {
		marks++
		s.pos++
	}
	if s.peek() != '"' || marks > 255 {
		return "", s.fail(from, `a raw string begins with r, up to 255 "#" and a double quote`)
	}
	s.pos++
	body := s.src[s.pos:]
	end := strings.Index(body, `"`+strings.Repeat("#", marks))
	if end < 0 {
		return "", s.fail(from, `the raw string that begins here lacks its end, "%s`, strings.Repeat("#", marks))
	}
	s.pos += end + 1 + marks
	return body[:end], nil
}

func isHex(c byte) bool       { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }
func isSeparator(c byte) bool { return c == ':' || c == '-' || c == '.' }

// bytes reads pairs of hexadecimal digits with ":", "-" or "." between them.
func (s *scanner) bytes() (string, error) {
	from := s.pos
	var out []byte
	for {
		rest := s.src[s.pos:]
		if len(rest) < 2 || !isHex(rest[0]) || !isHex(rest[1]) {
			return "", s.fail(from, "bytes are written as pairs of hexadecimal digits, such as 61:62:63")
		}
		n, _ := strconv.ParseUint(rest[:2], 16, 8)
		out = append(out, byte(n))
		s.pos += 2
		if len(rest) == 2 || !isSeparator(rest[2]) {
			return string(out), nil
		}
		s.pos++
	}
}

// pattern reads the right side of "matches". In a quoted pattern only the quote is unescaped, and
// within [...] not even that: the rest is the regular expression's own.
func (s *scanner) pattern() (string, error) {
	if s.peek() != '"' {
		return s.text(false)
	}
	from := s.pos
	s.pos++
	var b strings.Builder
	inClass := false
	for s.pos < len(s.src) {
		c := s.src[s.pos]
		s.pos++
		switch {
		case c == '\\' && s.pos < len(s.src):
			if inClass || s.src[s.pos] != '"' {
				b.WriteByte('\\')
			}
			c = s.src[s.pos]
			s.pos++
		case c == '"' && !inClass:
			return b.String(), nil
		case c == '[':
			inClass = true
		case c == ']':
			inClass = false
		}
		b.WriteByte(c)
	}
	return "", s.fail(from, "the pattern that begins here lacks its closing double quote")
}

// number reads a decimal, hexadecimal (0x1f) or octal (017) integer.
func (s *scanner) number() (int64, error) {
	from := s.pos
	negative := s.eat("-")
	digitsFrom := s.pos
	for isWord(s.peek()) {
		s.pos++
	}
	digits := s.src[digitsFrom:s.pos]
	if digits == "" || !isDigit(digits[0]) {
		s.pos = from
		return 0, s.fail(from, "%s, expected an integer such as 443", s.found())
	}
	base := 10
	switch {
	case strings.HasPrefix(digits, "0x"):
		digits, base = digits[2:], 16
	case len(digits) > 1 && digits[0] == '0':
		digits, base = digits[1:], 8
	}
	n, err := strconv.ParseUint(digits, base, 64)
	limit := uint64(math.MaxInt64)
	if negative {
		limit++
	}
	if err != nil || n > limit {
		return 0, s.fail(from, "not an integer between %d and %d", int64(math.MinInt64), int64(math.MaxInt64))
	}
	if negative {
		return -int64(n), nil
	}
	return int64(n), nil
}

// numbers reads an integer or a range such as 8000..8009.
func (s *scanner) numbers() (numRange, error) {
	from := s.pos
	first, err := s.number()
	if err != nil {
		return numRange{}, err
	}
	r := numRange{first, first}
	if s.eat("..") {
		if r.to, err = s.number(); err != nil {
			return numRange{}, err
		}
	}
	if r.to < r.from {
		return numRange{}, s.fail(from, "the range ends before it begins")
	}
	return r, nil
}

// addrs reads an address, a range 192.0.2.1..192.0.2.9 or a prefix 192.0.2.0/24.
func (s *scanner) addrs() (addrRange, error) {
	from := s.pos
	first, err := s.addr()
	if err != nil {
		return addrRange{}, err
	}
	r := addrRange{from: first, to: first}
	switch {
	case s.eat(".."):
		if r.to, err = s.addr(); err != nil {
			return addrRange{}, err
		}
		if r.from.BitLen() != r.to.BitLen() {
			return addrRange{}, s.fail(from, "the range begins and ends in different address families")
		}
		if r.to.Less(r.from) {
			return addrRange{}, s.fail(from, "the range ends before it begins")
		}
	case s.eat("/"):
		digits := s.pos
		for isDigit(s.peek()) {
			s.pos++
		}
		bits, err := strconv.Atoi(s.src[digits:s.pos])
		if err != nil || bits > first.BitLen() {
			return addrRange{}, s.fail(from, "the prefix length has to be between 0 and %d", first.BitLen())
		}
		r.prefix = netip.PrefixFrom(first, bits).Masked()
		r.from, r.to = r.prefix.Addr(), lastAddr(r.prefix)
	}
	return r, nil
}

func (s *scanner) addr() (netip.Addr, error) {
	from := s.pos
	for isHex(s.peek()) || s.peek() == ':' || s.peek() == '.' && !strings.HasPrefix(s.src[s.pos:], "..") {
		s.pos++
	}
	a, err := netip.ParseAddr(s.src[from:s.pos])
	if err != nil {
		if s.pos == from {
			return a, s.fail(from, "%s, expected an IP address such as 192.0.2.1, without quotes", s.found())
		}
		return a, s.fail(from, "not a valid IP address")
	}
	return a.Unmap(), nil
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}
