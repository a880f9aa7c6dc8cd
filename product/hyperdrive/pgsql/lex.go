// Package pgsql reads PostgreSQL's SQL as far as a pooler has to: Classify finds what a statement
// does to the session, Reads parses a query and tells what it reads. Both know less than PostgreSQL
// and say so: what Reads does not understand is not a query that may be cached.
package pgsql

import "strings"

type kind uint8

// Kinds of tokens.
const (
	end      kind = iota
	word          // keyword or name, as it stands
	quoted        // "name", without quotes
	text          // string constant of any form, without quotes
	number        // 1, 1.5e3, 0x1F
	param         // $1
	operator      // + - <> ...
	mark          // ( ) [ ] , ; . : :: := =>
	bad           // not understood
)

// token is one token. s is its text: of a word in lower case only if lower is asked for.
type token struct {
	kind kind
	s    string
	at   int // in the source
}

func (t token) is(s string) bool { return t.kind == mark && t.s == s }

// key tells whether t is a keyword, which is not case-sensitive.
func (t token) key(k string) bool { return t.kind == word && strings.EqualFold(t.s, k) }

type lexer struct {
	src string
	pos int
}

func isLetter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// space skips white space and comments; false if a comment does not end.
func (l *lexer) space() bool {
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' || c == '\v':
			l.pos++
		case c == '-' && strings.HasPrefix(l.src[l.pos:], "--"):
			i := strings.IndexAny(l.src[l.pos:], "\n\r")
			if i < 0 {
				l.pos = len(l.src)
				return true
			}
			l.pos += i
		case c == '/' && strings.HasPrefix(l.src[l.pos:], "/*"):
			if !l.comment() {
				return false
			}
		default:
			return true
		}
	}
	return true
}

// comment skips a comment, which may hold others.
func (l *lexer) comment() bool {
	for depth := 0; l.pos < len(l.src); {
		switch rest := l.src[l.pos:]; {
		case strings.HasPrefix(rest, "/*"):
			depth++
			l.pos += 2
		case strings.HasPrefix(rest, "*/"):
			depth--
			l.pos += 2
			if depth == 0 {
				return true
			}
		default:
			l.pos++
		}
	}
	return false
}

// next returns the next token.
func (l *lexer) next() token {
	if !l.space() {
		return token{bad, "", len(l.src)}
	}
	at := l.pos
	if at == len(l.src) {
		return token{end, "", at}
	}
	c := l.src[at]
	switch {
	case isLetter(c):
		return l.word()
	case c == '\'':
		return l.str(at, at+1, false)
	case c == '"':
		return l.name(at, at+1)
	case isDigit(c) || c == '.' && at+1 < len(l.src) && isDigit(l.src[at+1]):
		return l.number()
	case c == '$':
		return l.dollar()
	case strings.IndexByte("()[],;", c) >= 0:
		l.pos++
		return token{mark, l.src[at:l.pos], at}
	case c == '.' || c == ':':
		return l.colon()
	case strings.IndexByte("+-*/<>=~!@#%^&|`?", c) >= 0:
		return l.operator()
	}
	l.pos++
	return token{bad, l.src[at:l.pos], at}
}

func (l *lexer) word() token {
	at := l.pos
	for l.pos < len(l.src) && (isLetter(l.src[l.pos]) || isDigit(l.src[l.pos]) || l.src[l.pos] == '$') {
		l.pos++
	}
	s := l.src[at:l.pos]
	if l.pos < len(l.src) {
		switch next := l.src[l.pos]; {
		case next == '\'' && len(s) == 1 && strings.Contains("eE", s):
			return l.str(at, l.pos+1, true)
		case next == '\'' && len(s) == 1 && strings.Contains("bBxXnN", s):
			return l.str(at, l.pos+1, false)
		case next == '&' && len(s) == 1 && strings.Contains("uU", s) && l.pos+1 < len(l.src) && strings.IndexByte("'\"", l.src[l.pos+1]) >= 0:
			l.pos = len(l.src) // Unicode escapes: rare, and not read here
			return token{bad, "", at}
		}
	}
	return token{word, s, at}
}

