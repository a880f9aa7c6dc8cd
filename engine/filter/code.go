package filter

import (
	"net/netip"
	"strings"
	"sync"
)

// code is a node ready to run: the one function of its type is set. The bool says whether there is
// a value: a header that was not sent has none, what is computed from it has none either, and
// comparing it is false.
type code struct {
	b    func(Values) bool
	i    func(Values) (int64, bool)
	s    func(Values) (string, bool)
	ip   func(Values) (netip.Addr, bool)
	list listFunc // of arrays; and of [*], beside the function that gives the current element
}

// listFunc returns an array that lives in the scratch.
type listFunc func(Values, *scratch) (list, bool)

// list is an array of one of these types.
type list struct {
	texts   []string
	numbers []int64
	truths  []bool
}

// scratch is the memory of one evaluation of an array.
type scratch struct {
	texts   []string
	numbers []int64
	truths  []bool
	element element
}

// element stands in for Values while something is computed for each element of an array.
type element struct {
	Values
	text   string
	number int64
}

// compiler makes code of nodes.
type compiler struct {
	pool *sync.Pool // of *scratch: one for each expression
}

func newCompiler() *compiler {
	return &compiler{pool: &sync.Pool{New: func() any { return new(scratch) }}}
}

// take hands out a scratch; nothing of it may be kept past give.
func (c *compiler) take() *scratch { return c.pool.Get().(*scratch) }

// give clears what the scratch holds of the request and keeps its memory, unless it grew large.
func (c *compiler) give(sc *scratch) {
	const keep = 256
	if cap(sc.texts) > keep || cap(sc.truths) > keep {
		return
	}
	clear(sc.texts[:cap(sc.texts)])
	*sc = scratch{texts: sc.texts[:0], numbers: sc.numbers[:0], truths: sc.truths[:0]}
	c.pool.Put(sc)
}

func (c *compiler) code(n *node) code {
	switch n.op {
	case opField:
		return fieldCode(n)
	case opText:
		return code{s: func(Values) (string, bool) { return n.text, true }}
	case opNumber:
		return code{i: func(Values) (int64, bool) { return n.num, true }}
	case opTruth:
		return code{b: func(Values) bool { return n.num != 0 }}
	case opIP:
		return code{ip: func(Values) (netip.Addr, bool) { return n.addr.from, true }}
	case opKey:
		return c.key(n)
	case opAt:
		return c.at(n)
	case opEach:
		return c.each(n)
	case opCall:
		return c.call(n)
	case opNot, opAnd, opXor, opOr:
		if n.typ != Bool {
			return c.logicList(n)
		}
		return code{b: c.logic(n)}
	}
	compared := c.code(n.args[0])
	holds := compare(n, compared)
	if n.args[0].each() {
		return code{list: mapList(compared.list, code{b: holds}, n.args[0].typ, Bool)}
	}
	return code{b: holds}
}

func fieldCode(n *node) code {
	f := n.field.ID
	switch n.typ {
	case Bool:
		return code{b: func(v Values) bool { return v.Bool(f) }}
	case Int:
		return code{i: func(v Values) (int64, bool) { return v.Int(f), true }}
	case String:
		return code{s: func(v Values) (string, bool) { return v.String(f), true }}
	case IP:
		return code{ip: func(v Values) (netip.Addr, bool) {
			a := v.IP(f).Unmap()
			return a, a.IsValid()
		}}
	}
	return code{list: func(v Values, sc *scratch) (list, bool) { return appendTexts(v, sc, f, ""), true }}
}

// key is a look-up in a map, which is always a field.
func (c *compiler) key(n *node) code {
	f, key := n.args[0].field.ID, n.text
	if n.typ == String {
		return code{s: func(v Values) (string, bool) { return v.At(f, key, 0) }}
	}
	return code{list: func(v Values, sc *scratch) (list, bool) {
		l := appendTexts(v, sc, f, key)
		return l, len(l.texts) > 0
	}}
}

