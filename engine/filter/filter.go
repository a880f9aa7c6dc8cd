// Package filter is Cloudflare's rule expression language (the wirefilter grammar): expressions
// such as
//
//	http.host eq "example.com" and not ip.src in {192.0.2.0/24}
//
// are parsed, type-checked and compiled to closures once, then matched against many requests.
// It knows no product: what fields there are is the Schema's to say, what they hold is for Values.
// Matching never fails or panics, and costs at most what the limits of Compile allow.
package filter

import (
	"net/netip"
	"strconv"
	"strings"
)

// Expr is a compiled condition. Immutable, safe for concurrent use.
type Expr struct {
	root  *node
	match func(Values) bool
}

// Compile compiles a condition. Faults are fault.Invalid or fault.TooMuch with position, source
// line and what was expected.
func Compile(src string, s *Schema) (*Expr, error) {
	n, err := parse(src, s, false)
	if err != nil {
		return nil, err
	}
	if n.typ != Bool {
		hint := "compare it with something, such as eq"
		if n.typ == ArrayOf(Bool) {
			hint = "use any() or all() to make one condition of many"
		}
		return nil, faultAt(src, n.from, n.to, "this gives %s where a condition is needed; %s", n.typ, hint)
	}
	return &Expr{root: n, match: newCompiler().code(n).b}, nil
}

// Match tells whether the condition holds for v.
func (e *Expr) Match(v Values) bool { return e.match(v) }

// Program returns how many instructions the expression's regular expressions have together; see
// CheckPrograms.
func (e *Expr) Program() int { return e.root.program }

// String returns the normal form: it compiles to the same expression, and equal expressions that
// differ only in notation have the same.
func (e *Expr) String() string { return e.root.String() }

// Value is a compiled expression for a value: a rewritten path, a header to set. Immutable, safe
// for concurrent use.
type Value struct {
	root *node
	code code
}

// CompileValue compiles an expression of type String, Int, Bool or IP. Functions for rewrites,
// such as regex_replace, are available in addition to those of conditions.
func CompileValue(src string, s *Schema) (*Value, error) {
	n, err := parse(src, s, true)
	if err != nil {
		return nil, err
	}
	if n.typ.isArray() || n.typ.isMap() {
		return nil, faultAt(src, n.from, n.to, "this gives %s where a single value is needed; index it, or use join()", n.typ)
	}
	return &Value{root: n, code: newCompiler().code(n)}, nil
}

// Type returns the type of the value.
func (x *Value) Type() Type { return x.root.typ }

// String returns the normal form.
func (x *Value) String() string { return x.root.String() }

// Text returns the value as a string, whatever its type; false if it is missing, such as a header
// that the request does not have.
func (x *Value) Text(v Values) (string, bool) {
	switch x.root.typ {
	case Bool:
		return strconv.FormatBool(x.code.b(v)), true
	case Int:
		n, ok := x.code.i(v)
		return strconv.FormatInt(n, 10), ok
	case IP:
		a, ok := x.code.ip(v)
		return a.String(), ok
	}
	return x.code.s(v)
}

// Int returns the value of an expression of type Int; false if it is missing or of another type.
func (x *Value) Int(v Values) (int64, bool) {
	if x.root.typ != Int {
		return 0, false
	}
	return x.code.i(v)
}

// IP returns the value of an expression of type IP; false if it is missing or of another type.
func (x *Value) IP(v Values) (netip.Addr, bool) {
	if x.root.typ != IP {
		return netip.Addr{}, false
	}
	return x.code.ip(v)
}

// String returns the normal form of n.
func (n *node) String() string {
	var b strings.Builder
	n.print(&b)
	return b.String()
}
