// Package graphql reads GraphQL queries (https://spec.graphql.org, October 2021): one operation with
// its selections, arguments and variables. It knows no schema; fragments, directives, mutations and
// subscriptions are refused.
package graphql

import (
	"encoding/json"
	"fmt"
)

// Bounds of a query.
const (
	MaxQuery = 64 << 10 // bytes
	maxDepth = 32       // of selections, and of values
	maxNodes = 4096     // fields and values
)

// Field is one selected field.
type Field struct {
	Name   string
	Alias  string         // what the answer calls it; the same as Name if the query gave none
	Args   map[string]any // nil, bool, json.Number, string, Enum, []any or map[string]any
	Fields []*Field       // what is selected of it
}

// Enum is a value that is a bare name.
type Enum string

// Child returns the selected field called name, or nil.
func (f *Field) Child(name string) *Field {
	for _, c := range f.Fields {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Error says what is wrong with a query and where.
type Error struct {
	Message string
	Line    int // from 1
	Column  int // from 1, in bytes
}

// Error returns the message with its place.
func (e *Error) Error() string {
	return fmt.Sprintf("%s (line %d, column %d)", e.Message, e.Line, e.Column)
}

// Parse reads a query with its variables and returns a field without a name that holds what the
// operation selects. operation chooses one by name where there are several. An error is an *Error.
func Parse(query, operation string, variables map[string]json.RawMessage) (*Field, error) {
	if len(query) > MaxQuery {
		return nil, &Error{fmt.Sprintf("The query has %d bytes, the limit is %d.", len(query), MaxQuery), 1, 1}
	}
	p := &parser{text: query}
	p.next()
	var chosen *Field
	count := 0
	for p.token.kind != end && p.err == nil {
		name, f := p.operation(variables)
		if count++; operation == "" || name == operation {
			chosen = f
		}
	}
	switch {
	case p.err != nil:
		return nil, p.err
	case chosen == nil:
		return nil, &Error{fmt.Sprintf("There is no operation %q in the query.", operation), 1, 1}
	case count > 1 && operation == "":
		return nil, &Error{"The query has several operations; name one in operationName.", 1, 1}
	}
	return chosen, nil
}

// operation reads "query Name($a: Type = 1) { ... }" or "{ ... }".
func (p *parser) operation(given map[string]json.RawMessage) (name string, f *Field) {
	p.variables = map[string]any{}
	if p.token.kind == word {
		if p.token.text != "query" {
			p.fail("Only queries can be asked here, not %.40q.", p.token.text)
			return "", nil
		}
		p.next()
		if p.token.kind == word {
			name = p.token.text
			p.next()
		}
		if p.is("(") {
			p.declare(given)
		}
	}
	f = &Field{}
	f.Fields = p.selection(0)
	return name, f
}

// declare reads the variables of an operation and takes their values.
func (p *parser) declare(given map[string]json.RawMessage) {
	for p.next(); !p.is(")") && p.err == nil; {
		p.expect("$")
		name := p.name()
		p.expect(":")
		p.typ(0)
		if p.is("=") {
			p.next()
			p.variables[name] = p.value(0)
		} else {
			p.variables[name] = nil
		}
		raw, ok := given[name]
		if !ok {
			continue
		}
		v, err := fromJSON(raw)
		if err != nil {
			p.fail("The variable %s is not valid JSON.", name)
		}
		p.variables[name] = v
	}
	p.next()
}

// typ skips a type: what a value has to be is for who uses it.
func (p *parser) typ(depth int) {
	if depth > maxDepth {
		p.fail("Types are nested deeper than %d levels.", maxDepth)
		return
	}
	if p.is("[") {
		p.next()
		p.typ(depth + 1)
		p.expect("]")
	} else {
		p.name()
	}
	if p.is("!") {
		p.next()
	}
}

// selection reads "{ a b: c(x: 1) { d } }".
func (p *parser) selection(depth int) []*Field {
	if depth > maxDepth {
		p.fail("The query is nested deeper than %d levels.", maxDepth)
		return nil
	}
	var all []*Field
	for p.expect("{"); !p.is("}") && p.err == nil; {
		if p.count(); p.is("...") {
			p.fail("Fragments are not supported; write the fields where they are wanted.")
			return nil
		}
		f := &Field{Name: p.name()}
		if f.Alias = f.Name; p.is(":") {
			p.next()
			f.Name = p.name()
		}
		if p.is("(") {
			f.Args = p.arguments()
		}
		if p.is("@") {
			p.fail("Directives are not supported.")
			return nil
		}
		if p.is("{") {
			f.Fields = p.selection(depth + 1)
		}
		all = append(all, f)
	}
	p.next()
	if len(all) == 0 {
		p.fail("A selection has at least one field.")
	}
	return all
}

func (p *parser) arguments() map[string]any {
	args := map[string]any{}
	for p.next(); !p.is(")") && p.err == nil; {
		name := p.name()
		p.expect(":")
		args[name] = p.value(0)
	}
	p.next()
	return args
}

// value reads a value; variables are put in.
func (p *parser) value(depth int) any {
	if p.count(); depth > maxDepth {
		p.fail("Values are nested deeper than %d levels.", maxDepth)
		return nil
	}
	t := p.token
	switch {
	case t.kind == text:
		p.next()
		return t.text
	case t.kind == number:
		p.next()
		return json.Number(t.text)
	case t.kind == word:
		p.next()
		return literal(t.text)
	case p.is("$"):
		p.next()
		name := p.name()
		v, ok := p.variables[name]
		if !ok {
			p.fail("The variable $%.80s is not declared.", name)
		}
		return v
	case p.is("["):
		list := []any{}
		for p.next(); !p.is("]") && p.err == nil; {
			list = append(list, p.value(depth+1))
		}
		p.next()
		return list
	case p.is("{"):
		object := map[string]any{}
		for p.next(); !p.is("}") && p.err == nil; {
			name := p.name()
			p.expect(":")
			object[name] = p.value(depth + 1)
		}
		p.next()
		return object
	}
	p.fail("A value is expected, not %.40q.", t.text)
	return nil
}

func literal(name string) any {
	switch name {
	case "true":
		return true
	case "false":
		return false
	case "null":
		return nil
	}
	return Enum(name)
}
