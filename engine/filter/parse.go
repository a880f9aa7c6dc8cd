package filter

import (
	"regexp"
	"regexp/syntax"
	"strings"

	"selvage/foundation/budget"
	"selvage/foundation/fault"
)

// parser is a Pratt parser that checks types as it goes: the type on the left decides how what is
// on the right is read.
type parser struct {
	scanner
	schema    *Schema
	functions []*function
	forValue  bool // a value expression: functions for rewrites may be used
	depth     int
	regexes   int
	repeats   int
	program   int  // instructions of all regular expressions
	replacing bool // regex_replace or wildcard_replace was used
}

// parse reads the whole of src.
func parse(src string, s *Schema, forValue bool) (*node, error) {
	if err := budget.Check("The expression's length in characters", int64(len(src)), MaxLength); err != nil {
		return nil, err
	}
	p := &parser{scanner: scanner{src: src}, schema: s, functions: functions(), forValue: forValue}
	p.space()
	if p.pos == len(src) {
		return nil, fault.New(fault.Invalid, `The expression is empty; to match everything, write "true".`)
	}
	n, err := p.argument()
	if err != nil {
		return nil, err
	}
	p.space()
	if p.pos < len(src) {
		return nil, p.fail(p.pos, "%s, expected and, or, xor or the end of the expression", p.found())
	}
	if n.each() {
		return nil, faultAt(src, n.from, n.to, "[*] gives one value for each element; use it within a function such as any() or all()")
	}
	n.program = p.program
	return n, nil
}

// deeper counts a level of nesting; call p.depth-- at its end.
func (p *parser) deeper(from int) error {
	if p.depth++; p.depth > MaxDepth {
		return p.fail(from, "the expression is nested more than %d deep", MaxDepth)
	}
	return nil
}

// argument reads a literal, or an expression of any type.
func (p *parser) argument() (*node, error) {
	from, rest := p.pos, p.src[p.pos:]
	switch {
	case strings.HasPrefix(rest, `"`), strings.HasPrefix(rest, `r"`), strings.HasPrefix(rest, "r#"):
		text, err := p.text(false)
		return &node{op: opText, typ: String, text: text, from: from, to: p.pos}, err
	case p.peek() == '-' || isDigit(p.peek()):
		num, err := p.number()
		return &node{op: opNumber, typ: Int, num: num, from: from, to: p.pos}, err
	}
	return p.expression(1, true)
}

var logicWords = []struct {
	word, sign string
	op         op
}{{"and", "&&", opAnd}, {"xor", "^^", opXor}, {"or", "||", opOr}}

// logic returns the logical operator that comes next and where what follows it begins.
func (p *parser) logic() (op, int) {
	word := p.name()
	for _, l := range logicWords {
		if word == l.word {
			return l.op, p.pos + len(word)
		}
		if strings.HasPrefix(p.src[p.pos:], l.sign) {
			return l.op, p.pos + len(l.sign)
		}
	}
	return 0, p.pos
}

// expression reads operands joined by logical operators that bind at least as tightly as minimum.
// anyType allows a value that is not a condition, if it stands alone.
func (p *parser) expression(minimum int, anyType bool) (*node, error) {
	left, err := p.condition(anyType)
	if err != nil {
		return nil, err
	}
	for {
		back := p.pos
		p.space()
		o, next := p.logic()
		if o == 0 || binding(o) < minimum {
			p.pos = back
			return left, nil
		}
		if !left.isTruth() {
			return nil, faultAt(p.src, left.from, left.to, "%s is not a condition; compare it with something before%s", left.typ, opWords[o])
		}
		p.pos = next
		p.space()
		right, err := p.expression(binding(o)+1, false)
		if err != nil {
			return nil, err
		}
		if left.typ != right.typ {
			return nil, faultAt(p.src, left.from, right.to, "one side of%sis %s, the other %s; use any() or all() to make one condition of many", opWords[o], left.typ, right.typ)
		}
		left = join(o, left, right)
	}
}

