package filter

import (
	"net/netip"
	"strconv"
	"strings"
)

// whole is a text function that always gives a value.
func whole(f func(string) string) func(string) (string, bool) {
	return func(s string) (string, bool) { return f(s), true }
}

// buildText builds a function of one string.
func buildText(f func(string) (string, bool)) func(*compiler, *node, []code) code {
	return func(_ *compiler, _ *node, args []code) code {
		get := args[0].s
		return code{s: func(v Values) (string, bool) {
			s, ok := get(v)
			if !ok {
				return "", false
			}
			return f(s)
		}}
	}
}

// buildPair builds a condition on two strings.
func buildPair(f func(a, b string) bool) func(*compiler, *node, []code) code {
	return func(_ *compiler, n *node, args []code) code {
		first, second := args[0].s, args[1].s
		if n.args[1].op == opText {
			fixed := n.args[1].text
			return code{b: func(v Values) bool {
				a, ok := first(v)
				return ok && f(a, fixed)
			}}
		}
		return code{b: func(v Values) bool {
			a, okA := first(v)
			b, okB := second(v)
			return okA && okB && f(a, b)
		}}
	}
}

func buildAny(c *compiler, n *node, args []code) code {
	if a := n.args[0]; isComparison(a) && a.args[0].each() {
		return code{b: c.firstHit(a)}
	}
	return buildTruths(c, args[0].list, true)
}

func buildAll(c *compiler, _ *node, args []code) code { return buildTruths(c, args[0].list, false) }

func isComparison(n *node) bool { return n.op >= opEq && n.op <= opIn }

// firstHit is any() of one comparison: it ends at the first element for which it holds.
func (c *compiler) firstHit(n *node) func(Values) bool {
	left := c.code(n.args[0])
	holds := compare(n, left)
	numbers := n.args[0].typ == Int
	return func(v Values) bool {
		sc := c.take()
		defer c.give(sc)
		in, ok := left.list(v, sc)
		if !ok {
			return false
		}
		sc.element.Values = v
		for k := range max(len(in.texts), len(in.numbers)) {
			if numbers {
				sc.element.number = in.numbers[k]
			} else {
				sc.element.text = in.texts[k]
			}
			if holds(&sc.element) {
				return true
			}
		}
		return false
	}
}

// buildTruths looks for wanted in an array of Booleans: any finds a true, all finds no false.
func buildTruths(c *compiler, array listFunc, wanted bool) code {
	return code{b: func(v Values) bool {
		sc := c.take()
		defer c.give(sc)
		l, ok := array(v, sc)
		if !ok {
			return false
		}
		for _, t := range l.truths {
			if t == wanted {
				return wanted
			}
		}
		return !wanted
	}}
}

func checkCIDR(p *parser, n *node) error {
	for i, a := range n.args[1:] {
		limit := int64(128)
		if n.fn.name == "cidr" && i == 0 {
			limit = 32
		}
		if a.num < 1 || a.num > limit {
			return faultAt(p.src, a.from, a.to, "the number of network bits has to be between 1 and %d", limit)
		}
	}
	return nil
}

func buildCIDR(_ *compiler, n *node, args []code) code {
	get := args[0].ip
	bits6 := int(n.args[len(n.args)-1].num)
	bits4 := 32
	if n.fn.name == "cidr" {
		bits4 = int(n.args[1].num)
	}
	return code{ip: func(v Values) (netip.Addr, bool) {
		a, ok := get(v)
		if !ok {
			return a, false
		}
		bits := bits6
		if a.Is4() {
			bits = bits4
		}
		p, err := a.Prefix(bits)
		return p.Addr(), err == nil
	}}
}

// maxJoined is the longest text that concat and join make, in bytes; a longer one counts as missing.
// A field is hardly longer than 32 KiB, but concat can name it many times.
const maxJoined = 64 << 10

// joined returns texts with sep between them, if that is not too long.
func joined(texts []string, sep string) (string, bool) {
	n := len(sep) * max(len(texts)-1, 0)
	for _, s := range texts {
		n += len(s)
	}
	if n > maxJoined {
		return "", false
	}
	return strings.Join(texts, sep), true
}

