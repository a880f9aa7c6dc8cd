package semantics

import (
	"strings"

	"selvage/edge"
)

// TargetedFields are the fields that speak to this cache alone, the most specific first
// (RFC 9213, 2.2). The first is taken off responses, the second goes on to caches behind us.
var TargetedFields = [...]string{"Cloudflare-CDN-Cache-Control", "CDN-Cache-Control"}

// ParseResponse returns the directives that govern this cache: of the first targeted field that is
// a valid, non-empty structured dictionary, otherwise of Cache-Control. targeted tells which, for
// Expires counts only beside Cache-Control.
func ParseResponse(h *edge.Header) (d Directives, targeted bool) {
	for _, name := range TargetedFields {
		if !h.Has(name) {
			continue
		}
		if d, ok := parseTargeted(h.Joined(name)); ok {
			return d, true
		}
	}
	return ParseCacheControl(h, "Cache-Control"), false
}

// parseTargeted reads a structured dictionary (RFC 8941, 3.2) of cache directives. Any fault, be
// it of syntax or of a known directive's type, makes the whole field count as absent (RFC 9213,
// 2.1).
func parseTargeted(s string) (Directives, bool) {
	var d Directives
	p := &dictionary{s: strings.Trim(s, " ")}
	for p.s != "" {
		name, value, ok := p.member()
		if !ok || !d.setTyped(name, value) {
			return Directives{}, false
		}
		d.Present = true
	}
	return d, d.Present && !p.trailing
}

// setTyped sets a directive from a typed value; false means that the type is wrong.
func (d *Directives) setTyped(name string, v item) bool {
	switch name {
	case "max-age", "s-maxage", "stale-while-revalidate", "stale-if-error":
		if v.kind != 'i' {
			return false
		}
		d.set(name, v.text, true)
	case "no-cache", "private":
		if v.kind != 's' && !(v.kind == 'b' && v.text == "1") {
			return v.kind == 'b'
		}
		d.set(name, v.text, v.kind == 's')
	case "no-store", "public", "must-revalidate", "proxy-revalidate", "must-understand":
		if v.kind != 'b' {
			return false
		}
		if v.text == "1" {
			d.set(name, "", false)
		}
	}
	return true
}

// item is a bare item of a structured field: kind is i(nteger), d(ecimal), s(tring), t(oken),
// y (byte sequence), b(oolean) or l(ist).
type item struct {
	kind byte
	text string
}

// dictionary reads members off the front of s.
type dictionary struct {
	s        string
	trailing bool // a comma was last: not allowed
}

func (p *dictionary) member() (name string, v item, ok bool) {
	p.trailing = false
	name = p.key()
	if name == "" {
		return "", v, false
	}
	v = item{'b', "1"}
	if p.eat('=') {
		if v, ok = p.value(); !ok {
			return "", v, false
		}
	}
	if !p.params() {
		return "", v, false
	}
	p.space()
	if p.s == "" {
		return name, v, true
	}
	if !p.eat(',') {
		return "", v, false
	}
	p.space()
	p.trailing = p.s == ""
	return name, v, true
}

func (p *dictionary) eat(c byte) bool {
	if p.s == "" || p.s[0] != c {
		return false
	}
	p.s = p.s[1:]
	return true
}

func (p *dictionary) space() { p.s = strings.TrimLeft(p.s, " \t") }

func (p *dictionary) key() string {
	return p.run(func(c byte, first bool) bool {
		lower := c >= 'a' && c <= 'z' || c == '*'
		return lower || !first && (c >= '0' && c <= '9' || strings.IndexByte("_-.", c) >= 0)
	})
}

// run takes the longest prefix whose octets ok accepts.
func (p *dictionary) run(ok func(c byte, first bool) bool) string {
	n := 0
	for n < len(p.s) && ok(p.s[n], n == 0) {
		n++
	}
	taken := p.s[:n]
	p.s = p.s[n:]
	return taken
}

func (p *dictionary) params() bool {
	for p.eat(';') {
		p.s = strings.TrimLeft(p.s, " ")
		if p.key() == "" {
			return false
		}
		if p.eat('=') {
			if _, ok := p.bare(); !ok {
				return false
			}
		}
	}
	return true
}

// value reads an item or an inner list; what a list holds matters to no directive.
func (p *dictionary) value() (item, bool) {
	if !p.eat('(') {
		return p.bare()
	}
	for {
		p.s = strings.TrimLeft(p.s, " ")
		if p.eat(')') {
			return item{kind: 'l'}, true
		}
		if _, ok := p.bare(); !ok || !p.params() {
			return item{}, false
		}
		if p.s == "" || p.s[0] != ' ' && p.s[0] != ')' {
			return item{}, false
		}
	}
}

func (p *dictionary) bare() (item, bool) {
	if p.s == "" {
		return item{}, false
	}
	switch c := p.s[0]; {
	case c == '"':
		return p.text()
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	case c == '?':
		p.s = p.s[1:]
		if p.eat('1') {
			return item{'b', "1"}, true
		}
		return item{'b', "0"}, p.eat('0')
	case c == ':':
		end := strings.IndexByte(p.s[1:], ':')
		if end < 0 {
			return item{}, false
		}
		v := item{'y', p.s[1 : end+1]}
		p.s = p.s[end+2:]
		return v, true
	case c == '*' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
		return item{'t', p.run(func(c byte, _ bool) bool {
			return c > ' ' && c < 0x7f && strings.IndexByte(`"(),;<=>?@[\]{}`, c) < 0
		})}, true
	}
	return item{}, false
}

func (p *dictionary) text() (item, bool) {
	var b strings.Builder
	for i := 1; i < len(p.s); i++ {
		switch c := p.s[i]; {
		case c == '"':
			p.s = p.s[i+1:]
			return item{'s', b.String()}, true
		case c == '\\':
			i++
			if i == len(p.s) || p.s[i] != '"' && p.s[i] != '\\' {
				return item{}, false
			}
			b.WriteByte(p.s[i])
		case c < ' ' || c > '~':
			return item{}, false
		default:
			b.WriteByte(c)
		}
	}
	return item{}, false
}

func (p *dictionary) number() (item, bool) {
	sign := ""
	if p.eat('-') {
		sign = "-"
	}
	digit := func(c byte, _ bool) bool { return c >= '0' && c <= '9' }
	whole := p.run(digit)
	if whole == "" || len(whole) > 15 {
		return item{}, false
	}
	if !p.eat('.') {
		return item{'i', sign + whole}, true
	}
	fraction := p.run(digit)
	return item{'d', sign + whole + "." + fraction}, fraction != "" && len(fraction) <= 3 && len(whole) <= 12
}