// join makes one node of operands of the same operator: they are all associative.
func join(o op, left, right *node) *node {
	n := &node{op: o, typ: left.typ, from: left.from, to: right.to}
	for _, a := range []*node{left, right} {
		if a.op == o {
			n.args = append(n.args, a.args...)
		} else {
			n.args = append(n.args, a)
		}
	}
	return n
}

// condition reads what stands between logical operators: a negation, parentheses or a comparison.
func (p *parser) condition(anyType bool) (*node, error) {
	from := p.pos
	switch {
	case p.eat("("):
		return p.parentheses(from)
	case p.name() == "not":
		p.pos += len("not")
		return p.negation(from)
	case p.peek() == '!' && !strings.HasPrefix(p.src[p.pos:], "!="):
		p.pos++
		return p.negation(from)
	}
	return p.comparison(anyType)
}

func (p *parser) parentheses(from int) (*node, error) {
	if err := p.deeper(from); err != nil {
		return nil, err
	}
	p.space()
	n, err := p.expression(1, false)
	if err != nil {
		return nil, err
	}
	p.space()
	if !p.eat(")") {
		return nil, p.fail(p.pos, "%s, expected and, or, xor, or the closing parenthesis of the one at character %d", p.found(), from+1)
	}
	p.depth--
	return n, nil
}

func (p *parser) negation(from int) (*node, error) {
	if err := p.deeper(from); err != nil {
		return nil, err
	}
	p.space()
	inner, err := p.condition(false)
	if err != nil {
		return nil, err
	}
	p.depth--
	return &node{op: opNot, typ: inner.typ, args: []*node{inner}, from: from, to: p.pos}, nil
}

// comparison reads an operand and, unless it is a condition itself, an operator and its right side.
func (p *parser) comparison(anyType bool) (*node, error) {
	left, err := p.operand()
	if err != nil {
		return nil, err
	}
	if left.each() && left.typ == Bool {
		left = left.args[0] // the conditions of all elements are the array itself
	}
	back := p.pos
	p.space()
	from := p.pos
	o := p.comparator()
	if o == 0 {
		p.pos = back
		if anyType || left.isTruth() {
			return left, nil
		}
		p.space()
		return nil, p.fail(p.pos, "%s, expected an operator for %s: %s", p.found(), left.typ, operatorsFor(left.typ))
	}
	if !suits(o, left.typ) {
		return nil, p.fail(from, "%s does not work on %s; %s", strings.TrimSpace(opWords[o]), left.typ, operatorsFor(left.typ))
	}
	p.space()
	n := &node{op: o, typ: Bool, args: []*node{left}, from: left.from}
	if left.each() {
		n.typ = ArrayOf(Bool)
	}
	err = p.rightSide(n, left.typ)
	n.to = p.pos
	return n, err
}

var comparators = []struct {
	word, sign string
	op         op
}{
	{"eq", "==", opEq}, {"ne", "!=", opNe}, {"le", "<=", opLe}, {"ge", ">=", opGe}, {"lt", "<", opLt}, {"gt", ">", opGt},
	{"contains", "", opContains}, {"matches", "~", opMatches}, {"wildcard", "", opWildcard}, {"in", "", opIn},
	{"bitwise_and", "&", opBits},
}

// comparator moves over a comparison operator and returns it, 0 if none comes next.
func (p *parser) comparator() op {
	word := p.name()
	if word == "strict" {
		back := p.pos
		p.pos += len(word)
		p.space()
		if p.name() == "wildcard" {
			p.pos += len("wildcard")
			return opStrict
		}
		p.pos = back
		return 0
	}
	for _, c := range comparators {
		if word == c.word && word != "" {
			p.pos += len(word)
			return c.op
		}
		if c.sign != "" && strings.HasPrefix(p.src[p.pos:], c.sign) && !strings.HasPrefix(p.src[p.pos:], "&&") {
			p.pos += len(c.sign)
			return c.op
		}
	}
	return 0
}

func suits(o op, t Type) bool {
	switch o {
	case opEq, opNe, opIn:
		return t == String || t == Int || t == IP
	case opLt, opLe, opGt, opGe:
		return t == String || t == Int
	case opBits:
		return t == Int
	}
	return t == String
}

