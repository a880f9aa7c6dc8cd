package assets

import (
	"strings"
	"unicode/utf8"
)

const upperHex = "0123456789ABCDEF"

// normalize returns a path as the URL standard's parser would: dot segments gone, what may not
// stand in a path percent-encoded. In URLs of http and https (special) a backslash is a slash.
// A path that is normal already, as nearly all are, is returned as it is.
func normalize(path string, special bool) string {
	plain, dots := scan(path, special)
	if plain && !dots {
		return path
	}
	if !plain {
		path, dots = escapePath(path, special), true // what was dropped may have hidden some
	}
	if dots {
		path = removeDots(path)
	}
	return path
}

// scan tells whether nothing in path has to be rewritten, and whether it may have dot segments.
func scan(path string, special bool) (plain, dots bool) {
	plain = true
	start := true // of a segment
	for i := range len(path) {
		c := path[i]
		if inPathSet(c) || c == '\\' && special {
			plain = false
		}
		if start && (c == '.' || c == '%' && i+2 < len(path) && path[i+1] == '2' && path[i+2]|0x20 == 'e') {
			dots = true
		}
		start = c == '/' || c == '\\' && special
	}
	return plain, dots
}

// inPathSet tells whether the URL standard percent-encodes c in paths, or, for tab and line ends,
// drops it.
func inPathSet(c byte) bool {
	switch c {
	case ' ', '"', '#', '<', '>', '?', '^', '`', '{', '}':
		return true
	}
	return c < 0x20 || c > 0x7e
}

func escapePath(path string, special bool) string {
	var b strings.Builder
	b.Grow(len(path) + 16)
	for i := range len(path) {
		switch c := path[i]; {
		case c == '\t' || c == '\n' || c == '\r':
		case c == '\\' && special:
			b.WriteByte('/')
		case inPathSet(c):
			writeEscaped(&b, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// removeDots resolves "." and ".." segments, also percent-encoded ones, of a path that begins with
// a slash.
func removeDots(path string) string {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	kept := segments[:0]
	for i, s := range segments {
		last := i == len(segments)-1
		dots := dotSegment(s)
		if dots == 2 && len(kept) > 0 {
			kept = kept[:len(kept)-1]
		}
		if dots == 0 {
			kept = append(kept, s)
		} else if last {
			kept = append(kept, "")
		}
	}
	return "/" + strings.Join(kept, "/")
}

// dotSegment returns how many dots s stands for: 1 for ".", 2 for "..", 0 for anything else.
func dotSegment(s string) int {
	n := 0
	for s != "" {
		switch {
		case s[0] == '.':
			s = s[1:]
		case len(s) >= 3 && s[0] == '%' && s[1] == '2' && s[2]|0x20 == 'e':
			s = s[3:]
		default:
			return 0
		}
		if n++; n > 2 {
			return 0
		}
	}
	return n
}

// escapeQuery percent-encodes what may not stand in a query.
func escapeQuery(query string) string {
	return escapeSet(query, func(c byte) bool {
		return c <= 0x20 || c > 0x7e || c == '"' || c == '#' || c == '<' || c == '>' || c == '\''
	})
}

// escapeFragment percent-encodes what may not stand in a fragment.
func escapeFragment(fragment string) string {
	return escapeSet(fragment, func(c byte) bool {
		return c <= 0x20 || c > 0x7e || c == '"' || c == '<' || c == '>' || c == '`'
	})
}

func escapeSet(s string, in func(byte) bool) string {
	for i := range len(s) {
		if in(s[i]) {
			var b strings.Builder
			b.WriteString(s[:i])
			for ; i < len(s); i++ {
				if in(s[i]) {
					writeEscaped(&b, s[i])
				} else {
					b.WriteByte(s[i])
				}
			}
			return b.String()
		}
	}
	return s
}

func writeEscaped(b *strings.Builder, c byte) {
	b.WriteByte('%')
	b.WriteByte(upperHex[c>>4])
	b.WriteByte(upperHex[c&15])
}

// decode returns the path that is looked up in a manifest: each segment decoded, if it decodes to
// UTF-8, and runs of slashes made one, so that no redirect can lead to another host.
func decode(path string) string {
	if strings.IndexByte(path, '%') < 0 {
		return collapse(path)
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if d, ok := decodeSegment(s); ok {
			segments[i] = d
		}
	}
	return collapse(strings.Join(segments, "/"))
}

func decodeSegment(s string) (string, bool) {
	if strings.IndexByte(s, '%') < 0 {
		return s, true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		high, low := unhex(s[i+1]), unhex(s[i+2])
		if high < 0 || low < 0 {
			return "", false
		}
		b.WriteByte(byte(high<<4 | low))
		i += 2
	}
	return b.String(), utf8.ValidString(b.String())
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// collapse makes one slash of each run of them.
func collapse(path string) string {
	if !strings.Contains(path, "//") {
		return path
	}
	var b strings.Builder
	for i := range len(path) {
		if path[i] != '/' || i == 0 || path[i-1] != '/' {
			b.WriteByte(path[i])
		}
	}
	return b.String()
}

// encode is the canonical way to write a decoded path: each segment as JavaScript's
// encodeURIComponent has it.
func encode(path string) string {
	return escapeSet(path, func(c byte) bool {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			return false
		}
		return strings.IndexByte("/-_.!~*'()", c) < 0
	})
}
