package pgsql

import (
	"slices"
	"strings"
)

func (p *parser) exprList() {
	p.expr()
	for p.mark(",") {
		p.expr()
	}
}

// expr reads an expression. Precedence does not matter here: only what it is made of.
func (p *parser) expr() {
	p.depth++
	p.need(p.depth <= maxNested)
	defer func() { p.depth-- }()
	p.unary()
	for p.infix() {
	}
}

// infix reads an operator and what stands behind it, if there is one.
func (p *parser) infix() bool {
	t := p.now()
	switch {
	case t.kind == operator:
		p.at++
		if p.word("any", "all", "some") {
			p.queryOrList()
			return true
		}
		p.unary()
		return true
	case t.kind != word:
		return false
	case p.word("and", "or", "like", "ilike", "between", "escape", "overlaps"), p.words("similar", "to"), p.words("at", "time", "zone"):
		p.word("symmetric", "asymmetric")
		if p.word("any", "all", "some") {
			p.queryOrList()
			return true
		}
		p.unary()
		return true
	case p.word("isnull", "notnull"):
		return true
	case p.word("collate"):
		p.dotted()
		return true
	case t.key("not") && p.peek(1).kind == word && slices.Contains([]string{"like", "ilike", "between", "in", "similar"}, strings.ToLower(p.peek(1).s)):
		p.at++
		return p.infix()
	case !p.noIn && p.word("in"):
		p.queryOrList()
		return true
	case p.word("is"):
		p.word("not")
		switch {
		case p.word("null", "true", "false", "unknown"):
		case p.words("distinct", "from"):
			p.unary()
		default:
			p.fail()
		}
		return true
	}
	return false
}

// queryOrList reads what stands in parentheses behind IN, ANY and the like.
func (p *parser) queryOrList() {
	defer p.enter()()
	p.need(p.mark("("))
	if p.queryAhead() {
		p.query()
	} else {
		p.exprList()
	}
	p.need(p.mark(")"))
}

func (p *parser) unary() {
	for p.now().kind == operator && p.now().s != "*" || p.now().key("not") {
		p.at++
	}
	p.primary()
	for {
		switch {
		case p.mark("::"):
			p.typeName()
		case p.mark("["):
			if !p.now().is(":") {
				p.expr()
			}
			if p.mark(":") && !p.now().is("]") {
				p.expr()
			}
			p.need(p.mark("]"))
		case p.now().is("."):
			p.at++
			if p.now().kind == operator && p.now().s == "*" {
				p.at++
				return
			}
			t := p.step()
			p.need(t.kind == word || t.kind == quoted)
		default:
			return
		}
	}
}

func (p *parser) primary() {
	t := p.now()
	switch {
	case t.kind == number || t.kind == param:
		p.at++
	case t.kind == text:
		p.constant()
	case t.is("("):
		p.queryOrList()
	case t.key("true") || t.key("false") || t.key("null"):
		p.at++
	case p.word("case"):
		p.caseOf()
	case t.key("cast") && p.peek(1).is("("):
		defer p.enter()()
		p.at += 2
		p.expr()
		p.need(p.word("as"))
		p.typeName()
		p.need(p.mark(")"))
	case p.word("exists"):
		defer p.enter()()
		p.need(p.mark("("))
		p.query()
		p.need(p.mark(")"))
	case p.word("array"):
		p.array()
	case t.key("interval") && p.peek(1).kind == text:
		p.at++
		p.constant()
		for p.word("year", "month", "day", "hour", "minute", "second", "to") {
		}
	case p.callAhead():
		p.call(p.dotted())
	case t.kind == word && p.peek(1).kind == text:
		p.typeName()
		p.constant()
	case (t.key("timestamp") || t.key("time")) && (p.peek(1).key("with") || p.peek(1).key("without")):
		p.typeName()
		p.constant()
	default:
		p.name()
	}
}

func (p *parser) array() {
	defer p.enter()()
	switch {
	case p.mark("("):
		p.query()
		p.need(p.mark(")"))
	case p.mark("["):
		p.arrayRest()
	default:
		p.fail()
	}
}

func (p *parser) arrayRest() {
	defer p.enter()()
	if p.mark("]") {
		return
	}
	for {
		if p.mark("[") {
			p.arrayRest()
		} else {
			p.expr()
		}
		if !p.mark(",") {
			break
		}
	}
	p.need(p.mark("]"))
}

