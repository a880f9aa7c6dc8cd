package analytics

import (
	"strings"
	"unicode/utf8"

	"selvage/foundation/fault"
)

type tokenKind uint8

const (
	word   tokenKind = iota // name or keyword
	name                    // quoted name; text is the name itself
	text                    // string; text is its value
	digits                  // as written
	sign                    // operator, parenthesis, comma
)

// token is one piece of a query.
type token struct {
	kind tokenKind
	text string
}

// is tells whether the token is the keyword or sign s.
func (t token) is(s string) bool {
	return (t.kind == word || t.kind == sign) && strings.EqualFold(t.text, s)
}

// tokens takes a query apart. Comments are left out.
func tokens(query string) ([]token, error) {
	var out []token
	for i := 0; i < len(query); {
		c := query[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f':
			i++
		case strings.HasPrefix(query[i:], "--"):
			i += lineEnd(query[i:])
		case strings.HasPrefix(query[i:], "/*"):
			end := strings.Index(query[i+2:], "*/")
			if end < 0 {
				return nil, syntax("The comment that begins at %q has no end.", query[i:])
			}
			i += 2 + end + 2
		case c == '\'' || c == '"' || c == '`':
			value, n, ok := quoted(query[i:])
			if !ok {
				return nil, syntax("The quotation mark before %q has no partner.", query[i+1:])
			}
			kind := name
			if c == '\'' {
				kind = text
			}
			out = append(out, token{kind, value})
			i += n
		case isLetter(c):
			n := run(query[i:], func(c byte) bool { return isLetter(c) || isDigit(c) || c == '$' })
			out = append(out, token{word, query[i : i+n]})
			i += n
		case isDigit(c) || c == '.' && i+1 < len(query) && isDigit(query[i+1]):
			n := numberLength(query[i:])
			out = append(out, token{digits, query[i : i+n]})
			i += n
		default:
			n := signLength(query[i:])
			if n == 0 {
				r, _ := utf8.DecodeRuneInString(query[i:])
				return nil, syntax("The character %q has no meaning here.", string(r))
			}
			out = append(out, token{sign, query[i : i+n]})
			i += n
		}
	}
	return out, nil
}

func syntax(format string, at string) error {
	if len(at) > 40 {
		at = at[:40]
	}
	return fault.New(fault.Invalid, format, strings.ToValidUTF8(at, "")).At("query")
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func run(s string, ok func(c byte) bool) int {
	for i := range len(s) {
		if !ok(s[i]) {
			return i
		}
	}
	return len(s)
}

func lineEnd(s string) int { return run(s, func(c byte) bool { return c != '\n' }) }

func numberLength(s string) int {
	n := run(s, func(c byte) bool { return isDigit(c) || c == '.' || isLetter(c) })
	if n < len(s) && (s[n] == '+' || s[n] == '-') && n > 0 && (s[n-1] == 'e' || s[n-1] == 'E') && !strings.HasPrefix(s, "0x") {
		n += 1 + run(s[n+1:], isDigit)
	}
	return n
}

func signLength(s string) int {
	for _, two := range [...]string{"<=", ">=", "<>", "!=", "==", "||"} {
		if strings.HasPrefix(s, two) {
			return 2
		}
	}
	if strings.IndexByte("()+-*/%<>=,.;", s[0]) >= 0 {
		return 1
	}
	return 0
}

// quoted reads a string or a quoted name. A mark inside is written twice or behind a backslash.
func quoted(s string) (value string, length int, ok bool) {
	mark := s[0]
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(unescape(s[i]))
		case s[i] == mark && i+1 < len(s) && s[i+1] == mark:
			i++
			b.WriteByte(mark)
		case s[i] == mark:
			return b.String(), i + 1, true
		default:
			b.WriteByte(s[i])
		}
	}
	return "", 0, false
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 't':
		return '\t'
	case 'r':
		return '\r'
	case '0':
		return 0
	}
	return c
}

// sql writes tokens as SQLite reads them.
func sql(list []token) string {
	var b strings.Builder
	for i, t := range list {
		if i > 0 && spaced(list[i-1], t) {
			b.WriteByte(' ')
		}
		switch t.kind {
		case name:
			b.WriteString(quote(t.text))
		case text:
			b.WriteString("'" + strings.ReplaceAll(strings.ReplaceAll(t.text, "\x00", ""), "'", "''") + "'")
		default:
			b.WriteString(t.text)
		}
	}
	return b.String()
}

// spaced tells whether a space stands between two tokens. Columns without a name are called by how
// they are written, count() and not count ( ).
func spaced(before, t token) bool {
	switch {
	case before.is("(") || t.is(")") || t.is(",") || t.is(".") || before.is("."):
		return false
	case t.is("("):
		return before.kind != word || keyword[strings.ToUpper(before.text)]
	}
	return true
}