// str reads a string constant whose content begins at from.
func (l *lexer) str(at, from int, escapes bool) token {
	for i := from; i < len(l.src); i++ {
		switch {
		case escapes && l.src[i] == '\\':
			i++
		case l.src[i] != '\'':
		case i+1 < len(l.src) && l.src[i+1] == '\'':
			i++
		default:
			l.pos = i + 1
			return token{text, l.src[from:i], at}
		}
	}
	l.pos = len(l.src)
	return token{bad, "", at}
}

// name reads a quoted name whose content begins at from.
func (l *lexer) name(at, from int) token {
	for i := from; i < len(l.src); i++ {
		if l.src[i] != '"' {
			continue
		}
		if i+1 < len(l.src) && l.src[i+1] == '"' {
			i++
			continue
		}
		l.pos = i + 1
		return token{quoted, strings.ReplaceAll(l.src[from:i], `""`, `"`), at}
	}
	l.pos = len(l.src)
	return token{bad, "", at}
}

func (l *lexer) number() token {
	at := l.pos
	for l.pos < len(l.src) {
		c := l.src[l.pos]
		sign := (c == '+' || c == '-') && l.pos > at && strings.IndexByte("eE", l.src[l.pos-1]) >= 0 && !strings.HasPrefix(l.src[at:l.pos], "0x")
		if !isDigit(c) && !isLetter(c) && c != '.' && !sign {
			break
		}
		l.pos++
	}
	return token{number, l.src[at:l.pos], at}
}

// dollar reads a parameter or a string in dollar quotes.
func (l *lexer) dollar() token {
	at := l.pos
	l.pos++
	if l.pos < len(l.src) && isDigit(l.src[l.pos]) {
		for l.pos < len(l.src) && isDigit(l.src[l.pos]) {
			l.pos++
		}
		return token{param, l.src[at:l.pos], at}
	}
	for l.pos < len(l.src) && l.src[l.pos] != '$' {
		if !isLetter(l.src[l.pos]) && !isDigit(l.src[l.pos]) {
			return token{bad, "", at}
		}
		l.pos++
	}
	if l.pos == len(l.src) {
		return token{bad, "", at}
	}
	l.pos++
	tag := l.src[at:l.pos]
	i := strings.Index(l.src[l.pos:], tag)
	if i < 0 {
		l.pos = len(l.src)
		return token{bad, "", at}
	}
	s := l.src[l.pos : l.pos+i]
	l.pos += i + len(tag)
	return token{text, s, at}
}

func (l *lexer) colon() token {
	at := l.pos
	l.pos++
	if l.src[at] == ':' && l.pos < len(l.src) && (l.src[l.pos] == ':' || l.src[l.pos] == '=') {
		l.pos++
	}
	return token{mark, l.src[at:l.pos], at}
}

func (l *lexer) operator() token {
	at := l.pos
	for l.pos < len(l.src) && strings.IndexByte("+-*/<>=~!@#%^&|`?", l.src[l.pos]) >= 0 {
		if l.pos > at && (strings.HasPrefix(l.src[l.pos:], "--") || strings.HasPrefix(l.src[l.pos:], "/*")) {
			break
		}
		l.pos++
	}
	if s := l.src[at:l.pos]; s == "=>" {
		return token{mark, s, at}
	}
	// As in PostgreSQL: an operator of several characters ends in + or - only if it has one of these.
	for l.pos-at > 1 && strings.IndexByte("+-", l.src[l.pos-1]) >= 0 && !strings.ContainsAny(l.src[at:l.pos], "~!@#%^&|`?") {
		l.pos--
	}
	return token{operator, l.src[at:l.pos], at}
}