func appendTexts(v Values, sc *scratch, f Field, key string) list {
	from := len(sc.texts)
	sc.texts = v.Append(sc.texts, f, key)
	return list{texts: sc.texts[from:]}
}

// at is one element of an array. Of a field, or of a map's key, it is asked for by itself.
func (c *compiler) at(n *node) code {
	i := int(min(n.num, 1<<20))
	from := n.args[0]
	switch {
	case from.op == opField:
		f := from.field.ID
		return code{s: func(v Values) (string, bool) { return v.At(f, "", i) }}
	case from.op == opKey:
		f, key := from.args[0].field.ID, from.text
		return code{s: func(v Values) (string, bool) { return v.At(f, key, i) }}
	}
	array := c.code(from).list
	switch n.typ {
	case Int:
		return code{i: func(v Values) (int64, bool) {
			sc := c.take()
			defer c.give(sc)
			if l, ok := array(v, sc); ok && i < len(l.numbers) {
				return l.numbers[i], true
			}
			return 0, false
		}}
	case Bool:
		return code{b: func(v Values) bool {
			sc := c.take()
			defer c.give(sc)
			l, ok := array(v, sc)
			return ok && i < len(l.truths) && l.truths[i]
		}}
	}
	return code{s: func(v Values) (string, bool) {
		sc := c.take()
		defer c.give(sc)
		if l, ok := array(v, sc); ok && i < len(l.texts) {
			return l.texts[i], true
		}
		return "", false
	}}
}

func (c *compiler) each(n *node) code {
	out := code{list: c.code(n.args[0]).list}
	if n.typ == Int {
		out.i = func(v Values) (int64, bool) { return v.(*element).number, true }
	} else {
		out.s = func(v Values) (string, bool) { return v.(*element).text, true }
	}
	return out
}

// mapList returns the array of what body gives for each element of an array of type of. Elements
// for which there is no value are left out.
func mapList(array listFunc, body code, of, result Type) listFunc {
	return func(v Values, sc *scratch) (list, bool) {
		in, ok := array(v, sc)
		if !ok {
			return list{}, false
		}
		el := &sc.element
		el.Values = v
		texts, numbers, truths := len(sc.texts), len(sc.numbers), len(sc.truths)
		for k := range max(len(in.texts), len(in.numbers)) {
			if of == Int {
				el.number = in.numbers[k]
			} else {
				el.text = in.texts[k]
			}
			sc.addResult(body, result)
		}
		return list{texts: sc.texts[texts:], numbers: sc.numbers[numbers:], truths: sc.truths[truths:]}, true
	}
}

func (sc *scratch) addResult(body code, result Type) {
	switch result {
	case Bool:
		sc.truths = append(sc.truths, body.b(&sc.element))
	case Int:
		if n, ok := body.i(&sc.element); ok {
			sc.numbers = append(sc.numbers, n)
		}
	default:
		if s, ok := body.s(&sc.element); ok {
			sc.texts = append(sc.texts, s)
		}
	}
}

func (c *compiler) logic(n *node) func(Values) bool {
	parts := make([]func(Values) bool, len(n.args))
	for i, a := range n.args {
		parts[i] = c.code(a).b
	}
	first := parts[0]
	switch {
	case n.op == opNot:
		return func(v Values) bool { return !first(v) }
	case len(parts) == 2 && n.op == opAnd:
		second := parts[1]
		return func(v Values) bool { return first(v) && second(v) }
	case len(parts) == 2 && n.op == opOr:
		second := parts[1]
		return func(v Values) bool { return first(v) || second(v) }
	case n.op == opAnd:
		return func(v Values) bool {
			for _, p := range parts {
				if !p(v) {
					return false
				}
			}
			return true
		}
	case n.op == opOr:
		return func(v Values) bool {
			for _, p := range parts {
				if p(v) {
					return true
				}
			}
			return false
		}
	}
	return func(v Values) bool {
		odd := false
		for _, p := range parts {
			odd = odd != p(v)
		}
		return odd
	}
}

