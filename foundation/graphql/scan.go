package graphql

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

type tokenKind uint8

const (
	end    tokenKind = iota
	word             // a name
	number           // as it stands
	text             // a string, unquoted
	mark             // punctuation
)

type token struct {
	kind tokenKind
	text string
	at   int // offset of its first byte
}

// parser goes over a query token by token. After the first error every step is the end.
type parser struct {
	text      string
	pos       int // behind token
	token     token
	nodes     int
	variables map[string]any
	err       error
}

// next reads the next token.
func (p *parser) next() {
	if p.err != nil {
		p.token = token{}
		return
	}
	p.skip()
	at := p.pos
	if at >= len(p.text) {
		p.token = token{at: at}
		return
	}
	switch c := p.text[at]; {
	case c == '"':
		p.quoted(at)
		return
	case isLetter(c):
		p.pos = p.run(at, func(c byte) bool { return isLetter(c) || isDigit(c) })
		p.token = token{word, p.text[at:p.pos], at}
	case isDigit(c) || c == '-':
		p.pos = p.run(at+1, func(c byte) bool { return isDigit(c) || strings.IndexByte("+-.eE", c) >= 0 })
		p.token = token{number, p.text[at:p.pos], at}
		if !json.Valid([]byte(p.token.text)) {
			p.fail("%.40q is no number.", p.token.text)
		}
	case strings.HasPrefix(p.text[at:], "..."):
		p.pos = at + 3
		p.token = token{mark, "...", at}
	case strings.IndexByte("!$&()=:@[]{|}", c) >= 0:
		p.pos = at + 1
		p.token = token{mark, p.text[at:p.pos], at}
	default:
		p.token = token{at: at}
		_, size := utf8.DecodeRuneInString(p.text[at:])
		p.fail("%q cannot stand here.", p.text[at:at+size])
	}
}

// skip passes over what means nothing.
func (p *parser) skip() {
	for p.pos < len(p.text) {
		switch c := p.text[p.pos]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',':
			p.pos++
		case c == '#':
			p.pos = p.run(p.pos, func(c byte) bool { return c != '\n' && c != '\r' })
		case strings.HasPrefix(p.text[p.pos:], "\uFEFF"):
			p.pos += len("\uFEFF")
		default:
			return
		}
	}
}

func (p *parser) run(from int, in func(byte) bool) int {
	for from < len(p.text) && in(p.text[from]) {
		from++
	}
	return from
}

// quoted reads a string; its escapes are those of JSON.
func (p *parser) quoted(at int) {
	p.token = token{text, "", at}
	if strings.HasPrefix(p.text[at:], `"""`) {
		p.fail("Block strings are not supported; use a plain string.")
		return
	}
	i := at + 1
	for i < len(p.text) && p.text[i] != '"' && p.text[i] != '\n' {
		if p.text[i] == '\\' {
			i++
		}
		i++
	}
	if i >= len(p.text) || p.text[i] != '"' {
		p.fail("The string is not closed.")
		return
	}
	p.pos = i + 1
	if err := json.Unmarshal([]byte(p.text[at:p.pos]), &p.token.text); err != nil {
		p.fail("The string is not valid.")
	}
}

func (p *parser) is(punctuation string) bool {
	return p.token.kind == mark && p.token.text == punctuation
}

func (p *parser) expect(punctuation string) {
	if !p.is(punctuation) {
		p.fail("%q is expected, not %.40q.", punctuation, p.token.text)
		return
	}
	p.next()
}

func (p *parser) name() string {
	if p.token.kind != word {
		p.fail("A name is expected, not %.40q.", p.token.text)
		return ""
	}
	name := p.token.text
	p.next()
	return name
}

// count bounds the work that a query is.
func (p *parser) count() {
	if p.nodes++; p.nodes > maxNodes {
		p.fail("The query has more than %d fields and values.", maxNodes)
	}
}

// fail notes the first error, at the current token.
func (p *parser) fail(format string, args ...any) {
	if p.err != nil {
		return
	}
	before := p.text[:min(p.token.at, len(p.text))]
	line := strings.Count(before, "\n")
	p.err = &Error{fmt.Sprintf(format, args...), line + 1, len(before) - strings.LastIndexByte(before, '\n')}
	p.token = token{}
}

func isLetter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// fromJSON reads a variable's value.
func fromJSON(raw []byte) (v any, err error) {
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("more than one value")
	}
	return v, nil
}
