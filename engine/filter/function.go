package filter

import (
	"slices"
	"strings"
)

// function is one of the language's functions.
type function struct {
	name     string
	value    bool // only in value expressions: rewrites, redirects
	params   []param
	optional int  // how many of the last params may be left out
	repeats  bool // the last param may come again and again
	result   Type

	// check looks at the arguments beyond their types and prepares what build needs; nil for none.
	check func(p *parser, n *node) error
	// build makes code of the arguments'. If the first argument is an array's [*], the code runs
	// once for each element.
	build func(c *compiler, n *node, args []code) code
}

// param says what an argument may be.
type param struct {
	name  string
	types []Type
	fixed bool // has to be written out
}

var (
	aText  = []Type{String}
	aTexts = []Type{ArrayOf(String)}
)

// functions returns the functions by name, in order.
func functions() []*function {
	source := param{name: "source", types: aText}
	return []*function{
		{name: "all", params: []param{{name: "conditions", types: []Type{ArrayOf(Bool)}}}, result: Bool, build: buildAll},
		{name: "any", params: []param{{name: "conditions", types: []Type{ArrayOf(Bool)}}}, result: Bool, build: buildAny},
		{name: "cidr", params: []param{{name: "address", types: []Type{IP}}, {name: "ipv4_network_bits", types: []Type{Int}, fixed: true},
			{name: "ipv6_network_bits", types: []Type{Int}, fixed: true}}, result: IP, check: checkCIDR, build: buildCIDR},
		{name: "cidr6", params: []param{{name: "address", types: []Type{IP}}, {name: "ipv6_network_bits", types: []Type{Int}, fixed: true}},
			result: IP, check: checkCIDR, build: buildCIDR},
		{name: "concat", params: []param{{name: "values", types: aText}}, repeats: true, result: String, build: buildConcat},
		{name: "decode_base64", params: []param{source}, result: String, build: buildText(decodeBase64)},
		{name: "encode_base64", params: []param{source}, result: String, build: buildText(encodeBase64)},
		{name: "ends_with", params: []param{source, {name: "substring", types: aText}}, result: Bool, build: buildPair(strings.HasSuffix)},
		{name: "has_key", params: []param{{name: "map", types: []Type{MapOf(ArrayOf(String))}}, {name: "key", types: aText, fixed: true}}, result: Bool, build: buildHasKey},
		{name: "has_value", params: []param{{name: "array", types: aTexts}, {name: "value", types: aText, fixed: true}}, result: Bool, build: buildHasValue},
		{name: "is_timed_hmac_valid_v0", params: []param{{name: "key", types: aText, fixed: true}, {name: "message_mac", types: aText},
			{name: "ttl", types: []Type{Int}, fixed: true}, {name: "now", types: []Type{Int}}, {name: "separator_length", types: []Type{Int}, fixed: true},
			{name: "flags", types: aText, fixed: true}}, optional: 2, result: Bool, check: checkHMAC, build: buildHMAC},
		{name: "join", params: []param{{name: "items", types: aTexts}, {name: "separator", types: aText}}, result: String, build: buildJoin},
		{name: "len", params: []param{{name: "value", types: []Type{String, ArrayOf(String), ArrayOf(Int), ArrayOf(Bool)}}}, result: Int, build: buildLen},
		{name: "lookup_json_integer", params: []param{{name: "field", types: aText}, {name: "key", types: []Type{String, Int}, fixed: true}},
			repeats: true, result: Int, build: buildLookupInt},
		{name: "lookup_json_string", params: []param{{name: "field", types: aText}, {name: "key", types: []Type{String, Int}, fixed: true}},
			repeats: true, result: String, build: buildLookupText},
		{name: "lower", params: []param{source}, result: String, build: buildText(whole(lowerASCII))},
		{name: "regex_replace", value: true, params: []param{source, {name: "regular_expression", types: aText, fixed: true},
			{name: "replacement", types: aText, fixed: true}}, result: String, check: checkReplace, build: buildReplace},
		{name: "remove_bytes", params: []param{source, {name: "bytes", types: aText, fixed: true}}, result: String, build: buildRemoveBytes},
		{name: "remove_query_args", value: true, params: []param{{name: "field", types: aText}, {name: "query_param", types: aText, fixed: true}},
			repeats: true, result: String, build: buildRemoveArgs},
		{name: "split", params: []param{{name: "input", types: aText}, {name: "separator", types: aText, fixed: true}, {name: "limit", types: []Type{Int}, fixed: true}},
			result: ArrayOf(String), check: checkSplit, build: buildSplit},
		{name: "starts_with", params: []param{source, {name: "substring", types: aText}}, result: Bool, build: buildPair(strings.HasPrefix)},
		{name: "substring", params: []param{{name: "field", types: aText}, {name: "start", types: []Type{Int}}, {name: "end", types: []Type{Int}}},
			optional: 1, result: String, build: buildSubstring},
		{name: "to_string", params: []param{{name: "value", types: []Type{Int, Bool, IP}}}, result: String, build: buildToString},
		{name: "upper", params: []param{source}, result: String, build: buildText(whole(upperASCII))},
		{name: "url_decode", params: []param{source, {name: "options", types: aText, fixed: true}}, optional: 1, result: String, check: checkURLDecode, build: buildURLDecode},
		{name: "wildcard_replace", value: true, params: []param{source, {name: "wildcard_pattern", types: aText, fixed: true},
			{name: "replacement", types: aText, fixed: true}, {name: "flags", types: aText, fixed: true}}, optional: 1, result: String, check: checkReplace, build: buildReplace},
	}
}

