package pgsql

import (
	"slices"
	"strings"
)

// Read is what one query reads.
type Read struct {
	Functions []string // called, without schema; in lower case unless quoted
	Relations []string // read, without schema; those of WITH are left out
}

// maxQuery is more than any query has that is worth remembering.
const maxQuery = 64 << 10

// maxNested is how deep expressions and queries may stand in each other.
const maxNested = 100

// Reads parses sql as one query (SELECT, VALUES, TABLE, WITH) and tells what it reads. ok is false for
// everything else, for queries that lock rows or write, that name the user, the time or the system's
// catalogues, and for all syntax that is not known here.
func Reads(sql string) (r Read, ok bool) {
	if len(sql) > maxQuery {
		return r, false
	}
	p := &parser{}
	l := lexer{src: sql}
	for {
		t := l.next()
		if t.kind == bad {
			return r, false
		}
		p.tokens = append(p.tokens, t)
		if t.kind == end {
			break
		}
	}
	defer func() {
		if v := recover(); v != nil {
			if _, mine := v.(unknown); !mine {
				panic(v)
			}
			r, ok = Read{}, false
		}
	}()
	p.query()
	for p.mark(";") {
	}
	if p.now().kind != end {
		return Read{}, false
	}
	p.read.Relations = slices.DeleteFunc(p.read.Relations, func(n string) bool { return slices.Contains(p.names, n) })
	return p.read, true
}

// unknown is what the parser panics with where it does not understand; Reads recovers.
type unknown struct{}

type parser struct {
	tokens []token
	at     int
	depth  int
	noIn   bool // IN separates arguments
	read   Read
	names  []string // of WITH
}

func (p *parser) fail()      { panic(unknown{}) }
func (p *parser) now() token { return p.tokens[p.at] }
func (p *parser) peek(n int) token {
	if p.at+n < len(p.tokens) {
		return p.tokens[p.at+n]
	}
	return token{}
}

func (p *parser) step() token {
	t := p.tokens[p.at]
	if t.kind == end {
		p.fail()
	}
	p.at++
	return t
}

// word takes one of keywords, if it stands there.
func (p *parser) word(keys ...string) bool {
	if p.now().kind == word && slices.Contains(keys, strings.ToLower(p.now().s)) {
		p.at++
		return true
	}
	return false
}

// words takes all of keywords, if they stand there in this order.
func (p *parser) words(keys ...string) bool {
	for i, k := range keys {
		if !p.peek(i).key(k) {
			return false
		}
	}
	p.at += len(keys)
	return true
}

func (p *parser) mark(s string) bool {
	if p.now().is(s) {
		p.at++
		return true
	}
	return false
}

func (p *parser) need(ok bool) {
	if !ok {
		p.fail()
	}
}

func (p *parser) enter() func() {
	if p.depth++; p.depth > maxNested {
		p.fail()
	}
	noIn := p.noIn
	p.noIn = false
	return func() { p.depth--; p.noIn = noIn }
}

// reserved are words that cannot be a name where an expression stands, and those of which the value
// depends on time or user: neither is understood there.
var reserved = func() map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(`all analyse analyze and any array as asc asymmetric authorization both case cast check collate column
		concurrently constraint create cross current_catalog current_date current_role current_schema current_time current_timestamp
		current_user default deferrable desc distinct do else end except false fetch for foreign freeze from full grant group having ilike in
		initially inner intersect into is isnull join lateral leading left like limit localtime localtimestamp natural not notnull null
		offset on only or order outer overlaps placing primary references returning right select session_user similar some symmetric
		system_user table tablesample then to trailing true union unique user using variadic verbose when where window with
		insert update delete merge`) {
		m[w] = true
	}
	return m
}()

// name takes a name that is not reserved.
func (p *parser) name() string {
	t := p.step()
	switch {
	case t.kind == quoted:
		return t.s
	case t.kind == word && !reserved[strings.ToLower(t.s)]:
		return strings.ToLower(t.s)
	}
	p.fail()
	return ""
}

func (p *parser) isName() bool {
	t := p.now()
	return t.kind == quoted || t.kind == word && !reserved[strings.ToLower(t.s)]
}

func (p *parser) query() {
	defer p.enter()()
	if p.word("with") {
		p.word("recursive")
		for {
			p.names = append(p.names, p.name())
			if p.mark("(") {
				p.nameList()
			}
			p.need(p.word("as"))
			p.word("not")
			p.word("materialized")
			p.need(p.mark("("))
			p.query()
			p.need(p.mark(")"))
			if !p.mark(",") {
				break
			}
		}
	}
	p.queryTerm()
	for p.word("union", "intersect", "except") {
		p.word("all", "distinct")
		p.queryTerm()
	}
	if p.words("order", "by") {
		p.orderList()
	}
	for p.word("limit", "offset") {
		if !p.word("all") {
			p.expr()
		}
		p.word("row", "rows")
	}
	if p.word("fetch") {
		p.need(p.word("first", "next"))
		if !p.word("row", "rows") {
			p.unary()
			p.need(p.word("row", "rows"))
		}
		p.need(p.word("only") || p.words("with", "ties"))
	}
}

// nameList reads the rest of a list of names in parentheses.
func (p *parser) nameList() {
	p.name()
	for p.mark(",") {
		p.name()
	}
	p.need(p.mark(")"))
}

