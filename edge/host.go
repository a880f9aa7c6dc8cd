package edge

import (
	"net/netip"
	"strings"
)

// ParseAuthority splits the value of a Host field or :authority into host and port. The host comes
// back in lower case without trailing dot; an IPv6 address keeps no brackets. ok is false for what
// no DNS name or address can be: user information, characters outside of letters, digits, hyphen,
// underscore and dot, empty or overlong labels, ports out of range. Strict, because a name that two
// programs read differently is how requests get smuggled.
func ParseAuthority(s string) (host, port string, ok bool) {
	if strings.HasPrefix(s, "[") {
		return parseLiteral(s)
	}
	host = s
	if i := strings.IndexByte(s, ':'); i >= 0 {
		host, port = s[:i], s[i+1:]
		if !validPort(port) {
			return "", "", false
		}
	}
	host = strings.TrimSuffix(host, ".")
	upper, ok := scanName(host)
	if !ok {
		return "", "", false
	}
	if upper {
		host = strings.ToLower(host)
	}
	return host, port, true
}

// parseLiteral reads "[::1]" and "[::1]:8080".
func parseLiteral(s string) (host, port string, ok bool) {
	end := strings.IndexByte(s, ']')
	if end < 0 {
		return "", "", false
	}
	addr, err := netip.ParseAddr(s[1:end])
	if err != nil || !addr.Is6() || addr.Zone() != "" {
		return "", "", false
	}
	rest := s[end+1:]
	if rest == "" {
		return addr.String(), "", true
	}
	if rest[0] != ':' || !validPort(rest[1:]) {
		return "", "", false
	}
	return addr.String(), rest[1:], true
}

// scanName checks a name's labels in one pass and tells whether it has upper-case letters.
func scanName(name string) (upper, ok bool) {
	if name == "" || len(name) > 253 {
		return false, false
	}
	label := 0
	for i := range len(name) {
		switch c := name[i]; {
		case c == '.':
			if label == 0 {
				return false, false
			}
			label = 0
			continue
		case c >= 'A' && c <= 'Z':
			upper = true
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false, false
		}
		if label++; label > 63 {
			return false, false
		}
	}
	return upper, label > 0
}

// validPort tells whether s is empty (as in "example.com:", RFC 3986 allows it) or 1 to 65535.
func validPort(s string) bool {
	if len(s) > 5 {
		return false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		n = n*10 + int(s[i]-'0')
	}
	return s == "" || n > 0 && n < 65536
}