func (p *parser) functionNames() []string {
	var names []string
	for _, f := range p.functions {
		names = append(names, f.name)
	}
	return names
}

// call reads the arguments of the function that word names, and completes n as a call to it.
func (p *parser) call(n *node, word string) error {
	i := slices.IndexFunc(p.functions, func(f *function) bool { return f.name == word })
	if i < 0 {
		return p.unknown(n.from, word)
	}
	f := p.functions[i]
	if f.value && !p.forValue {
		return p.fail(n.from, "%s() is for values of rewrites and redirects, not for conditions", word)
	}
	if err := p.deeper(n.from); err != nil {
		return err
	}
	p.space()
	if !p.eat("(") {
		return p.fail(p.pos, "%s, expected the arguments of %s(%s)", p.found(), f.name, f.usage())
	}
	n.op, n.fn, n.typ = opCall, f, f.result
	if err := p.arguments(n); err != nil {
		return err
	}
	n.to = p.pos
	p.depth--
	if n.args[0].each() {
		n.typ = ArrayOf(f.result)
		if f.result != Bool && f.result != Int && f.result != String {
			return p.fail(n.from, "%s() cannot be used on each element of an array", f.name)
		}
	}
	if f.check != nil {
		return f.check(p, n)
	}
	return nil
}

// arguments reads "a, b)".
func (p *parser) arguments(n *node) error {
	f := n.fn
	for p.space(); !p.eat(")"); p.space() {
		if len(n.args) > 0 {
			if !p.eat(",") {
				return p.fail(p.pos, "%s, expected a comma or the closing parenthesis of %s(%s)", p.found(), f.name, f.usage())
			}
			p.space()
		}
		a, err := p.argument()
		if err != nil {
			return err
		}
		n.args = append(n.args, a)
		if err := p.checkArgument(n, a); err != nil {
			return err
		}
	}
	if len(n.args) < len(f.params)-f.optional {
		return p.fail(n.from, "%s needs more arguments: %s(%s)", f.name, f.name, f.usage())
	}
	return nil
}

// checkArgument checks the type of a, the newest argument of n.
func (p *parser) checkArgument(n, a *node) error {
	f, i := n.fn, len(n.args)-1
	if i >= len(f.params) {
		if !f.repeats {
			return faultAt(p.src, a.from, a.to, "too many arguments for %s(%s)", f.name, f.usage())
		}
		i = len(f.params) - 1
	}
	want := f.params[i]
	switch {
	case a.each() && len(n.args) > 1:
		return faultAt(p.src, a.from, a.to, "[*] is possible only in the first argument of a function")
	case !slices.Contains(want.types, a.typ):
		return faultAt(p.src, a.from, a.to, "argument %s of %s(%s) has to be %s; this is %s", want.name, f.name, f.usage(), typeNames(want.types), a.typ)
	case want.fixed && !a.isLiteral():
		return faultAt(p.src, a.from, a.to, "argument %s of %s(%s) has to be written out, not computed", want.name, f.name, f.usage())
	}
	return nil
}

func typeNames(types []Type) string {
	var names []string
	for _, t := range types {
		names = append(names, t.String())
	}
	return strings.Join(names, " or ")
}

// usage lists the parameters: "source, options?".
func (f *function) usage() string {
	var b strings.Builder
	for i, q := range f.params {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(q.name)
		if i >= len(f.params)-f.optional {
			b.WriteByte('?')
		}
	}
	if f.repeats {
		b.WriteString(", ...")
	}
	return b.String()
}

// call makes the code of a call, once for each element if its first argument is an array's [*].
func (c *compiler) call(n *node) code {
	args := make([]code, len(n.args))
	for i, a := range n.args {
		args[i] = c.code(a)
	}
	one := n.fn.build(c, n, args)
	if n.args[0].each() {
		return code{list: mapList(args[0].list, one, n.args[0].typ, n.fn.result)}
	}
	return one
}