func (p *parser) queryTerm() {
	switch {
	case p.mark("("):
		p.query()
		p.need(p.mark(")"))
	case p.word("select"):
		p.selectCore()
	case p.word("values"):
		for {
			p.need(p.mark("("))
			p.exprList()
			p.need(p.mark(")"))
			if !p.mark(",") {
				return
			}
		}
	case p.word("table"):
		p.relation()
	default:
		p.fail()
	}
}

func (p *parser) selectCore() {
	if p.word("distinct") && p.word("on") {
		p.need(p.mark("("))
		p.exprList()
		p.need(p.mark(")"))
	}
	p.word("all")
	p.target()
	for p.mark(",") {
		p.target()
	}
	if p.word("from") {
		p.from()
		for p.mark(",") {
			p.from()
		}
	}
	if p.word("where") {
		p.expr()
	}
	if p.words("group", "by") {
		p.word("all", "distinct")
		p.grouping()
		for p.mark(",") {
			p.grouping()
		}
	}
	if p.word("having") {
		p.expr()
	}
	if p.word("window") {
		for {
			p.name()
			p.need(p.word("as"))
			p.window()
			if !p.mark(",") {
				break
			}
		}
	}
}

func (p *parser) target() {
	if p.now().kind == operator && p.now().s == "*" {
		p.at++
		return
	}
	p.expr()
	switch {
	case p.word("as"):
		t := p.step() // any word is a label behind AS
		p.need(t.kind == word || t.kind == quoted)
	case p.isName():
		p.name()
	}
}

func (p *parser) grouping() {
	if p.words("grouping", "sets") || (p.now().key("rollup") || p.now().key("cube")) && p.peek(1).is("(") && p.word("rollup", "cube") {
		p.need(p.mark("("))
		p.grouping()
		for p.mark(",") {
			p.grouping()
		}
		p.need(p.mark(")"))
		return
	}
	if p.now().is("(") && p.peek(1).is(")") {
		p.at += 2
		return
	}
	p.expr()
}

func (p *parser) orderList() {
	for {
		p.expr()
		if p.word("using") {
			p.need(p.step().kind == operator)
		}
		p.word("asc", "desc")
		if p.word("nulls") {
			p.need(p.word("first", "last"))
		}
		if !p.mark(",") {
			return
		}
	}
}

func (p *parser) from() {
	defer p.enter()()
	p.fromItem()
	for {
		natural := p.word("natural")
		cross := !natural && p.words("cross", "join")
		if !cross && !p.joined(natural) {
			return
		}
		p.fromItem()
		switch {
		case natural || cross:
		case p.word("on"):
			p.expr()
		case p.word("using"):
			p.need(p.mark("("))
			p.nameList()
			if p.word("as") {
				p.name()
			}
		default: // ON comes behind an inner join
		}
	}
}

func (p *parser) joined(must bool) bool {
	switch {
	case p.word("join"):
		return true
	case p.word("inner"):
		p.need(p.word("join"))
		return true
	case p.word("left", "right", "full"):
		p.word("outer")
		p.need(p.word("join"))
		return true
	}
	p.need(!must)
	return false
}

func (p *parser) fromItem() {
	p.word("lateral")
	if p.mark("(") {
		if first := p.now(); first.key("select") || first.key("with") || first.key("values") || first.key("table") || first.is("(") && p.queryAhead() {
			p.query()
		} else {
			p.from()
		}
		p.need(p.mark(")"))
		p.alias()
		return
	}
	p.word("only")
	if p.callAhead() {
		p.call(p.dotted())
		if p.words("with", "ordinality") {
			p.alias()
			return
		}
		p.alias()
		return
	}
	p.relation()
	p.alias()
}

// queryAhead tells whether behind any number of opening parentheses a query begins.
func (p *parser) queryAhead() bool {
	n := 0
	for p.peek(n).is("(") {
		n++
	}
	t := p.peek(n)
	return t.key("select") || t.key("with") || t.key("values") || t.key("table")
}

func (p *parser) callAhead() bool {
	n := 1
	for p.peek(n).is(".") {
		n += 2
	}
	return p.isName() && p.peek(n).is("(")
}

func (p *parser) alias() {
	if p.word("as") {
		p.name()
	} else if p.isName() {
		p.name()
	} else {
		return
	}
	if p.mark("(") {
		p.name()
		if p.isName() {
			p.typeName()
		}
		for p.mark(",") {
			p.name()
			if p.isName() {
				p.typeName()
			}
		}
		p.need(p.mark(")"))
	}
}

// dotted takes a name with schemas in front, and returns its parts.
func (p *parser) dotted() []string {
	parts := []string{p.name()}
	for p.mark(".") {
		t := p.step()
		p.need(t.kind == word || t.kind == quoted)
		if t.kind == word {
			t.s = strings.ToLower(t.s)
		}
		parts = append(parts, t.s)
	}
	return parts
}

func (p *parser) relation() {
	parts := p.dotted()
	last := parts[len(parts)-1]
	if strings.HasPrefix(last, "pg_") || len(parts) > 1 && (parts[len(parts)-2] == "information_schema" || strings.HasPrefix(parts[len(parts)-2], "pg_")) {
		p.fail()
	}
	if p.now().kind == operator && p.now().s == "*" {
		p.at++
	}
	p.read.Relations = append(p.read.Relations, last)
}