// logicList combines arrays of Booleans element by element, up to the length of the shortest.
func (c *compiler) logicList(n *node) code {
	parts := make([]listFunc, len(n.args))
	for i, a := range n.args {
		parts[i] = c.code(a).list
	}
	return code{list: func(v Values, sc *scratch) (list, bool) {
		out, ok := parts[0](v, sc)
		if !ok {
			return list{}, false
		}
		if n.op == opNot {
			for i := range out.truths {
				out.truths[i] = !out.truths[i]
			}
		}
		for _, p := range parts[1:] {
			other, ok := p(v, sc)
			if !ok {
				return list{}, false
			}
			out.truths = out.truths[:min(len(out.truths), len(other.truths))]
			for i := range out.truths {
				out.truths[i] = combine(n.op, out.truths[i], other.truths[i])
			}
		}
		return out, true
	}}
}

func combine(o op, a, b bool) bool {
	switch o {
	case opAnd:
		return a && b
	case opOr:
		return a || b
	}
	return a != b
}

// compare returns the condition of a comparison whose left side is left.
func compare(n *node, left code) func(Values) bool {
	switch n.args[0].typ {
	case Int:
		return compareInt(n, left.i)
	case IP:
		return compareIP(n, left.ip)
	}
	field := n.args[0].op == opField
	if field && (n.op == opEq || n.op == opNe) {
		// The most frequent comparison of all is worth a closure less.
		f, want, equal := n.args[0].field.ID, n.args[1].text, n.op == opEq
		return func(v Values) bool { return (v.String(f) == want) == equal }
	}
	holds := textPredicate(n)
	get := left.s
	return func(v Values) bool {
		s, ok := get(v)
		return ok && holds(s)
	}
}

func textPredicate(n *node) func(string) bool {
	switch n.op {
	case opMatches:
		return n.re.MatchString
	case opWildcard, opStrict:
		return n.wild.match
	case opIn:
		return n.set.hasText
	}
	want := n.args[1].text
	switch n.op {
	case opEq:
		return func(s string) bool { return s == want }
	case opNe:
		return func(s string) bool { return s != want }
	case opLt:
		return func(s string) bool { return s < want }
	case opLe:
		return func(s string) bool { return s <= want }
	case opGt:
		return func(s string) bool { return s > want }
	case opGe:
		return func(s string) bool { return s >= want }
	}
	return func(s string) bool { return strings.Contains(s, want) }
}

func compareInt(n *node, get func(Values) (int64, bool)) func(Values) bool {
	var holds func(int64) bool
	if n.op == opIn {
		holds = n.set.hasNumber
	} else {
		holds = intPredicate(n.op, n.args[1].num)
	}
	return func(v Values) bool {
		i, ok := get(v)
		return ok && holds(i)
	}
}

func intPredicate(o op, want int64) func(int64) bool {
	switch o {
	case opEq:
		return func(i int64) bool { return i == want }
	case opNe:
		return func(i int64) bool { return i != want }
	case opLt:
		return func(i int64) bool { return i < want }
	case opLe:
		return func(i int64) bool { return i <= want }
	case opGt:
		return func(i int64) bool { return i > want }
	case opGe:
		return func(i int64) bool { return i >= want }
	}
	return func(i int64) bool { return i&want != 0 }
}

func compareIP(n *node, get func(Values) (netip.Addr, bool)) func(Values) bool {
	if n.op == opIn {
		return func(v Values) bool {
			a, ok := get(v)
			return ok && n.set.hasAddr(a)
		}
	}
	want, equal := n.args[1].addr.from, n.op == opEq
	return func(v Values) bool {
		a, ok := get(v)
		return ok && (a == want) == equal
	}
}