func (p *parser) caseOf() {
	defer p.enter()()
	if !p.now().key("when") {
		p.expr()
	}
	for p.word("when") {
		p.expr()
		p.need(p.word("then"))
		p.expr()
	}
	if p.word("else") {
		p.expr()
	}
	p.need(p.word("end"))
}

// constant takes string constants. Some mean the time at which they are read.
func (p *parser) constant() {
	for p.now().kind == text {
		if Timely(p.now().s) {
			p.fail()
		}
		p.at++
	}
}

// Timely tells whether a string may stand for a moment that moves, as 'now' and 'today' do where a
// date or time is expected.
func Timely(s string) bool {
	if len(s) < 3 || len(s) > 200 {
		return false
	}
	for part := range strings.FieldsFuncSeq(s, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') }) {
		switch strings.ToLower(part) {
		case "now", "today", "tomorrow", "yesterday", "current":
			return true
		}
	}
	return false
}

// typeName takes the name of a type. Types that look something up in the catalogues are not known.
func (p *parser) typeName() {
	parts := p.dotted()
	name := parts[len(parts)-1]
	p.need(!strings.HasPrefix(name, "reg"))
	switch name {
	case "double":
		p.need(p.word("precision"))
	case "character", "bit", "char", "national":
		p.word("varying")
	}
	if p.mark("(") {
		p.exprList()
		p.need(p.mark(")"))
	}
	if name == "timestamp" || name == "time" {
		if p.word("with", "without") {
			p.need(p.words("time", "zone"))
		}
	}
	for p.mark("[") {
		if p.now().kind == number {
			p.at++
		}
		p.need(p.mark("]"))
	}
}

// plain are calls that are syntax, not functions of the catalogue.
var plain = []string{"coalesce", "nullif", "greatest", "least", "row", "grouping"}

// separated are functions whose arguments may be separated by words.
var separated = []string{"extract", "substring", "overlay", "trim", "position"}

// call reads the arguments of a call and what may stand behind.
func (p *parser) call(parts []string) {
	defer p.enter()()
	name := parts[len(parts)-1]
	p.need(p.mark("("))
	special := len(parts) == 1 && slices.Contains(separated, name)
	if len(parts) > 1 || !slices.Contains(plain, name) {
		p.function(name, special)
	}
	p.noIn = special
	p.word("distinct", "all")
	if special {
		p.word("both", "leading", "trailing")
		p.word("from")
	}
	switch {
	case p.mark(")"):
	case p.now().kind == operator && p.now().s == "*":
		p.at++
		p.need(p.mark(")"))
	default:
		p.argument()
		for p.mark(",") || special && p.word("from", "for", "placing", "in") {
			p.argument()
		}
		p.noIn = false
		if p.words("order", "by") {
			p.orderList()
		}
		p.need(p.mark(")"))
	}
	p.noIn = false
	p.behindCall()
}

// function notes a call. The catalogue knows trim by other names, which are immutable.
func (p *parser) function(name string, special bool) {
	if special && name == "trim" {
		name = "btrim"
	}
	p.read.Functions = append(p.read.Functions, name)
}

func (p *parser) argument() {
	p.word("variadic")
	if p.isName() && (p.peek(1).is("=>") || p.peek(1).is(":=")) {
		p.at += 2
	}
	p.expr()
}

func (p *parser) behindCall() {
	if p.words("within", "group") {
		p.need(p.mark("("))
		p.need(p.words("order", "by"))
		p.orderList()
		p.need(p.mark(")"))
	}
	if p.now().key("filter") && p.peek(1).is("(") {
		p.at += 2
		p.need(p.word("where"))
		p.expr()
		p.need(p.mark(")"))
	}
	if p.now().key("over") && (p.peek(1).is("(") || p.peek(1).kind == word || p.peek(1).kind == quoted) {
		p.at++
		if p.now().is("(") {
			p.window()
		} else {
			p.name()
		}
	}
}

// window reads a window in parentheses.
func (p *parser) window() {
	defer p.enter()()
	p.need(p.mark("("))
	if p.isName() && !p.now().key("partition") && !p.now().key("rows") && !p.now().key("range") && !p.now().key("groups") {
		p.name()
	}
	if p.words("partition", "by") {
		p.exprList()
	}
	if p.words("order", "by") {
		p.orderList()
	}
	if p.word("rows", "range", "groups") {
		for !p.now().is(")") {
			t := p.step()
			p.need(t.kind == word || t.kind == number || t.kind == param || t.kind == text && !Timely(t.s))
		}
	}
	p.need(p.mark(")"))
}
