package filter

import (
	"errors"
	"strings"
)

// wildcard is a pattern of literal parts with a "*" between each two. It has to match the whole
// of a string.
type wildcard struct {
	parts []string // lower case if fold is set; a pattern without "*" has one part
	fold  bool
}

// newWildcard reads a pattern: "*" stands for any bytes, "\*" and "\\" for themselves.
func newWildcard(pattern string, fold bool) (*wildcard, error) {
	w := &wildcard{fold: fold}
	var part strings.Builder
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		switch {
		case c == '\\':
			i++
			if i == len(pattern) || pattern[i] != '*' && pattern[i] != '\\' {
				return nil, errors.New(`in a wildcard pattern a backslash stands before "*" or another backslash; write \\ for a backslash, best in a raw string such as r"a\*"`)
			}
			part.WriteByte(pattern[i])
		case c == '*':
			if i > 0 && pattern[i-1] == '*' && part.Len() == 0 {
				return nil, errors.New(`"**" is not valid in a wildcard pattern; a single "*" stands for any number of characters`)
			}
			w.add(&part)
		default:
			part.WriteByte(c)
		}
	}
	w.add(&part)
	return w, nil
}

func (w *wildcard) add(part *strings.Builder) {
	s := part.String()
	if w.fold {
		s = lowerASCII(s)
	}
	w.parts = append(w.parts, s)
	part.Reset()
}

func (w *wildcard) match(s string) bool { return w.capture(s, nil) }

// capture matches s and appends what each "*" stands for to *found, unless that is nil. Taking
// each part where it first occurs is right because only the last one is bound to the end; so the
// cost is that of one search for each part.
func (w *wildcard) capture(s string, found *[]string) bool {
	subject := s
	if w.fold {
		subject = lowerASCII(s)
	}
	last := len(w.parts) - 1
	if last == 0 {
		return subject == w.parts[0]
	}
	if !strings.HasPrefix(subject, w.parts[0]) {
		return false
	}
	at := len(w.parts[0])
	for _, part := range w.parts[1:last] {
		i := strings.Index(subject[at:], part)
		if i < 0 {
			return false
		}
		if found != nil {
			*found = append(*found, s[at:at+i])
		}
		at += i + len(part)
	}
	if !strings.HasSuffix(subject[at:], w.parts[last]) {
		return false
	}
	if found != nil {
		*found = append(*found, s[at:len(s)-len(w.parts[last])])
	}
	return true
}

func toLower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func toUpper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}

func lowerASCII(s string) string { return mapASCII(s, toLower) }
func upperASCII(s string) string { return mapASCII(s, toUpper) }

// mapASCII returns s itself, without allocating, if f changes nothing.
func mapASCII(s string, f func(byte) byte) string {
	for i := range len(s) {
		if f(s[i]) == s[i] {
			continue
		}
		b := []byte(s)
		for ; i < len(b); i++ {
			b[i] = f(b[i])
		}
		return string(b)
	}
	return s
}
