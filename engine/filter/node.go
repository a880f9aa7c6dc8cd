package filter

import (
	"regexp"
)

type op uint8

const (
	opField  op = iota + 1
	opCall      // fn(args...)
	opKey       // args[0][text]
	opAt        // args[0][num]
	opEach      // args[0][*]
	opText      // a string literal
	opNumber    // an integer literal
	opTruth     // true, false
	opNot       // not args[0]
	opAnd       // args[0] and args[1] ...
	opXor
	opOr
	opEq // args[0] eq args[1], the latter a literal
	opNe
	opLt
	opLe
	opGt
	opGe
	opBits
	opContains
	opMatches  // args[0] matches re
	opWildcard // args[0] wildcard wild
	opStrict
	opIn // args[0] in set
	opIP // an address literal
)

// node is one part of a parsed and type-checked expression.
type node struct {
	op   op
	typ  Type
	args []*node
	from int // byte offsets in the source, for messages
	to   int

	field FieldDef
	fn    *function
	text  string // opText, opKey: the string; opMatches, opWildcard: the pattern as given
	num   int64  // opNumber, opAt; opTruth: 1 or 0
	addr  addrRange
	re    *regexp.Regexp
	wild  *wildcard
	set   *set

	program int // of the whole expression's root: instructions of its regular expressions
}

// each tells whether n stands for every element of an array in turn, n.typ being the type of one.
// Calls and comparisons collect such results into an array again.
func (n *node) each() bool { return n.op == opEach }

// isTruth tells whether n can stand where a condition is expected: a Boolean or an array of them.
func (n *node) isTruth() bool { return n.typ == Bool || n.typ == ArrayOf(Bool) }

// isLiteral tells whether n is written out in the expression.
func (n *node) isLiteral() bool {
	return n.op == opText || n.op == opNumber || n.op == opTruth || n.op == opIP
}
