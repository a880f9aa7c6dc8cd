package filter

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

var opWords = map[op]string{
	opNot: "not ", opAnd: " and ", opXor: " xor ", opOr: " or ",
	opEq: " eq ", opNe: " ne ", opLt: " lt ", opLe: " le ", opGt: " gt ", opGe: " ge ",
	opBits: " bitwise_and ", opContains: " contains ", opMatches: " matches ",
	opWildcard: " wildcard ", opStrict: " strict wildcard ", opIn: " in ",
}

// binding says how tightly the logical operators bind; what is not one binds tightest.
func binding(o op) int {
	switch o {
	case opOr:
		return 1
	case opXor:
		return 2
	case opAnd:
		return 3
	case opNot:
		return 4
	}
	return 5
}

// print writes n in its normal form: English operators, no spare parentheses, escapes only where
// they are needed.
func (n *node) print(b *strings.Builder) {
	switch n.op {
	case opField:
		b.WriteString(n.field.Name)
	case opCall:
		b.WriteString(n.fn.name)
		b.WriteByte('(')
		printList(b, n.args, ", ")
		b.WriteByte(')')
	case opKey:
		n.args[0].print(b)
		b.WriteByte('[')
		printText(b, n.text)
		b.WriteByte(']')
	case opAt:
		n.args[0].print(b)
		fmt.Fprintf(b, "[%d]", n.num)
	case opEach:
		n.args[0].print(b)
		b.WriteString("[*]")
	case opText:
		printText(b, n.text)
	case opNumber:
		b.WriteString(strconv.FormatInt(n.num, 10))
	case opTruth:
		b.WriteString(strconv.FormatBool(n.num != 0))
	case opIP:
		b.WriteString(n.addr.from.String())
	case opNot:
		b.WriteString(opWords[n.op])
		n.printInner(b, n.args[0])
	case opAnd, opXor, opOr:
		for i, a := range n.args {
			if i > 0 {
				b.WriteString(opWords[n.op])
			}
			n.printInner(b, a)
		}
	default:
		n.printComparison(b)
	}
}

// printInner writes an operand of a logical operator, in parentheses if it binds less tightly.
func (n *node) printInner(b *strings.Builder, a *node) {
	if binding(a.op) >= binding(n.op) {
		a.print(b)
		return
	}
	b.WriteByte('(')
	a.print(b)
	b.WriteByte(')')
}

func (n *node) printComparison(b *strings.Builder) {
	n.args[0].print(b)
	b.WriteString(opWords[n.op])
	switch n.op {
	case opMatches, opWildcard, opStrict:
		printRaw(b, n.text)
	case opIn:
		n.set.print(b)
	default:
		n.args[1].print(b)
	}
}

func printList(b *strings.Builder, nodes []*node, separator string) {
	for i, a := range nodes {
		if i > 0 {
			b.WriteString(separator)
		}
		a.print(b)
	}
}

func printText(b *strings.Builder, s string) {
	b.WriteByte('"')
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteByte(s[i])
		case r < ' ' || r == 0x7f || r == utf8.RuneError && size == 1:
			fmt.Fprintf(b, `\x%02x`, s[i])
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	b.WriteByte('"')
}

// printRaw writes a pattern as a raw string, with as few marks as it takes.
func printRaw(b *strings.Builder, s string) {
	marks := strings.Repeat("#", rawMarks(s))
	b.WriteByte('r')
	b.WriteString(marks)
	b.WriteByte('"')
	b.WriteString(s)
	b.WriteByte('"')
	b.WriteString(marks)
}

// rawMarks returns how many "#" the raw form of s needs: one more than follow any quote in it.
func rawMarks(s string) int {
	need := 0
	for i := 0; i < len(s); i++ {
		if s[i] != '"' {
			continue
		}
		run := 1
		for i+run < len(s) && s[i+run] == '#' {
			run++
		}
		need = max(need, run)
	}
	return need
}