// operatorsFor says how a value of type t can become a condition.
func operatorsFor(t Type) string {
	switch {
	case t == Bool:
		return "a Boolean stands alone or after not, such as: ssl, not ssl"
	case t == String:
		return "eq, ne, lt, le, gt, ge, contains, wildcard, strict wildcard, matches or in"
	case t == Int:
		return "eq, ne, lt, le, gt, ge, bitwise_and or in"
	case t == IP:
		return "eq, ne or in"
	case t.isMap():
		return `a map is looked into with a key such as ["accept"]`
	}
	return `an array is indexed such as [0], or compared element by element such as any(x[*] eq "a")`
}

func (p *parser) rightSide(n *node, t Type) error {
	from := p.pos
	var err error
	switch n.op {
	case opIn:
		n.set, err = p.elements(t)
		return err
	case opMatches:
		if n.text, err = p.pattern(); err != nil {
			return err
		}
		n.re, err = p.regex(from, n.text)
		return err
	case opWildcard, opStrict:
		if n.text, err = p.text(false); err != nil {
			return err
		}
		n.wild, err = p.wildcard(from, n.text, n.op == opWildcard)
		return err
	}
	right := &node{typ: t, from: from}
	switch t {
	case String:
		right.op = opText
		right.text, err = p.text(true)
	case Int:
		right.op = opNumber
		right.num, err = p.number()
	case IP:
		right.op = opIP
		if right.addr, err = p.addrs(); err == nil && right.addr.from != right.addr.to {
			err = p.fail(from, "a range of addresses cannot be compared; write: in {%s}", p.src[from:p.pos])
		}
	}
	right.to = p.pos
	n.args = append(n.args, right)
	return err
}

// elements reads what "in" searches: {"a" "b"}, {1 2 8000..8009} or {192.0.2.0/24 ...}.
func (p *parser) elements(t Type) (*set, error) {
	from := p.pos
	if p.eat("$") {
		p.pos += len(p.name())
		return nil, p.fail(from, `lists are not available yet; write the elements here, such as {"a" "b"}`)
	}
	if !p.eat("{") {
		return nil, p.fail(from, `%s, expected a set such as %s`, p.found(), exampleSet(t))
	}
	s := &set{}
	for p.space(); !p.eat("}"); p.space() {
		if p.peek() == ',' {
			return nil, p.fail(p.pos, "the elements of a set are separated by spaces, not commas")
		}
		if p.pos == len(p.src) {
			return nil, p.fail(from, "the set that begins here lacks its closing brace")
		}
		if err := p.element(s, t); err != nil {
			return nil, err
		}
		if p.pos < len(p.src) && strings.IndexByte(" \t\r\n},", p.peek()) < 0 {
			return nil, p.fail(p.pos, "%s, expected a space or the closing brace of the set", p.found())
		}
	}
	if len(s.texts)+len(s.numbers)+len(s.addrs) == 0 {
		return nil, p.fail(from, "an empty set never matches; put elements in it, such as %s", exampleSet(t))
	}
	s.ready()
	return s, nil
}

func (p *parser) element(s *set, t Type) error {
	switch t {
	case Int:
		r, err := p.numbers()
		s.numbers = append(s.numbers, r)
		return err
	case IP:
		r, err := p.addrs()
		s.addrs = append(s.addrs, r)
		return err
	}
	text, err := p.text(true)
	s.texts = append(s.texts, text)
	return err
}

func exampleSet(t Type) string {
	switch t {
	case Int:
		return "{80 443 8000..8009}"
	case IP:
		return "{192.0.2.1 198.51.100.0/24}"
	}
	return `{"a" "b"}`
}