func buildConcat(_ *compiler, _ *node, args []code) code {
	return code{s: func(v Values) (string, bool) {
		var room [8]string
		parts := room[:0]
		for i := range args {
			s, ok := args[i].s(v)
			if !ok {
				return "", false
			}
			parts = append(parts, s)
		}
		return joined(parts, "")
	}}
}

func buildHasKey(_ *compiler, n *node, _ []code) code {
	f, key := n.args[0].field.ID, n.args[1].text
	return code{b: func(v Values) bool {
		_, ok := v.At(f, key, 0)
		return ok
	}}
}

func buildHasValue(c *compiler, n *node, args []code) code {
	array, want := args[0].list, n.args[1].text
	return code{b: func(v Values) bool {
		sc := c.take()
		defer c.give(sc)
		l, _ := array(v, sc)
		for _, t := range l.texts {
			if t == want {
				return true
			}
		}
		return false
	}}
}

func buildJoin(c *compiler, _ *node, args []code) code {
	array, separator := args[0].list, args[1].s
	return code{s: func(v Values) (string, bool) {
		sc := c.take()
		defer c.give(sc)
		l, ok := array(v, sc)
		between, okBetween := separator(v)
		s, short := joined(l.texts, between)
		return s, ok && okBetween && short
	}}
}

func buildLen(c *compiler, n *node, args []code) code {
	if n.args[0].typ == String {
		get := args[0].s
		return code{i: func(v Values) (int64, bool) {
			s, ok := get(v)
			return int64(len(s)), ok
		}}
	}
	array := args[0].list
	return code{i: func(v Values) (int64, bool) {
		sc := c.take()
		defer c.give(sc)
		l, ok := array(v, sc)
		return int64(max(len(l.texts), len(l.numbers), len(l.truths))), ok
	}}
}

func buildSubstring(_ *compiler, _ *node, args []code) code {
	get, start := args[0].s, args[1].i
	end := func(Values) (int64, bool) { return 1 << 40, true }
	if len(args) > 2 {
		end = args[2].i
	}
	return code{s: func(v Values) (string, bool) {
		s, ok := get(v)
		i, okI := start(v)
		j, okJ := end(v)
		if !ok || !okI || !okJ {
			return "", false
		}
		from, to := within(i, len(s)), within(j, len(s))
		if from >= to {
			return "", true
		}
		return s[from:to], true
	}}
}

// within turns an index, which counts from the end if negative, into an offset into size bytes.
func within(i int64, size int) int {
	if i < 0 {
		return int(max(0, int64(size)+i))
	}
	return int(min(i, int64(size)))
}

func buildToString(_ *compiler, n *node, args []code) code {
	switch n.args[0].typ {
	case Bool:
		get := args[0].b
		return code{s: func(v Values) (string, bool) { return strconv.FormatBool(get(v)), true }}
	case Int:
		get := args[0].i
		return code{s: func(v Values) (string, bool) {
			i, ok := get(v)
			return strconv.FormatInt(i, 10), ok
		}}
	}
	get := args[0].ip
	return code{s: func(v Values) (string, bool) {
		a, ok := get(v)
		return a.String(), ok
	}}
}

func checkSplit(p *parser, n *node) error {
	separator, limit := n.args[1], n.args[2]
	if separator.text == "" {
		return faultAt(p.src, separator.from, separator.to, "the separator must not be empty")
	}
	if limit.num < 1 || limit.num > 128 {
		return faultAt(p.src, limit.from, limit.to, "the limit has to be between 1 and 128")
	}
	if n.args[0].each() {
		return faultAt(p.src, n.from, n.to, "split() cannot be used on each element of an array")
	}
	return nil
}

func buildSplit(_ *compiler, n *node, args []code) code {
	get, separator, limit := args[0].s, n.args[1].text, int(n.args[2].num)
	return code{list: func(v Values, sc *scratch) (list, bool) {
		s, ok := get(v)
		if !ok {
			return list{}, false
		}
		from := len(sc.texts)
		for len(sc.texts)-from < limit-1 {
			before, after, found := strings.Cut(s, separator)
			if !found {
				break
			}
			sc.texts = append(sc.texts, before)
			s = after
		}
		sc.texts = append(sc.texts, s)
		return list{texts: sc.texts[from:]}, true
	}}
}