// regex compiles a pattern within the expression's budget.
func (p *parser) regex(from int, pattern string) (*regexp.Regexp, error) {
	if p.regexes++; p.regexes > MaxRegexes {
		return nil, p.fail(from, "the expression has more than %d regular expressions", MaxRegexes)
	}
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, p.fail(from, "not a valid regular expression: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, p.fail(from, "not a valid regular expression: %v", err)
	}
	p.program += len(program.Inst)
	// What is written out costs an instruction or two a character; more than that are repeats.
	if p.repeats += max(0, len(program.Inst)-2*len(pattern)); p.repeats > MaxRepeats {
		return nil, p.fail(from, "repeats such as a{1,100} make the regular expressions %d instructions longer, the limit is %d; repeat less", p.repeats, MaxRepeats)
	}
	if rawMarks(pattern) > 255 {
		return nil, p.fail(from, `a quote in a regular expression may be followed by at most 254 "#"`)
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, p.fail(from, "not a valid regular expression: %v", err)
	}
	return re, nil
}

func (p *parser) wildcard(from int, pattern string, fold bool) (*wildcard, error) {
	w, err := newWildcard(pattern, fold)
	if err != nil {
		return nil, p.fail(from, "%v", err)
	}
	if stars := len(w.parts) - 1; stars > MaxStars {
		return nil, p.fail(from, `the pattern has %d "*", the limit is %d`, stars, MaxStars)
	}
	if rawMarks(pattern) > 255 {
		return nil, p.fail(from, `a quote in a pattern may be followed by at most 254 "#"`)
	}
	return w, nil
}

// operand reads a field or a call and the indexes behind it.
func (p *parser) operand() (*node, error) {
	from := p.pos
	word := p.name()
	if word == "" {
		return nil, p.fail(from, "%s, expected a field such as http.host, a function call, not, or a parenthesis", p.found())
	}
	p.pos += len(word)
	n := &node{from: from, to: p.pos}
	if f, ok := p.schema.fields[word]; ok {
		n.op, n.typ, n.field = opField, f.Type, f
	} else if word == "true" || word == "false" {
		n.op, n.typ = opTruth, Bool
		if word == "true" {
			n.num = 1
		}
		return n, nil
	} else if err := p.call(n, word); err != nil {
		return nil, err
	}
	for p.peek() == '[' {
		outer, err := p.index(n)
		if err != nil {
			return nil, err
		}
		n = outer
	}
	return n, nil
}

// index reads one [key], [number] or [*] behind n.
func (p *parser) index(n *node) (*node, error) {
	from := p.pos
	p.pos++
	p.space()
	outer := &node{typ: n.typ.elem(), args: []*node{n}, from: n.from}
	var err error
	switch c := p.peek(); {
	case n.each():
		return nil, p.fail(from, "[*] already stands for single elements; nothing can be indexed behind it")
	case c == '*' && n.typ.isArray():
		p.pos++
		outer.op = opEach
	case c == '*' && n.typ.isMap():
		return nil, p.fail(from, `[*] needs an array; name a key such as ["accept"] first, or use the field's .names or .values`)
	case c == '"' || c == 'r':
		outer.op = opKey
		outer.text, err = p.text(false)
		if err == nil && !n.typ.isMap() {
			err = p.fail(from, "%s has no keys", n.typ)
		}
	default:
		outer.op = opAt
		outer.num, err = p.number()
		if err == nil && (!n.typ.isArray() || outer.num < 0) {
			err = p.fail(from, "%s cannot be indexed by %d", n.typ, outer.num)
		}
	}
	if err != nil {
		return nil, err
	}
	p.space()
	if !p.eat("]") {
		return nil, p.fail(p.pos, "%s, expected the closing bracket of the index", p.found())
	}
	outer.to = p.pos
	return outer, nil
}

// unknown says that word names nothing here, and what may have been meant.
func (p *parser) unknown(from int, word string) error {
	if p.peek() == '(' {
		if near := nearest(word, p.functionNames()); near != "" {
			return p.fail(from, "unknown function %s; did you mean %s?", word, near)
		}
		return p.fail(from, "unknown function %s; there are %s", word, strings.Join(p.functionNames(), ", "))
	}
	if near := nearest(word, p.schema.names); near != "" {
		return p.fail(from, "unknown field %s; did you mean %s?", word, near)
	}
	if first, _, _ := strings.Cut(word, "."); first == "cf" || first == "ip" || first == "http" || first == "raw" || first == "tcp" || first == "udp" {
		return p.fail(from, "field %s is not available here", word)
	}
	return p.fail(from, "unknown field %s", word)
}
